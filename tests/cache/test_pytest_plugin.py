from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TEST = """
import pytest
from support.service import World, says
from lmgateway._layers.cache import cache

def world(text):
    world = World(cache())
    world.service.answer = lambda request: says(text)
    return world

@pytest.mark.parametrize("prompt", ["a/b", "a b"])
def test_it(lm_recording, prompt):
    asked = world("TEXT")
    answer = asked.ask(prompt, temperature=TEMPERATURE)
    assert answer["choices"][0]["text"] == "first"
    assert len(asked.service.requests) == SENT
"""
TESTS = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("LMGATEWAY_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "conftest.py").write_text('pytest_plugins = ["lmgateway.testing.recording"]\n')
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder


def run(project: Path, *options: str, text: str, sent: int, temperature: float = 0.7) -> str:
    code = TEST.replace("TEXT", text).replace("SENT", str(sent))
    (project / "test_lm.py").write_text(code.replace("TEMPERATURE", str(temperature)))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_recorded_once_it_replays_in_files_of_each_test_own(project: Path) -> None:
    assert "2 passed" in run(project, "--record", text="first", sent=1)
    assert "2 passed" in run(project, text="second", sent=0)
    assert len(list((project / "recordings" / "test_lm").glob("test_it_a_b*.jsonl"))) == 2


def test_without_a_recording_it_fails_and_says_what_to_do(project: Path) -> None:
    assert "run this test once with --record" in run(project, text="first", sent=1)


def test_a_changed_request_fails_and_says_what_differs(project: Path) -> None:
    run(project, "--record", text="first", sent=1)
    output = run(project, text="first", sent=1, temperature=0.9)
    assert "2 failed" in output
    assert "body.temperature: recorded 0.7, asked 0.9" in output


def test_recording_anew_replaces_what_was_recorded(project: Path) -> None:
    run(project, "--record", text="old", sent=1)
    assert "2 passed" in run(project, "--record", text="first", sent=1)
    assert "2 passed" in run(project, text="never", sent=0)
