from __future__ import annotations

import errno
import gzip
import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmgateway.batch import journal, status
from lmgateway.batch.answers import output_line, read_row
from lmgateway.batch.job import Fingerprint, Job, beside, open_errors, read_job, relative
from lmgateway.batch.journal import Journal
from lmgateway.batch.values import BOM
from lmgateway.errors import ConfigError, InputError
from lmgateway.types import Completion

PRINT = Fingerprint("input", "echo", "m", "settings", None)


NAN = float("nan")
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
        pytest.param(good("b")[:-2], id="a character is missing"),
        pytest.param(good("b")[:20], id="half a line"),
        pytest.param(good("b")[:1], id="a brace"),
        pytest.param(json.dumps(json.loads(good("b")), indent=2).encode()[:-9], id="half a page"),
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
        assert [f"line 2 of {output}, the last" in note for note in job.done.torn] == [True]
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
    "an id that is none": replaced(WHOLE, b'"whole"', b"true"),
    "a row and half of another": WHOLE[:-1] + WHOLE[9:],
    "answer and error": replaced(WHOLE, b'"error": null', b'"error": {"type": "x"}'),
    "an error without a class": replaced(FAILED, b'"type"', b'"typf"'),
    "an empty object": b"{}\n",
    "a list": b"[]\n",
    "too deep": b"[" * 100_000 + b"]" * 100_000 + b"\n",
    "a number beyond reading": b'{"custom_id": ' + b"9" * 5000 + b"}\n",
}
#: What is whole, and so is not torn: it is told, and left as it is.
WHOLE_BUT_NO_ROW = (
    "a letter became no UTF-8", "another name for its id", "another name for the response",
    "another name for the error", "another name for the choices", "another name for the text",
    "another status", "an id that is none", "answer and error", "an error without a class",
    "an empty object", "a list",
)  # fmt: skip
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


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_at_the_end_is_asked_again_unless_it_is_whole(output: Path, name: str) -> None:
    damage = DAMAGE[name]
    with opened(output) as job:
        job.write("a", ANSWER)
    with output.open("ab") as file:
        file.write(damage)
    if name in WHOLE_BUT_NO_ROW:
        with pytest.raises(ConfigError, match=f"line 2 of {output} is no row"):
            opened(output)
        assert output.read_bytes() == good("a") + damage
        return
    with opened(output) as job:
        assert not job.is_done("whole")
        assert not job.is_done("failed")
    assert output.read_bytes() == good("a")


def lines_of(rows: list[Any], end: str = "\n", **given: Any) -> bytes:
    return "".join(json.dumps(each, **given) + end for each in rows).encode()


REWRITTEN: dict[str, Callable[[list[Any]], bytes]] = {
    "jq -c": lambda rows: lines_of(rows, separators=(",", ":"), ensure_ascii=False),
    "jq": lambda rows: lines_of(rows, indent=2),
    "jq -S": lambda rows: lines_of(rows, indent=2, sort_keys=True),
    "jq --tab": lambda rows: lines_of(rows, indent="\t"),
    "jq -j": lambda rows: lines_of(rows, end=""),
    "jq -j, indented": lambda rows: lines_of(rows, end="", indent=2),
    "jq --seq, without its mark": lambda rows: lines_of(rows, end="\n\n"),
    "indented by nothing": lambda rows: lines_of(rows, indent=0),
    "pandas": lambda rows: lines_of(rows, separators=(",", ":")).replace(b"/", b"\\/"),
    "an editor on Windows": lambda rows: BOM + lines_of(rows, end="\r\n"),
    "an old editor on a Mac": lambda rows: lines_of(rows, end="\r"),
    "an editor that ends no line": lambda rows: lines_of(rows).rstrip(),
    "two files put together": lambda rows: BOM + lines_of(rows[:1]) + BOM + lines_of(rows[1:]),
    "blank lines": lambda rows: b"\n \n" + lines_of(rows, end="\n\n\t\n"),
    "the order reversed": lambda rows: lines_of(rows[::-1]),
    "a field more": lambda rows: lines_of([{**each, "label": 1} for each in rows]),
    "a half of it indented": lambda rows: lines_of(rows[:2], indent=1) + lines_of(rows[2:]),
    "a row in several lines between": lambda rows: (
        lines_of(rows[:1]) + lines_of(rows[1:2], indent=4) + lines_of(rows[2:])
    ),
}


