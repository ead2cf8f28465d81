import gzip
import random
import zlib
from collections.abc import Callable

import pytest

from lmgateway._transports.decoding import PIECE, DecodingError, decoder_for

PLAIN = random.Random(1).randbytes(50_000) + b"a" * 1_000_000


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def two_members(data: bytes) -> bytes:
    return gzip.compress(data[:100]) + gzip.compress(data[100:])


def brotli(data: bytes) -> bytes:
    module = pytest.importorskip("brotli", minversion="1.2.0")
    return bytes(module.compress(data))


def decode(coding: str, data: bytes, step: int) -> list[bytes]:
    decoder = decoder_for(coding)
    assert decoder is not None
    pieces = [x for i in range(0, len(data), step) for x in decoder.feed(data[i : i + step])]
    decoder.finish()
    return pieces


CODINGS = pytest.mark.parametrize(
    "coding, pack",
    [
        ("gzip", gzip.compress),
        ("gzip", two_members),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("br", brotli),
    ],
    ids=["gzip", "gzip of two members", "deflate", "raw deflate", "br"],
)


@CODINGS
@pytest.mark.parametrize("step", [1, 7, 65536, 10**9])
def test_pieces_are_bounded_and_make_the_whole(
    coding: str, pack: Callable[[bytes], bytes], step: int
) -> None:
    pieces = decode(coding, pack(PLAIN), step)
    assert b"".join(pieces) == PLAIN
    assert max(map(len, pieces)) <= 2 * PIECE


@CODINGS
def test_data_that_end_early_are_an_error(coding: str, pack: Callable[[bytes], bytes]) -> None:
    with pytest.raises(DecodingError, match="end too early"):
        decode(coding, pack(PLAIN)[:-5], 65536)


@CODINGS
def test_other_data_are_an_error(coding: str, pack: Callable[[bytes], bytes]) -> None:
    pack(b"")  # skips where the coding is not to be had
    with pytest.raises(DecodingError):
        decode(coding, b'{"plain": "json"}', 3)


@CODINGS
def test_no_data_are_no_error(coding: str, pack: Callable[[bytes], bytes]) -> None:
    pack(b"")
    assert decode(coding, b"", 1) == []


@pytest.mark.parametrize("coding", ["", "identity", "UTF-8"])
def test_what_is_not_encoded_needs_no_decoder(coding: str) -> None:
    assert decoder_for(coding) is None
