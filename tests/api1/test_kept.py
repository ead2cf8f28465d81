"""What 0.1 kept is found: its cache entries and its recordings answer with nothing sent."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmgateway import LM, get_lm
from lmgateway._store.sqlite import close_all

DATA = Path(__file__).parent.parent / "data" / "0.1"
CASES = [json.loads(line) for line in (DATA / "calls.jsonl").read_text("utf-8").splitlines()]
ASKED = [pytest.param(case, id=case["id"]) for case in CASES if "call" in case]
EMBEDDED = [pytest.param(case, id=case["id"]) for case in CASES if "embed" in case]


@pytest.fixture(params=["cache", "recordings"])
def kept(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """The options of a call that finds what 0.1 kept. Sockets are off here, so it must."""
    folder = tmp_path / "kept"
    monkeypatch.setenv("LMGATEWAY_CACHE_DIR", str(folder))
    if request.param == "cache":
        folder.mkdir(mode=0o700)
        shutil.copy(DATA / "answers.sqlite3", folder)
        os.chmod(folder / "answers.sqlite3", 0o600)
        yield {"cache": "only"}
    else:
        yield {"recordings": (str(DATA / "recordings.jsonl"),), "cache": "only"}
    close_all()


def lm_of(case: dict[str, Any]) -> LM:
    keywords = dict(case["lm"])
    name = keywords.pop("name")
    if name != "blocky":
        return get_lm(name, **keywords)
    spec = importlib.util.spec_from_file_location("blocky", DATA / "blocky.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lm: LM = module.lm()
    return lm


def assert_holds(new: Any, old: Any, place: str = "completion") -> None:
    """Everything that 0.1 said stands in what is said now; more may."""
    if isinstance(old, dict):
        assert isinstance(new, dict), place
        for key, value in old.items():
            assert key in new, f"{place}.{key} is gone"
            assert_holds(new[key], value, f"{place}.{key}")
    elif isinstance(old, list):
        assert len(new) == len(old), place
        for index, value in enumerate(old):
            assert_holds(new[index], value, f"{place}[{index}]")
    else:
        assert new == old, place


@pytest.mark.parametrize("case", ASKED)
def test_a_plain_answer_is_found(case: dict[str, Any], kept: dict[str, Any]) -> None:
    lm = lm_of(case)
    for answer in (
        lm.complete(**{**kept, **case["call"]}),
        asyncio.run(lm.acomplete(**{**kept, **case["call"]})),
    ):
        assert answer["cached"] is True
        assert_holds(answer, case["answers"]["plain"])


@pytest.mark.parametrize("case", ASKED)
def test_a_streamed_answer_is_found(case: dict[str, Any], kept: dict[str, Any]) -> None:
    with lm_of(case).stream(**{**kept, **case["call"]}) as stream:
        pieces = list(stream)
    assert stream.completion["cached"] is True
    assert_holds(stream.completion, case["answers"]["streamed"])
    assert "".join(pieces) == case["answers"]["pieces"]


@pytest.mark.parametrize("case", EMBEDDED)
def test_embeddings_are_found(case: dict[str, Any], kept: dict[str, Any]) -> None:
    found = lm_of(case).embed(**{**kept, **case["embed"]})
    assert found["cached"] is True
    assert_holds(found, case["answers"]["embed"])


def test_something_else_is_not_found(kept: dict[str, Any]) -> None:
    """So that the tests above find what was kept, and not whatever is there."""
    from lmgateway.errors import CacheMissError

    case = CASES[0]
    with pytest.raises(CacheMissError):
        lm_of(case).complete(**kept, prompt="Something else")
