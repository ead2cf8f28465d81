"""Checks of streams: the same answer however the body is cut, and an end at any time."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import Any

import pytest

from ...errors import ConnectionFailedError, LMGatewayError, StreamInterruptedError
from ...types import Delta
from ..bench import DEFAULT_CALL, Bench, BenchResult
from ..calls import RecordedCall
from ..records import ends_of, is_framed
from ..wire import Pieces, Wire
from .answers import essence
from .arrival import cut, needs_body
from .sights import needs_stream

__all__ = ["StreamChecks"]

_CHARACTERS = "é日\U0001d518"
OFFSETS = 2000
"""At how many places a recorded stream is cut in two, at most."""
WORK = 50_000
"""About how many bytes are read for that."""


class StreamChecks:
    """What the provider makes of a recorded stream."""

    @pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
    def test_a_stream_may_be_cut_at_every_byte(
        self, bench: Bench, streamed: RecordedCall, awaited: bool
    ) -> None:
        """One chunk, and one chunk for each byte, give the same answer."""
        needs_body(streamed)
        way = bench.astream if awaited else bench.stream
        body = streamed.body
        results = [
            way(streamed.call, *cut(streamed, chunks))
            for chunks in ([body], [body[n : n + 1] for n in range(len(body))])
        ]
        whole, bytewise = (_content(result) for result in results)
        assert bytewise == whole, "cut at every byte, it is another answer"
        assert whole == _content(bench.replay(streamed)), "as one chunk, it is another answer"

    def test_a_stream_may_be_cut_anywhere(self, bench: Bench, streamed: RecordedCall) -> None:
        """Cut in two at any byte, or into chunks of any size, it is the same answer."""
        needs_body(streamed)
        body = streamed.body
        expected = _content(bench.stream(streamed.call, *cut(streamed, [body])))
        for size in _sizes(body):
            chunks = [body[n : n + size] for n in range(0, len(body), size)]
            result = bench.stream(streamed.call, *cut(streamed, chunks))
            assert _content(result) == expected, (
                f"in chunks of {size} bytes it is another answer: a network cuts where it likes. "
                "Look where the chunks are put together"
            )
        for offset in _offsets(body):
            result = bench.stream(streamed.call, *cut(streamed, [body[:offset], body[offset:]]))
            assert _content(result) == expected, (
                f"cut after {offset} bytes ({body[max(0, offset - 20) : offset]!r}), it is another "
                "answer: a network cuts where it likes. Look where the chunks are put together"
            )

    def test_a_character_may_be_cut(self, bench: Bench, streamed: RecordedCall) -> None:
        """A character of several bytes arrives whole, wherever a network cuts it."""
        needs_body(streamed)
        body = None if is_framed(streamed.body) else _with_characters(bench, streamed)
        if body is None:
            pytest.skip("the kit can write no further text into its recorded stream")
        expected = _content(bench.stream(streamed.call, *cut(streamed, [body])))
        if _CHARACTERS not in json.dumps(expected[0]["choices"], ensure_ascii=False, default=repr):
            pytest.skip("what the kit writes into its recorded stream is no text of the answer")
        start = body.index(_CHARACTERS.encode())
        for offset in range(start, start + len(_CHARACTERS.encode()) + 1):
            result = bench.stream(streamed.call, *cut(streamed, [body[:offset], body[offset:]]))
            assert _content(result) == expected, (
                "a character that is cut by the network comes out damaged. Decode no chunk by "
                "itself: look where the chunks are put together"
            )

    def test_the_pieces_make_the_answer(self, bench: Bench, streamed: RecordedCall) -> None:
        """The emitted pieces, put together, are the text of the answer."""
        result = bench.replay(streamed)
        for place, choice in enumerate(result.completion["choices"]):
            mine = [piece for piece in result.pieces if piece.index == place]
            for name in ("text", "reasoning"):
                shown = "".join(getattr(piece, name) for piece in mine)
                assert shown == choice.get(name, ""), (
                    f"choices[{place}][{name!r}] is {choice.get(name, '')!r:.80}, and the pieces "
                    f"made {shown!r:.80}"
                )

    def test_a_stream_equals_the_plain_answer(self, bench: Bench, pair: Any) -> None:
        """A call that was recorded plain and streamed gives the same choices."""
        plain, streamed = pair
        expected = essence(bench.replay(plain).completion)
        assert essence(bench.replay(streamed).completion) == expected, (
            "the streamed answer is another than the plain one"
        )

    def test_a_host_that_does_not_stream_is_understood(
        self, bench: Bench, plain: RecordedCall
    ) -> None:
        """Where a stream was asked for and a plain answer comes, that is the answer."""
        needs_stream(bench)
        if bench.asks(stream=True) != "HTTP":
            pytest.skip("its stream is no HTTP")
        if any(is_framed(call.body) for call in bench.calls if call.stream):
            pytest.skip("it streams binary frames: a whole answer has no place there")
        expected = essence(bench.replay(plain).completion)
        *before, last = plain.answers()
        arriving = replace(last, body=b"", source=Pieces([last.body]))
        try:  # as a stream comes in API 2, and as it does in API 1
            streamed = bench.stream(plain.call, *before, arriving)
        except LMGatewayError:
            streamed = bench.stream(plain.call, *plain.answers())
        assert essence(streamed.completion) == expected, "it is another answer than the plain one"
        shown = "".join(piece.text for piece in streamed.pieces if piece.index == 0)
        assert shown == expected[0]["text"], "the pieces do not make the answer"

    def test_a_stream_cut_short_is_no_answer(self, bench: Bench, streamed: RecordedCall) -> None:
        """A body that ends early is a StreamInterruptedError, unless nothing is missing."""
        needs_body(streamed)
        expected = essence(bench.replay(streamed).completion)
        for end in _ends_of_events(streamed.body)[:-1]:
            try:
                result = bench.stream(streamed.call, *cut(streamed, [streamed.body[:end]]))
            except StreamInterruptedError:
                continue
            except LMGatewayError as error:
                pytest.fail(
                    f"after {end} bytes: {type(error).__name__}, not StreamInterruptedError"
                )
            if bench.asks(stream=True) == "Blocking":
                continue  # it comes from this process, where an end is an end
            assert essence(result.completion) == expected, (
                f"a stream that ended after {end} of {len(streamed.body)} bytes was taken for "
                f"the answer {essence(result.completion)!r:.200}"
            )

    def test_a_stream_that_breaks_off_says_so(self, bench: Bench, streamed: RecordedCall) -> None:
        """A broken connection is a StreamInterruptedError with the text that had come."""
        needs_body(streamed)
        ends = _ends_of_events(streamed.body)[:-1] or [0]  # short of the end, however short it is
        half = streamed.body[: ends[len(ends) // 2]]
        broken = ConnectionFailedError("the connection was reset")
        lm = bench.lm(Wire(*cut(streamed, [half, broken])))
        stream = lm.stream(events=True, **streamed.call)
        pieces: list[Delta] = []
        with pytest.raises(LMGatewayError) as caught:
            pieces.extend(stream)
        error = caught.value
        assert isinstance(error, StreamInterruptedError), (
            f"a stream that broke off raised {type(error).__name__}"
        )
        pieces_text = "".join(piece.text for piece in pieces if piece.index == 0)
        assert (error.partial or "") == pieces_text, "its .partial is not what had come"

    # -- leaving it -----------------------------------------------------------------------------

    def test_leaving_a_stream_ends_it(self, bench: Bench, streamed: RecordedCall) -> None:
        """A stream that is closed after its first piece ends at once and closes the body."""
        wire = Wire(*streamed.answers())
        answer = wire.peek()
        stream = bench.lm(wire).stream(events=True, **streamed.call)
        next(stream)
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            try:
                stream.close()
            except RuntimeWarning as warning:
                pytest.fail(f"the flow does not end where it is closed: {warning}", pytrace=False)
        source = getattr(answer, "source", None)
        assert source is None or source.closed, "the connection was not let go"

    @pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
    def test_an_interrupt_passes_through(self, bench: Bench, stream: bool) -> None:
        """The provider lets Ctrl-C and cancellation pass, whatever it is waiting for."""
        if stream:
            needs_stream(bench)
        for thrown in (KeyboardInterrupt(), GeneratorExit()):
            flow, _ = bench.hook(DEFAULT_CALL, stream=stream)
            if isinstance(flow, dict):
                pytest.skip("it asks for nothing")
            _throw(flow, thrown)


def _with_characters(bench: Bench, streamed: RecordedCall) -> bytes | None:
    """The recorded body with characters outside ASCII after a text that stands in it once."""
    for piece in bench.replay(streamed).pieces:
        text = json.dumps(piece.text)[1:-1].encode()
        if len(text) > 3 and streamed.body.count(text) == 1:
            return streamed.body.replace(text, text + _CHARACTERS.encode())
    return None


def _throw(flow: Any, thrown: BaseException) -> None:
    try:
        next(flow)
        flow.throw(thrown)
    except StopIteration:
        pytest.fail(f"{type(thrown).__name__} was swallowed", pytrace=False)
    except BaseException as error:
        if error is not thrown:
            name = type(thrown).__name__
            pytest.fail(f"{name} became {type(error).__name__}: {error}", pytrace=False)
        return
    pytest.fail(f"the flow goes on after {type(thrown).__name__}", pytrace=False)


def _content(result: BenchResult) -> tuple[Any, ...]:
    """The answer, and the emitted text of each choice."""
    shown: dict[tuple[int, str], str] = {}
    for piece in result.pieces:
        for name in ("text", "reasoning"):
            at = (piece.index, name)
            shown[at] = shown.get(at, "") + getattr(piece, name)
        calls = json.dumps([dict(call) for call in piece.tool_calls]) if piece.tool_calls else ""
        shown[piece.index, "calls"] = shown.get((piece.index, "calls"), "") + calls
    return result.completion, shown


def _ends_of_events(body: bytes) -> list[int]:
    """The offsets at which records of the body end; at most 60 of them, evenly spread.

    In a body that has no records they are offsets of bytes.
    """
    ends = ends_of(body)
    if len(ends) < 2:
        return [*range(1, len(body), max(1, len(body) // 60)), len(body)]
    step = max(1, len(ends) // 60)
    return [*ends[:-1][::step], ends[-1]]


def _sizes(body: bytes) -> list[int]:
    """Sizes of chunks: each puts the cuts at other places within the records."""
    return [size for size in (2, 3, 5, 7, 16, 61, 253, 1021) if size < len(body)]


def _offsets(body: bytes) -> list[int]:
    """Where a body is cut in two: at each byte of a short one, else at places evenly spread."""
    most = min(OFFSETS, max(16, WORK // max(1, len(body))))
    step = max(1, len(body) // most)
    return list(range(1, len(body), step))
