"""The decoder of server-sent events, against the standard."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.exchanges import Pieces, run

from lmgateway.errors import ResponseFormatError
from lmgateway.types import HTTPResponse, read_all
from lmgateway.wire.sse import Decoder, Event, opened

# From the standard's own examples, and what servers do.
CASES = {
    "one": (b"data: a\n\n", ["a"]),
    "no_space": (b"data:a\n\n", ["a"]),
    "only_one_space_is_taken": (b"data:  a \n\n", [" a "]),
    "two": (b"data: a\n\ndata: b\n\n", ["a", "b"]),
    "crlf": (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
    "cr": (b"data: a\r\rdata: b\r\r", ["a", "b"]),
    "all_line_ends": (b"data: a\r\n\ndata: b\r\rdata: c\n\r\n", ["a", "b", "c"]),
    "lines_are_joined": (b"data: YHOO\ndata: +2\ndata: 10\n\n", ["YHOO\n+2\n10"]),
    "lines_are_joined_over_crlf": (b"data: a\r\ndata: b\r\n\r\n", ["a\nb"]),
    "lines_are_joined_over_cr": (b"data: a\rdata: b\n\n", ["a\nb"]),
    "field_without_colon": (b"data\n\ndata\ndata\n\n", ["", "\n"]),
    "comment": (b": ping\n\ndata: a\n: ping\n\n:\n\n", ["a"]),
    "bom": (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
    "bom_only_at_the_start": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", ["a"]),
    "unknown_fields": (b"retry: 10\nfoo: bar\n bar: x\ndata: a\n\n", ["a"]),
    "blank_lines": (b"\n\n\n\ndata: a\n\n\n\n", ["a"]),
    "no_blank_line_at_the_end": (b"data: a\n\ndata: b\n", ["a"]),
    "umlauts": ("data: für 🙂\n\n".encode(), ["für 🙂"]),
    "separators_of_unicode": ("data: a\u0085b\u2028c\x0bd\x1ce\n\n".encode(), None),
    "not_utf8": (b"data: a\xffb\n\n", ["a\ufffdb"]),
    "nul": (b"data: a\0b\n\n", ["a\0b"]),
    "empty": (b"", []),
}


def decode(data: bytes, size: int | None = None) -> list[Event]:
    return feed_in_steps(Decoder(), data, size or max(len(data), 1))


def feed_in_steps(decoder: Decoder, data: bytes, step: int) -> list[Event]:
    return [e for i in range(0, len(data), step) for e in decoder.feed(data[i : i + step])]


@pytest.mark.parametrize("name", CASES)
def test_data_is_read_as_the_standard_says(name):
    stream, expected = CASES[name]
    if expected is None:  # none of these is a line's end
        expected = [stream[6:-2].decode()]
    assert [event.data for event in decode(stream)] == expected


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_pieces_of_any_size_read_the_same(name, size):
    assert decode(CASES[name][0], size) == decode(CASES[name][0])


@given(
    st.lists(st.sampled_from([b"data", b"event", b":", b" ", b"\r", b"\n", b"a", b"\xc3", b"\xa4",
                              b"id", b"\xef\xbb\xbf", b"\0", b"data: x\n\n"])),
    st.lists(st.integers(0, 60)),
)  # fmt: skip
def test_any_stream_cut_anywhere_reads_the_same(parts, places):
    stream = b"".join(parts)
    places = sorted({0, *(place for place in places if place < len(stream)), len(stream)})
    decoder = Decoder()
    events = []
    for start, end in pairwise(places):
        events += decoder.feed(stream[start:end])
    assert events == decode(stream)


def test_type_and_id():
    stream = b"event: add\nid: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\nid: x\0y\ndata: d\n\n"
    assert decode(stream) == [
        Event("add", "a", "1"),
        Event("message", "b", "1"),
        Event("message", "c", ""),
        Event("message", "d", ""),
    ]


def test_a_type_without_data_is_no_event():
    assert decode(b"event: ping\n\ndata: a\n\n") == [Event("message", "a", "")]


@pytest.mark.parametrize("step", [1, 1000, 10**6], ids=["bytes", "chunks", "whole"])
@pytest.mark.parametrize(
    "stream",
    [b"data: " + b"x" * 3000, b"data: x\n" * 3000, b": " + b"x" * 3000,
     b"event: " + b"x" * 3000 + b"\n\n", b"id: " + b"x" * 3000 + b"\n\n",
     b"data: " + b"x" * 3000 + b"\n\n"],
    ids=["line", "lines", "comment", "event", "id", "complete"],
)  # fmt: skip
def test_an_event_over_the_limit_is_refused(stream, step):
    decoder = Decoder(limit=2000)
    with pytest.raises(ResponseFormatError, match="larger than 2,000 bytes"):
        feed_in_steps(decoder, stream, step)


@pytest.mark.parametrize(
    "stream", [b"data: x\n\n", b": ping\n", b"event: a\n\n", b"data: x\r\n\r\n"]
)
def test_the_limit_is_for_one_event_only(stream):
    decoder = Decoder(limit=20)
    for _ in range(1000):
        decoder.feed(stream[:3])
        decoder.feed(stream[3:])


def test_memory_stays_flat_over_100_000_chunks():
    decoder = Decoder()
    tracemalloc.start()
    try:
        count = sum(len(decoder.feed(b"data: {}\n\ndata: {")) + len(decoder.feed(b"}\n\n"))
                    for _ in range(100_000))  # fmt: skip
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 200_000
    assert peak < 100_000


def test_a_long_event_in_small_pieces_takes_linear_work():
    decoder = Decoder()
    decoder.feed(b"data: ")
    for _ in range(400_000):  # quadratic work would copy 400 GB
        decoder.feed(b"xx")
    [event] = decoder.feed(b"\n\n")
    assert len(event.data) == 800_000


def test_read_gives_what_each_read_completes_and_nothing_at_the_end():
    response = HTTPResponse(200, source=Pieces([b"data: a\n\ndata: b\n\ndata", b": c\n", b"\n"]))
    decoder = Decoder()
    read = [[e.data for e in run(decoder.read(response))[0]] for _ in range(3)]
    assert read == [["a", "b"], ["c"], []]


# -- what an answer to a stream begins with --------------------------------------------------------

JSON_TYPE = {"Content-Type": "application/json"}
SSE_TYPE = {"Content-Type": "text/event-stream"}


def opened_of(
    *pieces: bytes, headers: dict[str, str] = SSE_TYPE, max_body: int = 1000
) -> tuple[HTTPResponse, bytes]:
    """What ``opened`` made of a head, and what can be read of it then."""
    head = HTTPResponse(200, headers, source=Pieces(pieces), max_body=max_body)
    response = run(opened(head))[0]
    if response.source is None:
        return response, response.body
    return response, run(read_all(response))[0]


@pytest.mark.parametrize("headers", [SSE_TYPE, JSON_TYPE, {}], ids=["sse", "json", "none"])
@pytest.mark.parametrize("step", [1, 2, 1000])
@pytest.mark.parametrize(
    "data",
    [b'{"a":1}', b"[1]", b"<html>", b" \r\n\t{}", b"\xef\xbb\xbf{}", b"\xef\xbb\xbf \n<x>"],
    ids=repr,
)
def test_a_whole_body_is_told_by_its_first_byte(
    data: bytes, step: int, headers: dict[str, str]
) -> None:
    pieces = [data[i : i + step] for i in range(0, len(data), step)]
    response, body = opened_of(*pieces, headers=headers)
    assert (response.source, body) == (None, data)
    assert dict(response.headers) == {name.lower(): value for name, value in headers.items()}


@pytest.mark.parametrize("headers", [SSE_TYPE, JSON_TYPE, {}], ids=["sse", "json", "none"])
@pytest.mark.parametrize("step", [1, 2, 1000])
@pytest.mark.parametrize(
    "data",
    [b"data: {}\n\n", b": ping\n\ndata: {", b"\n\n \ndata: x\n\n", b"\xef\xbb\xbfdata: x\n\n",
     b"event: x", b"id: 1\ndata: x\n\n", b"retry: 1\n\n", b"dat", b"i"],
    ids=repr,
)  # fmt: skip
def test_what_begins_as_an_event_is_a_stream_under_any_type(
    data: bytes, step: int, headers: dict[str, str]
) -> None:
    pieces = [data[i : i + step] for i in range(0, len(data), step)]
    response, read_back = opened_of(*pieces, headers=headers)
    whole = len(data.strip()) < 4 and headers is not SSE_TYPE  # it ended before it was an event
    assert (response.source is None) == whole
    assert read_back == data


@pytest.mark.parametrize("step", [1, 2, 1000])
@pytest.mark.parametrize(
    "data",
    [b"", b" \n", b"\xef\xbb\xbf", b"\xef", b"\xef\xbb", b"\x00{", b"yes", b"null", b"5"],
    ids=repr,
)
def test_anything_else_is_a_stream_only_where_the_type_says_so(data: bytes, step: int) -> None:
    pieces = [data[i : i + step] for i in range(0, len(data), step)]
    for headers in (SSE_TYPE, JSON_TYPE, {}):
        response, read_back = opened_of(*pieces, headers=headers)
        assert (response.source is not None) == (headers is SSE_TYPE)
        assert read_back == data


def test_a_body_that_came_whole_stays_as_it_is() -> None:
    head = HTTPResponse(200, JSON_TYPE, b"{}")
    assert run(opened(head))[0] is head


@pytest.mark.parametrize("pieces", [[b"{"] + [b"x" * 10] * 10, [b" " * 10] * 11])
def test_a_whole_body_over_max_body_is_refused_early(pieces: list[bytes]) -> None:
    source = Pieces([*pieces, AssertionError("read on")])
    with pytest.raises(ResponseFormatError, match="max_body"):
        run(opened(HTTPResponse(200, source=source, max_body=100)))


def test_leaving_an_opened_stream_leaves_the_connection() -> None:
    source = Pieces([b"data: x\n\n"])
    response = run(opened(HTTPResponse(200, SSE_TYPE, source=source)))[0]
    response.source.close()
    assert source.closed == 1
