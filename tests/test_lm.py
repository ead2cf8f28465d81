from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
from typing import Any

import pydantic
import pytest
from support.fault_server import FaultServer, close, receive, reply

from lmgateway import LM, UNSET, errors, get_lm, hookimpl
from lmgateway._call.flow import compose, prepare
from lmgateway._drive.streams import AStream
from lmgateway._transports import leases
from lmgateway._transports.leases import Leases
from lmgateway.lm import spec_of
from lmgateway.testing import ScriptedLM, lm_from
from lmgateway.types import Answer, Delta, Emit, Flow, HTTPRequest


def test_calling_returns_the_texts() -> None:
    assert get_lm("echo")("Hi", n=2) == ["Hi", "Hi"]


def test_complete_returns_the_normalized_dict() -> None:
    assert get_lm("echo").complete("Hi there") == {
        "prompt": "Hi there",
        "choices": [
            {
                "text": "Hi there",
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "Hi there"},
            }
        ],
        "model": "echo",
        "usage": {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4},
        "provider": "echo",
        "cached": False,
    }


def test_sync_and_async_say_the_same() -> None:
    lm = get_lm("echo")
    messages = [{"role": "user", "content": "one two"}]

    async def main() -> tuple[Any, ...]:
        stream = lm.astream(messages=messages)
        pieces = "".join([piece async for piece in stream])
        whole = await lm.acomplete(messages=messages)
        return await lm.acall(messages=messages), whole, pieces, stream.completion

    texts, whole, pieces, streamed = asyncio.run(main())
    with lm.stream(messages=messages) as stream:
        assert "".join(stream) == pieces == "one two"
    plain = lm.complete(messages=messages)
    assert plain == whole == streamed == stream.completion
    assert lm(messages=messages) == texts == ["one two"]


def test_a_name_may_hold_the_model() -> None:
    lm = get_lm("echo/some/model")
    assert (lm.provider, lm.model) == ("echo", "some/model")


def test_parameters_of_a_call_win_over_those_of_the_lm_and_none_removes_one() -> None:
    lm = ScriptedLM(lambda request: repr(dict(request.params)), temperature=0.5, seed=1)
    assert lm("q", temperature=1.0, seed=None) == ["{'temperature': 1.0}"]
    assert lm("q") == ["{'temperature': 0.5, 'seed': 1}"]


@pytest.mark.parametrize(
    "given, system", [({}, "Be brief."), ({"system": UNSET}, "Be brief."), ({"system": None}, None)]
)
def test_none_removes_the_system_text_too(given: dict[str, Any], system: str | None) -> None:
    lm = ScriptedLM(lambda request: repr(request.system), system="Be brief.")
    assert lm("q", **given) == [repr(system)]


def test_what_belongs_to_an_lm_may_be_unset_in_a_call() -> None:
    lm = get_lm("echo")
    unset = dict.fromkeys(("api_base", "api_key", "config", "headers", "history", "verify"), UNSET)
    assert lm("q", **unset) == ["q"]
    assert lm.batch(["q"], **unset)[0]["choices"][0]["text"] == "q"


