"""The one tree of errors, and the one table from an HTTP status to its error.

::

    LMGatewayError
    ├── InputError (ValueError)         the caller's own input; raised before any I/O
    ├── UnsupportedError                the provider cannot do this; raised before any I/O
    │   └── UnknownParameterError       (InputError as well) no such parameter here
    ├── ConfigError
    │   ├── InvalidSettingError         (InputError as well) a value that cannot be used
    │   └── MissingCredentialError      raised when a request must really be sent
    ├── CacheMissError                  only a stored answer was wanted, and there is none
    ├── PluginError
    │   ├── UnknownProviderError        no such provider is installed
    │   ├── DuplicateProviderError      two distributions claim one name
    │   ├── PluginLoadError             the plugin's module does not import
    │   ├── PluginVersionError          it was written for another plugin API
    │   └── PluginContractError         it breaks the contract of its hooks
    ├── TransportError                  no complete HTTP response arrived
    │   ├── ConnectionFailedError
    │   ├── RequestTimeoutError
    │   └── StreamInterruptedError      .partial holds the text that did arrive
    │       └── StreamStalledError      (RequestTimeoutError as well) no more came in time
    └── APIError                        the service answered, and the answer is an error
        ├── AuthenticationError         401
        ├── PermissionDeniedError       403
        ├── NotFoundError               404
        ├── QuotaExceededError          402; 429 with a code that says the quota is spent
        ├── ContentFilteredError
        ├── InvalidRequestError         400, 413, 422 and any other 4xx
        │   └── ContextLengthError
        ├── RateLimitError              429
        ├── ServerError                 5xx
        └── ResponseFormatError         a 2xx that cannot be read
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Self

from ._base.masking import CUT, masker

__all__ = [
    "APIError", "AuthenticationError", "CacheMissError", "ConfigError", "ConnectionFailedError",
    "ContentFilteredError", "ContextLengthError", "DuplicateProviderError", "InputError",
    "InvalidRequestError", "InvalidSettingError", "LMGatewayError", "MissingCredentialError",
    "NotFoundError", "PermissionDeniedError", "PluginContractError", "PluginError",
    "PluginLoadError", "PluginVersionError", "QuotaExceededError", "RateLimitError",
    "RequestTimeoutError", "ResponseFormatError", "ServerError", "StreamInterruptedError",
    "StreamStalledError", "TransportError", "UnknownParameterError", "UnknownProviderError",
    "UnsupportedError", "api_error", "excerpt",
]  # fmt: skip

EXCERPT_LENGTH = 300

#: What a RecursionError may mean; who raised it is not always who is to blame.
OUT_OF_STACK = (
    "Python's stack ran out: little of it was left where the call was made "
    "(see sys.setrecursionlimit), or what was called calls itself without end"
)


class LMGatewayError(Exception):
    """The root of every error this library raises on purpose.

    Whoever raises one gives a message that says what happened and what to do next; the core
    fills in where it happened (``provider``, ``host``, ``model``, ``attempt``), and ``str()``
    composes them.

    Attributes:
        message: What happened, without the place.
        provider: Name of the provider, where one was involved.
        host: ``host[:port]`` of the service, never with user information or a query.
        model: The model asked for.
        attempt: Which attempt failed, counted from 1.
        attempts: How many attempts were allowed in all.
        retryable: Whether the same call may succeed when it is made again.
        passes_on: Whether a fallback is asked even if another attempt would not help.
        max_retries: How often at most this kind of failure is worth another attempt of one call;
            None for as often as the call's options allow.
        partial: The text a stream had delivered before the error; None if it delivered none.
        completion: What there was of an answer, as a Completion; None if there was none. Its
            ``prompt`` is "": an error may be printed, logged or sent elsewhere.
        usage: Tokens that the service counted all the same, which it may bill; see
            ``lmgateway.types.Usage``.
        rate_limit: What the service said about its limits; see ``lmgateway.types.RateLimits``.
    """

    passes_on: bool = False

    def __init__(self, message: str = "", *, provider: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider
        self.host: str | None = None
        self.model: str | None = None
        self.attempt: int | None = None
        self.attempts: int | None = None
        self.retryable = False
        self.max_retries: int | None = None
        self.partial: str | None = None
        self.completion: dict[str, Any] | None = None
        self.usage: dict[str, Any] | None = None
        self.rate_limit: dict[str, Any] | None = None

    def __str__(self) -> str:
        place = []
        if self.provider:
            place.append(f"provider {self.provider}")
        if self.host:
            place.append(f"host {self.host}")
        if self.model:
            place.append(f"model {excerpt(self.model, 80)}")
        if self.attempt:
            of = f" of {self.attempts}" if self.attempts else ""
            place.append(f"attempt {self.attempt}{of}")
        place.extend(self._details())
        return f"{self.message} [{', '.join(place)}]" if place else self.message

    def _details(self) -> list[str]:
        return []

    def __reduce__(self) -> tuple[Any, ...]:
        state = self.__dict__.copy()
        if "__notes__" in state:  # a copy's notes are its own
            state["__notes__"] = list(state["__notes__"])
        return _rebuild, (type(self), self.args, state)

    def locate(self, **place: Any) -> Self:
        """Fill in attributes that are not known yet; what the raiser set stays."""
        for name, value in place.items():
            if getattr(self, name, None) is None:
                setattr(self, name, value)
        return self

    def advise(self, advice: str) -> Self:
        """Add to the message what the user can do."""
        if advice and advice not in self.message:
            self.message = f"{self.message}; {advice}" if self.message else advice
            self.args = (self.message,)
        return self

    def redact(self, secrets: Iterable[str]) -> Self:
        """Mask every secret in what came from outside: the message, a code, an id, a note.

        A short word of letters alone, as ``ollama`` for a service that asks for no key, is none.
        """
        mask = masker(secrets)
        for name, value in vars(self).items():
            if isinstance(value, str) and name not in _OWN:
                setattr(self, name, mask(value))
        if notes := getattr(self, "__notes__", None):
            self.__notes__ = [mask(str(note)) for note in notes]
        self.args = (self.message,)
        return self


#: What the core filled in, and the answer as the user has it already.
_OWN = frozenset({"provider", "model", "host", "partial"})


def _rebuild(
    cls: type[LMGatewayError], args: tuple[Any, ...], state: dict[str, Any]
) -> LMGatewayError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InputError(LMGatewayError, ValueError):
    """What the caller gave cannot be sent. Raised before any I/O."""


class UnsupportedError(LMGatewayError):
    """The provider does not offer what was asked of it. Raised before any I/O.

    Attributes:
        param: What it does not take: the name of a parameter, or a place in the input such as
            ``messages[2].name``. ``unsupported="adapt"`` goes by it. None if it is no one thing.
    """

    def __init__(
        self, message: str = "", *, provider: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message, provider=provider)
        self.param = param


class UnknownParameterError(UnsupportedError, InputError):
    """The provider has no parameter of that name. Raised before any I/O."""


class ConfigError(LMGatewayError):
    """A setting, a configuration file or a ``.env`` file is wrong."""


class InvalidSettingError(ConfigError, InputError):
    """A setting has a value that cannot be used, wherever it came from. Raised before any I/O."""


class MissingCredentialError(ConfigError):
    """A key or base URL is needed, because a request must really be sent, and is not there."""


class CacheMissError(LMGatewayError):
    """Only a stored answer was wanted (``cache="only"``, a replayed test), and there is none."""


class PluginError(LMGatewayError):
    """A provider plugin did something wrong; the message names its distribution."""

    passes_on = True


class UnknownProviderError(PluginError):
    """No installed plugin and no catalogue row has that name."""


class DuplicateProviderError(PluginError):
    """Two distributions claim one provider name; both are named."""


class PluginLoadError(PluginError):
    """The plugin's module does not import; the cause is chained."""


