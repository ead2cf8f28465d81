"""Checks of endings: why an answer ended is told, in the library's word and in the service's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from ...errors import LMGatewayError
from ...types import JSON, HTTPResponse
from ..bench import Bench
from ..calls import RecordedCall
from ..grafts import is_read, saying
from ..records import documents_of
from ..sent import Path, leaves_of
from ..shape import REASONS
from .losses import OF_THE_END, needs_documents

__all__ = ["EndingChecks"]

#: The words of services for a natural end, and for one at the limit of tokens.
_ENDS = {
    "stop": "length", "end_turn": "max_tokens", "stop_sequence": "max_tokens", "STOP": "MAX_TOKENS",
    "COMPLETE": "MAX_TOKENS", "tool_use": "max_tokens", "tool_calls": "length", "FINISH": "LENGTH",
}  # fmt: skip
_FILTERS = {"stop": "content_filter", "end_turn": "refusal", "STOP": "SAFETY"}
_LIMITS = {limit: end for end, limit in reversed(_ENDS.items())}
_OF_CALLS = re.compile(r"tool|function", re.I)
_LOOK = "Look where finish_reason is set"


class EndingChecks:
    """What the provider makes of the end of a recorded answer."""

    def test_an_end_at_the_limit_is_told(self, bench: Bench, plain: RecordedCall) -> None:
        """The same answer, cut at the limit of tokens or ended by itself, says which it was."""
        body = _body(bench, plain)
        for path, word in leaves_of(body):
            if not OF_THE_END.search(path[-1] if path else "") or not isinstance(word, str):
                continue
            own = _reason(bench, plain, body)
            assert word not in _ENDS or own != "length", (
                f"an answer that ends with {word!r} has the finish_reason 'length': a program "
                f"takes a whole answer for half of one. {_LOOK}"
            )
            for words, reason in ((_ENDS, "length"), (_LIMITS, "stop")):
                if word not in words or (reason == "stop" and word in _ENDS):
                    continue
                try:
                    told = _reason(bench, plain, _replaced(body, path, words[word]))
                except LMGatewayError as error:
                    pytest.fail(f"an answer that ends with {words[word]!r} is lost: {error}")
                assert told in (reason, None) or told == "tool_calls", (
                    f"an answer that ends with {words[word]!r} has the finish_reason {told!r}, not "
                    f"{reason!r}: a program takes half an answer for a whole one. Look where "
                    "finish_reason is set"
                )
                if told is not None:
                    return
        pytest.skip("its recorded answer does not say why it ended, in a word that the kit knows")

    def test_an_end_nobody_knows_is_no_good_end(self, bench: Bench, plain: RecordedCall) -> None:
        """A word for the end that the plugin does not know is not ``stop``."""
        body = _body(bench, plain)
        for path, word in leaves_of(body):
            if path and OF_THE_END.search(path[-1]) and word in {*_ENDS, *_LIMITS}:
                if word in _FILTERS:
                    with suppress(LMGatewayError):  # such an end may be an error
                        told = _reason(bench, plain, _replaced(body, path, _FILTERS[word]))
                        assert told != "stop", (
                            f"an answer that ends with {_FILTERS[word]!r} has the finish_reason "
                            f"'stop': a program takes what was cut off for a whole answer. {_LOOK}"
                        )
                for failed in ("ERROR", "TIMEOUT") if word.isupper() else ("error",):
                    with suppress(LMGatewayError):
                        told = _reason(bench, plain, _replaced(body, path, failed))
                        assert told != "stop", (
                            f"an answer that ends with {failed!r} has the finish_reason 'stop': a "
                            f"program takes what broke off for a whole answer. {_LOOK}"
                        )
                try:
                    told = _reason(bench, plain, _replaced(body, path, "KIT_SAYS_HELIOTROPE"))
                except LMGatewayError:
                    return  # such an end may be an error
                known = told is None or told in REASONS or bench.info.api < 2  # the core mends it
                is_wrong = told == "stop" or not known
                assert not is_wrong, (
                    f"an answer that ended for an unknown reason has the finish_reason {told!r}: a "
                    "program takes it for a good one, or knows no such word. Give 'other', and the "
                    "service's word as finish_reason_raw"
                )
                return
        pytest.skip("its recorded answer does not say why it ended, in a word that the kit knows")

    def test_an_end_with_calls_is_told(self, bench: Bench, answered: RecordedCall) -> None:
        """What the service ends with calls of tools has the finish_reason ``tool_calls``."""
        words = [word for _, word in _ends(needs_documents(answered))]
        if not words or not _OF_CALLS.search(words[-1]):
            pytest.skip("the service does not say of its recorded answer that it ends with calls")
        choice = bench.replay(answered).completion["choices"][-1]
        told = choice.get("finish_reason")
        assert told in ("tool_calls", None) or not choice.get("tool_calls"), (
            f"an answer that ends with {words[-1]!r} has the finish_reason {told!r}: a program "
            f"takes the calls for the end of the conversation, and makes none. {_LOOK}"
        )

    def test_the_services_word_for_the_end_is_kept(
        self, bench: Bench, answered: RecordedCall
    ) -> None:
        """Where the library has another word for it, ``finish_reason_raw`` has the service's."""
        if bench.info.api < 2:
            pytest.skip("its Info is of API 1, which has no finish_reason_raw")
        words = [word for _, word in _ends(needs_documents(answered))]
        if not words:
            pytest.skip("its recorded answer does not say why it ended, in a field that is known")
        completion: Any = bench.replay(answered).completion
        named = ("finish_reason", "finish_reason_raw", "extra")
        told = [choice.get(name) for choice in completion["choices"] for name in named]
        kept = {str(leaf).lower() for _, leaf in leaves_of([told, completion.get("extra")])}
        assert words[-1].lower() in kept, (
            f"the service says that it ended with {words[-1]!r}, and the completion does not: what "
            "the library's few words leave out is lost. Give it as finish_reason_raw"
        )


def _ends(documents: list[JSON]) -> Iterator[tuple[Path, str]]:
    """The words for an end, and where they stand; those of a stream in their order."""
    for document in documents:
        for path, word in leaves_of(document):
            if path and OF_THE_END.search(path[-1]) and isinstance(word, str) and word:
                yield path, word


def _body(bench: Bench, plain: RecordedCall) -> JSON:
    """The recorded answer, without calls of tools, which would be an end of their own."""
    documents = documents_of(plain)
    if len(documents) != 1:
        pytest.skip("its recorded answer is no JSON")
    if bench.replay(plain).completion["choices"][0].get("tool_calls"):
        said = saying(bench, plain)
        if said is not None and isinstance(said[-1], HTTPResponse) and is_read(bench, plain, said):
            return json.loads(said[-1].body)
    return documents[0]


# -- made of a recorded answer ---------------------------------------------------------------------


def _reason(bench: Bench, plain: RecordedCall, body: JSON) -> str | None:
    *before, last = plain.answers()
    if isinstance(last, HTTPResponse):
        last = HTTPResponse(last.status, last.headers, json.dumps(body).encode())
    else:
        last = body
    answer: Any = bench.raw(plain, *before, last)
    reason: str | None = answer["choices"][0].get("finish_reason")
    return reason


def _replaced(tree: JSON, path: Path, value: JSON) -> JSON:
    """The tree with another value at a path; in a list, in each item."""
    if not path:
        return value
    if isinstance(tree, dict) and path[0] in tree:
        return {**tree, path[0]: _replaced(tree[path[0]], path[1:], value)}
    if isinstance(tree, list) and path[0] == "[]":
        return [_replaced(each, path[1:], value) for each in tree]
    return tree
