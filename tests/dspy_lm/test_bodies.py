"""What goes out over HTTP: one limit of tokens, response formats, headers; and overflows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fault_server import FaultServer, ReceivedRequest, answer, reply, whole

dspy = pytest.importorskip("dspy", reason="needs the extra [dspy]")

from lmgateway import InputError, get_lm
from lmgateway.dspy import LM
from lmgateway.wire.openai.params import reasons

pytestmark = pytest.mark.loopback

TEXT = "[[ ## answer ## ]]\nok\n\n[[ ## completed ## ]]"
MODELS = ("gpt-5-nano", "o3-mini")
MAX = 16000


def completion(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"index": 0, "message": message}]}).encode()


class Host:
    """Answers every request, and keeps the bodies."""

    def __init__(self, server: FaultServer) -> None:
        self.server = server
        self.url = f"{server.url}/v1"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(each.body) for each in self.server.requests]

    def lm(self, model: str = "m", provider: str = "openai", **keywords: Any) -> LM:
        keywords = {"api_key": "k", "cache": False, **keywords}
        return LM(provider, model=model, api_base=self.url, **keywords)


Making = Callable[[ReceivedRequest], bytes]


def serving(make: Making = lambda _: whole(completion(TEXT))) -> FaultServer:
    return FaultServer([answer(make)] * 40)


@pytest.fixture
def host() -> Iterator[Host]:
    with serving() as server:
        yield Host(server)


def limits(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name.startswith("max")}


# -- one limit ---------------------------------------------------------------------------------


def saved(lm: LM) -> LM:
    program = dspy.Predict("question -> answer")
    program.lm = lm
    program.save("program.json")
    again = dspy.Predict("question -> answer")
    again.load("program.json", allow_unsafe_lm_state=True)
    return again.lm


def from_file(host: Host, model: str, params: str, **keywords: Any) -> LM:
    Path("lmgateway.toml").write_text(
        f'[models.smart]\nprovider = "openai"\nmodel = "{model}"\nparams = {{ {params} }}\n'
        f'[providers.openai]\napi_base = "{host.url}"\n'
    )
    return LM("smart", api_key="k", cache=False, **keywords)


WAYS: dict[str, Callable[[Host, str], Any]] = {
    "max_tokens": lambda h, m: h.lm(m, max_tokens=MAX)("Hi"),
    "max_completion_tokens": lambda h, m: h.lm(m, max_completion_tokens=MAX)("Hi"),
    "both": lambda h, m: h.lm(m, max_tokens=MAX, max_completion_tokens=MAX)("Hi"),
    "one of them None": lambda h, m: h.lm(m, max_tokens=None, max_completion_tokens=MAX)("Hi"),
    "awaited": lambda h, m: asyncio.run(h.lm(m, max_tokens=MAX).acall("Hi")),
    "by a call": lambda h, m: h.lm(m)("Hi", max_tokens=MAX),
    "by a call, the other": lambda h, m: h.lm(m)("Hi", max_completion_tokens=MAX),
    "a call over a default": lambda h, m: h.lm(m, max_tokens=20000)("Hi", max_tokens=MAX),
    "the other over a default": lambda h, m: h.lm(m, max_tokens=20000)(
        "Hi", max_completion_tokens=MAX
    ),
    "one over the other's default": lambda h, m: h.lm(m, max_completion_tokens=20000)(
        "Hi", max_tokens=MAX
    ),
    "a copy": lambda h, m: h.lm(m, max_tokens=MAX).copy(rollout_id=1, temperature=1.0)("Hi"),
    "a copy of the core's": lambda h, m: h.lm(m, max_tokens=MAX).copy(timeout=9)("Hi"),
    "a copy's own": lambda h, m: h.lm(m, max_tokens=20000).copy(max_tokens=MAX)("Hi"),
    "a copy's other": lambda h, m: h.lm(m, max_tokens=20000).copy(max_completion_tokens=MAX)("Hi"),
    "saved and loaded": lambda h, m: saved(h.lm(m, max_tokens=MAX))("Hi"),
    "from the file": lambda h, m: from_file(h, m, f"max_tokens = {MAX}")("Hi"),
    "over the file's": lambda h, m: from_file(
        h, m, "max_tokens = 20000", max_completion_tokens=MAX
    )("Hi"),
    "an LM of lmgateway's": lambda h, m: LM(
        get_lm("openai", model=m, api_base=h.url, api_key="k", max_tokens=MAX), cache=False
    )("Hi"),
}


@pytest.mark.parametrize("way", WAYS)
def test_one_limit_goes_out(way: str, host: Host) -> None:
    for model in MODELS:
        WAYS[way](host, model)
    WAYS[way](host, "gpt-4o")

    *reasoning, other = map(limits, host.bodies)
    assert reasoning == [{"max_completion_tokens": MAX}] * len(MODELS)
    assert list(other.values()) == [MAX]  # by the name that was said


NO_LIMIT: dict[str, Callable[[Host], Any]] = {
    "none": lambda h: h.lm("gpt-5")("Hi"),
    "a call takes it away": lambda h: h.lm("gpt-5", max_tokens=MAX)("Hi", max_tokens=None),
    "a call takes the other away": lambda h: h.lm("gpt-5", max_tokens=MAX)(
        "Hi", max_completion_tokens=None
    ),
    "a copy takes it away": lambda h: h.lm("gpt-5", max_tokens=MAX).copy(max_tokens=None)("Hi"),
}


@pytest.mark.parametrize("way", NO_LIMIT)
def test_none_takes_the_limit_away(way: str, host: Host) -> None:
    NO_LIMIT[way](host)

    assert limits(host.bodies[0]) == {}


@pytest.mark.parametrize(
    "act",
    [
        lambda: LM("openai/gpt-4o", max_tokens=1, max_completion_tokens=2),
        lambda: LM("openai/gpt-4o").copy(max_tokens=1, max_completion_tokens=2),
        lambda: LM("openai/gpt-4o")("Hi", max_tokens=1, max_completion_tokens=2),
    ],
    ids=["LM", "copy", "call"],
)
def test_two_limits_that_disagree_are_refused(act: Callable[[], Any]) -> None:
    with pytest.raises(InputError, match="two names of one limit"):
        act()


@pytest.mark.parametrize(
    "model, does",
    [
        ("o1", True), ("o1-preview", True), ("o3-mini-2025-01-31", True), ("o4-mini", True),
        ("gpt-5", True), ("GPT-5-nano", True), ("gpt-5.1-codex", True), ("gpt-6", True),
        ("openai/gpt-5", True), ("ft:o4-mini-2025-04-16:org::id", True),
        ("gpt-5-chat-latest", False), ("gpt-5.2-chat", False), ("gpt-4o", False), ("o", False),
        ("gpt-oss-120b", False), ("gpt-50", False), ("olmo-2", False), ("o1000", False),
        ("", False),
    ],
)  # fmt: skip
def test_models_that_reason_are_known_by_their_names(model: str, does: bool) -> None:
    assert reasons(model) is does


def test_the_core_knows_the_name_that_a_model_takes(host: Host) -> None:
    lm = get_lm("openai", model="o3", api_base=host.url, api_key="k", max_tokens=9)

    lm("Hi")
    lm("Hi", max_completion_tokens=5)
    lm.copy(max_completion_tokens=7)("Hi")
    lm.copy(model="gpt-4o")("Hi")
    lm.copy(dialect="vllm")("Hi")

    assert list(map(limits, host.bodies)) == [
        {"max_completion_tokens": 9},
        {"max_completion_tokens": 5},
        {"max_completion_tokens": 7},
        {"max_tokens": 9},
        {"max_tokens": 9},
    ]


# -- response formats --------------------------------------------------------------------------


def lacking(*kinds: str) -> Making:
    """A host that refuses some response formats."""

    def make(request: ReceivedRequest) -> bytes:
        wanted = (json.loads(request.body).get("response_format") or {}).get("type", "none")
        if wanted in kinds:
            return whole(b'{"error": {"message": "this response_format is unavailable"}}', 400)
        return whole(completion(json.dumps({"answer": wanted})))

    return make


async def streamed(program: Any) -> Any:
    return [each async for each in dspy.streamify(program)(question="q")][-1]


ASKED: dict[str, Callable[[Any], Any]] = {
    "sync": lambda program: program(question="q"),
    "async": lambda program: asyncio.run(program.acall(question="q")),
    "streamed": lambda program: asyncio.run(streamed(program)),
}


@pytest.mark.parametrize("how", ASKED)
@pytest.mark.parametrize(
    "kinds, kept, requests",
    [((), "json_schema", 1), (("json_schema",), "json_object", 2),
     (("json_schema", "json_object"), "none", 3)],
)  # fmt: skip
def test_an_adapter_does_without_a_format_that_the_host_lacks(
    kinds: tuple[str, ...], kept: str, requests: int, how: str
) -> None:
    with serving(lacking(*kinds)) as server:
        lm = Host(server).lm()
        program = dspy.Predict("question -> answer")
        with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
            assert ASKED[how](program).answer == kept
            assert len(server.requests) == requests
            assert ASKED[how](program).answer == kept  # the host is known now
            assert len(server.requests) == requests + 1
    notes = [each.field for each in lm.history[-1].get("adaptations", ())]
    assert notes == ["config.response_format"] * (requests - 1)


@pytest.mark.parametrize("how", ASKED)
def test_another_refusal_is_raised(how: str) -> None:
    with serving(lambda _: whole(b'{"error": {"message": "no such image"}}', 400)) as server:
        with (
            dspy.context(lm=Host(server).lm(), adapter=dspy.JSONAdapter()),
            pytest.raises((dspy.LMInvalidRequestError, ExceptionGroup)) as caught,
        ):
            ASKED[how](dspy.Predict("question -> answer"))
        assert server.requests
    assert "no such image" in str(only(caught.value))


def test_a_schema_of_the_users_own_is_never_left_out() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}}}
    with serving(lacking("json_schema")) as server:
        with pytest.raises(dspy.LMInvalidRequestError, match="unavailable"):
            Host(server).lm()("Hi", response_format=schema)
        assert len(server.requests) == 1


def only(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


# -- headers -----------------------------------------------------------------------------------


def test_extra_headers_are_headers(host: Host) -> None:
    lm = host.lm(headers={"X-A": "a", "X-B": "b"}, extra_headers={"X-A": "c"})
    lm("Hi")
    lm.copy(extra_headers={"X-A": "d"})("Hi")
    saved(host.lm(extra_headers={"X-A": "e"}))("Hi")

    sent = [each.headers for each in host.server.requests]
    assert [each["x-a"] for each in sent] == ["c", "d", "e"]
    assert sent[0]["x-b"] == "b"


# -- overflows ---------------------------------------------------------------------------------

OVERFLOWS = {
    "openai": {"error": {"message": "too long", "code": "context_length_exceeded"}},
    "anyscale": {"error": {"message": "This model's maximum context length is 2048 tokens. "
                           "However, you requested 2049 tokens", "code": 400}},
    "anthropic": {"type": "error", "error": {"type": "invalid_request_error",
                  "message": "prompt is too long: 210000 tokens > 200000 maximum"}},
}  # fmt: skip


@pytest.mark.parametrize("how", ASKED)
@pytest.mark.parametrize("provider", OVERFLOWS)
def test_an_overflow_is_dspys_own_error(provider: str, how: str) -> None:
    with FaultServer([reply(json.dumps(OVERFLOWS[provider]).encode(), 400)]) as server:
        lm = Host(server).lm(provider=provider)
        with (
            dspy.context(lm=lm, adapter=dspy.JSONAdapter()),
            pytest.raises((dspy.ContextWindowExceededError, ExceptionGroup)) as caught,
        ):
            ASKED[how](dspy.Predict("question -> answer"))
        assert len(server.requests) == 1
    assert isinstance(only(caught.value), dspy.ContextWindowExceededError)


def said(provider: str, text: str) -> bytes:
    if provider != "anthropic":
        return completion(text)
    usage = {"input_tokens": 3, "output_tokens": 5}
    answer = {"id": "m", "type": "message", "role": "assistant", "model": "m", "usage": usage}
    answer |= {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
    return json.dumps(answer).encode()


@pytest.mark.parametrize("provider", OVERFLOWS)
def test_react_shortens_a_trajectory_that_is_too_long(provider: str) -> None:
    turn = "[[ ## next_thought ## ]]\nt\n\n[[ ## next_tool_name ## ]]\n%s\n\n"
    turn += "[[ ## next_tool_args ## ]]\n%s\n\n[[ ## completed ## ]]"

    def search(q: str) -> str:
        return "found " * 300

    def make(request: ReceivedRequest) -> bytes:
        messages = json.dumps(json.loads(request.body)["messages"])
        if len(messages) > 9000:
            return whole(json.dumps(OVERFLOWS[provider]).encode(), 400)
        if "next_tool_name" not in messages:
            return whole(said(provider, f"[[ ## reasoning ## ]]\nr\n\n{TEXT}"))
        step = turn % (("search", '{"q": "x"}') if len(server.requests) < 8 else ("finish", "{}"))
        return whole(said(provider, step))

    with serving(make) as server, dspy.context(lm=Host(server).lm(provider=provider)):
        found = dspy.ReAct("question -> answer", tools=[search], max_iters=9)(question="q")

    assert found.answer == "ok"
    assert "observation_0" not in found.trajectory
    assert "observation_3" in found.trajectory
