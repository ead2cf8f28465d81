"""Errors: lmgateway's as DSPy's own, so that DSPy retries what is worth another attempt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dspy import lm15

from .. import errors

__all__ = ["as_dspy", "translated"]

# Specific classes before their parents.
_CLASSES: tuple[tuple[type[errors.LMGatewayError], type[lm15.LM15Error]], ...] = (
    (errors.MissingCredentialError, lm15.NotConfiguredError),
    (errors.UnsupportedError, lm15.UnsupportedFeatureError),
    (errors.InputError, lm15.InvalidRequestError),
    (errors.CacheMissError, lm15.ConfigurationError),
    (errors.ConfigError, lm15.ConfigurationError),
    (errors.PluginError, lm15.ConfigurationError),
    (errors.RequestTimeoutError, lm15.TimeoutError),
    (errors.TransportError, lm15.TransportError),
    (errors.AuthenticationError, lm15.AuthError),
    (errors.PermissionDeniedError, lm15.AuthError),
    (errors.NotFoundError, lm15.UnsupportedModelError),
    (errors.QuotaExceededError, lm15.BillingError),
    (errors.ContextLengthError, lm15.ContextLengthError),
    (errors.ContentFilteredError, lm15.InvalidRequestError),
    (errors.InvalidRequestError, lm15.InvalidRequestError),
    (errors.RateLimitError, lm15.RateLimitError),
    (errors.ServerError, lm15.ServerError),
    (errors.LMGatewayError, lm15.ProviderError),
)
_AGAIN: type[lm15.LM15Error] = lm15.ServerError
_CUT_OFF: type[lm15.LM15Error] = lm15.StreamAssemblyError
_NEVER_CONNECTS: type[lm15.LM15Error] = lm15.ConfigurationError
_REFUSED: type[lm15.LM15Error] = lm15.ProviderError
_RETRIED = (lm15.RateLimitError, lm15.TimeoutError, lm15.ServerError, lm15.TransportError)


@contextmanager
def translated() -> Iterator[None]:
    """Raise each error of lmgateway as one of DSPy's, with the original as its cause."""
    try:
        yield
    except errors.LMGatewayError as error:
        raise as_dspy(error) from error


def as_dspy(error: errors.LMGatewayError) -> lm15.LM15Error:
    """The error of DSPy's own tree that means the same, with lmgateway's message."""
    message = str(error)
    raised = _class_for(error)(
        message,
        provider_code=getattr(error, "code", None),
        status=getattr(error, "status", None) or None,
        request_id=getattr(error, "request_id", None),
        retry_after=getattr(error, "retry_after", None),
    )
    # Some of its classes add advice about DSPy's own connections, which is not to be followed here.
    raised.message, raised.args = message, (message,)
    raised.provider = error.provider
    return raised


def _class_for(error: errors.LMGatewayError) -> type[lm15.LM15Error]:
    cls: type[lm15.LM15Error]
    cls = next(theirs for ours, theirs in _CLASSES if isinstance(error, ours))
    if isinstance(error, errors.RequestTimeoutError):
        return cls  # the deadline of one attempt: DSPy's next attempt has one of its own
    if error.retryable:
        return cls if issubclass(cls, _RETRIED) else _AGAIN
    if isinstance(error, errors.StreamInterruptedError):
        return _CUT_OFF
    if isinstance(error, errors.TransportError):  # a certificate, a proxy
        return _NEVER_CONNECTS
    return _REFUSED if issubclass(cls, _RETRIED) else cls
