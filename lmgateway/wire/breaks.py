"""Streams that break: the error to raise for one that broke off or stalled."""

from __future__ import annotations

from ..errors import (
    ConnectionFailedError,
    LMGatewayError,
    RequestTimeoutError,
    StreamInterruptedError,
    StreamStalledError,
)

__all__ = ["broken_off"]


def broken_off(error: LMGatewayError, partial: str | None = None) -> LMGatewayError:
    """The error of a stream that was being read, as its reader is to see it.

    A connection that failed is a StreamInterruptedError, and a time that ran out is a
    StreamStalledError; each has the first error as its cause. Any other error stays itself. ::

        except LMGatewayError as error:
            raise broken_off(error, "".join(texts) or None)

    The core does so as well, for a plugin that does not; it does not know ``partial``.

    Args:
        error: What reading the stream raised, or what the plugin raises of a stream that ended
            too early.
        partial: The text that had arrived; None if none had. Then another attempt is worth it.
    """
    told = error
    if isinstance(error, StreamInterruptedError):
        pass
    elif isinstance(error, RequestTimeoutError):
        told = StreamStalledError(f"the stream stalled: {error.message}")
    elif isinstance(error, ConnectionFailedError):
        told = StreamInterruptedError(f"the stream broke off: {error.message}")
    else:
        return error
    if told is not error:
        told.__cause__ = error
        told.locate(provider=error.provider, host=error.host, max_retries=error.max_retries)
    told.partial = told.partial or partial
    # A stall may have taken all the time that there was.
    may_retry = error.retryable or not isinstance(told, StreamStalledError)
    told.retryable = may_retry and told.partial is None
    return told
