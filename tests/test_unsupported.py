"""``unsupported=``: what becomes of a parameter that a model does not take."""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lmgateway
from lmgateway import LM, errors, hookimpl
from lmgateway._call.twins import HINTS
from lmgateway._call.twins import TWINS as TABLE
from lmgateway.testing import ScriptedLM, lm_from
from lmgateway.types import (
    Answer,
    Blocking,
    EmbedRequest,
    Emit,
    Flow,
    HTTPRequest,
    Info,
    Request,
    kept,
    send,
)

ALL = frozenset({"messages", "system", "schema", "tools"})
CONTENT = {"n": 2, "stop": ["x"], "tools": [], "tool_choice": "auto", "logprobs": True,
           "logit_bias": {"1": 2}, "max_tokens": 5, "parallel_tool_calls": False}  # fmt: skip


class Picky:
    """A plugin whose Info names some parameters, and that refuses some of them as it builds."""

    def __init__(
        self, *params: str, refuses: tuple[str, ...] = (), has: frozenset[str] = ALL
    ) -> None:
        self.info = Info(2, has, frozenset(params), "m")
        self.refuses = refuses
        self.requests: list[Any] = []
        self.builds = 0

    def build(self, request: Any) -> None:
        self.builds += 1
        for name in self.refuses:
            if name in request.params or name.startswith("messages["):
                raise errors.UnsupportedError(f"no {name} here", param=name)
        self.requests.append(request)

    @hookimpl
    def lmgateway_info(self) -> Info:
        return self.info

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Answer:
        self.build(request)
        count = request.params.get("n", 1)
        return {"prompt": request.input, "choices": [{"text": "yes"} for _ in range(count)]}

    @hookimpl
    def lmgateway_stream(self, request: Request) -> Flow[Answer]:
        self.build(request)
        yield Emit("yes")
        return {"prompt": request.input, "choices": [{"text": "yes"}]}

    @hookimpl
    def lmgateway_embed(self, request: EmbedRequest) -> Any:
        self.build(request)
        return {"embeddings": [[1.0] for _ in request.texts]}


def streamed(lm: LM, *args: Any, **more: Any) -> Any:
    stream = lm.stream(*args, **more)
    assert list(stream) == ["yes"]
    return stream.completion


async def _gathered(lm: LM, *args: Any, **more: Any) -> Any:
    stream = lm.astream(*args, **more)
    assert [piece async for piece in stream] == ["yes"]
    return stream.completion


WAYS = [
    pytest.param(lambda lm, *args, **more: lm.complete(*args, **more), id="plain"),
    pytest.param(lambda lm, *args, **more: asyncio.run(lm.acomplete(*args, **more)), id="awaited"),
    pytest.param(streamed, id="streamed"),
    pytest.param(lambda *args, **more: asyncio.run(_gathered(*args, **more)), id="astreamed"),
]
each_way = pytest.mark.parametrize("ask", WAYS)
#: Whether the model's Info lacks a parameter, or the plugin refuses it when it builds the request.
each_place = pytest.mark.parametrize("told", ["by Info", "by the plugin"])


def lacking(told: str, name: str, *others: str) -> Picky:
    return Picky(*others) if told == "by Info" else Picky(name, *others, refuses=(name,))


def told_of(answer: Any) -> list[tuple[str, str]]:
    for each in answer.get("warnings", ()):
        assert each["detail"].strip()
    return [(each["kind"], each["name"]) for each in answer.get("warnings", ())]


# -- hints ---------------------------------------------------------------------------------------


VALUES: dict[str, Any] = {
    "reasoning_effort": "low",
    "thinking": {"type": "adaptive"},
    "metadata": {"job": "a"},
    **dict.fromkeys(("user", "safety_identifier", "service_tier", "verbosity"), "a"),
}


@each_place
@pytest.mark.parametrize("name", sorted(HINTS))
def test_a_hint_is_left_out_and_told(name: str, told: str) -> None:
    plugin = lacking(told, name, "stop")
    lm = lm_from(plugin, unsupported="adapt")
    answer = lm.complete("hi", stop=["x"], **{name: VALUES.get(name, 1)})
    assert plugin.requests[0].params == {"stop": ["x"]}
    assert told_of(answer) == [("dropped", name)]