@pytest.mark.parametrize(
    "tool, errors", [*((tool, None) for tool in REWRITTEN), ("jq", "errors.jsonl")]
)
def test_whole_rows_stay_whoever_wrote_them(output: Path, tool: str, errors: str | None) -> None:
    fingerprint = replace(PRINT, errors=errors)
    names = ["a", "é/\U0001f600", "c", "d" * 9_000]
    files = [output] if errors is None else [output, output.with_name(errors)]
    with opened(output, fingerprint) as job:
        for name in names:
            job.write(name, ANSWER)
            job.write(name + "!", FAILURE)
    for each in files:
        each.write_bytes(REWRITTEN[tool](list(map(json.loads, each.read_bytes().splitlines()))))
    before = [each.read_bytes() for each in files]
    assert (status(output).answered, status(output).failed) == (4, 4)
    with opened(output, fingerprint) as job:
        assert all(map(job.is_done, names + [name + "!" for name in names]))
        assert (job.done.answers, job.done.errors, job.done.torn) == (4, 4, [])
        job.write("new", ANSWER)
    assert all(each.read_bytes().startswith(text) for each, text in zip(files, before, strict=True))
    with opened(output, fingerprint, retry_errors=True) as job:
        assert all(map(job.is_done, [*names, "new"]))
        assert not any(job.is_done(name + "!") for name in names)
    assert status(output).answered == 5


@pytest.mark.parametrize(
    "row, failed",
    [
        pytest.param({"custom_id": "7"}, False, id="its id alone"),
        pytest.param({"custom_id": 7}, False, id="a number, as pandas reads it"),
        pytest.param({"custom_id": 7.0}, False, id="a float, as pandas reads a column with gaps"),
        pytest.param({"custom_id": "7", "answer": "x"}, False, id="the text alone"),
        pytest.param({"custom_id": "7", "response": None, "error": None}, False, id="neither"),
        pytest.param({"custom_id": "7", "response": {"body": {}}}, False, id="without a status"),
        pytest.param({"custom_id": "7", "response": "x", "error": None}, False, id="a text"),
        pytest.param({"custom_id": "7", "error": {"type": "InputError"}}, True, id="an error"),
        pytest.param({"custom_id": "7", "error": "no"}, True, id="an error that is a text"),
        pytest.param({"custom_id": "7", "response": "x", "error": NAN}, False, id="NaN for null"),
        pytest.param(
            {"custom_id": "7", "response": NAN, "error": "no"}, True, id="the same, failed"
        ),
        pytest.param({"custom_id": "7", "response": "x", "error": ""}, False, id="an empty text"),
        pytest.param({"custom_id": "7", "response": {}, "error": {"type": "x"}}, True, id="{}"),
    ],
)
def test_any_row_with_an_id_counts(output: Path, row: Any, failed: bool) -> None:
    with opened(output):
        pass
    output.write_bytes(lines_of([row]))
    with opened(output) as job:
        assert job.is_done("7")
        assert job.done.errors == failed
    with opened(output, retry_errors=True) as job:
        assert job.is_done("7") is not failed


