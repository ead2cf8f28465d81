"""Files: an input as bytes of UTF-8, whether it is compressed or not."""

from __future__ import annotations

import gzip
import io
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from .._guard.paths import absolute
from ..errors import InputError, UnsupportedError, excerpt
from .values import wide_encoding

__all__ = ["ending", "find", "open_bytes", "open_stdin", "readable"]

_COMPRESSED = {".gz", ".zst"}
BLOCK = 1 << 14
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def find(given: object, what: str, form: str | None, forms: Mapping[str, str]) -> tuple[Path, str]:
    """The path of an input, and its form: the one given, or the one that its name says.

    Args:
        given: What the user gave.
        what: What to call it in messages.
        form: The form, where the user gave one.
        forms: The forms by the endings of names; one of compression may follow.

    Returns:
        The form is "" where neither says one that there is.

    Raises:
        InputError: There is no such file, or it is Parquet in a compressed file.
    """
    path = Path(absolute(given, what))
    if not os.path.isfile(path):
        raise InputError(f"there is no file {excerpt(str(path))}")
    found = form or forms.get(ending(path), "")
    if found == "parquet" and path.suffix.lower() in _COMPRESSED:
        raise InputError(f"{path}: Parquet compresses by itself, and is read as .parquet only")
    return path, found if found in forms.values() else ""


def ending(path: Path) -> str:
    """The ending of a file's name, before that of compression, in small letters."""
    return (path.with_suffix("") if path.suffix.lower() in _COMPRESSED else path).suffix.lower()


def open_bytes(path: Path) -> IO[bytes]:
    """A file, decompressed; what it begins with says how, not its name.

    Raises:
        InputError: It is UTF-16 or UTF-32.
        UnsupportedError: It is compressed with Zstandard, and no library for that is there.
    """
    return _decoded(path.open("rb"), str(path))


def open_stdin() -> io.BufferedReader:
    """Stdin, decompressed; raises as ``open_bytes``. It waits for the first bytes."""
    return _decoded(os.fdopen(sys.stdin.fileno(), "rb", closefd=False), "stdin")


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Within the block, what is wrong with a file is told as an InputError."""
    what = "decompressed"
    try:
        yield
    except PermissionError as error:
        what, why = "read", str(error.strerror)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        why = str(error)
    except Exception as error:  # that of Zstandard belongs to a library that may not be there
        if type(error).__name__ != "ZstdError":
            raise
        why = str(error)
    else:
        return
    raise InputError(f"{name} cannot be {what}: {excerpt(why)}")


def _decoded(file: io.BufferedReader, name: str) -> io.BufferedReader:
    head, found = file.peek(4)[:4], file
    try:
        if head.startswith(_GZIP):
            found = io.BufferedReader(_Closing(gzip.GzipFile(fileobj=file), file), BLOCK)
        elif head == _ZSTD:
            found = io.BufferedReader(_Zstd(file, name), BLOCK)
        with readable(name):
            wide = wide_encoding(found.peek(256)[:256])
        if wide:
            raise InputError(f"{name} is written in {wide}, and is read as UTF-8 only: save it so")
    except BaseException:
        file.close()
        raise
    return found


class _Closing(io.RawIOBase):
    """A reader that closes the file under it, which ``gzip`` leaves open."""

    def __init__(self, reader: Any, file: IO[bytes]) -> None:
        self._reader = reader
        self._under = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._reader.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._reader.close()
        self._under.close()
        super().close()


class _Zstd(io.RawIOBase):
    """Reads the frames of a file of Zstandard; raises EOFError if the last is not whole."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._make = _zstd(name)
        self._under = file
        self._frame: Any = None
        self._compressed, self._ready = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            compressed = self._compressed or self._under.read(BLOCK)
            if not compressed:
                if self._frame is not None:
                    raise EOFError("it ends before its last frame does")
                return 0
            if self._frame is None:
                self._frame = self._make()
            self._ready = memoryview(self._frame.decompress(compressed))
            self._compressed = b""
            if self._frame.eof:
                self._compressed, self._frame = self._frame.unused_data, None
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        self._under.close()
        super().close()


def _zstd(name: str) -> Callable[[], Any]:
    """What makes a decompressor of one frame: of Python 3.14, or of the extra."""
    try:
        make: Callable[[], Any] = import_module("compression.zstd").ZstdDecompressor
    except ImportError:
        try:
            library = import_module("zstandard")
        except ImportError:
            raise UnsupportedError(
                f"{name} is compressed with Zstandard, which needs a library before Python 3.14: "
                "pip install 'lmgateway-core[zstd]'"
            ) from None
        return lambda: library.ZstdDecompressor().decompressobj()
    return make
