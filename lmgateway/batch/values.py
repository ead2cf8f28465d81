"""Values: the JSON values of a file, one after another, however it breaks them into lines."""

from __future__ import annotations

import json
from codecs import getincrementaldecoder
from typing import IO, Any, NamedTuple

__all__ = ["BOM", "BrokenError", "Value", "Values", "wide_encoding"]

BOM = b"\xef\xbb\xbf"
BLOCK = 1 << 16
_BLANK = " \t\r\n\ufeff"  # files that were put together have a BOM in the middle, too
_NEARLY = 8  # characters: a number, a literal or an escape that is cut is no longer
_decode = json.JSONDecoder().raw_decode


class Value(NamedTuple):
    """A value of a file.

    Attributes:
        value: What the JSON says.
        text: Its bytes, without white space around.
        line: At which it begins, counted from 1.
        end: The offset at which it ends.
    """

    value: Any
    text: bytes
    line: int
    end: int


class BrokenError(Exception):
    """What comes next in a file is no JSON value.

    Attributes:
        line: At which it begins.
        start: The offset at which it begins.
        cut_short: Whether the file ends before the value does.
        fault: What is wrong, and where.
    """

    def __init__(self, line: int, start: int, fault: str, *, cut_short: bool) -> None:
        super().__init__(fault)
        self.line = line
        self.start = start
        self.fault = fault
        self.cut_short = cut_short


class Values:
    """Reads a file from where it stands, a block at a time, in memory for one value and a block.

    Args:
        file: A file of UTF-8.
        line: The number of the line at which it stands.
        offset: The offset at which it stands.

    Attributes:
        line: The number of the line that was reached.
    """

    def __init__(self, file: IO[bytes], *, line: int = 1, offset: int = 0) -> None:
        self._file = file
        # What is no UTF-8 becomes halves of characters: the offsets remain right, and who reads
        # the value decides what to make of it.
        self._decoder = getincrementaldecoder("utf-8")("surrogateescape")
        self._text, self._at = "", 0
        self.line, self._offset = line, offset
        self._ended = False

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            text, at = self._text, self._at
            while at < len(text) and text[at] in _BLANK:
                at += 1
            self._consume(at)
            if at < len(text):
                return text[at]
            if not self._read_on():
                return ""

    def pass_over(self) -> None:
        """Leave out the character that ``peek`` saw."""
        self._consume(self._at + 1)

    def take(self) -> Value:
        """The value at the character that ``peek`` saw; raises BrokenError if there is none."""
        while True:
            try:
                value, end = _decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = _is_cut_short(error, self._text)
                if not (cut and self._read_on()):
                    raise self.broken(_told(error, self.line), cut_short=cut) from None
            except (ValueError, RecursionError):  # a number of thousands of digits; great depth
                raise self.broken("it is too deep, or its numbers too long") from None
            else:
                # At the end of a block, 12 may be the beginning of 123.
                if end == len(self._text) and self._read_on():
                    continue
                line, text = self.line, self._consume(end)
                return Value(value, text, line, self._offset)

    def first_item(self) -> Any:
        """The first item of the list that begins here; None if there is none to be read."""
        while True:
            inside = self._text[self._at + 1 :].lstrip(_BLANK)
            try:
                return _decode(inside)[0]
            except json.JSONDecodeError as error:
                if not (_is_cut_short(error, inside) and self._read_on()):
                    return None
            except (ValueError, RecursionError):
                return None

    def ends_line(self) -> bool:
        """Whether nothing stands behind the next character on its line."""
        rest = self._text[self._at + 1 :].lstrip(" \t\r")
        return rest.startswith("\n")

    def broken(self, fault: str, *, cut_short: bool = False) -> BrokenError:
        """The error for what comes next."""
        return BrokenError(self.line, self._offset, fault, cut_short=cut_short)

    def _consume(self, end: int) -> bytes:
        text = self._text[self._at : end]
        encoded = text.encode("utf-8", "surrogateescape")
        self._at = end
        self._offset += len(encoded)
        self.line += text.count("\n")
        return encoded

    def _read_on(self) -> bool:
        """Have more of the file in hand; False at its end."""
        if self._ended:
            return False
        # As much again as is in hand: a long value is begun anew a few times, not for each block.
        more = self._file.read(max(BLOCK, len(self._text) - self._at))
        self._ended = not more
        self._text = self._text[self._at :] + self._decoder.decode(more, final=self._ended)
        self._at = 0
        return True


def _is_cut_short(error: json.JSONDecodeError, text: str) -> bool:
    if error.msg.startswith("Unterminated string"):
        return True
    return error.pos > len(text.rstrip()) - _NEARLY


def _told(error: json.JSONDecodeError, line: int) -> str:
    return f"{error.msg}, at line {line + error.doc.count(chr(10), 0, error.pos)}"


def wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32, if a file that begins so is written in it; with a BOM or without."""
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "UTF-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    # Some of what tables and JSON are made of takes one byte, beside which the others are zero.
    first, second, third, fourth = (head[place::4].count(0) for place in range(4))
    wanted = max(2, len(head) // 32)
    if min(second, third) >= wanted and min(first, fourth) <= second // 8:
        return "UTF-32"
    fewer, more = sorted((first + third, second + fourth))
    return "UTF-16" if more >= wanted and fewer <= more // 8 else None
