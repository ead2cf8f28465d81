from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lmgateway.batch import journal, status
from lmgateway.batch.answers import output_line, read_row
from lmgateway.batch.job import Fingerprint, Job, beside, read_job
from lmgateway.batch.journal import Journal
from lmgateway.errors import ConfigError, InputError
from lmgateway.types import Completion

PRINT = Fingerprint("input", "echo", "m", "settings", None)


ANSWER: Completion = {
    "prompt": "p",
    "choices": [{"text": "t", "message": {"role": "assistant", "content": "t"}}],
}
FAILURE = InputError("no")


def good(name: str) -> bytes:
    return output_line(name, ANSWER)


def bad(name: str) -> bytes:
    return output_line(name, FAILURE)


def opened(output: Path, fingerprint: Fingerprint = PRINT, *, retry_errors: bool = False) -> Job:
    return Job(output, fingerprint, facts={"total": 3}, retry_errors=retry_errors)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def test_what_was_written_is_done_when_the_job_is_opened_again(output: Path) -> None:
    with opened(output) as job:
        job.write("a", ANSWER)
        job.write("ä\n\ud800", FAILURE)
    with opened(output) as job:
        assert [job.is_done(name) for name in ("a", "ä\n\ud800", "b")] == [True, True, False]
        assert (job.done.answers, job.done.errors) == (1, 1)


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(good("b")[:-1], id="no end of line"),
        pytest.param(good("b")[:20], id="half a line"),
        pytest.param(b"\0" * 5000, id="blocks that never reached the disk"),
        pytest.param(b"\0" * 50 + b"\n" + b"\0" * 9 + b"\n", id="such blocks, and lines' ends"),
    ],
)
def test_a_torn_tail_is_cut(output: Path, tail: bytes) -> None:
    with opened(output) as job:
        job.write("a", ANSWER)
    with output.open("ab") as file:
        file.write(tail)
    with opened(output) as job:
        assert not job.is_done("b")
        job.write("c", ANSWER)
    assert output.read_bytes() == good("a") + good("c")


def flipped(text: bytes, place: int, bit: int = 1) -> bytes:
    return text[:place] + bytes([text[place] ^ bit]) + text[place + 1 :]


WHOLE, FAILED = good("whole"), bad("failed")


def replaced(text: bytes, old: bytes, new: bytes) -> bytes:
    assert old in text
    return text.replace(old, new)


DAMAGE = {
    "no JSON": b"{broken\n",
    "empty": b"\n",
    "zeros in the middle": WHOLE[:60] + bytes(40) + WHOLE[100:],
    "zeros at the beginning": bytes(20) + WHOLE[20:],
    "a piece is missing": WHOLE[:60] + WHOLE[90:],
    "a quote became another character": flipped(WHOLE, WHOLE.index(b'"object"')),
    "a letter became no UTF-8": flipped(WHOLE, WHOLE.index(b"chat.completion"), 0x80),
    "a letter became a control character": replaced(WHOLE, b"assistant", b"ass\x09stant"),
    "another name for its id": replaced(WHOLE, b"custom_id", b"custom_ie"),
    "another name for the response": replaced(WHOLE, b'"response"', b'"responsd"'),
    "another name for the error": replaced(WHOLE, b'"error"', b'"errop"'),
    "another name for the choices": replaced(WHOLE, b'"choices"', b'"choicer"'),
    "another name for the text": replaced(WHOLE, b'"content"', b'"contenu"'),
    "another status": replaced(WHOLE, b"200", b"210"),
    "an id that is no text": replaced(WHOLE, b'"whole"', b"7"),
    "a row and half of another": WHOLE[:-1] + WHOLE[9:],
    "two rows in a line": WHOLE[:-1] + FAILED,
    "neither answer nor error": replaced(FAILED, b'"error": {', b'"error": null, "no": {'),
    "answer and error": replaced(WHOLE, b'"error": null', b'"error": {"type": "x"}'),
    "an error without a class": replaced(FAILED, b'"type"', b'"typf"'),
    "an empty object": b"{}\n",
    "a list": b"[]\n",
    "too deep": b"[" * 100_000 + b"]" * 100_000 + b"\n",
    "a number beyond reading": b'{"custom_id": ' + b"9" * 5000 + b"}\n",
}
damages = pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)


@damages
@pytest.mark.parametrize("which", ["output", "errors"])
@pytest.mark.parametrize("retry_errors", [False, True], ids=["", "retry"])
def test_damage_in_the_middle_is_told_and_nothing_is_cut(
    output: Path, damage: bytes, which: str, retry_errors: bool
) -> None:
    fingerprint = replace(PRINT, errors=str(output.with_name("errors.jsonl")))
    with opened(output, fingerprint):
        pass
    files = set(output.parent.iterdir())
    damaged = good("a") + damage + good("b")
    path = output if which == "output" else output.with_name("errors.jsonl")
    path.write_bytes(damaged)
    with pytest.raises(ConfigError, match=f"line 2 of {path}"):
        opened(output, fingerprint, retry_errors=retry_errors)
    with pytest.raises(ConfigError, match=f"line 2 of {path}"):
        status(output)
    assert path.read_bytes() == damaged
    assert set(output.parent.iterdir()) == files


@damages
def test_damage_at_the_end_is_asked_again(output: Path, damage: bytes) -> None:
    with opened(output) as job:
        job.write("a", ANSWER)
    with output.open("ab") as file:
        file.write(damage)
    with opened(output) as job:
        assert not job.is_done("whole")
        assert not job.is_done("failed")
    assert output.read_bytes() == good("a")


