"""Vectors: floats of 32 bits in one block of memory, which behave as a list of lists."""

from __future__ import annotations

import copy
import json
import math
import pickle
import subprocess
import sys
from array import array
from typing import Any

import pytest

from lmgateway.types import Vector, Vectors

ROWS = [[1.0, 2.5], [0.1, -4.0], [5.0, 6.0]]


@pytest.fixture
def vectors() -> Vectors:
    return Vectors.of(ROWS)


def test_they_are_a_sequence_of_sequences_of_floats(vectors: Vectors) -> None:
    assert len(vectors) == 3
    assert vectors.shape == (3, 2)
    assert vectors[0] == [1.0, 2.5]
    assert vectors[-1][-1] == 6.0
    assert [list(row) for row in vectors[:1]] == [[1.0, 2.5]]
    assert [sum(row) for row in vectors] == pytest.approx([3.5, -3.9, 11.0])
    assert [1.0, 2.5] in vectors
    assert 2.5 in vectors[0]
    assert vectors.index([5.0, 6.0]) == 2
    assert next(reversed(vectors)) == (5.0, 6.0)
    assert vectors[1].index(-4.0) == 1


@pytest.mark.parametrize("place", [
    slice(None), slice(1, None), slice(None, None, 2), slice(None, None, -1), slice(2, 1),
    slice(5, 9), slice(-2, -1),
], ids=str)  # fmt: skip
def test_slices_are_those_of_a_list(vectors: Vectors, place: slice) -> None:
    assert vectors[place] == ROWS[place]
    assert isinstance(vectors[place], Vectors)
    row = Vector([1.0, 2.0, 3.0])
    assert row[place] == [1.0, 2.0, 3.0][place]
    vectors[place].memory[:0] = array("f")  # a copy: nothing else is changed
    assert vectors == ROWS


@pytest.mark.parametrize("place, error", [(3, IndexError), (-4, IndexError), ("0", TypeError),
                                          (0.0, TypeError)])  # fmt: skip
def test_a_place_that_there_is_not_raises_what_a_list_raises(
    vectors: Vectors, place: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        vectors[place]
    with pytest.raises(error):
        vectors[0][place]


@pytest.mark.parametrize("other, equal", [
    (ROWS, True), (tuple(map(tuple, ROWS)), True), (Vectors.of(ROWS), True),
    (ROWS[:2], False), ([*ROWS[:2], [5.0, 6.5]], False), ([*ROWS[:2], [5.0]], False),
    ([[1.0], [2.5], [0.1], [-4.0], [5.0], [6.0]], False), ("abc", False), (None, False),
    ([*ROWS[:2], ["5", 6.0]], False), ([*ROWS[:2], None], False), ([*ROWS[:2], 5.0], False),
    (Vectors.of([[1.0], [2.5], [0.1], [-4.0], [5.0], [6.0]]), False),
    ([*ROWS[:2], [10**400, 6.0]], False),
], ids=lambda value: repr(value)[:30])  # fmt: skip
def test_they_equal_the_same_numbers(vectors: Vectors, other: Any, equal: bool) -> None:
    assert (vectors == other) is equal
    assert (other == vectors) is equal
    assert (vectors != other) is not equal


def test_as_a_list_they_have_no_hash(vectors: Vectors) -> None:
    for each in (vectors, vectors[0]):
        with pytest.raises(TypeError, match="unhashable"):
            hash(each)


def test_their_repr_is_short() -> None:
    assert repr(Vectors.of([[0.5] * 1000] * 1000)) == "<Vectors: 1000 of 1000 floats>"
    assert repr(Vector([0.5] * 1000)) == "<Vector [0.5, 0.5, 0.5, ...] of 1000 floats>"


def test_plain_lists_are_made_for_json(vectors: Vectors) -> None:
    assert json.loads(json.dumps(vectors.tolist())) == vectors
    assert json.loads(json.dumps(vectors[0].tolist())) == vectors[0]
    with pytest.raises(TypeError, match="Vectors"):
        json.dumps(vectors)
    assert json.loads(json.dumps({"e": vectors}, default=lambda value: value.tolist()))["e"] == (
        vectors
    )


@pytest.mark.parametrize("again", [
    copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value)),
    *(lambda value, p=p: pickle.loads(pickle.dumps(value, p)) for p in range(2)),
])  # fmt: skip
def test_they_are_copied_and_pickled(vectors: Vectors, again: Any) -> None:
    assert again(vectors) == vectors
    assert again(vectors[1]) == vectors[1]
    assert len(pickle.dumps(Vectors.of([[0.5] * 1000] * 100)[0])) < 5000


def test_lists_take_them_up(vectors: Vectors) -> None:
    rows: list[Any] = []
    rows.extend(vectors)
    rows += vectors
    assert len(rows + vectors) == len(vectors + rows) == 9
    assert vectors[0] + [7.0] == [1.0, 2.5, 7.0]
    assert [7.0] + vectors[0] == [7.0, 1.0, 2.5]
    assert math.dist(vectors[0], vectors[2]) == pytest.approx(math.dist(*ROWS[::2]))


@pytest.mark.parametrize("rows, error", [
    ([[]], ValueError), ([], ValueError), ([[1.0], [1.0, 2.0]], ValueError), ([["1"]], TypeError),
    ([[None]], TypeError), ([[True]], TypeError), ([1.0], TypeError), (["ab"], TypeError),
    ([[10**400]], OverflowError), ([[[1.0]]], TypeError), ([{0: 1.0}], TypeError),
])  # fmt: skip
def test_what_makes_no_vectors_is_refused(rows: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Vectors.of(rows)


@pytest.mark.parametrize("floats, dimensions", [
    (array("d", [1.0]), 1), (array("f", [1.0]), 0), (array("f", [1.0]), 2), (array("f", [1.0]), -1),
])  # fmt: skip
def test_floats_that_are_no_vectors_are_refused(floats: Any, dimensions: int) -> None:
    with pytest.raises(ValueError, match="are no vectors"):
        Vectors(floats, dimensions)


def test_numpy_is_given_views(vectors: Vectors) -> None:
    np = pytest.importorskip("numpy")
    whole, row = np.asarray(vectors), np.asarray(vectors[1])
    assert (whole.dtype, whole.shape, row.shape) == (np.float32, (3, 2), (2,))
    whole[1, 0] = 9.0
    assert vectors[1][0] == row[0] == 9.0
    assert np.array(vectors)[0, 0] == 1.0
    assert np.asarray(vectors, dtype=np.float64).dtype == np.float64
    assert np.asarray(vectors[1][::-1]).tolist() == [-4.0, 9.0]
    assert (np.asarray(vectors) == vectors).all()
    assert np.dot(vectors[0], vectors[2]) == 20.0
    assert vectors.__array__(np.float64).dtype == np.float64
    assert not np.shares_memory(vectors.__array__(copy=True), whole)
    assert np.shares_memory(vectors.__array__(), whole)
    with pytest.raises(ValueError, match="only a copy"):
        vectors.__array__(np.float64, copy=False)


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "int64"])
def test_arrays_become_vectors(kind: str) -> None:
    np = pytest.importorskip("numpy")
    made = np.array([[1, 2], [3, 4]], dtype=kind)
    for rows in (made, list(made), [list(row) for row in made], made.T.copy().T, made[::-1][::-1]):
        assert Vectors.of(rows) == [[1.0, 2.0], [3.0, 4.0]]


def test_they_need_no_numpy() -> None:
    said = "import sys, lmgateway.types as t; t.Vectors.of([[1]]); print('numpy' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", said], text=True) == "False\n"
