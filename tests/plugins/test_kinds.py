"""Embeddings and lists of models go through the door that completions go through."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lmgateway import CallEvent, errors, hookimpl, on_call
from lmgateway import usage as count_usage
from lmgateway.testing import lm_from
from lmgateway.types import Info

UNKNOWN = errors.UnknownParameterError


class Acme:
    """Returns what it is told to."""

    def __init__(self, api: int, answer: Any) -> None:
        self.api = api
        self.answer = answer
        self.seen: list[dict[str, Any]] = []

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(api=self.api, default_model="m", params=frozenset({"temperature"}))

    @hookimpl
    def lmgateway_complete(self, request: Any) -> Any:
        return {"prompt": request.input, "choices": [{"text": "x"}]}

    @hookimpl
    def lmgateway_embed(self, request: Any) -> Any:
        self.seen.append(dict(request.params))
        return self.answer

    @hookimpl
    def lmgateway_count(self, request: Any) -> Any:
        return self.answer

    @hookimpl
    def lmgateway_rerank(self, request: Any) -> Any:
        return self.answer

    @hookimpl
    def lmgateway_models(self) -> Any:
        return self.answer


def embed(lm: Any, how: str, texts: Any, **keywords: Any) -> Any:
    if how == "blocking":
        return lm.embed(texts, **keywords)
    return asyncio.run(lm.aembed(texts, **keywords))


def models(lm: Any, how: str) -> Any:
    return lm.models() if how == "blocking" else asyncio.run(lm.amodels())


HOW = pytest.mark.parametrize("how", ["blocking", "awaited"])
API = pytest.mark.parametrize("api", [1, 2])


@API
@HOW
@pytest.mark.parametrize(
    "keywords, error",
    [
        pytest.param({}, None, id="nothing"),
        pytest.param({"dimensions": 1}, None, id="a parameter of embeddings"),
        pytest.param({"dimensionz": 3}, UNKNOWN, id="a misspelt one"),
        pytest.param({"temperature": 0.5}, None, id="one that the plugin names"),
        pytest.param({"dimensions": object()}, errors.InputError, id="no JSON"),
        pytest.param({"dimensions": float("nan")}, errors.InputError, id="no number"),
        pytest.param({"timeout": 1.0}, None, id="the timeout"),
        pytest.param({"timeout": "soon"}, errors.InputError, id="a timeout that is none"),
        pytest.param({"cache": True}, None, id="the cache"),
        pytest.param({"retries": 5}, None, id="retries"),
        pytest.param({"api_key": "k"}, errors.InputError, id="a key"),
        pytest.param({"model": "n"}, errors.InputError, id="a model"),
    ],
)
def test_a_keyword_is_taken_or_refused_before_the_plugin_is_asked(
    api: int, how: str, keywords: dict[str, Any], error: type[Exception] | None
) -> None:
    plugin = Acme(api, {"embeddings": [[1.0]]})
    lm = lm_from(plugin, temperature=0.3)
    if error is None:
        assert embed(lm, how, ["a"], **keywords)["embeddings"] == [[1.0]]
        assert plugin.seen[0].get("temperature") == keywords.get("temperature")
    else:
        with pytest.raises(error):
            embed(lm, how, ["a"], **keywords)
        assert plugin.seen == []


@API
@HOW
@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        {"embeddings": []},
        {"embeddings": [[1.0], [2.0]]},
        {"embeddings": [["a"]]},
        {"embeddings": [[float("nan")]]},
        {"embeddings": None},
        [1],
        "abc",
    ],
    ids=repr,
)
def test_what_is_no_embeddings_is_one_typed_error(api: int, how: str, answer: Any) -> None:
    lm = lm_from(Acme(api, answer), retries=0)
    with pytest.raises((errors.PluginContractError, errors.ResponseFormatError)):
        embed(lm, how, ["a"])


@HOW
def test_vectors_of_unlike_lengths_are_refused(how: str) -> None:
    lm = lm_from(Acme(2, {"embeddings": [[1], [1, 2]]}), retries=0)
    with pytest.raises((errors.PluginContractError, errors.ResponseFormatError)):
        embed(lm, how, ["a", "b"])


@API
@HOW
@pytest.mark.parametrize("answer", [None, {}, "abc", [{}], [{"id": 3}], ["m"], 3], ids=repr)
def test_what_is_no_list_of_models_is_one_typed_error(api: int, how: str, answer: Any) -> None:
    lm = lm_from(Acme(api, answer), retries=0)
    with pytest.raises((errors.PluginContractError, errors.ResponseFormatError)):
        models(lm, how)


@API
@HOW
def test_what_a_card_says_beside_its_id_comes_through(api: int, how: str) -> None:
    card = {"id": "a", "acme_only": 1}
    assert models(lm_from(Acme(api, [card])), how) == [card]


class Number:
    """As numpy has it."""

    def tolist(self) -> int:
        return 3


@pytest.mark.parametrize("tokens", [3, 3.0, Number()])
def test_a_count_is_a_whole_number(tokens: Any) -> None:
    assert lm_from(Acme(2, {"prompt_tokens": tokens})).count("a")["prompt_tokens"] == 3


@pytest.mark.parametrize("tokens", [3.5, float("nan"), -1, True, "3", None])
def test_what_is_no_count_is_one_typed_error(tokens: Any) -> None:
    with pytest.raises(errors.PluginContractError):
        lm_from(Acme(2, {"prompt_tokens": tokens})).count("a")


def test_what_stands_beside_a_score_is_plain_json() -> None:
    results = [{"index": 0, "score": 1, "document": {1}, 5: (1,)}]
    told = lm_from(Acme(2, {"results": results})).rerank("q", ["a"])["results"]
    assert told == [{"index": 0, "score": 1, "document": [1], "5": [1]}]


@HOW
def test_an_embedding_is_told_counted_and_remembered(how: str) -> None:
    events: list[CallEvent] = []
    answer = {"embeddings": [[1.0]], "usage": {"prompt_tokens": 7, "total_tokens": 7}}
    lm = lm_from(Acme(2, answer))
    with on_call(events.append), count_usage() as counted:
        embed(lm, how, ["a"])
        models(lm_from(Acme(2, [{"id": "a"}])), how)
    assert [event.kind for event in events] == ["embed", "models"]
    assert counted.prompt_tokens == 7
    assert [entry["kind"] for entry in lm.history] == ["embed"]
