"""The target: where an LM's requests go and as whom."""

from __future__ import annotations

import platform
from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING

from .distributions import own_version
from .errors import (
    AuthenticationError,
    LMGatewayError,
    MissingCredentialError,
    NotFoundError,
    PermissionDeniedError,
)

if TYPE_CHECKING:
    from .config.settings import Filled
    from .types import HTTPRequest, Options

__all__ = ["Configured", "user_agent"]


#: Headers that say who sends a request.
_PROOFS = frozenset({"authorization", "api-key", "x-api-key"})


@cache
def user_agent() -> str:
    """``lmgateway/<version> python/<version>``."""
    return f"lmgateway/{own_version() or '0'} python/{platform.python_version()}"


class Configured:
    """A provider's settings and an LM's options, as the innermost send needs them."""

    __slots__ = ("_filled", "_options", "provider", "source")

    def __init__(self, provider: str, source: str, filled: Filled | None, options: Options) -> None:
        self.provider = provider
        self.source = source
        self._filled = filled
        self._options = options

    @property
    def base_url(self) -> str | None:
        """The configured base URL."""
        value = getattr(self._filled and self._filled.values, "api_base", None)
        return str(value) if value else None

    def secrets(self) -> Iterator[str]:
        """What must be masked in any text."""
        if self._filled is not None:
            yield from self._filled.secrets()
        for value in self._options.headers.values():
            if len(value) >= 8:  # a shorter one would mask ordinary words
                yield value

    def asker(self) -> Hashable:
        """Equal for targets that ask as the same, within the same limits; shows no secret."""
        options = self._options
        proofs = tuple(self._filled.secrets()) if self._filled is not None else ()
        headers = frozenset(options.headers.items())
        limits = (options.max_body, options.connect_timeout, options.idle_timeout)
        return hash((proofs, headers, options.verify, options.transport, limits))

    def headers(self) -> Mapping[str, str]:
        """The User-Agent and the LM's own headers."""
        return {"User-Agent": user_agent(), **self._options.headers}

    def missing_base(self) -> LMGatewayError:
        """The error for a request that must be sent and has no base URL."""
        if self._filled is None or "api_base" not in self._filled.variables:
            return MissingCredentialError(f"{self.source} sent a request without a base URL")
        return MissingCredentialError(
            f"{self.provider} needs a base URL: set {self._filled.variables['api_base']}, "
            f"or give api_base=; looked in {self._filled.looked_in}"
        )

    def missing_key(self, request: HTTPRequest) -> LMGatewayError | None:
        """The error for a request without credentials to a host that answers none such."""
        from .config.catalogue import needs_key
        from .config.settings import missing_key

        headers = {name.lower() for name in (*self._options.headers, *request.headers)}
        if headers & _PROOFS or not needs_key(request.base_url or self.base_url or ""):
            return None
        if self._filled is None or "api_key" not in self._filled.variables:
            return MissingCredentialError(f"{self.source} sent a request without a key")
        variable, looked_in = self._filled.variables["api_key"], self._filled.looked_in
        return MissingCredentialError(missing_key(self.provider, variable, looked_in))

    def explain(self, error: LMGatewayError) -> None:
        """Add to an error what the user can do about it."""
        if isinstance(error, (AuthenticationError, PermissionDeniedError)):
            error.advise(self._key_advice())
        elif isinstance(error, NotFoundError):
            error.advise(
                f"the model or the path does not exist at {self.base_url or error.host}: "
                "check model= and that the base URL ends as the service's page says (often in /v1)"
            )
        elif isinstance(error, MissingCredentialError) and self._filled is not None:
            variable = self._filled.variables.get("api_key")
            if variable and variable not in error.message and "base" not in error.message:
                error.advise(
                    f"set {variable}, or give api_key=; looked in {self._filled.looked_in}"
                )

    def _key_advice(self) -> str:
        if self._filled is None or "api_key" not in self._filled.variables:
            return ""
        variable = self._filled.variables["api_key"]
        origin = self._filled.origins.get("api_key")
        if origin is None or origin.kind == "default":
            return f"no key was sent: set {variable} (looked in {self._filled.looked_in})"
        return f"the key came from {origin}; check it, or set {variable}"