@pytest.mark.parametrize("which", ["output", "errors"])
def test_an_id_that_became_another_rows_is_told(output: Path, which: str) -> None:
    fingerprint = replace(PRINT, errors=str(output.with_name("errors.jsonl")))
    with opened(output, fingerprint) as job:
        job.write("a", ANSWER)
        job.write("b", ANSWER)
        job.write("a", FAILURE if which == "errors" else ANSWER)
    with pytest.raises(ConfigError, match="has the custom_id 'a' of an earlier line"):
        opened(output, fingerprint)


def test_a_bit_that_flips_unseen_is_in_a_text_or_a_number() -> None:
    spots = [range(*found.span()) for found in re.finditer(rb'"[^"]*"|\d+', WHOLE)]
    free = {place for spot in spots for place in spot}
    for name in (b'"custom_id"', b'"response"', b'"status_code": 200', b'"body"', b'"choices"',
                 b'"message"', b'"content"', b'"error"'):  # fmt: skip
        start = WHOLE.index(name)
        free -= set(range(start, start + len(name)))
    for place in range(len(WHOLE)):
        for bit in range(8):
            row = read_row(flipped(WHOLE, place, 1 << bit))
            assert row is None or place in free, WHOLE[place - 9 : place + 9]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"input": "other"}, "other input"),
        ({"model": "other"}, "another model"),
        ({"provider": "other"}, "another provider"),
        ({"settings": "other"}, "other settings"),
        ({"errors": "errors.jsonl"}, "another file for errors"),
    ],
    ids=["input", "model", "provider", "settings", "errors"],
)
def test_another_job_on_the_same_output_is_refused(
    output: Path, change: dict[str, str], words: str
) -> None:
    with opened(output):
        pass
    with pytest.raises(InputError, match=words):
        opened(output, replace(PRINT, **change))  # type: ignore[arg-type]


def test_a_second_process_on_the_same_output_is_refused(output: Path) -> None:
    with opened(output):
        assert read_job(output)["running"]
        with pytest.raises(InputError, match="at work on"):
            opened(output)
    assert not read_job(output)["running"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
def test_who_looks_at_a_job_keeps_nobody_off(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    with opened(output):
        pass
    with beside(output).open("r+b") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not read_job(output)["running"]
        # The look ends while the job waits for it.
        monkeypatch.setattr(journal, "sleep", lambda _: fcntl.flock(looking, fcntl.LOCK_UN))
        with opened(output):
            assert read_job(output)["running"]


def test_the_lock_of_a_killed_process_is_free(output: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path;"
        "from test_job import *; job = opened(Path(sys.argv[1])); job.write('a', ANSWER);"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(output), str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
    with opened(output) as job:
        assert job.is_done("a")


@pytest.mark.parametrize("which", ["output", "errors"])
def test_a_file_that_is_not_ours_is_refused_and_not_touched(output: Path, which: str) -> None:
    errors = output.with_name("errors.jsonl")
    theirs = output if which == "output" else errors
    theirs.write_text("something\n")
    for _ in range(2):
        with pytest.raises(InputError, match=r"no output of this job"):
            opened(output, replace(PRINT, errors=str(errors)))
    assert theirs.read_text() == "something\n"
    assert not beside(output).exists()


def test_errors_go_apart(output: Path) -> None:
    fingerprint = replace(PRINT, errors=str(output.with_name("errors.jsonl")))
    with opened(output, fingerprint) as job:
        job.write("a", ANSWER)
        job.write("b", FAILURE)
    assert output.read_bytes() == good("a")
    assert output.with_name("errors.jsonl").read_bytes() == bad("b")
    with opened(output, fingerprint) as job:
        assert job.is_done("b")


def test_errors_are_taken_out_to_be_asked_again(output: Path) -> None:
    with opened(output) as job:
        for name, reply in (("a", ANSWER), ("b", FAILURE), ("c", ANSWER)):
            job.write(name, reply)
    with opened(output, retry_errors=True) as job:
        assert not job.is_done("b")
    assert output.read_bytes() == good("a") + good("c")


def test_what_is_asked_again_keeps_the_mode_and_the_link_of_its_file(output: Path) -> None:
    kept = output.with_name("kept.jsonl")
    output.symlink_to(kept)
    with opened(output) as job:
        job.write("a", ANSWER)
        job.write("b", FAILURE)
    kept.chmod(0o600)
    with opened(output, retry_errors=True) as job:
        job.write("b", ANSWER)
    assert output.is_symlink()
    assert kept.read_bytes() == good("a") + good("b")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", "[" * 100_000, '{"version": 1}', "\0" * 50, "\udcff", "1" * 5000]
    + [f'{{"version": 1, "provider": "p", "model": {model}}}' for model in ("null", "1", "[]")],
    ids=lambda text: text[:50],
)
def test_a_damaged_fingerprint_is_told(output: Path, text: str) -> None:
    beside(output).write_text(text, errors="surrogateescape")
    for read in (opened, read_job, status):
        with pytest.raises(ConfigError, match="damaged"):
            read(output)


def test_a_line_that_cannot_be_written_whole_leaves_no_half(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "full.jsonl")
    journal.append(b"one\n")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="large"):
            journal.append(b"two is too long\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    journal.append(b"two\n")
    journal.close()
    assert (tmp_path / "full.jsonl").read_bytes() == b"one\ntwo\n"


def test_lines_are_synced_within_a_second_or_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    synced = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda file: synced.set())
    journal = Journal(tmp_path / "j.jsonl")
    journal.append(b"one\n")
    assert synced.wait(30)
    journal.close()