NOT_UNDERSTOOD = {
    "a list": lambda rows: json.dumps(rows).encode(),
    "an indented list": lambda rows: json.dumps(rows, indent=2).encode(),
    "UTF-16": lambda rows: lines_of(rows).decode().encode("utf-16"),
    "UTF-16 without a BOM": lambda rows: lines_of(rows).decode().encode("utf-16-le"),
    "UTF-16, one row": lambda rows: lines_of(rows[:1]).decode().encode("utf-16-be"),
    "Latin-1": lambda rows: lines_of(rows[:1], ensure_ascii=False).decode().encode("latin-1"),
    "Python": lambda rows: "".join(f"{each}\n" for each in rows).encode(),
    "a text": lambda rows: b"some notes",
    "a table": lambda rows: b"custom_id,response\na,x\n",
    "a line of a table": lambda rows: b"custom_id,response",
    "ids alone": lambda rows: lines_of([each["custom_id"] for each in rows]),
    "no ids": lambda rows: lines_of([{"text": 1}, {"text": 2}]),
    "gzip": lambda rows: gzip.compress(lines_of(rows)),
    "indented, and a comma lost": lambda rows: lines_of(rows, indent=1).replace(b",", b"", 1),
    "indented, and a quote lost": lambda rows: lines_of(rows, indent=1).replace(b'"', b"", 1),
}  # fmt: skip


@pytest.mark.parametrize("form", NOT_UNDERSTOOD)
def test_a_file_that_cannot_be_understood_is_told_and_left(output: Path, form: str) -> None:
    with opened(output) as job:
        job.write("a é", ANSWER)
        job.write("b", FAILURE)
    rows = list(map(json.loads, output.read_bytes().splitlines()))
    output.write_bytes(text := NOT_UNDERSTOOD[form](rows))
    files = sorted(output.parent.iterdir())
    for retry_errors in (False, True):
        with pytest.raises(ConfigError, match=f"line [12] of {output} is no row.*nothing was"):
            opened(output, retry_errors=retry_errors)
    assert output.read_bytes() == text
    assert sorted(output.parent.iterdir()) == files


@pytest.mark.parametrize("second", [b"no row\n" + good("z"), good("a")], ids=["no row", "twice"])
def test_no_file_is_changed_unless_all_are_understood(output: Path, second: bytes) -> None:
    errors = output.with_name("errors.jsonl")
    with opened(output, fingerprint := replace(PRINT, errors="errors.jsonl")):
        pass
    output.write_bytes(text := good("a") + bad("b") + good("c")[:9])
    errors.write_bytes(second)
    for retry_errors in (False, True):
        with pytest.raises(ConfigError, match=f"line 1 of {errors}"):
            opened(output, fingerprint, retry_errors=retry_errors)
    assert (output.read_bytes(), errors.read_bytes()) == (text, second)


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


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_file_that_may_not_be_used_is_told(
    output: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(output) as job:
        job.write("a", FAILURE)

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(number, "not allowed")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "touch", refuse)
        with pytest.raises(InputError, match=r"answers\.jsonl\.new cannot be written: not allowed"):
            opened(output, retry_errors=True)
    monkeypatch.setattr(Path, "open", refuse)
    for use in (opened, status):
        with pytest.raises(InputError, match=r"answers\.jsonl cannot be read: not allowed"):
            use(output)


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


def test_two_jobs_share_no_file_of_errors(output: Path) -> None:
    shared, other = replace(PRINT, errors="errors.jsonl"), output.with_name("other.jsonl")
    link = output.with_name("link.jsonl")
    with opened(output, shared):
        files = sorted(output.parent.iterdir())
        with pytest.raises(InputError, match=r"at work on .*errors\.jsonl"):
            opened(other, shared)  # both begin before there is an error
        link.symlink_to("errors.jsonl")
        with pytest.raises(InputError, match="at work on"):
            opened(other, replace(PRINT, errors="link.jsonl"))
        with pytest.raises(InputError, match="at work on"):
            opened(output.with_name("errors.jsonl"))
    for errors in ("errors.jsonl", "link.jsonl"):
        with pytest.raises(InputError, match=f"holds the errors of {output}: two jobs share"):
            opened(other, replace(PRINT, errors=errors))
    with pytest.raises(InputError, match="holds the errors of another output"):
        opened(output.with_name("errors.jsonl"))
    with pytest.raises(InputError, match="holds the errors of another output"):
        status(output.with_name("errors.jsonl"))
    with pytest.raises(InputError, match="belongs to a job"):
        open_errors(output.with_name("errors.jsonl"))
    link.unlink()
    assert sorted(output.parent.iterdir()) == files
    with opened(output, shared, retry_errors=True):  # its own job goes on
        pass