@each_way
@each_place
def test_every_way_to_ask_adapts(told: str, ask: Callable[..., Any]) -> None:
    plugin = lacking(told, "temperature")
    answer = ask(lm_from(plugin, unsupported="adapt", temperature=0), "hi")
    assert plugin.requests[0].params == {}
    assert told_of(answer) == [("dropped", "temperature")]


@each_way
@each_place
def test_by_default_it_is_refused(told: str, ask: Callable[..., Any]) -> None:
    plugin = lacking(told, "temperature")
    with pytest.raises(errors.UnsupportedError) as caught:
        ask(lm_from(plugin), "hi", temperature=0)
    assert caught.value.param == "temperature"
    assert plugin.requests == []


@each_place
@pytest.mark.parametrize("name", sorted(CONTENT))
def test_what_shapes_the_answer_is_refused_all_the_same(name: str, told: str) -> None:
    plugin = lacking(told, name)
    value = CONTENT[name] or [{"type": "function", "function": {"name": "f"}}]
    with pytest.raises(errors.UnsupportedError) as caught:
        lm_from(plugin, unsupported="adapt").complete("hi", **{name: value})
    assert caught.value.param == name
    assert plugin.requests == []


@pytest.mark.parametrize("mode", ["refuse", "adapt"])
@pytest.mark.parametrize(
    "name, says",
    [
        pytest.param("temperatur", "did you mean 'temperature'", id="a slip"),
        pytest.param("nonsense", "has no parameter 'nonsense'", id="nonsense"),
        pytest.param("extra_body", "has no parameter 'extra_body'", id="extra_body"),
    ],
)
def test_a_name_that_nobody_knows_is_refused_in_either_mode(
    name: str, says: str, mode: str
) -> None:
    plugin = Picky("temperature")
    with pytest.raises(errors.UnknownParameterError, match=says):
        lm_from(plugin, unsupported=mode).complete("hi", **{name: 1})
    assert plugin.builds == 0


def test_a_value_that_means_nothing_is_refused_though_it_would_be_left_out() -> None:
    with pytest.raises(errors.InputError, match="temperature must be a number"):
        lm_from(Picky(), unsupported="adapt")("hi", temperature="hot")


@pytest.mark.parametrize("value", [None, True, "drop", "", "Adapt", 1, ["adapt"]])
def test_another_value_of_the_option_is_refused(value: Any) -> None:
    lm = lm_from(Picky())
    with pytest.raises(errors.InputError, match='unsupported must be "refuse" or "adapt"'):
        lm("hi", unsupported=value)


def test_a_call_says_otherwise_than_its_lm() -> None:
    plugin = Picky()
    adapting = lm_from(plugin, unsupported="adapt", temperature=0)
    assert adapting("hi") == ["yes"]
    with pytest.raises(errors.UnsupportedError, match="temperature"):
        adapting("hi", unsupported="refuse")
    assert lm_from(plugin)("hi", temperature=0, unsupported="adapt") == ["yes"]


@pytest.mark.parametrize(
    "given",
    [
        {"temperature": 0},
        {"verbosity": "low"},
        {"user": "u"},
        {"response_format": {"type": "json_object"}},
    ],
    ids=str,
)
def test_the_refusal_says_how_to_do_without_and_offers_no_other_name(given: Any) -> None:
    plugin = Picky("use", "verify_all", "temperatures", "reasoning_effort", "response_formats")
    with pytest.raises(errors.UnsupportedError) as caught:
        lm_from(plugin)("hi", **given)
    assert "; unsupported='adapt' does without it" in str(caught.value)
    assert "did you mean" not in str(caught.value)


def test_a_batch_adapts_for_its_rows() -> None:
    plugin = Picky()
    rows = [{"prompt": "hi", "temperature": 0}]
    (answer,) = lm_from(plugin).batch(rows, unsupported="adapt")
    assert told_of(answer) == [("dropped", "temperature")]
    assert asyncio.run(lm_from(plugin).abatch(rows, unsupported="adapt"))
    with pytest.raises(errors.UnknownParameterError):
        lm_from(plugin, unsupported="adapt").batch(rows, unsupported="refuse")
    with pytest.raises(errors.InputError, match="belongs to the job"):
        lm_from(plugin).batch([{"prompt": "hi", "unsupported": "adapt"}])


