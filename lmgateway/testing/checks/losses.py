"""Checks of what may get lost: whatever a service said is in the completion, rightly named."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import pytest

from ...errors import LMGatewayError
from ...types import JSON
from ..bench import Bench
from ..calls import RecordedCall
from ..doubles import MARK, answers_with, at, items_with, marked, only_document, put_after
from ..records import documents_of
from ..sent import Path, leaves_of

__all__ = ["OF_THE_END", "LossChecks", "needs_documents"]

#: Names of fields that say what kind of thing stands beside them, or when it was made.
_OF_THE_FORMAT = frozenset({
    "type", "object", "role", "kind", "index", "done", "event", "format", "created", "created_at",
    "status", "state", "phase", "ok", "success", "version", "schema",
})  # fmt: skip
OF_THE_END = re.compile(r"(finish|stop|done|end|complet\w*)_?(reason|sequence)$", re.I)
_OF_THOUGHT = re.compile(r"thinking|reasoning|reasoning_content|thought", re.I)
_THOUGHT = 12  # characters that cannot stand in a text by accident
_IDS = ("id", "response_id", "responseId")
_OF_USAGE = re.compile(r"usage|token|billed|count|meta", re.I)
_OF_THE_INPUT = re.compile(r"prompt|input", re.I)
_OF_THE_OUTPUT = re.compile(r"completion|output|candidate|generat|^eval_?count", re.I)
_OF_A_PART = re.compile(r"cache|detail|thought|reason|audio|image|tool|server|accept|reject", re.I)
_PARTS_OF_USAGE = (
    (re.compile(r"cached|cache_?(read|hit)", re.I), "cached_tokens"),
    (re.compile(r"cache_?(creat|writ)", re.I), "cache_write_tokens"),
    (re.compile(r"^(thought|thoughts|thinking|reasoning)_?token", re.I), "reasoning_tokens"),
)


class LossChecks:
    """What the provider leaves of a recorded answer."""

    unread: ClassVar[Collection[str]]

    def test_nothing_of_an_answer_is_lost(self, bench: Bench, answered: RecordedCall) -> None:
        """Each text and each number of an answer is in the completion, in whatever field."""
        documents = needs_documents(answered)
        completion = bench.replay(answered).completion
        found = _Found(completion, answered.call)
        odds = any(
            "logprobs" in path for each in documents for path, leaf in leaves_of(each) if leaf
        )
        assert not odds or any(choice.get("logprobs") for choice in completion["choices"]), (
            "the recorded answer has logprobs, and the completion none"
        )
        lost = [
            (".".join(path), leaf)
            for path, leaf in _said(documents)
            if not (self.unread and set(path) & set(self.unread)) and not found.holds(path, leaf)
        ]
        assert not lost, (
            f"{lost[0][0]} ({lost[0][1]!r:.60}) of the recorded answer is nowhere in the "
            "completion: the user has paid for it and does not get it. Put it in its field, in a "
            "part, or in `extra`; if nobody can want it, name the field in `unread`"
        )

    def test_each_block_of_an_answer_is_read(self, bench: Bench, plain: RecordedCall) -> None:
        """A second text goes behind the first; a block of another kind is told, or refused."""
        document = only_document(plain)
        text = bench.replay(plain).completion["choices"][0]["text"] if plain.responses else ""
        places = [] if document is None or not text else list(items_with(document, text))
        block = at(document, places[0]) if len(places) == 1 else {}
        if text not in block.values() or any(OF_THE_END.search(name) for name in block):
            pytest.skip("its recorded text stands in no list of blocks")
        second = marked(block, {text: text + MARK})
        answers = answers_with(plain, put_after(document, places[0], second))
        told = bench.ask(plain.call, *answers).completion["choices"][0]["text"]
        assert told == text * 2 + MARK, (
            f"an answer of two texts is told as {told!r:.160}: the second is lost, or something "
            "stands between them. Look where the blocks of an answer are read"
        )
        if "type" not in block or bench.info.api < 2:  # which has no part for it
            return
        other = {"type": "kit_block", "kit_says": "It may be a heliotrope."}
        try:
            answers = answers_with(plain, put_after(document, places[0], other))
            completion = bench.ask(plain.call, *answers).completion
        except LMGatewayError:
            return  # a block that nobody knows may be refused
        assert "may be a heliotrope" in json.dumps(completion, default=repr), (
            "a block of a type that the plugin does not know is dropped in silence. Give it as a "
            "part of the type custom"
        )

    def test_thoughts_are_no_text(self, bench: Bench, answered: RecordedCall) -> None:
        """What a service marks as thought is not in the text for the user."""
        said = "".join(each["text"] for each in bench.replay(answered).completion["choices"])
        for document in needs_documents(answered):
            for thought in _thoughts(document):
                assert len(thought) < _THOUGHT or thought not in said, (
                    f"{thought!r:.60} is the model's thought, and told as its text: the user reads "
                    "it as the answer. Give it as `reasoning`"
                )

    def test_the_id_of_an_answer_is_told(self, bench: Bench, answered: RecordedCall) -> None:
        """The id that the service gives an answer is the completion's ``id``."""
        if bench.info.api < 2:
            pytest.skip("its Info is of API 1, which has no id")
        documents = [each for each in needs_documents(answered) if isinstance(each, dict)]
        ids = [each[name] for each in documents for name in _IDS if isinstance(each.get(name), str)]
        if not any(ids):
            pytest.skip("the service gives its recorded answer no id")
        completion = bench.replay(answered).completion
        told = completion.get("id"), completion.get("request_id")
        assert not set(ids).isdisjoint(told), (
            f"the service calls its answer {ids[0]!r:.60}, and the completion's id is {told[0]!r}: "
            "its user cannot ask the service about it. Look where the answer is made"
        )

    def test_usage_means_what_it_says(self, bench: Bench, answered: RecordedCall) -> None:
        """Tokens are counted as the reference says, out of what the service said."""
        documents = needs_documents(answered)
        usage: Mapping[str, Any] = bench.replay(answered).completion.get("usage") or {}
        numbers = _numbers(documents)
        where = "Look where usage is read"
        read, written = _counts(numbers, _OF_THE_INPUT), _counts(numbers, _OF_THE_OUTPUT)
        for name, own, other in (
            ("prompt_tokens", read, written),
            ("completion_tokens", written, read),
        ):
            told = usage.get(name)
            assert told is not None or not own, (
                f"the service counts {own}, and usage has no {name}: whoever adds up costs counts "
                f"nothing. {where}"
            )
            assert told is None or told not in other or told in _sums(own) or not own, (
                f"usage[{name!r}] is {told}, which the service said of the other side: costs are "
                f"wrong. {where}"
            )
        for name, told in usage.items():
            if isinstance(told, int) and name != "total_tokens":
                assert told == 0 or told in _sums(numbers.values()), (
                    f"usage[{name!r}] is {told}, which the service did not say. {where}"
                )
        cached = [n for path, n in numbers.items() if path and "cache" in path[-1].lower()]
        told = usage.get("prompt_tokens")
        assert told in numbers.values() or told not in {n - c for n in read for c in cached}, (
            f"usage['prompt_tokens'] is {told}: what was cached is left out, and it must be "
            f"included. {where}"
        )
        for path, count in numbers.items():
            for kind, name in _PARTS_OF_USAGE:
                if path and kind.search(path[-1]) and "token" in path[-1].lower():
                    assert usage.get(name), (
                        f"the service says {path[-1]}={count}, and usage has no {name}: costs are "
                        f"wrong. {where}"
                    )
        _check_sums(usage)


