"""What get_lm costs: Python calls, and looks at the files around it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from lmgateway import get_lm
from lmgateway._call import validation

Write = Callable[..., Path]

MOST = 160  # 440 before; nearly half of it is spent on os.environ and on making the LM itself
FILE = """
[models.fast]
provider = "openai"
model = "gpt-4o-mini"
timeout = 30
params = { temperature = 0.5 }
"""


def calls_of(act: Callable[[], object]) -> int:
    """How many Python calls something makes, when it is done for the second time."""
    counted = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal counted
        counted += event == "call"

    kept = [act()]
    old = sys.getprofile()
    sys.setprofile(count)
    try:
        kept.append(act())
    finally:
        sys.setprofile(old)
    return counted


@pytest.mark.parametrize(
    "name, files",
    [
        pytest.param("openai/gpt-4o-mini", {}, id="no file"),
        pytest.param("fast", {"lmgateway.toml": FILE}, id="a configuration file"),
        pytest.param("fast", {"lmgateway.toml": FILE, ".env": "A=1\n"}, id="and a .env"),
    ],
)
def test_get_lm_makes_few_calls(
    name: str, files: dict[str, str], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-real")
    for file, text in files.items():
        write(text, file)

    assert calls_of(lambda: get_lm(name)) <= MOST


def test_get_lm_looks_for_dotenv_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    real = os.stat

    def stat(path: object, *args: object, **keywords: object) -> os.stat_result:
        looks.append(os.fspath(path)) if isinstance(path, (str, os.PathLike)) else None
        return real(path, *args, **keywords)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(os, "stat", stat)
    get_lm("openai/m")

    assert looks.count(str(Path.cwd() / ".env")) == 1


def test_a_value_of_the_file_is_checked_once(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []

    def noted(check: Callable[..., object]) -> Callable[..., object]:
        def noting(values: dict[str, object], *rest: object) -> object:
            checked.extend(values)
            return check(values, *rest)

        return noting

    for name in ("check_params", "check_options"):
        monkeypatch.setattr(validation, name, noted(getattr(validation, name)))
    write(FILE)
    get_lm("fast", retries=2, max_tokens=7)

    assert sorted(checked) == ["max_tokens", "retries", "temperature", "timeout"]
