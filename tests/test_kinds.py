"""Each kind of call goes through one door: all that a completion has, the others have as well."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from support.every_kind import Service
from support.fault_server import FaultServer, receive, reply, stall

import lmgateway
from lmgateway import LM, CallEvent, get_lm, hookimpl, on_call, usage
from lmgateway._call.kinds import COMPLETE, COUNT, EMBED, MODELS, RERANK
from lmgateway._layers import limit as limiting
from lmgateway._layers import retry as retrying
from lmgateway.errors import (
    InputError,
    LMGatewayError,
    PluginContractError,
    RequestTimeoutError,
    ResponseFormatError,
    ServerError,
    UnsupportedError,
)
from lmgateway.testing import lm_from
from lmgateway.types import (
    Blocking,
    EmbedRequest,
    Flow,
    Info,
    Request,
    RerankRequest,
    send,
)

pytestmark = pytest.mark.loopback

KEY = "sk-canary-0123456789"
JSON = {"Content-Type": "application/json"}
BUSY = reply(b'{"error": {"message": "busy"}}', 503, {**JSON, "retry-after-ms": "1"})


@dataclass(frozen=True)
class Row:
    """How one kind of call is made, and what a service answers."""

    name: str
    ask: Callable[..., Any]
    aask: Callable[..., Any]
    body: Any
    endpoint: str
    operation: str
    counted: tuple[int, int] = (0, 0)
    """Calls and prompt tokens that ``usage()`` tells of."""

    @property
    def fine(self) -> Any:
        return reply(json.dumps(self.body).encode(), 200, JSON)


RARE = ("rerank", "count")  # which no provider of the core offers
ROWS = {
    "complete": Row(
        "complete",
        lambda lm, **more: lm.complete("hi", **more),
        lambda lm, **more: lm.acomplete("hi", **more),
        {
            "model": "m-1",
            "choices": [{"index": 0, "message": {"content": "yes"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        },
        "chat/completions",
        "chat m",
        (1, 3),
    ),
    "embed": Row(
        "embed",
        lambda lm, **more: lm.embed(["a", "b"], **more),
        lambda lm, **more: lm.aembed(["a", "b"], **more),
        {
            "model": "m-1",
            "data": [
                {"index": 1, "embedding": [0.5, 1]},
                {"index": 0, "embedding": [0.25, 0.75]},
            ],
            "usage": {"prompt_tokens": 7, "total_tokens": 7},
        },
        "embeddings",
        "embeddings m",
        (1, 7),
    ),
    "rerank": Row(
        "rerank",
        lambda lm, **more: lm.rerank("q", ["a", "b"], **more),
        lambda lm, **more: lm.arerank("q", ["a", "b"], **more),
        {
            "model": "m-1",
            "results": [{"index": 1, "score": 0.25}, {"index": 0, "score": 0.75}],
            "usage": {"prompt_tokens": 5},
        },
        "rerank",
        "rerank m",
        (1, 5),
    ),
    "count": Row(
        "count",
        lambda lm, **more: lm.count("hi", **more),
        lambda lm, **more: lm.acount("hi", **more),
        {"prompt_tokens": 2},
        "count",
        "count_tokens m",
    ),
    "models": Row(
        "models",
        lambda lm, **more: lm.models(**more),
        lambda lm, **more: lm.amodels(**more),
        {"data": [{"id": "m"}, {"id": "n"}]},
        "models",
        "list_models m",
    ),
}
each_kind = pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.name) for row in ROWS.values()]
)
each_kind_of_openai = pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.name) for row in ROWS.values() if row.name not in RARE]
)
each_way = pytest.mark.parametrize("way", ["sync", "async"])


@pytest.fixture(autouse=True)
def fresh() -> None:
    retrying.budgets.clear()
    limiting.limiters.clear()


@pytest.fixture
def events() -> Iterator[list[CallEvent]]:
    seen: list[CallEvent] = []
    with on_call(seen.append):
        yield seen


def lm_at(server: FaultServer, **options: Any) -> LM:
    given = {"model": "m", "api_key": KEY, "retries": 0, "timeout": 20.0, **options}
    return lm_from(Service(), "openai", api_base=server.url, **given)


def asked(row: Row, way: str, lm: LM, **more: Any) -> Any:
    return row.ask(lm, **more) if way == "sync" else asyncio.run(row.aask(lm, **more))


# -- what every kind has -----------------------------------------------------------------------


@each_kind
@each_way
def test_an_answer_is_one_event(row: Row, way: str, events: list[CallEvent]) -> None:
    with FaultServer([row.fine]) as server, lm_at(server) as lm:
        asked(row, way, lm)
    (event,) = events
    assert (event.kind, event.outcome, event.attempts) == (row.name, "ok", 1)
    assert (event.provider, event.model, event.endpoint) == ("openai", "m", row.endpoint)
    assert event.host == server.url.split("/")[2]
    assert event.usage.get("prompt_tokens", 0) == row.counted[1]
    assert event.prompt is None


@each_kind
@each_way
def test_a_failure_is_one_event(row: Row, way: str, events: list[CallEvent]) -> None:
    with FaultServer([BUSY]) as server, lm_at(server) as lm, pytest.raises(ServerError):
        asked(row, way, lm)
    (event,) = events
    assert (event.kind, event.outcome, event.error, event.status) == (
        row.name, "error", "ServerError", 503,
    )  # fmt: skip


@each_kind
def test_what_was_asked_is_told_to_those_who_want_it(row: Row) -> None:
    seen: list[CallEvent] = []
    told = on_call(seen.append, include_prompt=True)
    with told, FaultServer([row.fine]) as server, lm_at(server) as lm:
        row.ask(lm)
    assert (
        seen[0].prompt
        == {
            "complete": "hi",
            "embed": ["a", "b"],
            "rerank": {"query": "q", "documents": ["a", "b"]},
            "count": "hi",
            "models": None,
        }[row.name]
    )


@each_kind
def test_a_call_that_is_cancelled_is_told_of(row: Row, events: list[CallEvent]) -> None:
    async def main(lm: LM, server: FaultServer) -> None:
        task = asyncio.create_task(row.aask(lm))
        while not server.requests:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with FaultServer([receive(), stall()]) as server, lm_at(server) as lm:
        asyncio.run(main(lm, server))
    (event,) = events
    assert (event.kind, event.outcome) == (row.name, "cancelled")


@each_kind
@each_way
def test_a_failed_attempt_is_made_again(row: Row, way: str, events: list[CallEvent]) -> None:
    with FaultServer([BUSY, row.fine]) as server, lm_at(server, retries=1) as lm:
        asked(row, way, lm)
    assert [event.attempts for event in events] == [2]


@each_kind
def test_what_is_used_is_counted(row: Row) -> None:
    with FaultServer([row.fine]) as server, lm_at(server) as lm, usage() as used:
        row.ask(lm)
    assert (used.calls, used.prompt_tokens) == row.counted


@each_kind
def test_the_limits_of_a_provider_hold(row: Row, tmp_path: Path) -> None:
    config = tmp_path / "lmgateway.toml"
    config.write_text("[limits.openai]\nrpm = 1\n")
    with FaultServer([row.fine]) as server, lm_at(server, config=str(config)) as lm:
        row.ask(lm, cache=False)
        with pytest.raises(RequestTimeoutError, match="limit of 1 requests a minute"):
            row.ask(lm, cache=False)
    assert len(server.requests) == 1


@each_kind
@each_way
def test_a_key_that_a_service_repeats_is_masked(
    row: Row, way: str, events: list[CallEvent]
) -> None:
    refused = reply(json.dumps({"error": {"message": f"no such key: {KEY}"}}).encode(), 401, JSON)
    shown = pytest.raises(lmgateway.AuthenticationError, match=r"no such key: \*\*\*")
    with FaultServer([refused]) as server, lm_at(server) as lm, shown as caught:
        asked(row, way, lm)
    assert KEY not in repr(caught.value) + str(caught.value) + repr(events)


@pytest.mark.parametrize(
    "name, requests", [("complete", 1), ("embed", 1), ("rerank", 1), ("count", 1), ("models", 2)]
)
def test_an_answer_that_is_kept_is_not_asked_for_again(
    name: str, requests: int, events: list[CallEvent]
) -> None:
    """What a service offers is asked anew each time."""
    row = ROWS[name]
    with FaultServer([row.fine]) as server, lm_at(server, cache=True) as lm, usage() as used:
        first, second = row.ask(lm), row.ask(lm)
    assert len(server.requests) == requests
    assert [event.cached for event in events] == [False, requests == 1]
    assert used.cached == row.counted[0]
    if requests == 1:
        assert {**first, "cached": True} == second


@each_kind
def test_a_call_makes_a_span(row: Row) -> None:
    pytest.importorskip("opentelemetry.sdk")
    from layers.test_otel import Telemetry

    from lmgateway.otel import instrument

    telemetry = Telemetry()
    given = {"dimensions": 2} if row.name == "embed" else {}
    told = instrument(telemetry.traces, telemetry.meters)
    with told, FaultServer([row.fine]) as server, lm_at(server) as lm:
        row.ask(lm, **given)
    attributes = dict(telemetry.span.attributes or {})
    assert telemetry.span.name == row.operation
    assert attributes["gen_ai.operation.name"] == row.operation.split()[0]
    assert attributes.get("gen_ai.usage.input_tokens", 0) == row.counted[1]
    assert attributes.get("gen_ai.embeddings.dimension.count") == (
        2 if row.name == "embed" else None
    )
    (point,) = telemetry.points("gen_ai.client.operation.duration")
    assert point.attributes["gen_ai.operation.name"] == row.operation.split()[0]
    telemetry.traces.shutdown()
    telemetry.meters.shutdown()


# -- the history -------------------------------------------------------------------------------


def test_the_history_holds_texts_and_no_vectors(capsys: pytest.CaptureFixture[str]) -> None:
    row = ROWS["embed"]
    with FaultServer([row.fine]) as server, lm_at(server) as lm:
        row.ask(lm, dimensions=2)
        (entry,) = lm.history
        lm.inspect_history()
    known = {name: entry[name] for name in ("kind", "prompt", "params", "completion", "error")}
    assert known == {
        "kind": "embed",
        "prompt": ["a", "b"],
        "params": {"dimensions": 2},
        "completion": None,
        "error": None,
    }
    assert entry["embeddings"] == {
        "model": "m-1",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
        "provider": "openai",
        "cached": False,
        "vectors": 2,
        "dimensions": 2,
    }
    first, *rest = capsys.readouterr().out.splitlines()
    assert "openai/m-1  dimensions=2  7 tokens" in first
    assert "\n".join(rest).strip() == (
        "[text 1 of 2]\na\n\n[text 2 of 2]\nb\n\n[vectors]\n2 of 2 dimensions"
    )


@each_kind
def test_the_history_holds_what_failed(row: Row) -> None:
    with FaultServer([BUSY]) as server, lm_at(server) as lm:
        with pytest.raises(ServerError):
            row.ask(lm)
        entries = list(lm.history)
    told = [(each["kind"], each["completion"], "busy" in each["error"]) for each in entries]
    unknown = ("count", "models")  # they are no answers of a model
    assert told == ([] if row.name in unknown else [(row.name, None, True)])


# -- fallbacks ---------------------------------------------------------------------------------


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Callable[[Row, str], FaultServer]]:
    """Makes another host, which a configuration names ``other``, with the model given."""
    servers: list[FaultServer] = []

    def make(row: Row, model: str) -> FaultServer:
        server = FaultServer([row.fine])
        servers.append(server)
        server.__enter__()
        Path("lmgateway.toml").write_text(
            f'[models.other]\nprovider = "elsewhere"\nmodel = "{model}"\n'
            f'[providers.elsewhere]\nplugin = "openai"\napi_base = "{server.url}"\n'
        )
        return server

    yield make
    for server in servers:
        server.__exit__(None, None, None)


Other = Callable[[Row, str], FaultServer]


@each_kind_of_openai
@each_way
def test_a_fallback_of_the_call_answers(
    row: Row, way: str, other: Other, events: list[CallEvent]
) -> None:
    server = other(row, "another")
    with FaultServer([BUSY]) as dead, lm_at(dead) as lm:
        answer = asked(row, way, lm, fallbacks=["other"])
    assert len(server.requests) == len(dead.requests) == 1
    assert [(event.kind, event.provider, event.outcome) for event in events] == [
        (row.name, "elsewhere", "ok")
    ]
    assert [each["error"] for each in events[0].fallback_from] == ["ServerError"]
    if row.name != "models":
        assert answer["provider"] == "elsewhere"
        assert json.loads(server.requests[0].body)["model"] == "another"


@pytest.mark.parametrize("name, model, answers", [
    ("complete", "m", True),
    ("complete", "another", True),
    ("embed", "m", True),
    ("embed", "another", False),
    ("models", "m", False),
])  # fmt: skip
def test_a_fallback_of_the_lm_answers_where_it_can(
    name: str, model: str, answers: bool, other: Other
) -> None:
    """Vectors of two models must not be mixed, and the list of one service is not another's."""
    row = ROWS[name]
    server = other(row, model)
    with FaultServer([BUSY]) as dead, lm_at(dead, fallbacks=["other"]) as lm:
        if answers:
            row.ask(lm)
        else:
            with pytest.raises(ServerError) as caught:
                row.ask(lm)
            notes = "".join(getattr(caught.value, "__notes__", ()))
            assert ("another model than m" in notes) == (name == "embed")
    assert bool(server.requests) == answers


