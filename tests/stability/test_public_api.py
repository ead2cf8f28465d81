"""What plugins and programs rely on changes only on purpose, and only by additions."""

from __future__ import annotations

import importlib.util
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest

import lmgateway

HERE = Path(__file__).parent


def snapshot() -> Any:
    spec = importlib.util.spec_from_file_location("snapshot", HERE / "snapshot.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_a_public_signature_names_has_a_public_name() -> None:
    assert snapshot().unreachable() == []


def test_a_class_without_a_public_name_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmgateway, "__all__", [n for n in lmgateway.__all__ if n != "Stream"])
    assert "lmgateway._call.signatures: Stream" in snapshot().unreachable()


def test_the_public_api_is_the_committed_one() -> None:
    module = snapshot()
    committed, current = (HERE / "public_api.txt").read_text("utf-8"), module.snapshot()
    if current != committed:
        lines = unified_diff(committed.splitlines(), current.splitlines(), "was", "is", n=0)
        pytest.fail(
            "the public API changed:\n"
            + "\n".join(lines)
            + "\nA line with '-' breaks somebody: deprecate it first, as "
            "docs/explanation/compatibility.md says. If only lines with '+' are there: "
            "python tests/stability/snapshot.py --write",
            pytrace=False,
        )
