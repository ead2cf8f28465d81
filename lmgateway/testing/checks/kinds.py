"""Checks of the other kinds of call: embeddings, listings of models, rankings, counts of tokens.

The kit makes up answers, in the forms that services are known to use, until the plugin reads one.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import isclose
from types import ModuleType
from typing import Any

import pytest

from ...errors import LMGatewayError
from ...lm import LM
from ...types import JSON
from .. import replies
from ..bench import Bench
from ..calls import RecordedCall
from ..conversations import TEXTS, turns
from ..records import documents_of
from ..sent import Sent, leaves_of, tree_of
from ..wire import Wire

__all__ = ["KindChecks"]


class KindChecks:
    """What the provider asks and answers beside completions."""

    # -- embeddings -----------------------------------------------------------------------------

    def test_each_text_gets_its_own_vector(self, bench: Bench) -> None:
        """As many vectors as texts, in the order of the texts, however many requests it takes."""
        _needs(bench, "embed")
        made = _first(
            bench,
            {form: replies.embedding(form) for form in replies.EMBEDDINGS},
            lambda lm: lm.embed(list(replies.TEXTS)),
            lambda answer: [_place(vector) for vector in answer["embeddings"]],
        )
        if made is None:
            pytest.skip("it reads no form of embeddings that the kit knows: record some")
        places, sent = made
        assert places == [*range(len(replies.TEXTS))], (
            f"the vectors of {len(replies.TEXTS)} texts come in the order {places}: each text gets "
            "the vector of another one, and every search finds the wrong thing. Look in "
            "lmgateway_embed where vectors are put in order"
        )
        _check_texts(sent, replies.TEXTS, "embed")

    def test_recorded_embeddings_are_read(self, bench: Bench, calls: list[RecordedCall]) -> None:
        """The vectors of a recorded answer come out unchanged, in their order."""
        _needs(bench, "embed")
        recorded = _recorded(calls, "embed")
        for call in recorded:
            expected = [vector for each in _documents(call) for vector in _vectors(each)]
            if not expected:
                pytest.skip("the recorded vectors are no lists of numbers")
            answer = bench.lm(Wire(*call.answers())).embed(**call.call)
            assert _alike(answer["embeddings"], expected), (
                "the vectors of a recorded answer come out changed, or in another order. Look in "
                "lmgateway_embed where they are read"
            )

    def test_the_tokens_of_embeddings_are_counted(
        self, bench: Bench, calls: list[RecordedCall]
    ) -> None:
        """What a recorded answer says of tokens is in its usage."""
        _needs(bench, "embed")
        for call in _recorded(calls, "embed"):
            counts = [count for each in _documents(call) for count in _tokens(each)]
            usage = bench.replay(call).completion.get("usage") or {}
            assert not counts or any(usage.values()), (
                f"the service counts {counts[0]} tokens, and the answer has no usage: whoever adds "
                "up costs counts nothing. Look in lmgateway_embed"
            )

    @pytest.mark.parametrize("name", ["dimensions", "input_type"])
    def test_what_shapes_vectors_is_sent_or_refused(
        self, bench: Bench, module: ModuleType, name: str
    ) -> None:
        """``dimensions`` and ``input_type`` change what is asked, or are refused."""
        _needs(bench, "embed")
        if not re.search(rf"\b{name}\b", _source(module)):
            pytest.skip(f"its source names no {name}")
        values = {"dimensions": (256, 512), "input_type": ("query", "document")}[name]
        sent = [_asked(bench, "embed", **{name: value}) for value in values]
        if None in sent:
            pytest.skip(f"it refuses {name}, or what it asks cannot be seen")
        assert sent[0] != sent[1], (
            f"{name} of embeddings is dropped: texts are found by vectors of another kind. Look in "
            "lmgateway_embed where request.params is read"
        )

    # -- models ---------------------------------------------------------------------------------

    def test_all_models_are_listed(self, bench: Bench) -> None:
        """Each model of a listing has its card."""
        _needs(bench, "models")
        made = _first(bench, _listings(None), lambda lm: lm.models(), replies.ids_in)
        if made is None:
            pytest.skip("it reads no form of listings that the kit knows: record one")
        assert made[0] == [*replies.IDS], (
            f"the service lists {replies.IDS}, and {made[0]} are told: a model is missing, or the "
            "first one, which users take, is another. Look in lmgateway_models"
        )

    def test_every_page_of_models_is_asked_for(
        self, bench: Bench, module: ModuleType, calls: list[RecordedCall]
    ) -> None:
        """A listing that says that there is more is gone on with."""
        _needs(bench, "models")
        recorded = [call for call in calls if call.kind == "models" and not call.is_error]
        for call in recorded:
            last = _documents(call)[-1:]
            assert not last or replies.further_in(last[0]) is None, (
                "the recorded listing says that there are further models, and they were not asked "
                "for. Look in lmgateway_models: ask until no page is left, and record it again"
            )
        further = replies.pages(_source(module))
        if further is None:
            pytest.skip("its source names no word by which services tell of further pages")
        made = _first(bench, _listings(further), lambda lm: lm.models(), replies.ids_in)
        if made is None:
            pytest.skip("it reads no form of listings that the kit knows: record one")
        assert sorted(made[0]) == sorted(replies.IDS), (
            f"of a listing of {len(replies.IDS)} pages the models {made[0]} are listed: the user "
            "does not find the others. Look in lmgateway_models: ask until no page is left"
        )
        requests = made[1].exchanges
        assert len({str(each) for each in requests}) == len(requests), (
            "the same page of models is asked for again and again"
        )

    def test_a_model_is_listed_by_the_name_that_is_asked(
        self, bench: Bench, calls: list[RecordedCall]
    ) -> None:
        """The id of a listed model is what calls name it by, without a prefix of the service's."""
        _needs(bench, "models")
        names = {bench.model, *(call.model for call in calls)} - {""}
        for call in _recorded(calls, "models"):
            cards: Any = bench.replay(call).completion
            for card in cards:
                for name in names:
                    assert card["id"] == name or not card["id"].endswith(f"/{name}"), (
                        f"a model is listed as {card['id']!r}, and calls name it {name!r}: what "
                        "the user copies from the listing is another name. Look in "
                        "lmgateway_models"
                    )

    # -- rankings and counts --------------------------------------------------------------------

    def test_each_document_gets_its_own_score(self, bench: Bench) -> None:
        """A ranking names each document by its place among those that were given."""
        _needs(bench, "rerank")
        made = _first(
            bench,
            {form: replies.ranking(form) for form in replies.RANKINGS},
            lambda lm: lm.rerank(TEXTS[0], list(replies.DOCUMENTS)),
            lambda answer: {each["index"]: each["score"] for each in answer["results"]},
        )
        if made is None:
            pytest.skip("it reads no form of rankings that the kit knows: record one")
        assert made[0] == replies.SCORES, (
            f"documents get the scores {made[0]}, and the service said {replies.SCORES}: the best "
            "one is not found. Look in lmgateway_rerank"
        )
        _check_texts(made[1], (TEXTS[0],), "rerank")
        _check_texts(made[1], replies.DOCUMENTS, "rerank")

    def test_tokens_are_counted_of_all_that_is_sent(self, bench: Bench) -> None:
        """The service is asked about the whole conversation, and its number is told."""
        _needs(bench, "count")
        call: dict[str, Any] = {"prompt": TEXTS[0]}
        if "messages" in bench.info.capabilities:
            call = {"messages": turns("user", "assistant", "user")}
        made = _first(
            bench,
            {form: replies.counting(form) for form in replies.COUNTS},
            lambda lm: lm.count(**call),
            lambda answer: answer["prompt_tokens"],
        )
        if made is None:
            pytest.skip("it reads no form of counts that the kit knows: record one")
        assert made[0] == 613, f"the service counts 613 tokens, and {made[0]} are told"
        texts = TEXTS if "messages" in call else TEXTS[:1]
        _check_texts(made[1], texts, "count")

    @pytest.mark.parametrize("kind", ["embed", "rerank", "count"])
    def test_two_models_are_two_requests_of_each_kind(self, bench: Bench, kind: str) -> None:
        """The model that the user names is the one that is asked, whatever is asked."""
        _needs(bench, kind)
        if bench.info.model_is_file or not bench.model:
            pytest.skip("its models are files, or it has one only")
        one, other = (_asked(each, kind) for each in (bench, bench.other()))
        if one is None or other is None:
            pytest.skip("it refuses another model, or what it asks cannot be seen")
        assert one != other, f"{kind} asks the same model whatever the user names"

    @pytest.mark.parametrize("kind", ["embed", "models", "rerank", "count"])
    def test_a_recorded_answer_of_each_kind_is_read(
        self, bench: Bench, kind: str, calls: list[RecordedCall]
    ) -> None:
        """What was recorded by ``record_call`` is read again, awaited as well."""
        _needs(bench, kind)
        for call in _recorded(calls, kind):
            results = [bench.replay(call, awaited=awaited) for awaited in (False, True)]
            assert results[0].completion == results[1].completion, (
                f"the awaited answer of {kind} is another one"
            )
            is_listing = kind == "models" and any(map(_lists, _documents(call)))
            assert results[0].completion or not is_listing, (
                "a recorded listing of models is read as an empty one. Look in lmgateway_models"
            )


