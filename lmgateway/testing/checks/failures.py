"""Checks of errors: every status becomes the error class that the table of statuses names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ... import errors
from ...errors import APIError, LMGatewayError, error_class, is_retryable_status
from ...types import HTTPResponse
from ..bench import DEFAULT_CALL, Bench
from ..calls import RecordedCall
from ..wire import Wire

__all__ = ["FailureChecks"]

_STATUSES = [400, 401, 402, 403, 404, 405, 408, 409, 413, 418, 422, 429, 451]
_STATUSES += [500, 501, 502, 503, 504, 520, 529]
_PAGE = b"<html><head><title>Sorry</title></head><body><h1>Not now</h1></body></html>"


class FailureChecks:
    """What the provider makes of an answer that is an error."""

    @pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
    @pytest.mark.parametrize("status", _STATUSES)
    def test_a_status_is_its_error(self, bench: Bench, status: int, stream: bool) -> None:
        """The class follows from the status, also where the body is the page of a proxy."""
        response = HTTPResponse(status, {"content-type": "text/html"}, _PAGE)
        error = self._error(bench, response, stream=stream)
        expected = error_class(status)
        assert type(error) is expected, (
            f"status {status} must be {expected.__name__}, not {type(error).__name__}: {error}"
        )
        assert isinstance(error, APIError)
        assert error.status == status, f"its .status is {error.status}"
        assert error.retryable is is_retryable_status(status), (
            f"its .retryable is {error.retryable}"
        )

    def test_a_recorded_error_is_its_kind(self, bench: Bench, failed: RecordedCall) -> None:
        """A call ends in the error that its recording names, or else that of its status."""
        ask = bench.stream if failed.stream else bench.ask
        with pytest.raises(LMGatewayError) as caught:
            ask(failed.call, *failed.answers())
        status = failed.responses[-1].get("status", 200)
        expected = getattr(errors, failed.error) if failed.error else error_class(status)
        kind = type(caught.value)
        fits = kind is expected if failed.error else issubclass(kind, expected)
        assert fits, f"it must be {expected.__name__}, not {kind.__name__}: {caught.value}"

    @pytest.mark.parametrize("name", ["retry-after", "retry-after-ms"])
    def test_the_wait_that_a_service_asks_for_is_known(self, bench: Bench, name: str) -> None:
        """The error has ``retry_after``, in seconds."""
        headers = {name: "7000" if name.endswith("ms") else "7"}
        error = self._error(bench, HTTPResponse(429, headers, b"{}"), stream=False)
        assert getattr(error, "retry_after", None) == 7.0, (
            f"a {name} of 7 s became {getattr(error, 'retry_after', None)}"
        )

    @pytest.mark.parametrize("value", ["true", "false"])
    def test_a_service_may_say_whether_to_retry(self, bench: Bench, value: str) -> None:
        """The error obeys the header ``x-should-retry``."""
        response = HTTPResponse(400 if value == "true" else 500, {"x-should-retry": value}, b"{}")
        error = self._error(bench, response, stream=False)
        assert error.retryable is (value == "true")

    @pytest.mark.parametrize("hook", ["lmgateway_models", "lmgateway_embed"])
    def test_the_other_hooks_fail_alike(self, bench: Bench, hook: str) -> None:
        """The hooks for models and embeddings use the same table."""
        if hook not in bench.plugin.hooks:
            pytest.skip(f"it has no {hook}")
        for status in (401, 404, 429, 503):
            lm = bench.lm(Wire(HTTPResponse(status, {}, _PAGE)))
            ask: Callable[[], Any] = lm.models if hook.endswith("models") else _embed(lm)
            with pytest.raises(LMGatewayError) as caught:
                ask()
            assert type(caught.value) is error_class(status)

    def _error(self, bench: Bench, response: HTTPResponse, *, stream: bool) -> LMGatewayError:
        if stream and "lmgateway_stream" not in bench.plugin.hooks:
            pytest.skip("it does not stream")
        if bench.asks(stream=stream) != "HTTP":
            pytest.skip("it sends nothing over HTTP")
        try:  # twice: an auth of the plugin's may have a request sent once more after a 401
            result = (bench.stream if stream else bench.ask)(DEFAULT_CALL, response, response)
        except LMGatewayError as error:
            return error
        pytest.fail(f"status {response.status} became the answer {result.completion!r:.200}")


def _embed(lm: Any) -> Callable[[], Any]:
    return lambda: lm.embed(["a text"])