class PluginVersionError(PluginError):
    """The plugin was written for another version of the plugin API."""


class PluginContractError(PluginError):
    """The plugin breaks the contract: a hook's name, its arguments, or what it returns."""


class TransportError(LMGatewayError):
    """No complete HTTP response arrived."""


class ConnectionFailedError(TransportError):
    """The connection could not be made, or broke before the response was complete."""

    def __init__(self, message: str = "", *, provider: str | None = None) -> None:
        super().__init__(message, provider=provider)
        self.retryable = True


class RequestTimeoutError(TransportError):
    """The deadline or the idle timeout ran out."""


class StreamInterruptedError(TransportError):
    """A stream ended or stalled before its end mark; ``partial`` holds what had arrived."""


class StreamStalledError(StreamInterruptedError, RequestTimeoutError):
    """A stream stalled until the deadline or the idle timeout ran out."""


class APIError(LMGatewayError):
    """The service answered with an error.

    Attributes:
        status: HTTP status of the answer (200 for an error inside a stream without its own).
        code: The machine-readable code in the body, as a string.
        request_id: The service's own id of the request, for its support.
        retry_after: Seconds the service asked to wait, if it did.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int = 0,
        provider: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, provider=provider)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after
        self.retryable = is_retryable_status(status)

    def _details(self) -> list[str]:
        details = [f"status {self.status}"] if self.status else []
        if self.code and self.code != str(self.status):
            details.append(f"code {excerpt(self.code, 60)}")
        if self.request_id:
            details.append(f"request id {excerpt(self.request_id, 80)}")
        return details


class AuthenticationError(APIError):
    """401: the key is missing or wrong."""


class PermissionDeniedError(APIError):
    """403: the key is known and may not do this."""


class NotFoundError(APIError):
    """404: no such model or no such path."""


class QuotaExceededError(APIError):
    """402, or a 429 whose code says that the quota is spent: waiting does not help."""

    passes_on = True

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.retryable = False


class ContentFilteredError(APIError):
    """The service refused to answer for reasons of content."""


class InvalidRequestError(APIError):
    """The service does not accept the request as it is."""


class ContextLengthError(InvalidRequestError):
    """Prompt and answer together are longer than the model's context."""


