"""The work on an output: vectors as they come, and a journal of which rows have theirs.

Beside ``OUTPUT`` stand ``OUTPUT.part``, an array of numpy's format with a place for each row, and
``OUTPUT.job``, whose lines say which places hold a vector, of which texts, and with which checksum.
A vector is written before its line. So a process that is killed loses what was in flight, and what
a dying machine did not write is found by its checksum and asked for again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from zlib import crc32

from .._base.vectors import Vectors
from ..batch.claims import beside, open_locked
from ..batch.journal import O_BINARY, sync_folder
from ..errors import ConfigError, InputError, ResponseFormatError
from .npy import HEAD, header, little

__all__ = ["Span", "Work", "part_of"]

VERSION = 1
_BLOCK = 1 << 22
_WORDS = {
    "provider": "provider",
    "model": "model",
    "settings": "settings or parameters",
    "column": "column of texts",
}


class Span(NamedTuple):
    """Rows whose vectors are there.

    Attributes:
        begin: The first, counted from 0.
        end: The first one behind.
        texts: A digest of the texts.
        checksum: Of the vectors.
    """

    begin: int
    end: int
    texts: str
    checksum: int


def part_of(output: Path) -> Path:
    """Where the vectors of an output stand until it is whole."""
    return output.with_name(output.name + ".part")


class Work:
    """What is done for an output; a context manager, for this process alone.

    Args:
        output: The file of vectors.
        identity: What the vectors depend on besides the texts: provider, model, settings, column.

    Attributes:
        dimensions: Of each vector; 0 until one is known.
        finished: Whether the output is there, whole.

    Raises:
        InputError: Another process is at work on it, or it is another job's.
        ConfigError: What is recorded is damaged.
    """

    def __init__(self, output: Path, identity: Mapping[str, str]) -> None:
        self.output = output
        self.dimensions = 0
        self.finished = False
        self.spans: dict[int, Span] = {}
        self._answered_by: str | None = None
        self._ending: int | None = None
        self._lock = Lock()
        self._vectors: int | None = None
        self._is_new = False
        self._path = beside(output)
        self._file: int | None = open_locked(self._path, output)
        try:
            self._load(identity)
            self._check_output()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the files back; nothing is written afterwards."""
        with self._lock:
            if self._file is not None:
                if self._is_new and not self.dimensions:  # nothing has come: no trace is left
                    with suppress(OSError):
                        self._path.unlink()
                os.close(self._file)
                self._file = None
            if self._vectors is not None:
                os.close(self._vectors)
                self._vectors = None

    def keep(self, texts: Mapping[int, str], *, read: bool) -> int:
        """Keep those spans only whose texts and vectors are the same; how many rows they have.

        Args:
            texts: The digest of the texts of each span, by its begin.
            read: Whether the vectors are read, and their checksums compared.
        """
        for begin, span in list(self.spans.items()):
            if texts.get(begin) != span.texts or (read and not self._is_whole(span)):
                del self.spans[begin]
                self._note({"drop": begin})
        return sum(span.end - span.begin for span in self.spans.values())

    def put(self, begin: int, texts: str, vectors: Vectors, model: str) -> None:
        """Store the vectors of some rows; from any thread.

        Raises:
            ResponseFormatError: They do not compare with those before.
            OSError: The disk is full, or gone.
        """
        data = little(vectors.memory)
        with self._lock:
            if self._file is None:
                return
            self._begin(vectors.dimensions, model)
            _write(self._part(), data, HEAD + begin * self.dimensions * 4)
            span = Span(begin, begin + len(vectors), texts, crc32(data))
            self._note({"span": list(span)})
            self.spans[begin] = span

    def vectors(self, count: int) -> Iterator[bytes]:
        """The vectors of all rows, each as the bytes of its floats, little-endian."""
        wide = 4 * self.dimensions
        with part_of(self.output).open("rb") as file:
            file.seek(HEAD)
            for _ in range(count):
                yield file.read(wide)

    def seal(self, count: int) -> Path:
        """Make an array of so many rows of what has come; where it is."""
        part = self._part()
        os.ftruncate(part, HEAD + count * self.dimensions * 4)
        _write(part, header(count, self.dimensions), 0)
        os.fsync(part)
        return part_of(self.output)

    def finish(self, made: Path) -> None:
        """Put a file in the place of the output; it is there as a whole or not at all."""
        self._note({"ending": made.stat().st_size})
        assert self._file is not None
        os.fsync(self._file)
        os.replace(made, self.output)
        sync_folder(self.output.parent)
        self.finished = True
        self.clear()

    def clear(self) -> None:
        """Remove what was for the work alone."""
        with suppress(OSError):
            part_of(self.output).unlink(missing_ok=True)

    # -- what is recorded ----------------------------------------------------------------------

    def _load(self, identity: Mapping[str, str]) -> None:
        assert self._file is not None
        with open(self._file, "rb", closefd=False) as file:
            lines = file.read().split(b"\n")
        torn = lines.pop()
        try:
            records = [json.loads(line) for line in lines]
            recorded = records[0] if records else None
            if recorded is None and torn:  # a job of another kind, or half of a first line
                recorded = {} if not torn.startswith(b'{"vectors"') else None
            if recorded is not None and recorded.get("vectors") != VERSION:
                raise ValueError
            for record in records[1:]:
                self._take(record)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ConfigError(
                f"{self._path} is of another kind of job, or damaged: write to another output, "
                "or move it away"
            ) from None
        if torn:
            os.ftruncate(self._file, sum(len(line) + 1 for line in lines))
        if recorded is None:
            self._is_new = True
            self._note({"vectors": VERSION, **identity})
            return
        odd = [word for name, word in _WORDS.items() if recorded.get(name) != identity.get(name)]
        if odd:
            raise InputError(
                f"{self.output} was begun with another {' and another '.join(odd)}, and vectors of "
                f"both do not compare: write to another output, or remove {self._path}"
            )

    def _take(self, record: Mapping[str, Any]) -> None:
        if "span" in record:
            span = Span(*record["span"])
            self.spans[span.begin] = span
        elif "drop" in record:
            self.spans.pop(record["drop"], None)
        elif "dimensions" in record:
            self.dimensions, self._answered_by = int(record["dimensions"]), record["answered_by"]
        else:
            self._ending = int(record["ending"])

    def _check_output(self) -> None:
        try:
            size = self.output.stat().st_size
        except FileNotFoundError:
            return
        if size == self._ending and self.output.is_file():
            self.finished = True
            return
        raise InputError(
            f"{self.output} is there, and not as this job has written it: write to another output, "
            "or move it away"
        )

    def _begin(self, dimensions: int, model: str) -> None:
        """See that vectors are like those before."""
        if not self.dimensions:
            self.dimensions, self._answered_by = dimensions, model
            self._note({"dimensions": dimensions, "answered_by": model})
        elif dimensions != self.dimensions:
            raise ResponseFormatError(
                f"a vector has {dimensions} dimensions, and those before have {self.dimensions}: "
                "the model is another one now; embed all texts anew, into another output"
            )
        elif model != self._answered_by:
            raise ResponseFormatError(
                f"{model} answered, and {self._answered_by} did before: vectors of both do not "
                "compare; embed all texts anew, into another output"
            )

    def _note(self, record: Mapping[str, Any]) -> None:
        if self._file is not None:
            end = os.lseek(self._file, 0, os.SEEK_END)
            try:
                _write(self._file, json.dumps(record, separators=(",", ":")).encode() + b"\n", end)
            except BaseException:  # half a line would hide those that follow
                with suppress(OSError):
                    os.ftruncate(self._file, end)
                raise

    # -- the vectors ---------------------------------------------------------------------------

    def _part(self) -> int:
        if self._vectors is None:
            flags = os.O_RDWR | os.O_CREAT | O_BINARY
            self._vectors = os.open(part_of(self.output), flags, 0o666)
        return self._vectors

    def _is_whole(self, span: Span) -> bool:
        wide, checksum = 4 * self.dimensions, 0
        left = (span.end - span.begin) * wide
        try:
            with part_of(self.output).open("rb") as file:
                file.seek(HEAD + span.begin * wide)
                while left and (block := file.read(min(left, _BLOCK))):
                    checksum = crc32(block, checksum)
                    left -= len(block)
        except FileNotFoundError:
            return False
        return not left and checksum == span.checksum


def _write(file: int, data: bytes | memoryview, place: int) -> None:
    os.lseek(file, place, os.SEEK_SET)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
