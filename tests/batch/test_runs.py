from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.chat_server import serve_chat

import lmgateway.batch
from lmgateway import errors, hookimpl
from lmgateway._layers.limit import Limits
from lmgateway.batch import aprocess_batch, arun, process_batch, row_runner, run, status
from lmgateway.batch.pipeline import Pipeline, ReaderThread
from lmgateway.batch.progress import Counts
from lmgateway.batch.row_runner import RetryPolicy, RowRunner
from lmgateway.batch.rows import identified
from lmgateway.errors import InputError
from lmgateway.testing import ScriptedLM, lm_from
from lmgateway.types import Answer, Flow, Request, Wait


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def texts(path: Path) -> dict[str, str]:
    return {
        row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"]
        for row in lines(path)
        if row["error"] is None
    }


def named(*names: str) -> list[dict[str, str]]:
    return [{"custom_id": name, "prompt": f"prompt {name}"} for name in names]


def repeated(request: Request) -> str:
    return str(request.prompt)


IMPATIENT = RetryPolicy(backoff=0.02, longest_backoff=0.1)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_runner, "RETRY_POLICY", IMPATIENT)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def test_every_row_is_answered_once(output: Path) -> None:
    summary = run(named(*map(str, range(500))), output, "echo")
    assert texts(output) == {str(n): f"prompt {n}" for n in range(500)}
    assert len(lines(output)) == 500
    assert (summary.answered, summary.failed, summary.total) == (500, 0, 500)


def test_the_package_is_reached_from_the_top() -> None:
    code = "import lmgateway; print(lmgateway.batch.run.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "run\n", done.stderr


def test_a_file_goes_in(output: Path) -> None:
    source = output.with_name("in.jsonl")
    source.write_text('{"prompt": "a"}\n{broken\n{"prompt": "a"}\n')
    assert run(source, output, "echo").errors == {"InputError": 1}
    assert sorted(texts(output).values()) == ["a", "a"]


def test_the_second_run_asks_what_is_missing(output: Path) -> None:
    run(named("a", "b"), output, lm := ScriptedLM(repeated))
    summary = run(named("a", "b", "c"), output, lm)
    assert (summary.skipped, summary.answered) == (2, 1)
    assert [request.prompt for request in lm.requests] == ["prompt a", "prompt b", "prompt c"]


@pytest.mark.loopback
def test_order_is_kept_if_asked_for(output: Path) -> None:
    with serve_chat("--delay", "0.001", "--chance", "0.1", "--keep") as server:
        names = [str(n) for n in range(100)]
        run(named(*names), output, "openai", model="m", api_base=server.url, ordered=True)
    assert [row["custom_id"] for row in lines(output)] == names


