"""Checks of arrival: what streams is asked for as a stream, and is handed on as it comes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from ...errors import LMGatewayError, PluginError
from ...types import Delta, Flow, Kept
from ..bench import Bench, BenchResult
from ..calls import RecordedCall
from ..records import documents_of, messages_in, records_of, says
from ..wire import Pieces, Wire

__all__ = ["ArrivalChecks", "check_fragments", "cut", "needs_body", "shown_before"]

_KINDS = ("text", "reasoning", "tool_calls")
_LOOK = "Look in lmgateway_stream: `yield Emit(...)` belongs into the loop that reads"


class ArrivalChecks:
    """When the pieces of a recorded stream come, and what they are of."""

    def test_a_stream_is_asked_for(self, bench: Bench, streamed: RecordedCall) -> None:
        """The hook that streams asks for a stream; a whole answer would come at its end."""
        wire = bench.replay(streamed).wire if streamed.responses else None
        if wire is None or not wire.asked:
            pytest.skip("no stream is recorded, or it asks for nothing")
        if any(isinstance(each, Kept) for each in wire.asked):
            pytest.skip("it keeps what it asks for as a whole, so it cannot stream")
        assert any(each.stream for each in wire.asked), (
            "lmgateway_stream asks for a whole answer: the user looks at nothing until it is "
            "there. Give HTTPRequest(..., stream=True), or Blocking(..., stream=True), and read "
            "it; if the service does not stream, leave the hook out"
        )

    def test_pieces_arrive_as_they_come(self, bench: Bench, streamed: RecordedCall) -> None:
        """With all but the last record given, there was something to show; most of it, in fact."""
        needs_body(streamed)
        result = bench.replay(streamed)
        records = records_of(streamed.body)
        kinds = [kind for kind in _KINDS if _is_spread(records, result, kind)]
        if not kinds:
            pytest.skip("its recorded stream says nothing, or all that it says stands at its end")
        whole, last = b"".join(records[:-1]), records[-1]
        at_once = shown_before(bench, streamed, [whole, last], last=1)
        slowly = shown_before(bench, streamed, records, last=len(records) - 1)
        for kind in kinds:
            assert any(getattr(piece, kind) for piece in at_once), (
                f"no {kind} is shown until the last bytes of a stream have come: the user waits as "
                f"if it did not stream. {_LOOK}"
            )
            pieces, early = (
                sum(bool(getattr(piece, kind)) for piece in each)
                for each in (result.pieces, slowly)
            )
            assert early * 2 >= pieces, (
                f"of {pieces} pieces of {kind} {pieces - early} are held back until the last bytes "
                f"have come. {_LOOK}"
            )

    def test_a_stream_need_not_be_at_its_end(self, bench: Bench, streamed: RecordedCall) -> None:
        """The first piece is shown before the second half of a stream is read."""
        needs_body(streamed)
        records = records_of(streamed.body)
        half = len(records) // 2
        result = bench.replay(streamed)
        kinds = [kind for kind in _KINDS if _is_spread(records[: half + 1], result, kind)]
        if not kinds or half < 3:
            pytest.skip("its recorded stream is short, or says nothing in its first half")
        before = shown_before(bench, streamed, records, last=half + 1)
        assert before, f"nothing is shown in the first half of a stream. {_LOOK}"

    def test_the_pieces_of_calls_make_the_calls(self, bench: Bench, streamed: RecordedCall) -> None:
        """The fragments of tool calls, put together, are the calls of the answer, each once."""
        if streamed.kind != "complete" or not streamed.responses:
            pytest.skip("no stream is recorded")
        if not check_fragments(bench.replay(streamed)):
            pytest.skip("no stream with a tool call is recorded: record one with tools=[...]")

    def test_the_end_of_a_choice_is_told(self, bench: Bench, streamed: RecordedCall) -> None:
        """A finish_reason that is emitted is that of the answer, and comes last."""
        if streamed.kind != "complete" or not streamed.responses:
            pytest.skip("no stream is recorded")
        result = bench.replay(streamed)
        for place, choice in enumerate(result.completion["choices"]):
            deltas = [piece for piece in result.pieces if piece.index == place]
            told = [piece.finish_reason for piece in deltas if piece.finish_reason]
            reason = choice.get("finish_reason")
            ends = {*told[-1:]} - {reason}
            assert not ends, (
                f"the stream ends with the finish_reason {told[-1]!r}, and the answer has "
                f"{reason!r}"
            )
            assert told or not reason or not deltas or bench.info.api < 2, (
                f"the answer has the finish_reason {reason!r}, and no piece of the stream: whoever "
                "reads the pieces alone does not learn that it was cut off, or calls tools. Emit "
                "Delta(finish_reason=...) as the last piece of a choice"
            )

    def test_an_error_within_a_stream_is_an_error(
        self, bench: Bench, streamed: RecordedCall, calls: list[RecordedCall]
    ) -> None:
        """The service's error amid a stream is raised, whether the stream ends there or goes on."""
        needs_body(streamed)
        records = records_of(streamed.body)
        told = _error_records(records, calls)
        if len(records) < 3 or not told:
            pytest.skip("no error is recorded that could stand in its stream as an event")
        half = len(records) // 2
        for record, messages in told:
            for before, rest, what in (
                (records[:half], (), "broke off with"),
                (records[:half], records[half:], "brought"),
                ((), records, "began with"),
            ):
                body = b"".join([*before, record, *rest])
                said = f"{what} {record[:90]!r}"
                self._is_an_error(bench, streamed, body, said, messages)

    def _is_an_error(
        self, bench: Bench, streamed: RecordedCall, body: bytes, what: str, messages: list[str]
    ) -> None:
        try:
            result = bench.stream(streamed.call, *cut(streamed, [body]))
        except PluginError as error:
            pytest.fail(f"an error within a stream breaks the plugin: {error}")
        except LMGatewayError as error:
            if not messages or any(says(error, message) for message in messages):
                return
            pytest.fail(
                f"a stream that {what} ends in {str(error)!r:.120}: the user does not learn what "
                "the service said. Look where events are read; lmgateway.wire.openai.error_in "
                "keeps the message"
            )
        pytest.fail(
            f"a stream that {what} was taken for the answer "
            f"{result.completion['choices']!r:.120}: the user does not learn that the service "
            "failed. Look where events are read"
        )


