"""The error of a stream that broke."""

from __future__ import annotations

import pytest

from lmgateway.errors import (
    ConnectionFailedError,
    LMGatewayError,
    RateLimitError,
    RequestTimeoutError,
    StreamInterruptedError,
    StreamStalledError,
)
from lmgateway.wire.breaks import broken_off


def late(*, passing: bool) -> RequestTimeoutError:
    error = RequestTimeoutError("nothing came")
    error.retryable = passing
    return error


ROWS: dict[str, tuple[LMGatewayError, type[LMGatewayError], str, bool]] = {
    "broke": (
        ConnectionFailedError("reset"), StreamInterruptedError, "the stream broke off: reset", True,
    ),
    "stalled": (
        late(passing=True), StreamStalledError, "the stream stalled: nothing came", True,
    ),
    "no time left": (
        late(passing=False), StreamStalledError, "the stream stalled: nothing came", False,
    ),
    "ended": (StreamInterruptedError("too early"), StreamInterruptedError, "too early", True),
}  # fmt: skip


@pytest.mark.parametrize("error, kind, message, retryable", ROWS.values(), ids=ROWS)
def test_a_stream_that_broke_is_told_by_its_kind(
    error: LMGatewayError, kind: type[LMGatewayError], message: str, retryable: bool
) -> None:
    error.locate(host="h", provider="p")
    told = broken_off(error)
    assert (type(told), told.message, told.retryable) == (kind, message, retryable)
    assert (told.host, told.provider, told.partial) == ("h", "p", None)
    assert told is error or told.__cause__ is error
    with_text = broken_off(error, "some")
    assert (with_text.partial, with_text.retryable) == ("some", False)


def test_another_error_stays_itself() -> None:
    error = RateLimitError("slowly")
    assert broken_off(error, "some") is error
    assert error.partial is None
