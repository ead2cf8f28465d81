from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from support.exposed import exposed
from support.fault_server import FaultServer, close, receive, reply, send, stall
from support.fault_server import head as http_head

dspy = pytest.importorskip("dspy", reason="needs the extra [dspy]")

from dspy import lm15

from lmgateway import errors
from lmgateway.dspy import LM, Anyscale
from lmgateway.dspy.failures import as_dspy
from lmgateway.testing import ScriptedLM

ANSWER = json.dumps({"choices": [{"message": {"content": "Paris."}, "index": 0}]}).encode()
AT_ONCE = {"Retry-After": "0"}
CANARY = "sk-canary-12345678"


def lm_at(server: FaultServer, **keywords: Any) -> LM:
    base = f"{server.url}/v1"
    return LM("anyscale", model="m", api_base=base, api_key=CANARY, cache=False, **keywords)


def refusal(status: int, code: str = "") -> bytes:
    return json.dumps({"error": {"message": f"said {status}", "code": code or None}}).encode()


# -- no error shows the key --------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: LM("openai/m", api_key=f"{CANARY}\n {CANARY}"), id="LM"),
        pytest.param(lambda: LM("openai/m", api_key=CANARY, wrong=1), id="LM with a word too many"),
        pytest.param(lambda: Anyscale("m", api_key=CANARY, api_base="ftp://x"), id="Anyscale"),
        pytest.param(lambda: LM("openai/m").copy(api_key=CANARY, wrong=1), id="copy"),
    ],
)
def test_an_argument_that_is_refused_is_shown_nowhere(make: Callable[[], LM]) -> None:
    with pytest.raises(errors.LMGatewayError) as caught:
        make()
    assert not [text for text in exposed(caught.value, __file__) if "canary" in text]


# -- each error is DSPy's own ------------------------------------------------------------------

API = {"message": "no", "status": 400}


