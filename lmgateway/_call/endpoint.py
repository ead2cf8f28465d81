"""The endpoint: where an LM's requests go and as whom."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .._base.masking import Plain, masker, words
from .._store.serialization import is_secret_header
from ..errors import (
    AuthenticationError,
    LMGatewayError,
    MissingCredentialError,
    NotFoundError,
    PermissionDeniedError,
)
from .outgoing import netloc_of, user_agent

if TYPE_CHECKING:
    from .._config.settings import ResolvedSettings
    from ..types import HTTPRequest, Options

__all__ = ["Endpoint", "user_agent", "veiled"]


_KEY_ERRORS = (AuthenticationError, MissingCredentialError, PermissionDeniedError)
#: Headers that say who sends a request: a user who gives one needs no other proof.
_PROOFS = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key"})
#: What a header's value begins with whose rest is a secret.
_SCHEMES = frozenset({"apikey", "basic", "bearer", "digest", "key", "negotiate", "token"})


def veiled(headers: Mapping[str, Any], secrets: Iterable[str]) -> dict[str, Any]:
    """The headers of a user with every secret value wrapped, so that no repr shows it.

    A value is secret if its name speaks of a key, if it begins with a scheme such as ``Bearer``,
    or if it holds a secret that is known from a setting or from another header. It may hold that
    as it is, after a scheme, or within ``user:password``.
    """
    if not headers:
        return {}
    from pydantic import SecretStr

    found = {
        name: SecretStr(value) if isinstance(value, str) and _is_secret(name, value) else value
        for name, value in headers.items()
    }
    hidden = [each.get_secret_value() for each in found.values() if not isinstance(each, str)]
    mask = masker([*secrets, *(word for value in hidden for word in words(value))])
    for name, value in found.items():
        if isinstance(value, str) and any(mask(word) != word for word in words(value)):
            found[name] = SecretStr(value)
    return found


def _is_secret(name: str, value: str) -> bool:
    scheme, space, _ = value.lower().partition(" ")
    return is_secret_header(name) or (bool(space) and scheme in _SCHEMES)


class Endpoint:
    """A provider's settings and an LM's options, as a request that is sent needs them.

    Attributes:
        provider: The provider's name.
        described: How messages name the plugin: with its distribution and version.
        api: The version of the contract that the plugin was written for.
        base_url: The configured base URL; None if there is none.
        has_credentials: Whether the LM's own headers say who sends a request, so that no ``auth``
            is asked.
    """

    __slots__ = (
        "_left_behind", "_options", "_settings", "api", "base_url", "described", "has_credentials",
        "provider",
    )  # fmt: skip

    def __init__(
        self,
        provider: str,
        described: str,
        settings: ResolvedSettings | None,
        options: Options,
        left_behind: tuple[str, ...] = (),
        api: int = 2,
    ) -> None:
        self.provider = provider
        self.described = described
        self._settings = settings
        self._options = options
        self._left_behind = left_behind
        self.api = api
        base_url = getattr(settings and settings.values, "api_base", None)
        self.base_url = str(base_url) if base_url else None
        headers = options.headers
        self.has_credentials = bool(headers) and not _PROOFS.isdisjoint(map(str.lower, headers))

    def secrets(self) -> Iterator[str]:
        """The texts that must be masked wherever they appear."""
        if self._settings is not None:
            yield from self._settings.secrets()
        for value in self._options.headers.values():
            if not isinstance(value, str):
                yield from words(value.get_secret_value())
            else:
                yield Plain(value)

    def identity(self) -> Hashable:
        """Equal for endpoints that send the same credentials within the same limits.

        It shows no secret.
        """
        options = self._options
        proofs = tuple(self._settings.secrets()) if self._settings is not None else ()
        headers = frozenset(options.headers.items())
        limits = (options.max_body, options.connect_timeout, options.idle_timeout)
        return hash((proofs, headers, options.verify, options.transport, limits))

    def headers(self) -> Mapping[str, str]:
        """The LM's own headers, which go nowhere but to its own origin."""
        headers = self._options.headers
        if not headers:
            return {}
        return {
            name: value if isinstance(value, str) else value.get_secret_value()
            for name, value in headers.items()
        }

    def owns(self, auth: Any) -> bool:
        """Whether an ``auth`` is the LM's own key, which is for its own origin alone."""
        key = getattr(self._settings and self._settings.values, "api_key", None)
        if key is None or not hasattr(auth, "get_secret_value"):
            return False
        if auth is key:
            return True
        return bool(auth.get_secret_value() == key.get_secret_value())

    def missing_base_error(self) -> LMGatewayError:
        """The error for a request that must be sent but has no base URL."""
        if self._settings is None or "api_base" not in self._settings.variables:
            return MissingCredentialError(f"{self.described} sent a request without a base URL")
        return MissingCredentialError(
            f"{self.provider} needs a base URL: set {self._settings.named('api_base')}, "
            f"or give api_base=; looked in {self._settings.looked_in}"
        )

    def missing_key_error(self, request: HTTPRequest) -> LMGatewayError | None:
        """The error for a request without a key, if its host answers only those with one."""
        from .._config.catalogue import needs_key
        from .._config.settings import missing_key_message

        headers = {name.lower() for name in (*self._options.headers, *request.headers)}
        if headers & _PROOFS or not needs_key(request.base_url or self.base_url or ""):
            return None
        if self._settings is None or "api_key" not in self._settings.variables:
            return MissingCredentialError(f"{self.described} sent a request without a key")
        return MissingCredentialError(missing_key_message(self.provider, self._settings))

    def explain(self, error: LMGatewayError) -> None:
        """Add to an error what the user can do about it."""
        if isinstance(error, (AuthenticationError, PermissionDeniedError)):
            error.advise(self._key_advice())
        elif isinstance(error, NotFoundError) and error.host in (None, self._netloc()):
            error.advise(
                f"the model or the path does not exist at {self.base_url or error.host}: "
                "check model= and that the base URL ends as the service's page says (often in /v1)"
            )
        elif isinstance(error, MissingCredentialError) and self._settings is not None:
            variable = self._settings.variables.get("api_key")
            if variable and variable not in error.message and "base" not in error.message:
                named, looked_in = self._settings.named("api_key"), self._settings.looked_in
                error.advise(f"set {named}, or give api_key=; looked in {looked_in}")
        if self._left_behind and isinstance(error, _KEY_ERRORS):
            error.advise(
                f"the {' and the '.join(self._left_behind)} that this LM had stayed behind when it "
                "was pickled or sent to another process: set them there"
            )

    def _netloc(self) -> str | None:
        return netloc_of(self.base_url) if self.base_url else None

    def _key_advice(self) -> str:
        if self._settings is None or "api_key" not in self._settings.variables:
            return ""
        from .._config.settings import is_quoted

        variable = self._settings.named("api_key")
        origin = self._settings.provenance.get("api_key")
        if origin is None or origin.kind == "default":
            return f"no key was sent: set {variable} (looked in {self._settings.looked_in})"
        key: Any = getattr(self._settings.values, "api_key", None)
        if hasattr(key, "get_secret_value") and is_quoted(key.get_secret_value()):
            return f"the key came from {origin} and has quotation marks around it, which must go"
        return f"the key came from {origin}; check it, or set {variable}"
