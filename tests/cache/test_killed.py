"""A short round of tests/soak/kill_cache.py."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from soak.kill_cache import damage_rounds, kill_rounds


@pytest.mark.slow
def test_writers_that_are_killed_lose_nothing_acknowledged(tmp_path: Path) -> None:
    acknowledged, lost, wrong = kill_rounds(tmp_path, 8, random.Random(7))
    assert acknowledged >= 8
    assert (lost, wrong) == (0, 0)


@pytest.mark.slow
def test_damaged_files_give_no_wrong_answer(tmp_path: Path) -> None:
    asked, wrong, missed = damage_rounds(tmp_path, 20, random.Random(7))
    assert (asked, wrong) == (6000, 0)
    assert missed > 0