def test_the_table_of_a_fallback_is_adapted_as_the_call_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lmgateway.toml").write_text(
        '[models.x]\nprovider = "echo"\nparams = { top_k = 5 }\n'
    )
    lm = ScriptedLM([errors.ServerError("busy", status=503)] * 2, retries=0, fallbacks=["x"])
    with pytest.raises(errors.ServerError):
        lm("hi")
    answer = lm.complete("hi", unsupported="adapt")
    assert (answer["provider"], told_of(answer)) == ("echo", [("dropped", "top_k")])


def test_one_line_of_the_file_moves_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "lmgateway.toml"
    table = '[models.x]\nprovider = "echo"\nparams = { presence_penalty = 0.5 }\n'
    file.write_text(table)
    with pytest.raises(errors.ConfigError, match=r"lmgateway\.toml:3: .*presence_penalty"):
        lmgateway.get_lm("x")
    assert lmgateway.get_lm("x", unsupported="adapt")("hi") == ["hi"]
    file.write_text(table + 'unsupported = "adapt"\n')
    lm = lmgateway.get_lm("x", top_p=0.5)
    answer = lm.complete("hi")
    assert told_of(answer) == [("dropped", "presence_penalty"), ("dropped", "top_p")]
    with pytest.raises(errors.ConfigError, match=r":3: .*presence_penalty"):
        lmgateway.get_lm("x", unsupported="refuse")


# -- twins ---------------------------------------------------------------------------------------

BUDGET = {"type": "enabled", "budget_tokens": 8192}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
TWINS: list[tuple[str, Any, str, Any]] = [
    ("reasoning_effort", "medium", "thinking", BUDGET),
    ("reasoning_effort", "none", "thinking", {"type": "disabled"}),
    ("thinking", BUDGET, "reasoning_effort", "medium"),
    ("thinking", {"type": "enabled", "budget_tokens": 1024}, "reasoning_effort", "low"),
    ("thinking", {"type": "enabled", "budget_tokens": 30000}, "reasoning_effort", "high"),
    ("thinking", {"type": "disabled"}, "reasoning_effort", "none"),
    ("user", "u-1", "metadata", {"user_id": "u-1"}),
    ("user", "u-1", "safety_identifier", "u-1"),
    ("safety_identifier", "u-1", "user", "u-1"),
    ("metadata", {"user_id": "u-1"}, "user", "u-1"),
]


@each_place
@pytest.mark.parametrize("name, value, twin, other", TWINS)
def test_what_has_a_twin_is_translated_and_told(
    name: str, value: Any, twin: str, other: Any, told: str
) -> None:
    plugin = lacking(told, name, twin)
    answer = lm_from(plugin, unsupported="adapt").complete("hi", **{name: value})
    assert plugin.requests[0].params == {twin: other}
    assert told_of(answer) == [("adapted", name)]


@pytest.mark.parametrize(
    "effort, limit, thinking",
    [
        pytest.param("high", 4000, {"type": "enabled", "budget_tokens": 3000}, id="some room"),
        pytest.param("high", 500, None, id="no room"),
        pytest.param("enormous", 40000, None, id="a word of nobody"),
    ],
)
def test_thinking_leaves_room_for_the_answer(effort: str, limit: int, thinking: Any) -> None:
    plugin = Picky("thinking", "max_tokens")
    lm = lm_from(plugin, unsupported="adapt", max_tokens=limit)
    answer = lm.complete("hi", reasoning_effort=effort)
    assert plugin.requests[0].params.get("thinking") == thinking
    kind = "adapted" if thinking else "dropped"
    assert told_of(answer) == [(kind, "reasoning_effort")]


def test_metadata_that_was_given_is_kept_beside_the_user() -> None:
    plugin = Picky("metadata")
    lm = lm_from(plugin, unsupported="adapt")
    lm("hi", user="u-1", metadata={"job": "a"})
    assert plugin.requests[0].params == {"metadata": {"job": "a", "user_id": "u-1"}}


def test_a_twin_of_completions_is_none_of_embeddings() -> None:
    plugin = Picky("user", "safety_identifier", refuses=("user",))
    answer = lm_from(plugin, unsupported="adapt").embed("hi", user="u-1")
    assert plugin.requests[0].params == {}
    assert told_of(answer) == [("dropped", "user")]