@pytest.mark.parametrize(
    "error, kind",
    [
        (errors.MissingCredentialError("no key"), lm15.NotConfiguredError),
        (errors.ConfigError("no"), lm15.ConfigurationError),
        (errors.CacheMissError("no"), lm15.ConfigurationError),
        (errors.PluginContractError("no"), lm15.ConfigurationError),
        (errors.UnsupportedError("no"), lm15.UnsupportedFeatureError),
        (errors.UnknownParameterError("no"), lm15.UnsupportedFeatureError),
        (errors.InputError("no"), lm15.InvalidRequestError),
        (errors.ConnectionFailedError("no"), lm15.TransportError),
        (errors.RequestTimeoutError("no"), lm15.TimeoutError),
        (errors.StreamInterruptedError("no"), lm15.StreamAssemblyError),
        (errors.AuthenticationError("no", status=401), lm15.AuthError),
        (errors.PermissionDeniedError("no", status=403), lm15.AuthError),
        (errors.NotFoundError("no", status=404), lm15.UnsupportedModelError),
        (errors.QuotaExceededError("no", status=429), lm15.BillingError),
        (errors.ContentFilteredError("no", status=400), lm15.InvalidRequestError),
        (errors.InvalidRequestError("no", status=400), lm15.InvalidRequestError),
        (errors.ContextLengthError("no", status=400), lm15.ContextLengthError),
        (errors.RateLimitError("no", status=429), lm15.RateLimitError),
        (errors.ServerError("no", status=500), lm15.ServerError),
        (errors.ResponseFormatError("no"), lm15.ProviderError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_error_is_the_one_of_dspys_that_says_the_same(
    error: errors.LMGatewayError, kind: type[Exception]
) -> None:
    assert type(as_dspy(error)) is kind


def test_every_error_of_ours_has_one() -> None:
    for name in errors.__all__:
        cls = getattr(errors, name)
        if isinstance(cls, type):
            assert isinstance(as_dspy(cls("no")), lm15.LM15Error)


def test_what_is_known_of_an_error_goes_along() -> None:
    error = errors.RateLimitError(
        "slow down", status=429, code="rpm", request_id="r-1", retry_after=2.5
    ).locate(provider="anyscale", host="one.example", model="m")

    theirs = as_dspy(error)

    assert theirs.message == str(error)
    assert (theirs.status, theirs.provider_code, theirs.request_id, theirs.retry_after) == (
        429,
        "rpm",
        "r-1",
        2.5,
    )


# -- and DSPy retries what is worth it ---------------------------------------------------------


@pytest.mark.loopback
@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_a_passing_failure_is_tried_again(status: int) -> None:
    script = [reply(refusal(status), status, AT_ONCE), reply(ANSWER)]
    with FaultServer(script) as server:
        assert lm_at(server)("Hi") == ["Paris."]
        assert len(server.requests) == 2


@pytest.mark.loopback
def test_awaited_too() -> None:
    script = [reply(refusal(503), 503, AT_ONCE), reply(ANSWER)]
    with FaultServer(script) as server:
        assert asyncio.run(lm_at(server).acall("Hi")) == ["Paris."]


@pytest.mark.loopback
def test_as_often_as_num_retries_says_and_no_oftener() -> None:
    with FaultServer([reply(refusal(429), 429, AT_ONCE)] * 5) as server:
        with pytest.raises(dspy.LMRateLimitError, match="said 429") as caught:
            lm_at(server, num_retries=2)("Hi")
        assert len(server.requests) == 3
    assert isinstance(caught.value.__cause__.__cause__, errors.RateLimitError)


@pytest.mark.loopback
def test_a_lost_connection_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspy.clients.execution._delay", lambda error, attempt: 0)
    with FaultServer([receive(), close()], [reply(ANSWER)]) as server:
        assert lm_at(server)("Hi") == ["Paris."]


@pytest.mark.loopback
@pytest.mark.parametrize(
    "status, code, kind",
    [
        (400, "", "LMInvalidRequestError"),
        (400, "context_length_exceeded", "ContextWindowExceededError"),
        (401, "", "LMAuthError"),
        (403, "", "LMAuthError"),
        (404, "", "LMUnsupportedModelError"),
        (402, "", "LMBillingError"),
        (429, "insufficient_quota", "LMBillingError"),
        (422, "", "LMInvalidRequestError"),
    ],
)
def test_a_lasting_failure_is_not(status: int, code: str, kind: str) -> None:
    with FaultServer([reply(refusal(status, code), status)]) as server:
        with pytest.raises(dspy.LMError) as caught:
            lm_at(server)("Hi")
        assert len(server.requests) == 1
    assert type(caught.value).__name__ == kind
    assert f"said {status}" in str(caught.value)
    assert CANARY not in str(caught.value)
    assert "RouterConfig" not in str(caught.value)


@pytest.mark.loopback
def test_a_service_that_asks_for_no_retry_is_obeyed() -> None:
    headers = {"x-should-retry": "false", **AT_ONCE}
    with FaultServer([reply(refusal(503), 503, headers)]) as server:
        with pytest.raises(dspy.LMProviderError, match="said 503"):
            lm_at(server)("Hi")
        assert len(server.requests) == 1


@pytest.mark.loopback
def test_the_timeout_holds_for_an_attempt() -> None:
    with (
        FaultServer([receive(), stall()]) as server,
        pytest.raises(dspy.LMTimeoutError, match=r"anyscale"),
    ):
        lm_at(server, timeout=0.3, num_retries=0)("Hi")


def test_a_missing_base_says_which_variable_would_set_it() -> None:
    with pytest.raises(dspy.LMNotConfiguredError, match="ANYSCALE_API_BASE"):
        LM("anyscale", model="m", cache=False)("Hi")


def test_a_failure_is_no_reason_to_ask_in_another_format() -> None:
    lm = LM(ScriptedLM([errors.AuthenticationError("no", status=401)]), cache=False)

    with dspy.context(lm=lm), pytest.raises(dspy.LMAuthError):
        dspy.Predict("question -> answer")(question="Hi")

    assert len(lm.gateway.requests) == 1


# -- streams -----------------------------------------------------------------------------------


def events(*texts: str, end: bytes = b"data: [DONE]\n\n") -> bytes:
    chunks = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    if end:
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in chunks) + end


EVENT_STREAM = http_head(200, {"Content-Type": "text/event-stream", "Connection": "close"})


async def pieces(lm: LM) -> list[str]:
    program = dspy.streamify(
        dspy.Predict("question -> answer"),
        stream_listeners=[dspy.streaming.StreamListener("answer")],
    )
    found = []
    with dspy.context(lm=lm):
        async for value in program(question="Hi"):
            if isinstance(value, dspy.streaming.StreamResponse):
                found.append(value.chunk)
            else:
                found.append(value)
    return found


@pytest.mark.loopback
def test_a_stream_that_was_cut_off_is_an_error_and_no_answer() -> None:
    cut = EVENT_STREAM + events("[[ ## answer ## ]]\n", "Par", end=b"")
    with FaultServer([receive(), send(cut), close()]) as server:
        with pytest.raises(dspy.LMStreamAssemblyError, match="ended before") as caught:
            asyncio.run(pieces(lm_at(server)))
        assert len(server.requests) == 1
    assert caught.value.partial.text == "[[ ## answer ## ]]\nPar"


@pytest.mark.loopback
def test_a_stream_that_failed_before_its_first_piece_is_tried_again() -> None:
    whole = EVENT_STREAM + events("[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]")
    script = [reply(refusal(503), 503, AT_ONCE), receive(), send(whole), close()]
    with FaultServer(script) as server:
        *_, last = asyncio.run(pieces(lm_at(server)))
    assert last.answer == "Paris"
