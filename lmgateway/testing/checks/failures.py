"""Checks of errors: every status becomes the error class that the table of statuses names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ... import errors
from ...errors import APIError, LMGatewayError, PluginError, error_class, is_retryable_status
from ...types import HTTPResponse
from ..bench import DEFAULT_CALL, Bench
from ..calls import RecordedCall
from ..records import documents_of, messages_in, says
from ..sent import leaves_of
from ..wire import NoAnswerError, Wire
from .sights import needs_stream

__all__ = ["OTHERS", "FailureChecks"]

_STATUSES = [400, 401, 402, 403, 404, 405, 408, 409, 413, 418, 422, 429, 451]
_STATUSES += [500, 501, 502, 503, 504, 520, 529]
_ID = "req-of-the-kit-0c41"
_ID_HEADERS = (
    *("x-request-id", "request-id", "x-amzn-requestid", "x-ms-request-id", "apim-request-id"),
    *("x-goog-request-id", "x-correlation-id", "x-trace-id", "x-requestid"),
)
#: A call of each kind beside completions, by its hook.
OTHERS: dict[str, Callable[[Any], Any]] = {
    "lmgateway_models": lambda lm: lm.models(),
    "lmgateway_embed": lambda lm: lm.embed(["a text"]),
    "lmgateway_rerank": lambda lm: lm.rerank("a question", ["a text"]),
    "lmgateway_count": lambda lm: lm.count("a text"),
}
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

    def test_the_message_of_the_service_is_kept(self, bench: Bench, failed: RecordedCall) -> None:
        """The error says what the service said, and the id by which its owner can look it up."""
        if failed.kind != "complete" or not isinstance(failed.answers()[-1], HTTPResponse):
            pytest.skip("it is no error of HTTP")
        messages = [text for each in documents_of(failed) for text in messages_in(each)]
        if not messages:
            pytest.skip("the recorded error has no message that the kit knows")
        said = [leaf for each in documents_of(failed) for _, leaf in leaves_of(each)]
        *before, last = failed.answers()
        for status in dict.fromkeys((last.status, 400, 429, 500)):
            if not 400 <= status <= 599:
                continue
            headers = {**last.headers, **dict.fromkeys(_ID_HEADERS, _ID)}
            response = HTTPResponse(status, headers, failed.body)
            ask = bench.stream if failed.stream else bench.ask
            with pytest.raises(LMGatewayError) as caught:
                ask(failed.call, *before, response, response)
            assert any(says(caught.value, message) for message in messages), (
                f"the service says {messages[0]!r:.80}, and the error {str(caught.value)!r:.120}: "
                "the user does not learn what is wrong. Look where errors are read; "
                "lmgateway.wire.openai.check keeps the message of any form"
            )
            found = getattr(caught.value, "request_id", None)
            if found is not None and found in said:
                continue  # its body says it as well
            assert found == _ID, (
                f"the id of the request that failed is {found!r}, and the service said {_ID!r} in "
                "a header: its owner cannot look it up"
            )

    def test_an_error_in_a_good_status_is_no_answer(
        self, bench: Bench, failed: RecordedCall, way: bool
    ) -> None:
        """The service's error with the status 200 is a typed error all the same."""
        if failed.kind != "complete" or not failed.body.lstrip().startswith((b"{", b"[")):
            pytest.skip("its recorded error is no JSON")
        headers = {"content-type": "application/json"}
        for call in (failed.call, DEFAULT_CALL):
            try:
                error = self._error(
                    bench, HTTPResponse(200, headers, failed.body), stream=way, call=call
                )
            except NoAnswerError:
                pytest.skip("it asks for a further exchange after such an answer")
            assert not isinstance(error, PluginError), (
                f"an error of the service with the status 200 breaks the plugin: {error}"
            )
            codes = [leaf for each in documents_of(failed) for path, leaf in leaves_of(each)
                     if path[-2:] == ("error", "code") and leaf in _STATUSES]  # fmt: skip
            status = getattr(error, "status", 200)
            assert not codes or status in (200, *codes), (
                f"an error of the service with the status 200 says that it is a {codes[0]}, and "
                f"becomes a {status}: it is tried again, or given up, against what the service "
                "says. Look where errors are read"
            )

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

    @pytest.mark.parametrize("hook", list(OTHERS))
    def test_the_other_hooks_fail_alike(self, bench: Bench, hook: str) -> None:
        """The hooks for models and embeddings use the same table."""
        if hook not in bench.plugin.hooks:
            pytest.skip(f"it has no {hook}")
        for status in (401, 404, 429, 503):
            wire = Wire(HTTPResponse(status, {}, _PAGE))
            raised: type | None = None
            try:
                OTHERS[hook](bench.lm(wire))
            except LMGatewayError as error:
                raised = type(error)
            if raised is None and not wire.asked:
                pytest.skip(f"{hook} sends nothing")
            assert raised is error_class(status), (
                f"status {status} must be {error_class(status).__name__} in {hook} too, not "
                f"{'an answer' if raised is None else raised.__name__}"
            )

    @pytest.mark.parametrize("status", [400, 401, 429, 500])
    def test_an_error_in_the_services_form_is_its_status(
        self, bench: Bench, status: int, calls: list[RecordedCall]
    ) -> None:
        """The service's own errors are told apart by the status as well."""
        bodies = [call.body for call in calls if call.is_error and call.body.startswith(b"{")]
        if not bodies:
            pytest.skip("no error is recorded that is JSON")
        headers = {"content-type": "application/json"}
        error = self._error(bench, HTTPResponse(status, headers, bodies[0]), stream=False)
        assert getattr(error, "status", None) == status, (
            f"an error of status {status} has the status {getattr(error, 'status', None)}"
        )

    def _error(
        self,
        bench: Bench,
        response: HTTPResponse,
        *,
        stream: bool,
        call: Mapping[str, Any] = DEFAULT_CALL,
    ) -> LMGatewayError:
        if stream:
            needs_stream(bench)
        if bench.asks(stream=stream) not in ("HTTP", "kept"):
            pytest.skip("it sends nothing over HTTP")
        ask = bench.stream if stream else bench.ask
        try:  # twice: an auth of the plugin's may have a request sent once more after a 401
            result = ask(call, response, response, unfolds=True)
        except LMGatewayError as error:
            return error
        pytest.fail(f"status {response.status} became the answer {result.completion!r:.200}")