def _needs(bench: Bench, kind: str) -> None:
    if f"lmgateway_{kind}" not in bench.plugin.hooks:
        pytest.skip(f"it has no lmgateway_{kind}")


def _recorded(calls: Iterable[RecordedCall], kind: str) -> list[RecordedCall]:
    found = [call for call in calls if call.kind == kind and not call.is_error]
    if not found:
        pytest.skip(f"no answer of {kind} is recorded: record_call(..., kind={kind!r}) makes one")
    return found


def _first(
    bench: Bench,
    tried: Mapping[str, replies.Reply],
    ask: Callable[[LM], Any],
    read: Callable[[Any], Any],
) -> tuple[Any, Sent] | None:
    """What the first reply that the plugin understands gave, and what was asked for it."""
    for reply in tried.values():
        wire = Wire(reply=reply)
        try:
            told = read(ask(bench.lm(wire)))
        except (LMGatewayError, ValueError):
            continue
        if told:
            return told, Sent(tuple(tree_of(each) for each in wire.asked))
    return None


def _listings(further: Mapping[str, JSON] | None) -> dict[str, replies.Reply]:
    return {form: replies.listing(form, further) for form in replies.LISTINGS}


def _lists(document: JSON) -> bool:
    """Whether a document holds a list of objects."""
    inside = document.values() if isinstance(document, dict) else [document]
    return any(isinstance(e, list) and e and isinstance(e[0], dict) for e in inside)


