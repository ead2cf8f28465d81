"""Vectors in one block of memory: sequences of floats that numpy reads without a copy."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from typing import Any, cast, overload

__all__ = ["Vector", "Vectors", "extend", "first_odd"]

#: How numpy calls a float of 32 bits in this machine's order.
_TYPE = "<f4" if sys.byteorder == "little" else ">f4"
#: Where in its four bytes a float has its sign and the upper seven bits of its exponent.
_TOP = 3 if sys.byteorder == "little" else 0
#: So many bytes are looked at together.
_BLOCK = 1 << 20


class _Floats:
    """What Vector and Vectors share: to numpy each is an array of 32-bit floats.

    numpy is not needed; where it is there, ``np.asarray`` gives a view of the same memory.
    """

    __slots__ = ()

    @property
    def memory(self) -> memoryview:
        """All floats as they stand in memory, without a copy."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:
        """As numpy says it."""
        raise NotImplementedError

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """What numpy asks for, in any of its versions."""
        return {"version": 3, "shape": self.shape, "typestr": _TYPE, "data": self.memory}

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """As a numpy array: what pandas and others ask for. A view, unless ``dtype`` differs."""
        import numpy as np

        made = np.frombuffer(self.memory, np.float32).reshape(self.shape)
        if dtype is not None and made.dtype != dtype:
            if copy is False:
                raise ValueError(f"the floats are no {dtype}: only a copy can be")
            return made.astype(dtype)
        return made.copy() if copy else made

    def tobytes(self) -> bytes:
        """All floats as 32-bit ones, one after another, in this machine's byte order."""
        return self.memory.tobytes()

    def tolist(self) -> list[Any]:
        """The same as plain lists of floats: what ``json.dumps`` takes."""
        raise NotImplementedError