def test_a_file_of_errors_whose_job_was_removed_is_free(output: Path) -> None:
    with opened(output, replace(PRINT, errors="errors.jsonl")):
        pass
    for each in (output, beside(output)):
        each.unlink()
    with opened(output.with_name("other.jsonl"), replace(PRINT, errors="errors.jsonl")):
        pass


def test_one_output_has_one_job_by_whatever_name(output: Path) -> None:
    link = output.with_name("link.jsonl")
    link.symlink_to(output)
    hard = output.with_name("hard.jsonl")
    with opened(output):
        os.link(output, hard)
        for each in (link, hard):
            with pytest.raises(InputError, match=f"at work on {each}"):
                opened(each)
            assert not beside(each).exists()


def test_a_job_goes_on_where_its_folder_was_moved(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    (first / "e").mkdir(parents=True)
    fingerprint = replace(PRINT, errors="e/errors.jsonl")
    with opened(first / "answers.jsonl", fingerprint) as job:
        job.write("a", ANSWER)
        job.write("b", FAILURE)
    first.rename(second)
    with opened(second / "answers.jsonl", fingerprint, retry_errors=True) as job:
        assert (job.is_done("a"), job.is_done("b")) == (True, False)
        job.write("b", FAILURE)
    assert status(second / "answers.jsonl").errors == {"InputError": 1}
    assert not first.exists()
    first.symlink_to(second)  # mounted at two places
    with opened(first / "answers.jsonl", fingerprint) as job:
        assert job.is_done("b")


def test_a_path_begins_where_a_link_leads_to(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    assert relative(tmp_path / "errors.jsonl", tmp_path / "link") == "../../errors.jsonl"
    assert relative(tmp_path / "link" / "errors.jsonl", folder) == "errors.jsonl"


@pytest.mark.parametrize("moved", [False, True])
def test_a_job_whose_errors_were_recorded_from_the_root_goes_on(
    tmp_path: Path, moved: bool
) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    output = folder / "answers.jsonl"
    with opened(output, replace(PRINT, errors="errors.jsonl")) as job:
        job.write("b", FAILURE)
    record = json.loads(beside(output).read_text()) | {"errors": str(folder / "errors.jsonl")}
    del record["inputs"]
    beside(output).write_text(json.dumps(record))
    (folder / "errors.jsonl.job").unlink()
    if moved:
        folder = folder.rename(tmp_path / "second")
    with opened(folder / "answers.jsonl", replace(PRINT, errors="errors.jsonl")) as job:
        assert job.is_done("b")


def test_a_job_that_nobody_may_write_to_is_told_and_still_looked_at(output: Path) -> None:
    with opened(output) as job:
        job.write("a", ANSWER)
    beside(output).chmod(0o400)
    output.parent.chmod(0o500)
    try:
        assert status(output).answered == 1
        if os.geteuid():  # root may write everywhere
            with pytest.raises(InputError, match="cannot be written"):
                opened(output)
    finally:
        output.parent.chmod(0o700)


def test_what_is_refused_leaves_no_file(output: Path) -> None:
    before = sorted(output.parent.iterdir())
    with pytest.raises(InputError), opened(output, replace(PRINT, errors="errors.jsonl")):
        raise InputError("a column is no parameter")
    assert sorted(output.parent.iterdir()) == before

    def run() -> None:
        with opened(output) as job:
            job.write("a", ANSWER)
            raise InputError("a row later")

    with pytest.raises(InputError):
        run()
    assert output.read_bytes() == good("a")


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
