"""The chunked framing, taken off however it is cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmgateway._transports.http_client import Chunks


def framed(pieces: list[bytes], trailer: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n" + trailer + b"\r\n"


def fed(chunks: Chunks, data: bytes, cuts: list[int]) -> bytes:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return b"".join(chunks.feed(data[a:b]) for a, b in itertools.pairwise(edges))


@given(st.lists(st.binary(min_size=1, max_size=40)), st.lists(st.integers(0, 10_000), max_size=30))
def test_what_is_in_the_chunks_comes_out_however_they_are_cut(
    pieces: list[bytes], cuts: list[int]
) -> None:
    chunks = Chunks(limit=100)
    assert fed(chunks, framed(pieces, b"X-Sum: 1\r\n"), cuts) == b"".join(pieces)
    assert chunks.ended
    assert not chunks.broken


@pytest.mark.parametrize(
    "line",
    [b"-5", b"0x5", b"1_0", b"", b"five", b"5 5", b"1" * 17, b";name=value"],
    ids=["negative", "prefix", "underscore", "empty", "word", "two", "too long", "no size"],
)
def test_line_that_is_no_size_breaks_it_after_what_was_good(line: bytes) -> None:
    chunks = Chunks(limit=100)
    assert chunks.feed(b"3\r\nabc\r\n" + line + b"\r\nxxxxx") == b"abc"
    assert chunks.broken
    assert chunks.feed(b"3\r\nabc\r\n") == b""


@pytest.mark.parametrize(
    "data",
    [b"1" * 101, b"1;" + b"x" * 100 + b"x", b"0\r\n" + b"a: b\r\n" * 20],
    ids=["size", "extension", "trailer"],
)
def test_framing_without_end_is_refused_at_the_limit(data: bytes) -> None:
    chunks = Chunks(limit=100)
    chunks.feed(data)
    assert chunks.broken


def test_extensions_and_bare_line_feeds_are_passed_over() -> None:
    chunks = Chunks(limit=100)
    assert chunks.feed(b"3;a=b\nabc\r\n0\n\n") == b"abc"
    assert chunks.ended


def test_cut_body_has_not_ended() -> None:
    chunks = Chunks(limit=100)
    assert chunks.feed(b"5\r\nabc") == b"abc"
    assert not chunks.ended