def test_a_twin_that_was_given_as_well_is_not_overwritten() -> None:
    plugin = Picky("thinking")
    answer = lm_from(plugin, unsupported="adapt").complete(
        "hi", reasoning_effort="low", thinking=BUDGET
    )
    assert plugin.requests[0].params == {"thinking": BUDGET}
    assert told_of(answer) == [("dropped", "reasoning_effort")]


def test_a_twin_that_is_refused_in_turn_is_left_out() -> None:
    plugin = Picky("thinking", refuses=("thinking",))
    answer = lm_from(plugin, unsupported="adapt").complete("hi", reasoning_effort="low")
    assert plugin.requests[0].params == {}
    assert told_of(answer) == [("adapted", "reasoning_effort"), ("dropped", "thinking")]


@each_place
@pytest.mark.parametrize("mode", ["refuse", "adapt"])
@pytest.mark.parametrize(
    "name, twin",
    [("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens")],
)
def test_what_means_the_same_is_translated_always(
    name: str, twin: str, mode: str, told: str
) -> None:
    plugin = lacking(told, name, twin)
    answer = lm_from(plugin, unsupported=mode).complete("hi", **{name: 7})
    assert plugin.requests[0].params == {twin: 7}
    assert "warnings" not in answer


def test_two_limits_are_refused_where_only_one_can_be_said() -> None:
    with pytest.raises(errors.UnsupportedError, match=r"max_tokens, and max_comp\w+ is given"):
        lm_from(Picky("max_completion_tokens"))("hi", max_tokens=5, max_completion_tokens=7)


@each_place
@pytest.mark.parametrize(
    "given, schema",
    [
        pytest.param({"type": "json_object"}, {"type": "object"}, id="json_object"),
        pytest.param(
            {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
            SCHEMA,
            id="json_schema",
        ),
    ],
)
def test_a_response_format_becomes_a_schema(given: Any, schema: Any, told: str) -> None:
    plugin = lacking(told, "response_format")
    answer = lm_from(plugin, unsupported="adapt").complete("hi", response_format=given)
    assert (plugin.requests[0].schema, plugin.requests[0].params) == (schema, {})
    assert told_of(answer) == [("adapted", "response_format")]
    assert "parsed" not in answer["choices"][0]


@pytest.mark.parametrize(
    "plugin, more",
    [
        pytest.param(Picky(has=frozenset({"messages"})), {}, id="a model without schema"),
        pytest.param(Picky(), {"schema": {"type": "object"}}, id="a schema is there already"),
        pytest.param(Picky(), {"response_format": {"type": "grammar"}}, id="another type"),
    ],
)
def test_a_response_format_that_cannot_be_said_is_refused(plugin: Picky, more: Any) -> None:
    lm = lm_from(plugin, unsupported="adapt")
    asked = {"response_format": {"type": "json_object"}, **more}
    with pytest.raises(errors.UnsupportedError, match="response_format"):
        lm("hi", **asked)
    assert plugin.requests == []


# -- messages ------------------------------------------------------------------------------------

TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "name": "Ann", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "name": "Bo", "content": [{"type": "text", "text": "and I"}]},
    {"role": "system", "content": "Speak French."},
    {"role": "user", "content": "go on"},
    {"role": "developer", "content": [{"type": "text", "text": "Be polite."}]},
]


@each_way
def test_a_late_system_turn_becomes_the_users(ask: Callable[..., Any]) -> None:
    class NoLateSystem(Picky):
        def build(self, request: Any) -> None:
            for place, turn in enumerate(request.messages):
                if place and turn["role"] in ("system", "developer"):
                    raise errors.UnsupportedError("first!", param=f"messages[{place}].role")
            super().build(request)

    plugin = NoLateSystem()
    answer = ask(lm_from(plugin, unsupported="adapt"), messages=TURNS)
    (asked,) = plugin.requests
    assert asked.messages[0] == TURNS[0]
    assert asked.messages[4] == {"role": "user", "content": "System message: Speak French."}
    assert asked.messages[6]["role"] == "user"
    assert [part["text"] for part in asked.messages[6]["content"]] == [
        "System message:",
        "Be polite.",
    ]
    assert told_of(answer) == [("adapted", "messages[4].role"), ("adapted", "messages[6].role")]
    assert answer["prompt"] == TURNS
    assert TURNS[4] == {"role": "system", "content": "Speak French."}


