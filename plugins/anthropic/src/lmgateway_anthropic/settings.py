"""What a user sets for Anthropic's service, or for one that speaks its format."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr

__all__ = ["DEFAULT_VERSION", "WITHOUT_SAMPLING", "Settings"]

DEFAULT_VERSION = "2023-06-01"
WITHOUT_SAMPLING = "2026-10-21"


def _without_version(base: str) -> str:
    """The address without ``/v1``, which other clients want in it."""
    return base.rstrip("/").removesuffix("/v1").rstrip("/")


class Settings(BaseModel):
    """Where the service is and as whom to ask it.

    Attributes:
        api_base: With or without ``/v1``; a path before it is kept.
        api_key: Sent as ``x-api-key``.
        auth_token: Sent as ``Authorization: Bearer``, in place of a key or beside it: a token, or
            the key of a proxy that wants it so.
        api_version: Sent as ``anthropic-version``; another one may answer in another form.
        beta: Names of beta features, comma-separated, sent as ``anthropic-beta``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_base: Annotated[str, AfterValidator(_without_version)] = "https://api.anthropic.com"
    api_key: SecretStr
    auth_token: SecretStr | None = None
    api_version: str = DEFAULT_VERSION
    beta: str | None = None
