"""The README's programs run as they stand, from a recording: no key and no network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lmgateway import replay

ROOT = Path(__file__).parent.parent
RECORDING = ROOT / "tests" / "data" / "readme.jsonl"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_first_program_answers_from_its_recording(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    with replay(RECORDING):
        exec(compile(PROGRAMS[0], "README.md", "exec"), names)
    assert "Paris" in str(names["answer"])
    assert names["answer"]["cached"] is True  # type: ignore[index]
    assert capsys.readouterr().out


def test_the_plugin_loads_and_asks_for_what_it_says() -> None:
    from types import SimpleNamespace

    from lmgateway.testing import lm_from

    names: dict[str, object] = {}
    exec(compile(PROGRAMS[1], "README.md", "exec"), names)
    module = SimpleNamespace(lmgateway_complete=names["lmgateway_complete"])
    lm = lm_from(module, "acme", model="m")
    shown = lm.preview("hi")
    assert shown["url"] == "https://llm.example/v1/generate"
    assert shown["json"] == {"model": "m", "prompt": "hi"}
