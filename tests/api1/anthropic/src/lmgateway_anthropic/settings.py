"""What a user sets for Anthropic's service, or for one that speaks its format."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, SecretStr

__all__ = ["DEFAULT_VERSION", "Settings"]

DEFAULT_VERSION = "2023-06-01"


class Settings(BaseModel):
    """Where the service is and as whom to ask it.

    Attributes:
        api_base: Without ``/v1``.
        api_key: Sent as ``x-api-key``.
        api_version: Sent as ``anthropic-version``; another one may answer in another form.
        beta: Names of beta features, comma-separated, sent as ``anthropic-beta``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_base: str = "https://api.anthropic.com"
    api_key: SecretStr
    api_version: str = DEFAULT_VERSION
    beta: str | None = None
