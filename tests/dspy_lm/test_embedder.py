"""DSPy's Embedder on lmgateway: vectors for retrievers, each text paid for once."""

from __future__ import annotations

import asyncio
import copy
import pickle
from itertools import chain
from typing import Any

import pytest

dspy = pytest.importorskip("dspy", reason="needs the extra [dspy]")

from lmgateway import get_lm, hookimpl
from lmgateway.dspy import Embedder
from lmgateway.errors import InputError, LMGatewayError
from lmgateway.testing import lm_from
from lmgateway.types import Blocking, EmbedLimits, EmbedRequest, Flow, Info


class Host:
    """Embeds a text by which of three words it has; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.params: dict[str, Any] = {}

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(api=2, embed=EmbedLimits(texts=2))

    @hookimpl
    def lmgateway_complete(self, request: Any) -> Any:
        raise AssertionError("nothing asks for a completion")

    @hookimpl
    def lmgateway_embed(self, request: EmbedRequest) -> Flow[Any]:
        def work() -> Any:
            self.asked.append(list(request.texts))
            return [
                [float(each in text) for each in ("cat", "dog", "sun")] for text in request.texts
            ]

        self.params = dict(request.params)
        return {"embeddings": (yield Blocking(work, key=[list(request.texts)]))}


CORPUS = ["a cat", "a dog", "the sun", "rain"]


@pytest.fixture
def host() -> Host:
    return Host()


def embedder(host: Host, **keywords: Any) -> Embedder:
    return Embedder(lm_from(host, name="acme", model="m"), **keywords)


@pytest.mark.parametrize("way", ["call", "acall"])
def test_vectors_are_arrays(host: Host, way: str) -> None:
    ours = embedder(host, caching=False)

    def ask(texts: Any, **keywords: Any) -> Any:
        if way == "call":
            return ours(texts, **keywords)
        return asyncio.run(ours.acall(texts, **keywords))

    assert ask(CORPUS).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert (ask("a cat").shape, str(ask("a cat").dtype)) == ((3,), "float32")
    assert ask(CORPUS, batch_size=3).shape == (4, 3)
    assert ask([]).shape == (0,)
    ask(CORPUS, dimensions=3)
    assert host.params == {"dimensions": 3}


def test_a_retriever_finds(host: Host) -> None:
    search = dspy.retrievers.Embeddings(CORPUS, embedder(host), k=1)
    assert search("where is the cat").passages == ["a cat"]
    assert max(map(len, host.asked)) == 2  # as many as the host takes


def test_each_text_is_paid_for_once(host: Host) -> None:
    ours = embedder(host)
    ours(CORPUS[:2])
    ours(CORPUS)
    assert sorted(chain(*host.asked)) == sorted(CORPUS)
    ours(CORPUS, caching=False)
    assert len([*chain(*host.asked)]) == 8


def test_dspys_own_cache_tells_two_models_apart(host: Host) -> None:
    first, second = (dspy.Embedder(embedder(host, caching=False, model=m)) for m in ("m", "n"))
    assert first("a cat").tolist() == second("a cat").tolist() == [1, 0, 0]
    assert len(host.asked) == 2
    first("a cat")
    assert len(host.asked) == 2


def test_it_goes_along_with_a_program() -> None:
    ours = Embedder("openai/text-embedding-3-small", api_key="sk-secret", dimensions=8)
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert twin.gateway.model == "text-embedding-3-small"
        assert twin.__name__ == ours.__name__
    assert "sk-secret" not in ours.__name__
    assert Embedder(get_lm("openai/m", api_key="k")).model == "openai/m"


@pytest.mark.parametrize(
    "keywords, texts, error",
    [
        ({"batch_size": -1}, ["a"], InputError),
        ({}, ["a", 3], InputError),
        ({}, [["a"]], InputError),
        ({"foo": 1}, ["a"], LMGatewayError),
    ],
)
def test_what_cannot_be(
    host: Host, keywords: dict[str, Any], texts: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        embedder(host, **keywords)(texts)
    assert not host.asked