@each_way
@pytest.mark.parametrize("mode", ["adapt", "refuse"])
def test_the_detail_of_an_image_is_a_hint(ask: Callable[..., Any], mode: str) -> None:
    class NoDetail(Picky):
        def build(self, request: Any) -> None:
            for place, turn in enumerate(request.messages):
                for number, part in enumerate(turn["content"]):
                    where = f"messages[{place}].content[{number}]"
                    if "detail" in part:
                        raise errors.UnsupportedError("no!", param=f"{where}.detail")
                    if "detail" in part.get("image_url", ()):
                        raise errors.UnsupportedError("no!", param=f"{where}.image_url.detail")
            super().build(request)

    image = {"type": "image_url", "image_url": {"url": "https://a.example/b", "detail": "low"}}
    flat = {"type": "input_image", "image_url": "https://a.example/b", "detail": "low"}
    file = {"type": "file", "file": {"file_id": "f", "detail": "low"}}
    text = {"type": "text", "text": "Look."}
    turns = [{"role": "user", "content": [text, image]}, {"role": "user", "content": [flat, file]}]
    before = copy.deepcopy(turns)
    plugin = NoDetail(has=ALL | {"images", "files"})
    lm = lm_from(plugin, unsupported=mode)
    if mode == "refuse":
        with pytest.raises(errors.UnsupportedError, match="no!"):
            ask(lm, messages=turns)
        return
    answer = ask(lm, messages=turns)
    (asked,) = plugin.requests
    assert "detail" not in str(asked.messages)
    assert asked.messages[0]["content"][0] == text
    assert told_of(answer) == [
        ("dropped", "messages[0].content[1]"),
        ("dropped", "messages[1].content[0]"),
        ("dropped", "messages[1].content[1]"),
    ]
    assert turns == before


def test_a_name_goes_before_the_text() -> None:
    class Nameless(Picky):
        def build(self, request: Any) -> None:
            for place, turn in enumerate(request.messages):
                if "name" in turn:
                    raise errors.UnsupportedError("nameless", param=f"messages[{place}].name")
            super().build(request)

    plugin = Nameless()
    stateful = {
        "role": "assistant", "name": "Bot", "content": "yes",
        "state": {"format": "x", "turn": 1},
    }  # fmt: skip
    result = {"role": "tool", "name": "f", "tool_call_id": "c", "content": "1"}
    turns = [*TURNS, stateful, result]
    answer = lm_from(plugin, unsupported="adapt").complete(messages=turns)
    (asked,) = plugin.requests
    assert asked.messages[1]["content"] == "Ann: hi"
    assert [part["text"] for part in asked.messages[3]["content"]] == ["Bo:", "and I"]
    assert (asked.messages[7]["content"], asked.messages[8]["content"]) == ("yes", "1")
    assert not any("name" in turn for turn in asked.messages)
    assert told_of(answer)[:4] == [
        ("adapted", "messages[1].name"),
        ("adapted", "messages[3].name"),
        ("dropped", "messages[7].name"),
        ("dropped", "messages[8].name"),
    ]
    assert answer["prompt"][1] == TURNS[1]


@pytest.mark.parametrize(
    "param", ["messages[4].role", "messages[1].name", "messages[5].name", "messages[99].role"]
)
@pytest.mark.parametrize("mode", ["refuse", "adapt"])
def test_a_place_that_is_refused_again_or_is_not_there_stays_refused(param: str, mode: str) -> None:
    plugin = Picky(refuses=(param,))
    with pytest.raises(errors.UnsupportedError) as caught:
        lm_from(plugin, unsupported=mode).complete(messages=TURNS)
    assert caught.value.param == param
    assert plugin.builds <= 2


# -- what ends it --------------------------------------------------------------------------------


class Stubborn(Picky):
    """Refuses the same thing whatever it is given."""

    def build(self, request: Any) -> None:
        self.builds += 1
        raise errors.UnsupportedError("never", param=self.refuses[0])