class Vector(_Floats, Sequence[float]):
    """One vector: a sequence of floats of 32 bits, which stand in the memory of its Vectors.

    It is equal to any list or tuple of numbers that are the same as floats of 32 bits. ``+`` makes
    a list. It can be changed through numpy alone. Kept by itself, it keeps all vectors of its
    answer; a copy (``copy.copy``, pickle) keeps its own floats only.
    """

    __slots__ = ("_memory",)

    def __init__(self, floats: Iterable[float]) -> None:
        self._memory = memoryview(floats if isinstance(floats, array) else array("f", floats))

    @property
    def memory(self) -> memoryview:
        """The floats, without a copy."""
        return self._memory

    @property
    def shape(self) -> tuple[int]:
        """``(dimensions,)``."""
        return (len(self._memory),)

    def __len__(self) -> int:
        return len(self._memory)

    def __iter__(self) -> Iterator[float]:
        return iter(self._memory)

    @overload
    def __getitem__(self, place: int) -> float: ...
    @overload
    def __getitem__(self, place: slice) -> Vector: ...
    def __getitem__(self, place: int | slice) -> float | Vector:
        if isinstance(place, slice):
            return Vector(array("f", self._memory[place].tobytes()))
        try:
            return self._memory[place]
        except TypeError:
            raise TypeError(
                f"a place in a vector is a whole number or a slice, not {type(place).__name__}"
            ) from None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Vector):
            return self._memory == other._memory
        if not isinstance(other, (list, tuple)):
            return NotImplemented
        try:
            return len(other) == len(self) and self._memory == memoryview(array("f", other))
        except (TypeError, OverflowError):
            return False

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __add__(self, other: Iterable[float]) -> list[float]:
        return [*self, *other] if isinstance(other, Iterable) else NotImplemented

    def __radd__(self, other: Iterable[float]) -> list[float]:
        return [*other, *self] if isinstance(other, Iterable) else NotImplemented

    def tolist(self) -> list[float]:
        """As a list of floats."""
        return cast("list[float]", self._memory.tolist())

    def __reduce__(self) -> tuple[Any, ...]:
        return Vector, (array("f", self._memory.tobytes()),)

    def __deepcopy__(self, memo: object) -> Vector:
        return Vector(array("f", self._memory.tobytes()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{each:.4g}" for each in self._memory[:3])
        return f"<Vector [{shown}{', ...' if len(self) > 3 else ''}] of {len(self)} floats>"


class Vectors(_Floats, Sequence[Vector]):
    """Vectors of one length in one block of memory: a sequence of sequences of floats.

    ``np.asarray(vectors)`` is a view of it, of shape (vectors, dimensions) and of 32-bit floats;
    so is ``np.asarray(vectors[0])``. Whoever writes to the view changes the vectors. It is equal to
    a list of lists of the same numbers; ``tolist()`` makes one. A slice is a copy.

    Args:
        floats: All of them, one vector after another; an ``array("f")`` is taken as it is.
        dimensions: Of each vector.

    Attributes:
        floats: All of them, as an ``array("f")``.
        dimensions: Of each vector.
    """

    __slots__ = ("_memory", "dimensions", "floats")

    def __init__(self, floats: Iterable[float], dimensions: int) -> None:
        self.floats = floats if isinstance(floats, array) else array("f", floats)
        self._memory = memoryview(self.floats)
        self.dimensions = dimensions
        if self.floats.typecode != "f" or dimensions < 1 or len(self.floats) % dimensions:
            raise ValueError(
                f"{len(self.floats)} floats of type {self.floats.typecode!r} are no vectors "
                f"of {dimensions} dimensions"
            )

    @classmethod
    def of(cls, rows: Iterable[Sequence[float]]) -> Vectors:
        """Vectors of some rows: lists, tuples, arrays of numpy or another library.

        Raises:
            TypeError: Something in them is no number.
            ValueError: The rows are of different lengths, or empty, or there are none.
            OverflowError: A whole number is too large for any float.
        """
        floats = array("f")
        dimensions = 0
        for row in rows:
            before = len(floats)
            extend(floats, row)
            length = len(floats) - before
            if not length or length != (dimensions or length):
                raise ValueError("the vectors are empty or of different lengths")
            dimensions = length
        return cls(floats, dimensions)

    @property
    def memory(self) -> memoryview:
        """The floats, without a copy."""
        return self._memory

    @property
    def shape(self) -> tuple[int, int]:
        """``(vectors, dimensions)``."""
        return len(self), self.dimensions

    def __len__(self) -> int:
        return len(self.floats) // self.dimensions

    def __iter__(self) -> Iterator[Vector]:
        for start in range(0, len(self.floats), self.dimensions):
            yield self._row(start)

    def _row(self, start: int) -> Vector:
        row = Vector.__new__(Vector)
        row._memory = self._memory[start : start + self.dimensions]
        return row

    @overload
    def __getitem__(self, place: int) -> Vector: ...
    @overload
    def __getitem__(self, place: slice) -> Vectors: ...
    def __getitem__(self, place: int | slice) -> Vector | Vectors:
        wide = self.dimensions
        if isinstance(place, slice):
            places = range(*place.indices(len(self)))
            if places.step == 1:
                return Vectors(self.floats[places.start * wide : places.stop * wide], wide)
            chosen = array("f")
            for each in places:
                chosen += self.floats[each * wide : (each + 1) * wide]
            return Vectors(chosen, wide)
        try:
            return self._row(range(0, len(self.floats), wide)[place])
        except IndexError:
            raise IndexError(f"there are {len(self)} vectors, and none at {place}") from None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Vectors):
            alike = self.dimensions == other.dimensions or not (self.floats or other.floats)
            return alike and self.floats == other.floats
        if not isinstance(other, (list, tuple)):
            return NotImplemented
        return len(other) == len(self) and all(map(_equal, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: Iterable[Any]) -> list[Any]:
        return [*self, *other] if isinstance(other, Iterable) else NotImplemented

    def __radd__(self, other: Iterable[Any]) -> list[Any]:
        return [*other, *self] if isinstance(other, Iterable) else NotImplemented

    def tolist(self) -> list[list[float]]:
        """As a list of lists of floats."""
        return [row.tolist() for row in self]

    def __reduce__(self) -> tuple[Any, ...]:
        return Vectors, (self.floats, self.dimensions)

    def __deepcopy__(self, memo: object) -> Vectors:
        return Vectors(self.floats[:], self.dimensions)

    def __repr__(self) -> str:
        return f"<Vectors: {len(self)} of {self.dimensions} floats>"


def extend(floats: array[float], row: Any) -> None:
    """Append the numbers of a row: of a list, a tuple, or an array of any library.

    Raises TypeError for what is none, and OverflowError for a whole number beyond all floats.
    """
    try:
        memory = memoryview(row)
    except TypeError:
        memory = None
    if memory is not None and memory.format == "f" and memory.c_contiguous:
        floats.frombytes(memory.cast("B") if memory.nbytes else b"")
        return
    if not isinstance(row, (list, tuple)):
        row = row.tolist() if hasattr(row, "tolist") else None
        if not isinstance(row, list):
            raise TypeError("a vector is a list of numbers")
    if not _NUMBERS.issuperset(map(type, row)):
        row = [_number(each) for each in row]
    floats.extend(row)


_NUMBERS = frozenset({float, int})


def _number(value: Any) -> float:
    """A number of numpy, torch and their like as one of Python's."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        raise TypeError(f"{type(value).__name__} is no number")
    return plain


def first_odd(floats: Any) -> int | None:
    """The place of the first float that is infinite or NaN; None if there is none.

    Args:
        floats: 32-bit floats, as an array or a memoryview.
    """
    data = memoryview(floats).cast("B")
    for start in range(0, len(data), _BLOCK):
        # The sign and the upper bits of the exponent: all of these are set in no float below 2**127
        tops = data[start : start + _BLOCK].tobytes()[_TOP::4]
        if b"\x7f" in tops or b"\xff" in tops:
            block = data[start : start + _BLOCK].cast("f")
            for place, each in enumerate(block):
                if not isfinite(each):
                    return start // 4 + place
    return None


def _equal(row: Vector, other: object) -> bool:
    return row == other