@pytest.mark.parametrize(
    "arguments, message",
    [
        pytest.param({}, "give a prompt or messages=", id="neither"),
        pytest.param(
            {"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "not both", id="both"
        ),
        pytest.param({"prompt": 3}, "must be a str", id="a number"),
        pytest.param({"prompt": "abc\ud800"}, "offset 3", id="a lone surrogate"),
        pytest.param({"messages": []}, "empty", id="no messages"),
        pytest.param({"messages": "hi"}, "a str", id="messages that are a str"),
        pytest.param({"messages": ["hi"]}, r"messages\[0\]", id="a message that is a str"),
        pytest.param({"messages": [{"content": "hi"}]}, "role", id="no role"),
        pytest.param({"messages": [{"role": "user"}]}, "content", id="no content"),
        pytest.param({"messages": [{"role": "user", "content": 3}]}, "content", id="content 3"),
        pytest.param(
            {"messages": [{"role": "user", "content": "a\udfff"}]}, "offset 1", id="deep surrogate"
        ),
        pytest.param({"prompt": "a", "temperature": float("nan")}, "nan", id="nan"),
        pytest.param({"prompt": "a", "temperature": "hot"}, "number", id="temperature hot"),
        pytest.param({"prompt": "a", "n": 0}, "at least 1", id="n 0"),
        pytest.param({"prompt": "a", "n": -1}, "at least 1", id="n -1"),
        pytest.param({"prompt": "a", "n": True}, "at least 1", id="n True"),
        pytest.param({"prompt": "a", "max_tokens": -1}, "at least 0", id="max_tokens -1"),
        pytest.param({"prompt": "a", "stop": [""]}, "empty", id="an empty stop"),
        pytest.param({"prompt": "a", "temperatur": 1}, "'temperature'", id="a typing error"),
        pytest.param({"prompt": "a", "seed": {1}}, "set", id="no JSON"),
        pytest.param({"prompt": "a", "timeout": -1}, "seconds", id="timeout -1"),
        pytest.param({"prompt": "a", "timeout": float("nan")}, "seconds", id="timeout nan"),
        pytest.param({"prompt": "a", "retries": True}, "retries", id="retries True"),
        pytest.param({"prompt": "a", "cache": "never"}, "cache", id="cache never"),
        pytest.param({"prompt": "a", "api_key": "k"}, "belongs to the LM", id="a key in a call"),
        pytest.param({"prompt": "a", "verify": False}, "belongs to the LM", id="verify in a call"),
        pytest.param({"prompt": "a", "system": 3}, "system must be", id="system 3"),
    ],
)
def test_bad_input_is_refused(arguments: dict[str, Any], message: str) -> None:
    lm = get_lm("echo")
    with pytest.raises(errors.InputError, match=message) as caught:
        lm.complete(**arguments)
    assert isinstance(caught.value, ValueError)
    assert len(lm.history) == 0


@pytest.mark.parametrize(
    "keywords",
    [
        pytest.param({"verify": False}, id="verify off"),
        pytest.param({"verify": "/no/such/file.pem"}, id="no such bundle"),
        pytest.param({"headers": {"A b": "c"}}, id="a header's name with a space"),
        pytest.param({"headers": {"A": "b\r\nC: d"}}, id="a header's value with a line break"),
        pytest.param({"model": "a\nb"}, id="a model with a line break"),
        pytest.param({"model": "\ud800"}, id="a model with a surrogate"),
        pytest.param({"transport": "pigeon"}, id="an unknown transport"),
        pytest.param({"history": -1}, id="a negative history"),
        pytest.param({"history": 10**21}, id="a history beyond any memory"),
        pytest.param({"timeout": 10**400}, id="a timeout that no float can hold"),
    ],
)
def test_bad_keywords_are_refused_by_get_lm(keywords: dict[str, Any]) -> None:
    with pytest.raises(errors.InputError):
        get_lm("echo", **keywords)


def test_ten_megabytes_and_a_nul_pass() -> None:
    prompt = "x" * 10_000_000 + "\0"
    assert get_lm("echo", history=0)(prompt) == [prompt]


# -- schema ------------------------------------------------------------------------------------


class City(pydantic.BaseModel):
    name: str


def test_a_schema_puts_the_validated_object_into_parsed() -> None:
    lm = ScriptedLM(['{"name": "Paris"}'])
    assert lm.complete("q", schema=City)["choices"][0]["parsed"] == City(name="Paris")
    assert lm.requests[0].schema == City.model_json_schema()


def test_an_answer_that_does_not_fit_the_schema_is_an_error_with_the_text() -> None:
    lm = ScriptedLM(['{"name": 3}'])
    with pytest.raises(errors.ResponseFormatError, match="name") as caught:
        lm.complete("q", schema=City)
    assert caught.value.text == '{"name": 3}'


# -- streams -----------------------------------------------------------------------------------


def test_events_are_deltas() -> None:
    assert list(get_lm("echo").stream("a b", events=True)) == [Delta("a "), Delta("b")]


def test_a_stream_left_early_has_no_completion_and_is_closed() -> None:
    with get_lm("echo").stream("a b c") as stream:
        assert next(stream) == "a "
    assert stream.completion is None
    assert list(stream) == []


class Breaking:
    """A provider whose stream breaks after two pieces."""

    @hookimpl
    def lmgateway_complete(self) -> Answer:
        raise NotImplementedError

    @hookimpl
    def lmgateway_stream(self) -> Flow[Answer]:
        yield Emit("one ")
        yield Emit("two")
        raise errors.ConnectionFailedError("gone")


def test_an_error_inside_a_stream_holds_what_had_come() -> None:
    stream = lm_from(Breaking(), "breaking", model="m").stream("q")
    with pytest.raises(errors.ConnectionFailedError) as caught:
        list(stream)
    assert caught.value.partial == "one two"
    assert caught.value.retryable is False


class Long:
    """A provider whose stream of two choices breaks late."""

    @hookimpl
    def lmgateway_complete(self) -> Answer:
        raise NotImplementedError

    @hookimpl
    def lmgateway_stream(self) -> Flow[Answer]:
        for number in range(5000):
            yield Emit(Delta(f"{number} ", number % 3 % 2))
        raise errors.ConnectionFailedError("gone")


def test_what_had_come_of_a_long_stream_is_the_text_of_the_first_choice() -> None:
    stream = lm_from(Long(), "long", model="m").stream("q")
    with pytest.raises(errors.ConnectionFailedError) as caught:
        list(stream)
    assert caught.value.partial == "".join(f"{n} " for n in range(5000) if n % 3 != 1)


# -- history, copies, life ---------------------------------------------------------------------


def test_history_holds_copies_and_is_bounded() -> None:
    lm = get_lm("echo", history=2)
    for prompt in ("a", "b", "c"):
        completion = lm.complete(prompt)
        completion["choices"][0]["text"] = "changed"
    assert [entry["completion"]["choices"][0]["text"] for entry in lm.history] == ["b", "c"]
    lm.history[0]["prompt"] = "changed"
    assert lm.history[0]["prompt"] == "b"
    assert get_lm("echo", history=0).history.limit == 0


def test_history_holds_errors() -> None:
    lm = ScriptedLM([errors.RateLimitError("slow down", status=429)] * 9, retries=0)
    with pytest.raises(errors.RateLimitError):
        lm("q")
    assert "slow down" in lm.history[-1]["error"]


def test_a_copy_is_changed_and_the_original_is_not() -> None:
    lm = get_lm("echo", temperature=0.1)
    other = lm.copy(temperature=0.9, model="other")
    assert (lm.model, lm.params) == ("echo", {"temperature": 0.1})
    assert (other.model, other.params) == ("other", {"temperature": 0.9})


def test_copy_and_deepcopy_return_the_lm_itself() -> None:
    lm = get_lm("echo")
    assert copy.copy(lm) is lm
    assert copy.deepcopy([lm])[0] is lm


def test_configuration_does_not_change() -> None:
    with pytest.raises(AttributeError, match=r"copy\(model=\.\.\.\)"):
        get_lm("echo").model = "other"  # type: ignore[misc]


def test_an_lm_without_headers_is_pickled() -> None:
    assert pickle.loads(pickle.dumps(get_lm("openai/m", headers=None))).model == "m"


def test_a_pickled_lm_answers() -> None:
    lm = pickle.loads(pickle.dumps(get_lm("echo", temperature=0.3)))
    assert lm("hi") == ["hi"]
    assert lm.params == {"temperature": 0.3}


def test_a_closed_lm_raises() -> None:
    with get_lm("echo") as lm:
        lm("hi")
    with pytest.raises(errors.LMGatewayError, match="closed"):
        lm("hi")


EVENTS = b"""\
data: {"choices": [{"index": 0, "delta": {"content": "Paris."}}]}

data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}

data: [DONE]

"""


@pytest.mark.loopback
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_stream_keeps_its_lm_and_no_longer(mode: str) -> None:
    """A stream may begin when nobody else holds the LM: what it takes is given back."""
    before = held()
    answer = [reply(EVENTS, headers={"Content-Type": "text/event-stream"})]
    with FaultServer(answer, answer) as server:
        for _ in range(2):
            lm = get_lm("openai", model="m", api_base=f"{server.url}/v1", api_key="k", cache=False)
            if mode == "sync":
                stream = lm.stream("Hi")
                del lm
                assert "".join(stream) == "Paris."
            else:
                awaited = lm.astream("Hi")
                del lm
                assert asyncio.run(gathered(awaited)) == "Paris."
    assert held() == before


def held() -> dict[int, int]:
    """How many hold each transport; the collector lets go what earlier tests forgot."""
    gc.collect()
    return dict(leases.shared.holders)


async def gathered(stream: AStream[str]) -> str:
    return "".join([piece async for piece in stream])


def test_a_stream_that_begins_after_its_lm_was_closed_raises() -> None:
    lm = get_lm("echo")
    stream, other = lm.stream("a b"), lm.stream("a b")
    assert next(other) == "a "
    lm.close()
    with pytest.raises(errors.InputError, match="this LM is closed"):
        next(stream)
    assert list(other) == ["b"]


@pytest.mark.loopback
def test_a_call_whose_lm_is_closed_under_way_takes_no_new_connections() -> None:
    before = held()
    with FaultServer([receive(), close()]) as server:
        made = get_lm("openai", model="m", api_base=f"{server.url}/v1", api_key="k", cache=False)
        leased, spec = Leases(), spec_of(made)
        lm = LM(spec, connections=leased)
        asked, call = prepare(spec, "Hi", None)
        flow = compose(spec, call, asked, lm.history)
        transport = leased.blocking(call)
        request = next(flow)
        assert isinstance(request, HTTPRequest)
        with pytest.raises(errors.ConnectionFailedError):
            transport.send(request, call.deadline)
        lm.close()
        with pytest.raises(errors.InputError, match="this LM is closed"):
            transport.send(request, call.deadline)
        flow.close()
    assert held() == before


def test_32_threads_and_4_event_loops_share_one_lm() -> None:
    lm = get_lm("echo", history=10)
    wrong: list[Any] = []

    def blocking(number: int) -> None:
        for turn in range(50):
            prompt = f"{number} {turn}"
            if lm(prompt) != [prompt]:
                wrong.append(prompt)

    def awaiting(number: int) -> None:
        async def main() -> None:
            prompts = [f"loop {number} {turn}" for turn in range(50)]
            answers = await asyncio.gather(*(lm.acall(prompt) for prompt in prompts))
            wrong.extend(p for p, a in zip(prompts, answers, strict=True) if a != [p])

        asyncio.run(main())

    threads = [threading.Thread(target=blocking, args=(n,)) for n in range(32)]
    threads += [threading.Thread(target=awaiting, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