@pytest.mark.parametrize(
    "param, builds",
    [
        pytest.param("temperature", 2, id="refused twice"),
        pytest.param("top_p", 1, id="not in the request"),
        pytest.param("", 1, id="empty"),
        pytest.param("prompt", 1, id="no parameter"),
    ],
)
def test_an_error_that_cannot_be_helped_stands(param: str, builds: int) -> None:
    plugin = Stubborn("temperature", refuses=(param,))
    with pytest.raises(errors.UnsupportedError, match="never"):
        lm_from(plugin, unsupported="adapt")("hi", temperature=0)
    assert plugin.builds == builds


@pytest.mark.parametrize("param", [3, ["temperature"], b"temperature", None])
def test_a_param_that_is_no_text_stands(param: Any) -> None:
    plugin = Stubborn("temperature", refuses=(param,))
    with pytest.raises(errors.UnsupportedError, match="never"):
        lm_from(plugin, unsupported="adapt")("hi", temperature=0)


def test_many_refusals_end() -> None:
    names = [name for name in sorted(HINTS) if name not in VALUES]
    plugin = Picky(*names, refuses=tuple(names))
    answer = lm_from(plugin, unsupported="adapt").complete("hi", **dict.fromkeys(names, 1))
    assert plugin.requests[0].params == {}
    assert told_of(answer) == [("dropped", name) for name in names]


class Late(Picky):
    """Refuses after its first piece."""

    @hookimpl
    def lmgateway_stream(self, request: Request) -> Flow[Answer]:
        self.builds += 1
        yield Emit("a piece")
        raise errors.UnsupportedError("too late", param="temperature")


def one_request() -> Flow[Any]:
    return (yield from send(HTTPRequest("POST", None, "/", json={})))


@pytest.mark.parametrize(
    "exchange",
    [
        pytest.param(one_request, id="a request"),
        pytest.param(lambda: send(Blocking(lambda: 1 / 0)), id="a function"),
        pytest.param(lambda: kept(["key"], one_request()), id="a stretch"),
    ],
)
def test_a_refusal_after_an_exchange_stands(exchange: Callable[[], Flow[Any]]) -> None:
    class AfterExchange(Picky):
        @hookimpl
        def lmgateway_complete(self, request: Request) -> Flow[Answer]:
            self.builds += 1
            try:
                yield from exchange()
            except (errors.LMGatewayError, ZeroDivisionError):
                raise errors.UnsupportedError("too late", param="temperature") from None
            raise NotImplementedError

    plugin = AfterExchange("temperature")
    with pytest.raises(errors.UnsupportedError, match="too late"):
        lm_from(plugin, unsupported="adapt", cache=False)("hi", temperature=0)
    assert plugin.builds == 1


def test_a_refusal_after_a_piece_stands() -> None:
    plugin = Late("temperature")
    stream = lm_from(plugin, unsupported="adapt").stream("hi", temperature=0)
    with pytest.raises(errors.UnsupportedError, match="too late"):
        list(stream)
    assert plugin.builds == 1


# -- fallbacks, other kinds, what is remembered --------------------------------------------------


class Failing(Picky):
    def build(self, request: Any) -> None:
        super().build(request)
        raise errors.ServerError("down", status=503)


@pytest.mark.parametrize("mode", ["refuse", "adapt"])
def test_a_fallback_is_judged_anew(mode: str) -> None:
    first = Failing("temperature", "top_p", refuses=("top_p",))
    lm = lm_from(first, unsupported=mode, retries=0, fallbacks=["echo"])
    if mode == "refuse":  # echo takes no presence_penalty, and is passed over
        with pytest.raises(errors.UnsupportedError):
            lm.complete("hi", temperature=0, top_p=0.5)
        return
    answer = lm.complete("hi", temperature=0, top_p=0.5)
    assert answer["provider"] == "echo"
    assert told_of(answer) == [("dropped", "top_p")]
    assert first.requests[0].params == {"temperature": 0}


def test_a_retry_knows_what_was_refused() -> None:
    plugin = Failing("temperature", refuses=("temperature",))
    with pytest.raises(errors.ServerError):
        lm_from(plugin, unsupported="adapt", retries=1)("hi", temperature=0)
    assert plugin.builds == 3