def _place(vector: Sequence[float]) -> int:
    """Which text a made-up vector is of. Raises ValueError if it is none of them."""
    for place in range(len(replies.TEXTS)):
        if list(vector) == replies.vector_of(place):
            return place
    raise ValueError("it is no vector of the kit's")


def _asked(bench: Bench, kind: str, **params: Any) -> Sent | None:
    wire = Wire()
    lm = bench.lm(wire)
    inputs: dict[str, tuple[Any, ...]] = {
        "embed": (list(replies.TEXTS),),
        "rerank": (TEXTS[0], list(replies.DOCUMENTS)),
        "count": (TEXTS[0],),
    }
    with suppress(Exception):  # there is no answer
        getattr(lm, kind)(*inputs[kind], **params)
    sent = Sent(tuple(tree_of(each) for each in wire.asked))
    return None if sent.is_hidden else sent


def _check_texts(sent: Sent, texts: Sequence[str], kind: str) -> None:
    if sent.is_hidden:
        return
    text = sent.text
    missing = [each for each in texts if each not in text]
    assert not missing, f"{kind} does not send {missing[0]!r}"
    places = [text.index(each) for each in texts]
    assert places == sorted(places), f"{kind} sends what was given out of order"


def _documents(call: RecordedCall) -> list[JSON]:
    """The JSON of all that answered a call."""
    found = []
    for response in call.responses:
        found += documents_of(RecordedCall(call.name, responses=(response,)))
    return found


def _vectors(tree: JSON) -> Iterator[list[float]]:
    """The vectors of an answer: lists of numbers, by their index where one stands beside them."""
    if isinstance(tree, list):
        if len(tree) > 1 and all(type(each) in (int, float) for each in tree):
            yield tree
            return
        if all(isinstance(each, dict) and "index" in each for each in tree):
            tree = sorted(tree, key=lambda each: each["index"])
        for each in tree:
            yield from _vectors(each)
    elif isinstance(tree, dict):
        for each in tree.values():
            yield from _vectors(each)


def _tokens(document: JSON) -> list[int]:
    """The counts of tokens that an answer holds."""
    return [
        leaf
        for path, leaf in leaves_of(document)
        if type(leaf) is int
        and leaf > 0
        and path
        and re.search(r"token|prompt_eval", path[-1], re.I)
    ]


def _alike(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> bool:
    return len(one) == len(other) and all(
        len(a) == len(b) and all(isclose(x, y, rel_tol=1e-6) for x, y in zip(a, b, strict=True))
        for a, b in zip(one, other, strict=True)
    )


def _source(module: ModuleType) -> str:
    """The source of a plugin: its module, and those below it."""
    names = [name for name in sys.modules if f"{name}.".startswith(f"{module.__name__}.")]
    texts = []
    for name in sorted(names):
        try:
            texts.append(inspect.getsource(sys.modules[name]))
        except (OSError, TypeError):
            continue
    return "\n".join(texts)