@pytest.mark.parametrize("place", ["output", "errors"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_refused_and_left_alone(
    tmp_path: Path, output: Path, place: str, kind: str
) -> None:
    odd = tmp_path / "odd"
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "device":
        odd.symlink_to(os.devnull)
    else:
        odd.mkdir()
    given = {"output": output, "errors": None, place: odd}
    with pytest.raises(InputError, match="odd is there and is no regular file"):
        run(named("a"), given["output"], ScriptedLM(repeated), errors=given["errors"])
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["odd"]


def test_failures_go_to_their_own_file(output: Path) -> None:
    def script(request: Request) -> Any:
        if request.prompt == "prompt b":
            return errors.ContentFilteredError("no", status=400)
        return "yes"

    apart = output.with_name("errors.jsonl")
    summary = run(named("a", "b", "c"), output, ScriptedLM(script), errors=apart)
    assert summary.errors == {"ContentFilteredError": 1}
    assert texts(output) == {"a": "yes", "c": "yes"}
    (failure,) = lines(apart)
    assert (failure["custom_id"], failure["response"]) == ("b", None)
    assert failure["error"]["type"] == "ContentFilteredError"
    assert failure["error"]["status_code"] == 400


def test_failures_are_asked_again_if_asked_for(output: Path) -> None:
    run(named("a"), output, ScriptedLM([errors.ContentFilteredError("no", status=400)]))
    assert run(named("a"), output, ScriptedLM(repeated)).skipped == 1
    run(named("a"), output, ScriptedLM(repeated), retry_errors=True)
    assert texts(output) == {"a": "prompt a"}
    assert len(lines(output)) == 1


@pytest.mark.parametrize(
    "failure",
    [
        errors.AuthenticationError("wrong key", status=401),
        errors.QuotaExceededError("spent", status=429),
        errors.NotFoundError("no such model", status=404),
        errors.MissingCredentialError("no key"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_what_no_row_survives_stops_the_job_after_a_few(output: Path, failure: Exception) -> None:
    lm = ScriptedLM(lambda request: failure)
    with pytest.raises(type(failure), match="0 rows done; to go on: run it again"):
        run(named(*map(str, range(1000))), output, lm)
    assert len(lm.requests) <= 20
    assert output.read_bytes() == b""


def test_what_only_a_few_rows_do_not_survive_stops_nothing(output: Path) -> None:
    def script(request: Request) -> Any:
        if request.prompt in ("prompt 7", "prompt 9"):
            return errors.PermissionDeniedError("not this one", status=403)
        return "yes"

    summary = run(named(*map(str, range(300))), output, ScriptedLM(script))
    assert (summary.answered, summary.failed) == (298, 2)


def test_while_nobody_is_answered_no_row_is_to_blame(output: Path) -> None:
    down = [errors.ServerError("down", status=500) for _ in range(10)]
    summary = run(named("a"), output, ScriptedLM([*down, "up again"], retries=0))
    assert (summary.answered, summary.failed) == (1, 0)


def test_a_row_that_fails_while_others_are_answered_is_given_up(output: Path) -> None:
    def script(request: Request) -> Any:
        broken = request.prompt == "prompt 3"
        return errors.ServerError("broken", status=500) if broken else "yes"

    def slowly() -> Iterator[dict[str, str]]:
        for row in named(*map(str, range(100))):
            threading.Event().wait(0.005)  # others are to be answered between two tries
            yield row

    summary = run(slowly(), output, ScriptedLM(script, retries=0))
    assert summary.errors == {"ServerError": 1}


def test_a_row_alone_that_finds_the_key_wrong_is_not_an_error_row(output: Path) -> None:
    lm = ScriptedLM(lambda request: errors.AuthenticationError("wrong", status=401))
    with pytest.raises(errors.AuthenticationError):
        run(named("a"), output, lm)


@pytest.mark.loopback
def test_a_service_that_is_down_stops_the_job_and_no_row_is_to_blame(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_runner, "RETRY_POLICY", replace(IMPATIENT, outage=0.2))
    with serve_chat("--chance", "1.0") as server:
        keywords = {"model": "m", "api_base": server.url, "retries": 0}
        with pytest.raises(errors.RateLimitError, match="0 rows done; to go on"):
            run(named(*map(str, range(100))), output, "openai", **keywords)
    assert output.read_bytes() == b""


@pytest.mark.loopback
@pytest.mark.parametrize("retries", [0, 1])
def test_a_service_that_refuses_a_third_at_random_answers_every_row(
    output: Path, retries: int
) -> None:
    with serve_chat("--chance", "0.33", "--keep") as server:
        summary = run(
            named(*map(str, range(20))),
            output,
            "openai",
            model="m",
            api_base=server.url,
            retries=retries,
        )
    assert summary.answered == 20
    assert summary.rejections > 0
    assert texts(output) == {str(n): f"prompt {n}" for n in range(20)}


def test_order_is_kept_where_writing_takes_time() -> None:
    written: list[str] = []

    async def write(name: str, outcome: Any) -> None:
        for _ in range(int(name) % 7):
            await asyncio.sleep(0)
        written.append(name)

    async def main() -> None:
        names, counts = [str(n) for n in range(100)], Counts()
        runner = RowRunner(lmgateway.get_lm("echo"), 20, Limits(), counts)
        reader = ReaderThread(identified(named(*names)), 50)
        await Pipeline(reader, runner, write, counts, workers=20, window=40).run()
        assert written == names

    asyncio.run(main())


@pytest.mark.parametrize(
    "change, message",
    [
        ({"concurrency": 0}, "concurrency must be"),
        ({"concurrency": True}, "concurrency must be"),
        ({"rpm": -1}, "rpm must be"),
        ({"errors": "answers.jsonl"}, "three different files"),
        ({"ignore": "label"}, "list of names"),
        ({"ignore": None}, "list of names"),
        ({"output": "-", "retry_errors": True}, "pipe keeps no errors"),
        ({"output": "a\0b"}, "output must be the path"),
        ({"output": "a\ud800b"}, "output must be the path"),
        ({"output": b"a"}, "output must be the path"),
        ({"output": None}, "output must be the path"),
        ({"errors": "a\0b"}, "errors must be the path"),
        ({"errors": 5}, "errors must be the path"),
        ({"source": "a\0.jsonl"}, "input must be the path"),
        ({"source": 5}, "iterable of rows, not one int"),
        ({"source": {"prompt": "a"}}, "iterable of rows, not one dict"),
        ({"source": b"a"}, "iterable of rows, not one bytes"),
    ],
    ids=[
        "concurrency",
        "true",
        "rpm",
        "one file",
        "ignore",
        "ignore None",
        "pipe",
        "NUL",
        "surrogate",
        "bytes",
        "no output",
        "NUL in errors",
        "errors 5",
        "NUL in the input",
        "a number",
        "one row",
        "bytes for rows",
    ],
)
def test_what_means_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {"source": [], "output": "answers.jsonl", **change}
    with pytest.raises(InputError, match=message):
        run(lm="echo", **arguments)
    assert not list(tmp_path.glob("answers*"))


def test_other_parameters_are_another_job(output: Path) -> None:
    run(named("a"), output, "echo", temperature=0)
    with pytest.raises(InputError, match="other settings or parameters"):
        run(named("a"), output, "echo", temperature=1)


def test_a_row_may_name_its_model_and_parameters(output: Path) -> None:
    body = {"model": "other", "messages": [{"role": "user", "content": "a b"}], "max_tokens": 1}
    run([{"custom_id": "x", "url": "/v1/chat/completions", "body": body}], output, "echo")
    (row,) = lines(output)
    assert row["response"]["body"]["model"] == "other"
    assert row["response"]["body"]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    "field", ["api_base", "recordings", "self", "stream", "nonsense"], ids=lambda name: name
)
def test_a_row_cannot_say_where_it_goes(output: Path, field: str) -> None:
    summary = run([{"prompt": "a", field: "x"}, {"prompt": "b"}], output, "echo")
    assert (summary.answered, summary.failed) == (1, 1)


def test_an_id_that_became_no_rows_is_told_when_all_rows_are_done(output: Path) -> None:
    source = output.with_name("in.jsonl")
    source.write_text("".join(json.dumps(row) + "\n" for row in named("a", "b", "c")))
    run(source, output, "echo")
    damaged = output.read_bytes().replace(b'"custom_id": "b"', b'"custom_id": "z"')
    output.write_bytes(damaged)
    for _ in range(2):
        with pytest.raises(errors.ConfigError, match=r"1 of those in .* belong to none"):
            run(source, output, "echo")
    assert set(texts(output)) == {"a", "b", "c", "z"}
    kept = [line for line in output.read_text().splitlines() if '"z"' not in line]
    output.write_text("\n".join(kept) + "\n")
    assert run(source, output, "echo").skipped == 3


def test_an_iterable_may_be_shorter_the_next_time(output: Path) -> None:
    run(named("a", "b"), output, "echo")
    assert run(named("b"), output, "echo").skipped == 1


def test_an_iterator_is_read_as_needed(output: Path) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for read in range(1_000_000):
            yield f"p{read}"

    with pytest.raises(errors.AuthenticationError):
        run(
            endless(),
            output,
            ScriptedLM(lambda request: errors.AuthenticationError("no", status=401)),
            concurrency=10,
        )
    assert read < 100


def test_an_iterator_that_raises_is_told_and_what_is_done_is_done(output: Path) -> None:
    def broken() -> Iterator[dict[str, str]]:
        yield from named("a", "b")
        raise LookupError("the end")

    with pytest.raises(LookupError, match="the end"):
        run(broken(), output, "echo")
    assert set(texts(output)) == {"a", "b"}


def test_it_runs_inside_an_event_loop(output: Path) -> None:
    async def main() -> None:
        run(named("a"), output, "echo")

    asyncio.run(main())
    assert set(texts(output)) == {"a"}


def test_cancelled_it_stops_at_once_and_keeps_what_is_done(output: Path) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(arun(endless(), output, "echo", rpm=600))
        while not output.exists() or not output.stat().st_size:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    def endless() -> Iterator[str]:
        while True:
            yield "p"

    asyncio.run(main())
    assert lines(output)


@pytest.mark.loopback
def test_requests_a_minute_are_kept_to(output: Path) -> None:
    with serve_chat() as server:
        keywords = {"model": "m", "api_base": server.url, "rpm": 600}
        summary = run(named(*map(str, range(15))), output, "openai", **keywords)
    assert 0.4 < summary.seconds < 30  # 10 leave at once, the others 0.1 s apart


@pytest.mark.loopback
def test_many_that_must_wait_their_turn_do_not_time_out(output: Path) -> None:
    with serve_chat() as server:
        keywords = {"model": "m", "api_base": server.url, "rpm": 300, "timeout": 0.5}
        outcomes: list[str] = []
        with lmgateway.on_call(lambda event: outcomes.append(event.outcome)):
            run(named(*map(str, range(15))), output, "openai", **keywords)
    assert outcomes == ["ok"] * 15


def test_status_tells_how_far_a_job_is(output: Path) -> None:
    run([*named("a", "b"), 7], output, "echo")
    told = status(output)
    assert (told.total, told.answered, told.errors) == (3, 2, {"InputError": 1})
    assert told.finished
    assert not told.running


def test_status_of_what_is_no_output_is_refused(tmp_path: Path) -> None:
    for name in ("absent", "x" * 5000):
        with pytest.raises(InputError, match="no output of a batch"):
            status(tmp_path / name)
    with pytest.raises(InputError, match="must be the path of a file"):
        status(tmp_path / "a\0b")


def test_process_batch_answers_in_order() -> None:
    rows = process_batch([*named("a", "b"), {}, *named("c")], "echo", concurrency=2)
    assert [row["custom_id"] for row in rows][:2] == ["a", "b"]
    assert [row["error"] is None for row in rows] == [True, True, False, True]


@pytest.mark.parametrize("rows", ["a", b"a", {"prompt": "a"}, 5, None], ids=repr)
def test_process_batch_takes_many_rows(rows: Any) -> None:
    with pytest.raises(InputError, match="iterable of rows"):
        process_batch(rows, "echo")


def test_process_batch_is_awaited_too() -> None:
    assert asyncio.run(aprocess_batch(["a"], "echo"))[0]["error"] is None


def test_process_batch_raises_what_concerns_all_rows() -> None:
    lm = ScriptedLM(lambda request: errors.AuthenticationError("no", status=401))
    with pytest.raises(errors.AuthenticationError):
        process_batch(["a", "b"], lm)


def test_a_job_that_stops_waits_for_no_end_of_a_pause() -> None:
    async def main() -> None:
        lm = ScriptedLM(lambda request: errors.RateLimitError("no", status=429, retry_after=500.0))
        runner = RowRunner(lm, 4, Limits(), Counts())
        rows = [
            asyncio.ensure_future(runner.run_row(row)) for row in identified(named(*"abcdefgh"))
        ]
        for _ in range(50):  # one was refused, and the others wait for their turn
            await asyncio.sleep(0)
        runner.drain()
        assert await asyncio.wait_for(asyncio.gather(*rows), 10) == [None] * 8
        assert len(lm.requests) == 1
        runner.close()

    asyncio.run(main())


class Refusing:
    """A provider that refuses each attempt once it is told to."""

    def __init__(self) -> None:
        self.attempts: list[Future[None]] = []

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Flow[Answer]:
        self.attempts.append(Future())
        yield Wait(self.attempts[-1])
        raise errors.RateLimitError("no", status=429, retry_after=30.0)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_job_that_stops_waits_for_no_further_attempt_of_a_call(when: str) -> None:
    async def main() -> None:
        provider = Refusing()
        lm = lm_from(provider, "refusing", model="m")
        runner = RowRunner(lm, 4, Limits(), Counts())
        row = asyncio.ensure_future(runner.run_row(next(identified(named("a")))))
        while not provider.attempts:
            await asyncio.sleep(0)
        if when == "before":
            runner.drain()
        provider.attempts[0].set_result(None)
        for _ in range(50):  # it has been refused, and waits for 30 s
            await asyncio.sleep(0)
        runner.drain()
        assert await asyncio.wait_for(row, 10) is None
        assert len(provider.attempts) == 1
        assert runner.limit.in_flight == 0
        runner.close()

    asyncio.run(main())


def test_a_row_whose_job_stops_and_is_cancelled_is_cancelled() -> None:
    async def main() -> None:
        provider = Refusing()
        lm = lm_from(provider, "refusing", model="m")
        runner = RowRunner(lm, 4, Limits(), Counts())
        row = asyncio.ensure_future(runner.run_row(next(identified(named("a")))))
        while not provider.attempts:
            await asyncio.sleep(0)
        provider.attempts[0].set_result(None)
        for _ in range(50):
            await asyncio.sleep(0)
        runner.drain()
        row.cancel()
        with pytest.raises(asyncio.CancelledError):
            await row
        runner.close()

    asyncio.run(main())


# -- Ctrl-C ------------------------------------------------------------------------------------

PROGRAM = """
import sys, json
from lmgateway.batch import run
rows = ({"custom_id": str(n), "prompt": f"prompt {n}"} for n in range(100000))
try:
    run(rows, sys.argv[1], "openai", model="m", api_base=sys.argv[2], concurrency=8)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.loopback
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_drains_and_the_second_stops(output: Path, presses: int) -> None:
    delay = "0.2" if presses == 1 else "60"
    with (
        serve_chat("--delay", delay, "--keep") as server,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(output), server.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        waiting = threading.Event()
        while server.stats()["calls"] < 8 and process.poll() is None:
            waiting.wait(0.02)
        process.send_signal(signal.SIGINT)
        if presses == 2:
            assert process.stderr is not None
            assert "Ctrl-C again" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=30)
        calls = server.stats()["calls"]
    assert said == "interrupted\n", complaints
    assert "Traceback" not in complaints
    assert len(lines(output)) == (calls if presses == 1 else 0)


def test_public_names_exist() -> None:
    for name in lmgateway.batch.__all__:
        assert getattr(lmgateway.batch, name)