# -- what was said ---------------------------------------------------------------------------------


def needs_documents(answered: RecordedCall) -> list[JSON]:
    """The JSON of a recorded answer; skip where there is none."""
    if answered.kind != "complete":
        pytest.skip(f"it is an answer of {answered.kind}")
    documents = documents_of(answered)
    if not documents:
        pytest.skip("its recorded answer is no JSON, so the kit cannot tell what is in it")
    return documents


def _said(documents: list[JSON]) -> Iterator[tuple[Path, JSON]]:
    """The scalars of an answer; of a stream, each number as it was said last."""
    numbers: dict[Path, JSON] = {}
    for document in documents:
        for path, leaf in leaves_of(document):
            if _is_of_the_format(path):
                continue
            if isinstance(leaf, str):
                if leaf.strip():
                    yield path, leaf
            elif leaf and not isinstance(leaf, bool):
                numbers[path] = leaf
    yield from numbers.items()


def _is_of_the_format(path: Path) -> bool:
    """Whether a scalar tells nothing by itself; what stands in logprobs is of the host's making."""
    return bool(path) and (path[-1] in _OF_THE_FORMAT or any("logprob" in name for name in path))


class _Found:
    """All that a completion holds."""

    def __init__(self, completion: Any, call: Mapping[str, Any]) -> None:
        kept = {name: each for name, each in completion.items() if name != "prompt"}
        leaves = [leaf for _, leaf in leaves_of([kept, call])]  # a service may repeat the call
        self._texts = "\x00".join(leaf for leaf in leaves if isinstance(leaf, str))
        self._written = (
            self._texts
            + json.dumps(kept, default=repr)
            + json.dumps(kept, default=repr, ensure_ascii=False)
        )
        for text in re.findall(r"\{.*?\}", self._texts):
            self._written += text
        self._folded = re.sub(r"[\s\\\"]", "", self._written).lower()
        self._numbers = {leaf for leaf in leaves if isinstance(leaf, (int, float))}
        self._counts = [n for n in self._usage(completion) if n]
        self._ended = any(choice.get("finish_reason") for choice in completion["choices"])

    @staticmethod
    def _usage(completion: Any) -> Iterator[int]:
        for name, count in (completion.get("usage") or {}).items():
            if name != "details" and isinstance(count, int):
                yield count

    def holds(self, path: Path, leaf: JSON) -> bool:
        """Whether a scalar of the answer is in it."""
        if isinstance(leaf, str):
            if path and OF_THE_END.search(path[-1]) and self._ended:
                return True
            return re.sub(r"[\s\\\"]", "", leaf).lower() in self._folded or not leaf.strip('\\" \n')
        if leaf in self._numbers or str(leaf) in self._texts:
            return True
        if not any(_OF_USAGE.search(name) for name in path):
            return repr(leaf) in self._written
        parts = {0, *self._counts}  # a count may be told with what was cached, read and written
        return any(leaf == one - a - b for one in self._counts for a in parts for b in parts)


