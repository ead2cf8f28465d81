"""What an operator sets for an Anyscale service."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

__all__ = ["Settings"]

#: The public endpoint, shut down on 1 August 2024.
CLOSED = "api.endpoints.anyscale.com"


class Settings(BaseModel):
    """Where the service is and how to ask it.

    Attributes:
        api_base: The service's URL with its version:
            ``https://<name>-<id>.<cloud>.s.anyscaleuserdata.com/v1``. There is no default.
        api_key: The service's Bearer token; a service may run without one.
        use_chat_api: True for ``/chat/completions``. False for ``/completions``, with the prompt
            rendered by a chat template. None: a bare prompt goes to ``/completions`` when its
            template is known, everything else to ``/chat/completions``.
        template: Jinja source, the name of a family, a path, or ``"none"`` for the prompt as it
            is. Without it, the model's name decides.
        merge_system: Fold a system text into the first user turn, for models without that role.
        control_tokens: What to do when the user's text holds the template's control tokens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_base: str | None = None
    api_key: SecretStr | None = None
    use_chat_api: bool | None = None
    template: str | None = None
    merge_system: bool = False
    control_tokens: Literal["warn", "forbid", "allow"] = "warn"

    @field_validator("api_base")
    @classmethod
    def _refuse_the_closed_host(cls, value: str | None) -> str | None:
        if value is not None and urlsplit(value).hostname == CLOSED:
            raise ValueError(
                f"the public endpoint {CLOSED} was shut down on 1 August 2024; give the URL of "
                "your own service, https://<name>-<id>.<cloud>.s.anyscaleuserdata.com/v1, as its "
                "page in the Anyscale console shows it"
            )
        return value