class RateLimitError(APIError):
    """429: too many requests or tokens a minute."""


class ServerError(APIError):
    """5xx: the service failed."""


class ResponseFormatError(APIError):
    """A 2xx whose body cannot be read as a completion; the message names the field.

    Attributes:
        text: The answer's text, where it could be read and did not fit the schema.
    """

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message, **{"status": 200, **details})
        self.retryable = False
        self.text: str | None = None


_BY_STATUS: dict[int, type[APIError]] = {
    401: AuthenticationError,
    402: QuotaExceededError,
    403: PermissionDeniedError,
    404: NotFoundError,
    429: RateLimitError,
}

# The codes of several services side by side, in lower case. A code may refine what the status
# says and never overrule it: the statuses it may refine stand beside it.
_BY_CODE: dict[str, tuple[frozenset[int], type[APIError]]] = {
    **dict.fromkeys(
        (
            "context_length_exceeded",
            "exceed_context_size_error",
            "input_tokens",
            "string_above_max_length",
        ),
        (frozenset({400, 413, 422}), ContextLengthError),
    ),
    **dict.fromkeys(
        ("insufficient_quota", "quota_exceeded", "billing_hard_limit_reached", "billing_not_active",
         "insufficient_balance", "credit_balance_too_low"),
        (frozenset({400, 403, 429}), QuotaExceededError),
    ),
    **dict.fromkeys(
        ("content_filter", "content_policy_violation", "content_filtered"),
        (frozenset({400, 403, 422, 451}), ContentFilteredError),
    ),
    "model_not_found": (frozenset({400}), NotFoundError),
}  # fmt: skip

# The one thing that is read out of prose: programs trim a conversation that is too long, and these
# hosts have no code for it. A sentence each, as its host writes it.
_OVERFLOWS = frozenset({400, 413, 422})
_OVERFLOW = re.compile(
    r"\(parameter=input_tokens"  # vLLM, through Ray Serve
    r"|prompt is too long: \d+ tokens"  # Anthropic
    r"|input length and `max_tokens` exceed context limit"
    r"|input token count(?: \(\d+\))? exceeds the maximum number of tokens"  # Gemini
    r"|maximum (?:context|prompt) length is \d+"  # DeepSeek, OpenRouter, old vLLM; xAI
    r"|\d maximum context length"  # Mistral
    r"|ContextWindowExceededError"  # LiteLLM
    r"|tokens \+ `max_new_tokens` must be <="  # Text Generation Inference
    r"|input is too long for requested model",  # Bedrock
    re.IGNORECASE,
)

_RETRYABLE_4XX = frozenset({408, 409, 429})


def is_retryable_status(status: int) -> bool:
    """Whether a status invites another attempt: 408, 409, 429 and every 5xx."""
    return status in _RETRYABLE_4XX or 500 <= status <= 599


def error_class(status: int, codes: Iterable[str] = (), message: str = "") -> type[APIError]:
    """The class for an HTTP status; the body's machine codes may refine it.

    Prose may not, except where it says that the context is too long.
    """
    for code in codes:
        statuses, cls = _BY_CODE.get(code.lower(), (frozenset(), APIError))
        if status in statuses:
            return cls
    if status in _OVERFLOWS and _OVERFLOW.search(message) is not None:
        return ContextLengthError
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status <= 499:
        return InvalidRequestError
    if 500 <= status <= 599:
        return ServerError
    return ResponseFormatError if 200 <= status <= 299 else APIError


def api_error(
    status: int,
    message: str,
    *,
    codes: Iterable[str] = (),
    request_id: str | None = None,
    retry_after: float | None = None,
) -> APIError:
    """The error for an answer with this status.

    Args:
        status: HTTP status; for an error object inside a stream, the status it stands for.
        message: The service's own words; cut to an excerpt.
        codes: The machine-readable codes in the body, the most telling first.
        request_id: The service's id of the request.
        retry_after: Seconds the service asked to wait.
    """
    codes = list(codes)
    cls = error_class(status, codes, message)
    return cls(
        excerpt(message),
        status=status,
        code=codes[0] if codes else None,
        request_id=request_id,
        retry_after=retry_after,
    )


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def too_large(limit: int, status: int) -> APIError:
    """The error for a body of more bytes than ``limit``, counted after decompression."""
    error = api_error(
        status, f"the answer is larger than {limit} bytes (max_body) and was not read"
    )
    error.retryable = False
    return error


def excerpt(text: str | bytes, length: int = EXCERPT_LENGTH) -> str:
    """At most ``length`` characters of a text, on one line, fit for a message or a log.

    Where it is cut it ends in "…": whoever masks secrets masks a part of one before that, too.
    """
    reach = length * 4  # white space may take most of it
    cut = len(text) > reach
    if isinstance(text, bytes):
        text = text[:reach].decode("utf-8", "replace")
        text = text.rstrip("\N{REPLACEMENT CHARACTER}") if cut else text
    text = _CONTROL.sub(" ", text[:reach]).strip()
    if not text or not (cut or len(text) > length):
        return text
    return text[: length - 1] + CUT
