from __future__ import annotations

import random
from typing import Any

import pytest

from lmgateway.batch.rows import DigestCounter, Row, digest, identified
from lmgateway.errors import InputError, UnsupportedError


def rows(*raws: Any, ignore: tuple[str, ...] = ()) -> list[Row]:
    return list(identified(raws, ignore))


CHAT = {"model": "m", "messages": [{"role": "user", "content": "a"}], "temperature": 0}


@pytest.mark.parametrize(
    "raw, arguments, model, raw_endpoint",
    [
        pytest.param("a", {"prompt": "a"}, None, False, id="a prompt"),
        pytest.param([{"role": "user"}], {"messages": [{"role": "user"}]}, None, False, id="list"),
        pytest.param({"prompt": "a", "n": 2}, {"prompt": "a", "n": 2}, None, False, id="keywords"),
        pytest.param({"prompt": "", "n": None}, {"prompt": ""}, None, False, id="a null is absent"),
        pytest.param(
            {"method": "POST", "url": "/v1/chat/completions", "body": CHAT},
            {"messages": CHAT["messages"], "temperature": 0},
            "m",
            False,
            id="OpenAI's form",
        ),
        pytest.param(
            {"url": "/v1/completions", "body": {"prompt": "a"}},
            {"prompt": "a"},
            None,
            True,
            id="OpenAI's form, legacy endpoint",
        ),
    ],
)
def test_a_row_is_read(raw: Any, arguments: Any, model: Any, raw_endpoint: bool) -> None:
    (row,) = rows(raw)
    assert (row.arguments, row.model, row.raw_endpoint, row.fault) == (
        arguments,
        model,
        raw_endpoint,
        None,
    )


@pytest.mark.parametrize(
    "raw, message",
    [
        pytest.param(7, "not int", id="a number"),
        pytest.param({}, "neither", id="an empty object"),
        pytest.param({"prompt": "a", "messages": []}, "both", id="prompt and messages"),
        pytest.param({"prompt": "a", "model": 1}, '"model" must be a text', id="model"),
        pytest.param({"body": []}, '"body" must be an object', id="body"),
        pytest.param({"body": CHAT, "method": "GET"}, '"method"', id="method"),
        pytest.param({"body": CHAT, "label": 1}, "no field 'label'", id="a stray field"),
    ],
)
def test_what_is_no_row_is_a_fault_and_has_an_id(raw: Any, message: str) -> None:
    (row,) = rows(raw)
    assert row.id
    assert isinstance(row.fault, InputError)
    assert message in str(row.fault)


def test_another_endpoint_is_not_supported() -> None:
    (row,) = rows({"custom_id": "e", "url": "/v1/embeddings", "body": {"input": "a"}})
    assert isinstance(row.fault, UnsupportedError)
    assert row.id == "e"


def test_ignored_fields_change_nothing() -> None:
    (row,) = rows({"prompt": "a", "label": 1}, ignore=("label",))
    assert row == rows({"prompt": "a"})[0]


@pytest.mark.parametrize(
    "custom_id, name",
    [
        pytest.param("x", "x", id="a text"),
        pytest.param(7, "7", id="a number"),
        pytest.param(7.0, "7", id="a whole number as a float"),
        pytest.param(10**30, "1" + "0" * 30, id="a large number"),
    ],
)
def test_the_custom_id_is_the_id_and_whole_numbers_are_texts(custom_id: Any, name: str) -> None:
    (row,) = rows({"custom_id": custom_id, "prompt": "a"})
    assert (row.id, row.fault) == (name, None)


@pytest.mark.parametrize("missing", [None, "", float("nan")])
def test_a_custom_id_that_is_missing_is_none(missing: Any) -> None:
    assert rows({"custom_id": missing, "prompt": "a"}) == rows("a")


@pytest.mark.parametrize("custom_id", [True, 7.5, float("inf"), ["x"], {"x": 1}])
def test_a_custom_id_that_is_no_id_is_a_fault(custom_id: Any) -> None:
    bad, good = rows({"custom_id": custom_id, "prompt": "a"}, {"custom_id": "x", "prompt": "a"})
    assert isinstance(bad.fault, InputError)
    assert '"custom_id" must be a text' in str(bad.fault)
    assert bad.id
    assert (good.id, good.fault) == ("x", None)


def test_equal_rows_are_samples_of_their_own() -> None:
    ids = [row.id for row in rows("a", "b", {"prompt": "a"}, {"prompt": "a", "n": 1})]
    assert len(set(ids)) == 4
    assert ids[0].removesuffix("-1") == ids[2].removesuffix("-2")


def test_ids_follow_from_content_and_not_from_the_order_of_fields() -> None:
    one, other = {"prompt": "a", "n": 1}, {"n": 1, "prompt": "a"}
    assert rows(one)[0].id == rows(other)[0].id


def test_ids_are_the_same_in_every_version() -> None:
    assert rows("a")[0].id == "7e9ed2c291c187fcc247fb2b-1"


def test_a_custom_id_that_occurs_twice_is_a_fault_of_the_second() -> None:
    first, second = rows({"custom_id": "x", "prompt": "a"}, {"custom_id": "x", "prompt": "b"})
    assert first.fault is None
    assert isinstance(second.fault, InputError)
    assert "'x'" in str(second.fault)


def test_no_row_takes_the_id_of_another() -> None:
    names = ["x", "x", "x#2", "x#2", "x"]
    found = rows(*({"custom_id": name, "prompt": str(n)} for n, name in enumerate(names)))
    assert [row.fault is None for row in found] == [True, False, True, False, False]
    assert len({row.id for row in found}) == 5


def test_digests_count_like_a_counter() -> None:
    chance, digests, counts = random.Random(1), DigestCounter(), dict[bytes, int]()
    for _ in range(30_000):
        key = digest(str(chance.randrange(20_000)))
        counts[key] = counts.get(key, 0) + 1
        assert digests.add(key) == counts[key]
    assert len(digests) == len(counts)
    assert all(key in digests for key in counts)
    assert not any(digest(f"x{n}") in digests for n in range(10_000))


def test_digests_take_little_memory() -> None:
    digests = DigestCounter()
    for number in range(100_000):
        digests.add(digest(str(number)))
    assert sum(map(len, digests._shards)) < 35 * 100_000
