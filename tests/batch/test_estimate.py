"""A dry run tells rows, tokens and the price; it asks nothing and writes nothing."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lmgateway import errors, get_lm
from lmgateway.batch import estimate as module
from lmgateway.batch import run
from lmgateway.batch.estimate import Estimate, describe_estimate, estimate
from lmgateway.batch.plan import Plan
from lmgateway.testing import ScriptedLM

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}}


@pytest.fixture(autouse=True)
def _prices(monkeypatch: pytest.MonkeyPatch) -> None:
    def price(answer: Any) -> Decimal | None:
        used = answer["usage"]
        if answer["provider"] == "echo" or answer["model"] == "unlisted":
            return None
        return Decimal(used["prompt_tokens"] + 10 * used["completion_tokens"]) / 1000

    monkeypatch.setattr(module, "price", price)


def told(rows: list[Any], lm: Any, output: Path, **keywords: Any) -> Estimate:
    before = sorted(output.parent.iterdir())
    found = estimate(Plan(rows, output, lm, **keywords))
    assert sorted(output.parent.iterdir()) == before
    return found


def openai(**keywords: Any) -> Any:
    return get_lm("openai", model="m", **keywords)  # no key: nothing is sent


def test_tokens_and_the_price_are_told(tmp_path: Path) -> None:
    rows = [{"prompt": "x" * 400, "max_tokens": 10}, {"prompt": "x" * 40, "max_tokens": 30}]
    found = told(rows, openai(), tmp_path / "out")
    assert (found.rows, found.asked, found.prompt_tokens, found.most_tokens) == (2, 2, 110, 40)
    assert (found.least_cost, found.most_cost) == (Decimal("0.11"), Decimal("0.51"))
    assert describe_estimate(found)[-1] == (
        "price",
        "about $0.110000 for what is read, $0.510000 in all at most",
    )


@pytest.mark.parametrize(
    "row, keywords, tokens, most",
    [
        ({"prompt": "x" * 8}, {}, 2, None),
        ({"prompt": "x" * 8}, {"max_tokens": 7}, 2, 7),
        ({"prompt": "x" * 8, "max_tokens": 3}, {"max_tokens": 7}, 2, 3),
        ({"prompt": "x" * 8, "n": 4}, {"max_tokens": 7}, 2, 28),
        ({"prompt": "x" * 8}, {"system": "y" * 40}, 12, None),
        ({"prompt": "\u65e5\u672c\u8a9e\u3067"}, {}, 3, None),
        ({"prompt": "\ud800"}, {}, 1, None),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, {}, 4, None),
        ("x" * 8, {}, 2, None),
    ],
)
def test_what_is_counted(
    tmp_path: Path, row: Any, keywords: dict[str, Any], tokens: int, most: int | None
) -> None:
    found = told([row], openai(**keywords), tmp_path / "out")
    assert (found.prompt_tokens, found.most_tokens) == (tokens, most)


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, {"messages": [{"role": "user", "content": [IMAGE]}]}]
    words = dict(describe_estimate(told(rows, openai(), tmp_path / "out")))
    assert "images, audio and files of 1 rows not counted" in words["to read"]
    assert words["to write"] == "unknown: 2 of them have no max_tokens"
    assert "for what is written, unknown" in words["price"]
    rows = [{"prompt": "a", "model": "unlisted", "max_tokens": 1}, {"prompt": "b", "max_tokens": 1}]
    words = dict(describe_estimate(told(rows, openai(), tmp_path / "out")))
    assert words["price"].startswith("unknown: no price is known for openai/unlisted")
    assert "$" not in words["price"]


def test_rows_that_would_fail_and_those_that_are_done_are_told_apart(tmp_path: Path) -> None:
    output = tmp_path / "out"

    def script(request: Any) -> Any:
        return errors.InvalidRequestError("no", status=400) if request.prompt == "b" else "yes"

    run(["a", "b"], output, lm := ScriptedLM(script), errors=tmp_path / "bad")
    rows = ["a", "b", "c", {"prompt": "d", "api_base": "x"}, {}]
    found = told(rows, lm, output, errors=tmp_path / "bad")
    assert (found.rows, found.done, found.faulty, found.asked) == (5, 2, 2, 1)
    assert "api_base" in found.first_fault
    again = told(rows, lm, output, errors=tmp_path / "bad", retry_errors=True)
    assert (again.done, again.asked) == (1, 2)
    assert len(lm.requests) == 2


def test_a_file_that_cannot_be_a_batch_is_refused_as_by_the_run(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("prompt,nonsense\na,b\n")
    with pytest.raises(errors.InputError, match="nonsense"):
        estimate(Plan(source, tmp_path / "out", "echo"))


def test_nothing_to_ask_costs_nothing(tmp_path: Path) -> None:
    words = dict(describe_estimate(told([], openai(), tmp_path / "out")))
    assert words["price"] == "$0: there is nothing to ask"
    assert json.dumps(words)
