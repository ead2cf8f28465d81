"""The decoder of lines of JSON."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.exchanges import Pieces, run

from lmgateway.errors import ResponseFormatError, StreamInterruptedError
from lmgateway.types import HTTPResponse
from lmgateway.wire.ndjson import Decoder

CASES: dict[str, tuple[bytes, list[Any]]] = {
    "one": (b'{"a":1}\n', [{"a": 1}]),
    "two": (b'{"a":1}\n{"a":2}\n', [{"a": 1}, {"a": 2}]),
    "crlf": (b"1\r\n2\r\n", [1, 2]),
    "blank lines": (b"\n\n1\n \t\r\n\n2\n\n", [1, 2]),
    "no end": (b"1\n2", [1, 2]),
    "no end, and space": (b"1\n2 \r", [1, 2]),
    "bom": (b"\xef\xbb\xbf1\n2\n", [1, 2]),
    "bom before a blank line": (b"\xef\xbb\xbf\n1\n", [1]),
    "bom alone": (b"\xef\xbb\xbf", []),
    "cr within a line": (b'{"a":\r1}\n', [{"a": 1}]),
    "separators of unicode": ('"a\u2028b\u0085c"\n'.encode(), ["a\u2028b\u0085c"]),
    "umlauts": ('{"ü":"🙂"}\n'.encode(), [{"ü": "🙂"}]),
    "not utf-8": (b'"a\xffb"\n', ["a\ufffdb"]),
    "null is a document": (b"null\n", [None]),
    "infinite": (b"Infinity\n", [float("inf")]),
    "empty": (b"", []),
    "white space": (b" \r\n\n", []),
}


def decoded(data: bytes, step: int) -> list[Any]:
    decoder = Decoder()
    fed = [each for i in range(0, len(data), step) for each in decoder.feed(data[i : i + step])]
    return fed + decoder.end() + decoder.end()


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("data, documents", CASES.values(), ids=list(CASES))
def test_lines_are_read_wherever_they_are_cut(data: bytes, documents: list[Any], step: int) -> None:
    assert decoded(data, step) == documents


@given(st.lists(st.text() | st.integers() | st.lists(st.none()), max_size=6), st.data())
def test_any_documents_cut_anywhere_come_back(documents: list[Any], data: Any) -> None:
    written = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in documents).encode()
    assert decoded(written, data.draw(st.integers(1, 50))) == documents


def test_read_gives_what_came_and_the_last_line_at_the_end() -> None:
    source = Pieces([b"1\n2", b"\n", b" \n", b"3"])
    decoder, response = Decoder(), HTTPResponse(200, source=source)
    read = [run(decoder.read(response))[0] for _ in range(5)]
    assert read == [[1], [2], [3], [], []]


DEEP = b"[" * 10**6 + b"\n"


@pytest.mark.parametrize(
    "data", [b"{\n", b"data: {}\n", b"1 2\n", b"<html>\n", DEEP], ids=lambda data: f"{data!r:.20}"
)
def test_a_line_that_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(ResponseFormatError, match="no JSON") as caught:
        Decoder().feed(data)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "last, kind",
    [
        pytest.param(b'{"word": "a', StreamInterruptedError, id="cut"),
        pytest.param(b' [1, {"word', StreamInterruptedError, id="cut-deep"),
        pytest.param(b"<html>", ResponseFormatError, id="a-page"),
    ],
)
def test_a_last_line_that_is_cut_is_a_stream_that_was(last: bytes, kind: type[Exception]) -> None:
    decoder = Decoder()
    assert decoder.feed(b"{}\n" + last) == [{}]
    with pytest.raises(kind):
        decoder.end()


@pytest.mark.parametrize("cut", [10, 11, 1000])
def test_a_line_over_the_limit_is_refused_before_it_is_whole(cut: int) -> None:
    decoder = Decoder(limit=10)
    assert decoder.feed(b'"12345678"\n' * 3) == ["12345678"] * 3
    line = b'"123456789'
    pieces = [line[at : at + cut] for at in range(0, len(line), cut)]
    fed = [decoder.feed(piece) for piece in pieces[:-1]]
    assert fed == [[]] * len(fed)
    with pytest.raises(ResponseFormatError, match="larger than 10 bytes"):
        decoder.feed(pieces[-1] + b'"')


def test_the_memory_is_that_of_one_line() -> None:
    decoder, line = Decoder(), b'"' + b"x" * 1000 + b'"\n'
    decoder.feed(line)
    tracemalloc.start()
    for _ in range(2000):
        decoder.feed(line)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000