# -- usage -----------------------------------------------------------------------------------------


def _thoughts(tree: JSON) -> Iterator[str]:
    """The texts that stand under a name that speaks of thought, or beside ``thought: true``."""
    if isinstance(tree, list):
        for each in tree:
            yield from _thoughts(each)
    elif isinstance(tree, dict):
        for name, each in tree.items():
            marked = name == "text" and tree.get("thought") is True
            if isinstance(each, str) and (marked or _OF_THOUGHT.fullmatch(name)):
                yield each
            yield from _thoughts(each)


def _numbers(documents: list[JSON]) -> dict[Path, int]:
    """The counts of an answer, each as it was said last."""
    return {
        path: leaf
        for document in documents
        for path, leaf in leaves_of(document)
        if isinstance(leaf, int) and not isinstance(leaf, bool) and leaf > 0
    }


def _counts(numbers: Mapping[Path, int], kind: re.Pattern[str]) -> list[int]:
    """The counts of tokens read, or written, in all."""
    return [
        count
        for path, count in numbers.items()
        if path
        and kind.search(path[-1])
        and _OF_USAGE.search(path[-1])
        and not any(_OF_A_PART.search(name) for name in path)
        and "duration" not in path[-1]
    ]


def _sums(counts: Iterable[int]) -> set[int]:
    """These numbers, and the sums and differences of up to three of them."""
    several = sorted(set(counts))[:40]
    twos = {one + other for one in several for other in several}
    twos |= {one - other for one in several for other in several}
    threes = {two + other for two in twos for other in several} if len(several) < 20 else set()
    return {*several, *twos, *threes}


def _check_sums(usage: Mapping[str, Any]) -> None:
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    total = usage.get("total_tokens")
    cached = usage.get("cached_tokens", 0) + usage.get("cache_write_tokens", 0)
    if read is not None:
        assert cached <= read, (
            f"prompt_tokens is {read}, and {cached} of them were read from or written to a cache: "
            "it must include them, or costs are counted too low. Look where usage is read"
        )
    if written is not None:
        thought = usage.get("reasoning_tokens", 0)
        assert thought <= written, (
            f"completion_tokens is {written}, and reasoning_tokens {thought}: it must include "
            "them, or costs are counted too low. Look where usage is read"
        )
    if read is not None and written is not None and total is not None:
        assert total == read + written, (
            f"total_tokens is {total}, not {read} + {written}: one of them leaves something out. "
            "Look where usage is read"
        )