def test_a_hint_of_an_embedding_is_left_out() -> None:
    plugin = Picky(refuses=("user",))
    lm = lm_from(plugin, unsupported="adapt")
    answer = lm.embed("hi", user="u", dimensions=3)
    assert plugin.requests[0].params == {"dimensions": 3}
    assert told_of(answer) == [("dropped", "user")]
    plugin.refuses = ("dimensions",)
    with pytest.raises(errors.UnsupportedError, match="dimensions"):
        lm.embed("hi", dimensions=3)


class Service(Picky):
    @hookimpl
    def lmgateway_complete(self, request: Request) -> Flow[Answer]:
        self.build(request)
        body = {"prompt": request.prompt, **request.params}
        yield from send(HTTPRequest("POST", "http://127.0.0.1:1", "/x", json=body))
        return {"prompt": request.input, "choices": [{"text": "yes"}]}


@each_place
def test_preview_shows_what_is_sent(told: str) -> None:
    plugin = Service(*(("temperature",) if told == "by the plugin" else ()), "thinking",
                     refuses=("temperature",))  # fmt: skip
    lm = lm_from(plugin, unsupported="adapt")
    shown = lm.preview("hi", temperature=0, reasoning_effort="medium")
    assert shown["json"] == {"prompt": "hi", "thinking": BUDGET}


def test_the_history_holds_what_was_asked() -> None:
    lm = lm_from(Picky(), unsupported="adapt")
    lm("hi", temperature=0)
    assert lm.history[0]["params"] == {"temperature": 0}


def test_a_row_of_a_batch_may_hold_a_hint() -> None:
    lm = lm_from(Picky(), unsupported="adapt")
    (answer,) = lm.batch([{"prompt": "hi", "temperature": 0}])
    assert told_of(answer) == [("dropped", "temperature")]


def test_a_pickled_lm_adapts_still() -> None:
    import pickle

    lm = lmgateway.get_lm("echo", unsupported="adapt", top_p=0.5)
    twin = pickle.loads(pickle.dumps(lm))
    assert twin.options.unsupported == "adapt"
    assert told_of(twin.complete("hi")) == [("dropped", "top_p")]


def test_the_warnings_of_the_plugin_come_after() -> None:
    said = {"kind": "ignored", "name": "x", "detail": "y"}

    class Warning(Picky):
        @hookimpl
        def lmgateway_complete(self, request: Request) -> Answer:
            return {"prompt": "", "choices": [{"text": "yes"}], "warnings": [said]}  # type: ignore[list-item]

    answer = lm_from(Warning(), unsupported="adapt").complete("hi", temperature=0)
    assert told_of(answer) == [("dropped", "temperature"), ("ignored", "x")]


def test_a_scripted_lm_takes_everything() -> None:
    lm = ScriptedLM(["a"], unsupported="adapt")
    answer = lm.complete("hi", temperature=0, nonsense=1)
    assert "warnings" not in answer
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "a"}


def test_whether_an_answer_is_kept_follows_what_was_asked() -> None:
    runs = []

    class Local(Picky):
        @hookimpl
        def lmgateway_complete(self, request: Request) -> Flow[Answer]:
            key = [request.prompt, dict(request.params)]
            yield from send(Blocking(lambda: runs.append(1) or {"said": "yes"}, key=key))
            return {"prompt": request.input, "choices": [{"text": "yes"}]}

    lm = lm_from(Local(), unsupported="adapt")
    assert [lm.complete("hi", temperature=0)["cached"] for _ in range(2)] == [False, True]
    assert [lm.complete("ho", temperature=1)["cached"] for _ in range(2)] == [False, False]
    assert len(runs) == 3


# -- the page ------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "unsupported.md"


def test_the_page_lists_every_hint_and_every_twin() -> None:
    page = PAGE.read_text("utf-8")
    hints = page.partition("# Hints\n")[2].partition("\n#")[0]
    assert set(re.findall(r"`(\w+)`", hints)) == HINTS
    table = page.partition("in another way\n\n")[2].partition("\n\nWhat")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines()[2:]]
    told = {name: sent for given, sent in rows for name in re.findall(r"`(\w+)`", given)}
    for name, twins in TABLE.items():
        assert name in told
        for twin, _ in twins:
            assert f"`{twin}`" in told[name] or "the other one" in told[name]