@pytest.mark.parametrize("name", ["embed", "rerank", "count", "models"])
def test_a_fallback_without_the_hook_is_passed_over(name: str) -> None:
    with FaultServer([BUSY]) as dead, lm_at(dead) as lm, pytest.raises(ServerError) as caught:
        ROWS[name].ask(lm, fallbacks=["echo"])
    assert f"UnsupportedError: echo does not support {name}" in "".join(caught.value.__notes__)


def test_a_parameter_for_one_host_is_not_sent_to_another(other: Other) -> None:
    row = ROWS["embed"]
    server = other(row, "m")
    with FaultServer([BUSY]) as dead, lm_at(dead, temperature=0.5) as lm:
        row.ask(lm, fallbacks=["other"], dimensions=2, extra_body={"odd": 1})
    assert json.loads(server.requests[0].body) == {
        "model": "m", "input": ["a", "b"], "dimensions": 2,
    }  # fmt: skip


# -- what a plugin returns ---------------------------------------------------------------------


class Array:
    """What numpy returns, as far as it is looked at."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def tolist(self) -> Any:
        return copy.deepcopy(self.value)


@pytest.mark.parametrize("vectors", [
    pytest.param([[0.5, 1], [2.0, 3.0]], id="lists"),
    pytest.param(((0.5, 1), (2.0, 3.0)), id="tuples"),
    pytest.param(Array([[0.5, 1], [2.0, 3.0]]), id="an array"),
    pytest.param([Array([0.5, 1]), Array([2.0, 3.0])], id="arrays"),
    pytest.param([[Array(0.5), Array(1)], [2.0, Array(3.0)]], id="numbers of an array"),
])  # fmt: skip
def test_vectors_become_the_users_own(vectors: Any) -> None:
    outcome = {"embeddings": vectors, "usage": {"prompt_tokens": 2}}
    answer = EMBED.normalize(outcome, EmbedRequest("m", ["a", "b"]), "a plugin")
    assert answer == {"embeddings": [[0.5, 1], [2.0, 3.0]], "usage": {"prompt_tokens": 2}}
    assert answer is not outcome
    answer["embeddings"][0].memory[0] = 9.0
    assert EMBED.normalize(outcome, EmbedRequest("m", ["a", "b"]), "")["embeddings"][0] == [0.5, 1]


HUGE = 1e308


@pytest.mark.parametrize("outcome, error, said", [
    (None, PluginContractError, "returned NoneType where the contract wants a dict"),
    ([[0.5]], PluginContractError, "returned list where the contract wants a dict"),
    ({}, PluginContractError, 'no "embeddings"'),
    ({"embeddings": "abc"}, PluginContractError, 'a wrong "embeddings"'),
    ({"embeddings": {0: [0.5]}}, PluginContractError, 'a wrong "embeddings"'),
    ({"embeddings": []}, ResponseFormatError, "1 texts were to be embedded and 0 vectors came"),
    ({"embeddings": [[0.5], [0.5]]}, ResponseFormatError, "and 2 vectors came"),
])  # fmt: skip
def test_a_wrong_answer_to_texts_is_told(
    outcome: Any, error: type[LMGatewayError], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        EMBED.normalize(outcome, EmbedRequest("m", ["a"]), "a plugin")
    assert type(caught.value) is error


@pytest.mark.parametrize("vector", [
    [], 0.5, None, "AAAA", {0: 0.5}, ["0.5"], [True], [None], [[0.5]], [0.5, float("nan")],
    [float("inf")], [float("inf"), -float("inf")], [float("inf"), -HUGE], [10**400, 0.5],
    [10**400, -(10**400)],
], ids=lambda vector: repr(vector)[:20])  # fmt: skip
def test_what_is_no_vector_is_told(vector: Any) -> None:
    said = r"a plugin returned embeddings\[1\] .* the contract wants a list of finite numbers"
    with pytest.raises(PluginContractError, match=said):
        EMBED.normalize({"embeddings": [[0.5], vector]}, EmbedRequest("m", ["a", "b"]), "a plugin")


def test_numbers_are_floats_of_32_bits() -> None:
    request = EmbedRequest("m", ["a"])
    answer = EMBED.normalize({"embeddings": [[3e38, -3e38, 0.1]]}, request, "a plugin")
    assert answer["embeddings"] == [[3e38, -3e38, 0.1]]
    assert answer["embeddings"][0][2] == pytest.approx(0.1, rel=1e-7)
    with pytest.raises(PluginContractError, match="finite numbers"):
        EMBED.normalize({"embeddings": [[HUGE]]}, request, "a plugin")


def test_vectors_of_one_answer_are_of_one_length() -> None:
    with pytest.raises(PluginContractError, match="of different lengths"):
        EMBED.normalize({"embeddings": [[0.5], [1, 2]]}, EmbedRequest("m", ["a", "b"]), "a plugin")


@pytest.mark.parametrize("outcome, said", [
    (None, "returned NoneType where the contract wants a list"),
    ("m", "returned str where the contract wants a list"),
    ({"id": "m"}, "returned dict where the contract wants a list"),
    (["m"], r'models\[0\] without an "id" that is a string'),
    ([{"id": "m"}, {"id": 1}], r'models\[1\] without an "id" that is a string'),
    ([{}], r'models\[0\] without an "id"'),
])  # fmt: skip
def test_a_wrong_list_of_models_is_told(outcome: Any, said: str) -> None:
    with pytest.raises(PluginContractError, match=said):
        MODELS.normalize(outcome, None, "a plugin")


class Embedding:
    """A plugin that embeds in the process."""

    def __init__(self, *vectors: Any) -> None:
        self.vectors = list(vectors)
        self.runs = 0

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Any:
        raise AssertionError("nothing asks for a completion")

    @hookimpl
    def lmgateway_embed(self, request: EmbedRequest) -> Flow[Any]:
        def work() -> Any:
            self.runs += 1
            return self.vectors.pop(0)

        vectors = yield from send(Blocking(work, key=["embed", list(request.texts)]))
        return {"embeddings": vectors}

    @hookimpl
    def lmgateway_models(self) -> Any:
        return {"a", "b"}

    def lm(self, **options: Any) -> LM:
        return lm_from(self, "embedding", **{"model": "m", "retries": 0, **options})


def test_vectors_that_are_wrong_are_not_kept() -> None:
    provider = Embedding([["no"]], [[0.5]])
    with provider.lm(cache=True) as lm:
        with pytest.raises(PluginContractError, match="embedding"):
            lm.embed("a")
        assert lm.embed("a")["embeddings"] == [[0.5]]
        assert lm.embed("a") == {
            "embeddings": [[0.5]], "model": "m", "provider": "embedding", "cached": True,
        }  # fmt: skip
    assert provider.runs == 2


def test_what_a_plugin_returns_of_models_is_looked_at_too() -> None:
    with Embedding().lm() as lm, pytest.raises(PluginContractError, match="returned set"):
        lm.models()


def test_a_kind_that_a_plugin_has_not_is_refused_at_once() -> None:
    with get_lm("echo") as lm:
        for name in ("embed", "rerank", "count", "models"):
            with pytest.raises(UnsupportedError, match=f"echo does not support {name}"):
                ROWS[name].ask(lm)


# -- documents in order, and tokens counted ----------------------------------------------------

RANKED = RerankRequest("m", "q", ["a", "b", "c"])


def ranked(*results: Any, **params: Any) -> Any:
    request = RerankRequest("m", "q", ["a", "b", "c"], params)
    return RERANK.normalize({"results": list(results)}, request, "a plugin")


def at(index: Any, score: Any = 0.5, **more: Any) -> dict[str, Any]:
    return {"index": index, "score": score, **more}


def test_the_best_document_comes_first_and_equal_ones_as_they_came() -> None:
    answer = ranked(at(0, 0.1), at(2, 1, document="c"), at(1, Array(0.1)))
    assert answer["results"] == [at(2, 1, document="c"), at(0, 0.1), at(1, 0.1)]


def test_as_many_documents_come_as_were_asked_for() -> None:
    assert len(ranked(at(0), at(1), top_n=2)["results"]) == 2
    assert len(ranked(at(0), at(1), at(2), top_n=9)["results"]) == 3
    assert len(ranked(at(Array(2)), extra_body={"top_k": 1})["results"]) == 1


@pytest.mark.parametrize("outcome, error, said", [
    (None, PluginContractError, "returned NoneType where the contract wants a dict"),
    ([], PluginContractError, "returned list where the contract wants a dict"),
    ({}, PluginContractError, 'no "results"'),
    ({"results": {0: 1}}, PluginContractError, 'wrong "results"'),
    ({"results": [at(0), at(1)]}, ResponseFormatError, "3 of 3 documents .* and 2 came"),
    ({"results": [at(0), at(1), at(2), at(0)]}, ResponseFormatError, "and 4 came"),
    ({"results": [at(0), at(1), at(1)]}, PluginContractError, "document 1 twice"),
    ({"results": [at(0), at(1), at(3)]}, PluginContractError, r'results\[2\] without an "index"'),
    ({"results": [at(0), at(1), at(-1)]}, PluginContractError, r'results\[2\] without an "index"'),
    ({"results": [at(True), at(1), at(2)]}, PluginContractError, r'\[0\] without an "index"'),
    ({"results": [at("0"), at(1), at(2)]}, PluginContractError, r'\[0\] without an "index"'),
    ({"results": ["a", at(1), at(2)]}, PluginContractError, r'\[0\] without an "index"'),
    *(
        ({"results": [at(0, odd), at(1), at(2)]}, PluginContractError, r'\[0\] without a "score"')
        for odd in (None, "0.5", True, float("nan"), float("inf"), [0.5])
    ),
])  # fmt: skip
def test_a_wrong_order_is_told(outcome: Any, error: type[LMGatewayError], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        RERANK.normalize(outcome, RANKED, "a plugin")
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "outcome", [None, 3, {}, *({"prompt_tokens": odd} for odd in (None, -1, True, 2.5, "3"))]
)
def test_a_wrong_count_is_told(outcome: Any) -> None:
    with pytest.raises(PluginContractError, match="prompt_tokens"):
        COUNT.normalize(outcome, Request("m", "hi"), "a plugin")


@pytest.mark.parametrize(
    "query, documents, said",
    [
        pytest.param(3, ["a"], "the query must be a str, not int", id="a number"),
        pytest.param(None, ["a"], "the query must be a str", id="no query"),
        pytest.param("q\ud800", ["a"], "the query holds a lone surrogate", id="a surrogate"),
        pytest.param("q", "abc", "a list of texts as documents, not 'abc'", id="one text"),
        pytest.param("q", [], "at least one document", id="none"),
        pytest.param("q", None, "a list of texts as documents", id="None"),
        pytest.param("q", ["a", 3], r"documents\[1\] must be a str, not int", id="an int in it"),
        pytest.param("q", {"a": 1}, "a list of texts as documents", id="a dict"),
        pytest.param("q", ["\ud800"], r"documents\[0\] holds a lone surrogate", id="odd text"),
    ],
)
@each_way
def test_what_cannot_be_ordered_is_refused(way: str, query: Any, documents: Any, said: str) -> None:
    row = replace(
        ROWS["rerank"],
        ask=lambda lm: lm.rerank(query, documents),
        aask=lambda lm: lm.arerank(query, documents),
    )
    with FaultServer([]) as server, lm_at(server) as lm, pytest.raises(InputError, match=said):
        asked(row, way, lm)
    assert not server.requests


@pytest.mark.parametrize("name", ["embed", "rerank", "count", "models"])
@pytest.mark.parametrize("given", ["api_key", "api_base", "headers", "verify", "history"])
def test_what_belongs_to_the_lm_is_refused_by_every_kind(name: str, given: str) -> None:
    said = f"{given} belongs to the LM"
    with FaultServer([]) as server, lm_at(server) as lm, pytest.raises(InputError, match=said):
        ROWS[name].ask(lm, **{given: "x"})
    assert not server.requests


@pytest.mark.parametrize("top_n", [0, -1, True, "3", 2.0])
def test_a_number_of_documents_that_means_nothing_is_refused(top_n: Any) -> None:
    with FaultServer([]) as server, lm_at(server) as lm, pytest.raises(InputError, match="top_n"):
        lm.rerank("q", ["a"], top_n=top_n)
    assert not server.requests


def test_parameters_of_the_lm_are_for_completions_and_a_count_of_them() -> None:
    asked = []

    class Counting:
        @hookimpl
        def lmgateway_info(self) -> Any:
            return Info(2, frozenset({"messages", "system", "tools"}), frozenset({"tools"}), "m")

        @hookimpl
        def lmgateway_complete(self, request: Request) -> Any:
            raise NotImplementedError

        @hookimpl
        def lmgateway_count(self, request: Request) -> Any:
            asked.append(request)
            return {"prompt_tokens": 3}

        @hookimpl
        def lmgateway_rerank(self, request: RerankRequest) -> Any:
            asked.append(request)
            return {"results": [at(0)]}

    tools = [{"type": "function", "function": {"name": "f"}}]
    lm = lm_from(Counting(), tools=tools, system="Be brief.")
    assert lm.count(messages=[{"role": "user", "content": "hi"}]) == {
        "prompt_tokens": 3, "model": "m", "provider": "acme", "cached": False,
    }  # fmt: skip
    assert (asked[0].params, asked[0].system) == ({"tools": tools}, "Be brief.")
    lm.rerank("q", ["a"])
    assert asked[1].params == {}
    with pytest.raises(InputError, match="schema belongs to a call: give it to complete"):
        lm.count("hi", schema={"type": "object"})
    for nothing in ({}, {"prompt": "a", "messages": [{"role": "user", "content": "b"}]}):
        with pytest.raises(InputError, match="give a prompt or messages"):
            lm.count(**nothing)  # type: ignore[arg-type]


def test_the_history_holds_the_order_of_documents(capsys: pytest.CaptureFixture[str]) -> None:
    row = ROWS["rerank"]
    with FaultServer([row.fine]) as server, lm_at(server) as lm:
        row.ask(lm, top_n=2)
        (entry,) = lm.history
        lm.inspect_history()
    assert entry["prompt"] == {"query": "q", "documents": ["a", "b"]}
    assert [each["index"] for each in entry["reranked"]["results"]] == [0, 1]
    first, *rest = capsys.readouterr().out.splitlines()
    assert "openai/m-1  top_n=2  5 tokens" in first
    assert "\n".join(rest).strip() == (
        "[query]\nq\n\n[document 1 of 2]\na\n\n[document 2 of 2]\nb\n\n[order]\n1, 2"
    )


def test_a_completion_is_what_it_was() -> None:
    request = Request("m", "hi")
    with pytest.raises(PluginContractError, match="returned str where the contract wants a dict"):
        COMPLETE.normalize("yes", request, "a plugin")
    answer = COMPLETE.normalize({"choices": [{"text": "yes"}]}, request, "a plugin")
    assert answer == {"prompt": "hi", "choices": [{"text": "yes"}]}


@each_way
def test_a_further_attempt_has_what_is_left_of_the_time(way: str) -> None:
    left: list[float | None] = []

    class Slow(Embedding):
        @hookimpl
        def lmgateway_embed(self, request: EmbedRequest) -> Any:
            left.append(request.timeout)
            if len(left) == 1:
                raise ServerError("busy", status=503, retry_after=0.001)
            return {"embeddings": [[0.5]]}

    with Slow().lm(retries=1, timeout=30.0) as lm:
        lm.embed("a") if way == "sync" else asyncio.run(lm.aembed("a"))
    assert left[0] == 30.0
    assert left[1] is not None
    assert left[1] < 30.0


@pytest.mark.parametrize("returned", [None, "yes", {}, {"choices": [{}]}], ids=repr)
def test_a_preview_looks_at_what_a_plugin_returns_at_once(returned: Any) -> None:
    class Hasty(Embedding):
        @hookimpl
        def lmgateway_complete(self, request: Request) -> Any:
            return returned

    with Hasty().lm() as lm, pytest.raises(lmgateway.PluginError, match="plugin 'embedding'"):
        lm.preview("hi")