def _error_records(
    records: Sequence[bytes], calls: Iterable[RecordedCall]
) -> list[tuple[bytes, list[str]]]:
    """The recorded error as a record of a stream, with its messages; none if records are no JSON.

    An error without a key ``error`` is put only where each record has a ``type``, which it lacks.
    """
    typed = all(b'"type":' in record.replace(b" ", b"") for record in records if b"{" in record)
    found = [
        (document, messages_in(document))
        for call in calls
        if call.is_error
        for document in documents_of(call)
        if isinstance(document, dict)
    ]
    found = [(each, said) for each, said in found if each.get("error") or (typed and said)]
    if not found:
        return []
    document, messages = found[0]
    named = typed and document.get("error")
    body = json.dumps({**({"type": "error"} if named else {}), **document}).encode()
    first = records[0].lstrip()
    if first.startswith(b"event:"):
        return [(b"event: error\ndata: " + body + b"\n\n", messages)]
    if first.startswith(b"data:"):
        return [(b"data: " + body + b"\n\n", messages)]
    return [(body + b"\n", messages)] if first.startswith(b"{") else []


def needs_body(streamed: RecordedCall) -> None:
    """Skip unless the call was recorded with a body that came in pieces."""
    if not streamed.responses:
        pytest.skip("no stream is recorded: see test_an_answer_is_recorded_of_each_kind")
    if not isinstance(getattr(streamed.answers()[-1], "source", None), Pieces):
        pytest.skip("what it streams came whole")


def cut(streamed: RecordedCall, pieces: Iterable[bytes | BaseException]) -> list[Any]:
    """The recorded answers, the body of the last one cut into other pieces."""
    *before, last = streamed.answers()
    return [*before, replace(last, source=Pieces(pieces))]


class _Watched(Pieces):
    """Pieces; it keeps what had been shown when the one of a certain number was asked for."""

    def __init__(self, pieces: Sequence[bytes], number: int, shown: list[Delta]) -> None:
        super().__init__(pieces)
        self._left = number
        self._shown = shown
        self.seen: list[Delta] | None = None

    def read(self) -> Flow[bytes]:
        """The next piece."""
        if self._left == 0:
            self.seen = list(self._shown)
        self._left -= 1
        return (yield from super().read())


def shown_before(
    bench: Bench, streamed: RecordedCall, pieces: Sequence[bytes], *, last: int
) -> list[Delta]:
    """What had been shown when the piece of that number was asked for, and says something."""
    shown: list[Delta] = []
    source = _Watched(pieces, last, shown)
    *before, head = streamed.answers()
    wire = Wire(*before, replace(head, source=source))
    for piece in bench.lm(wire).stream(events=True, **streamed.call):
        shown.append(piece)
    seen = shown if source.seen is None else source.seen
    return [piece for piece in seen if any(getattr(piece, kind) for kind in _KINDS)]


def _is_spread(records: Sequence[bytes], result: BenchResult, kind: str) -> bool:
    """Whether something of a kind stands in a record before the last of these."""
    before = b"".join(records[:-1])
    for piece in result.pieces:
        for text in _texts_of(piece, kind):
            if not text.strip():
                continue
            escaped = {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
            forms = [form.encode() for form in escaped]
            if not any(form in before + records[-1] for form in forms):
                return len(records) > 3 and kind == "text"  # it is written in another way
            return any(form in before for form in forms)
    return False


def _texts_of(piece: Delta, kind: str) -> list[str]:
    if kind == "tool_calls":
        return [(call.get("function") or {}).get("name") or "" for call in piece.tool_calls]
    return [getattr(piece, kind)]


def check_fragments(result: BenchResult) -> bool:
    """Check that the fragments make the calls; return whether there were any."""
    found = False
    for place, choice in enumerate(result.completion["choices"]):
        deltas = [piece for piece in result.pieces if piece.index == place]
        made = _calls_of(deltas)
        calls = [_call(call) for call in choice.get("tool_calls") or ()]
        whole = [each for each in deltas if each.part and each.part.get("type") == "tool_call"]
        found = found or bool(calls or made)
        if calls and not made and whole:
            continue  # each came as a part of its own
        assert made == calls, (
            f"the emitted fragments make the calls {made!r:.160}, and the answer has "
            f"{calls!r:.160}: a program that reads the stream calls other tools. Emit each "
            "fragment once, with its index, and id and name in the first"
        )
    return found


def _calls_of(deltas: Iterable[Delta]) -> list[tuple[Any, ...]]:
    """The calls that fragments make: id, name and arguments of each, by index."""
    made: dict[int, list[str]] = {}
    for delta in deltas:
        for fragment in delta.tool_calls:
            call = made.setdefault(fragment.get("index", 0), ["", "", ""])
            function = fragment.get("function") or {}
            call[0] = fragment.get("id") or call[0]
            call[1] = function.get("name") or call[1]
            call[2] += function.get("arguments") or ""
    return [(id_, name, _arguments(text)) for _, (id_, name, text) in sorted(made.items())]


def _call(call: Any) -> tuple[Any, ...]:
    function = call["function"]
    return call["id"], function["name"], _arguments(function["arguments"])


def _arguments(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text
