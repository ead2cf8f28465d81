"""``Blocking(cancel=)``: called once, and only when nobody waits for work that has not ended."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from lmgateway import LM, hookimpl
from lmgateway.errors import PluginContractError, RequestTimeoutError
from lmgateway.testing import lm_from
from lmgateway.types import Answer, Blocking, Emit, Flow, Request, read, send

LONG = 30.0


class Work:
    """Work that hangs until it is cancelled or let go of, as a plugin of its own."""

    def __init__(self, *, stream: bool, cancelled: Callable[[], None] = lambda: None) -> None:
        self.stream = stream
        self.cancels: list[str] = []
        self.begun = threading.Event()
        self.over = threading.Event()
        self.ended = threading.Event()
        self._cancelled = cancelled

    def cancel(self) -> None:
        self.cancels.append(threading.current_thread().name)
        self.over.set()
        self._cancelled()

    def run(self, *pushes: Any) -> str:
        try:
            for push in pushes:
                push(b"Par")
            self.begun.set()
            assert self.over.wait(LONG)
            for push in pushes:
                push(b"is.")
            return "Paris."
        finally:
            self.ended.set()

    @hookimpl
    def lmgateway_stream(self, request: Request) -> Flow[Answer]:
        got = yield from send(Blocking(self.run, stream=self.stream, cancel=self.cancel))
        if self.stream:
            text = ""
            while piece := (yield from read(got)):
                text += piece.decode()
                yield Emit(piece.decode())
            got = text
        return {"prompt": "", "choices": [{"text": got}]}

    lmgateway_complete = lmgateway_stream


def lm_of(work: Work, **options: Any) -> LM:
    return lm_from(work, model="m", retries=0, **options)


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def work(request: pytest.FixtureRequest) -> Any:
    work = Work(stream=request.param)
    yield work
    work.over.set()


def at_the_deadline(work: Work) -> None:
    with pytest.raises(RequestTimeoutError):
        lm_of(work, timeout=0.2)("q")


def at_the_deadline_awaited(work: Work) -> None:
    async def ask() -> None:
        with pytest.raises(RequestTimeoutError):
            await lm_of(work, timeout=0.2).acall("q")

    asyncio.run(ask())


def when_its_task_is_cancelled(work: Work) -> None:
    async def ask() -> None:
        task = asyncio.ensure_future(lm_of(work).acall("q"))
        await asyncio.to_thread(work.begun.wait, LONG)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask())


def when_its_stream_is_closed_from_elsewhere(work: Work) -> None:
    stream = lm_of(work).stream("q")
    reader = threading.Thread(target=list, args=(stream,))
    reader.start()
    assert work.begun.wait(LONG)
    stream.close()
    reader.join(LONG)
    assert not reader.is_alive()


def when_ctrl_c_strikes(work: Work) -> None:
    from lmgateway._drive import loops

    wait = loops.wait

    def struck(*args: Any) -> bool:
        assert work.begun.wait(LONG)
        raise KeyboardInterrupt

    loops.wait = struck
    try:
        with pytest.raises(KeyboardInterrupt):
            lm_of(work)("q")
    finally:
        loops.wait = wait


@pytest.mark.parametrize(
    "leave",
    [
        at_the_deadline,
        at_the_deadline_awaited,
        when_its_task_is_cancelled,
        when_its_stream_is_closed_from_elsewhere,
        when_ctrl_c_strikes,
    ],
)
def test_work_that_nobody_waits_for_is_cancelled_once(
    work: Work, leave: Callable[[Work], None]
) -> None:
    leave(work)
    assert len(work.cancels) == 1
    assert work.ended.wait(LONG)


@pytest.mark.parametrize("ending", ["closed", "dropped"])
def test_a_reader_who_leaves_cancels_a_stream(ending: str) -> None:
    work = Work(stream=True)
    stream = lm_of(work).stream("q")
    assert next(stream) == "Par"
    if ending == "closed":
        stream.close()
        stream.close()
    else:
        del stream
        gc.collect()
    assert len(work.cancels) == 1
    assert work.ended.wait(LONG)


def test_work_that_ended_by_itself_is_not_cancelled(work: Work) -> None:
    work.over.set()
    assert "".join(lm_of(work).stream("q")) in ("Paris.", "")
    assert lm_of(work)("q") == ["Paris."]
    assert not work.cancels


def test_work_that_failed_is_not_cancelled(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise PluginContractError("no")

    monkeypatch.setattr(work, "run", fail)
    with pytest.raises(PluginContractError):
        lm_of(work)("q")
    assert not work.cancels


@pytest.mark.parametrize("raised", [RuntimeError("secret sk-0123456789"), SystemExit(1)])
def test_what_cancel_raises_is_a_warning_that_names_the_plugin(
    raised: BaseException, work: Work
) -> None:
    def fail() -> None:
        raise raised

    work._cancelled = fail
    with pytest.warns(RuntimeWarning, match="acme.*when its work was cancelled"):
        at_the_deadline(work)
    assert len(work.cancels) == 1


def test_what_cannot_be_called_is_refused_before_the_work(work: Work) -> None:
    work.cancel = "no"  # type: ignore[assignment, method-assign]
    with pytest.raises(PluginContractError, match="Blocking with a wrong value"):
        lm_of(work)("q")
    assert not work.begun.is_set()


def test_cancelled_work_gives_its_place_in_flight_back_when_it_ends(
    work: Work, tmp_path: Any
) -> None:
    config = tmp_path / "lmgateway.toml"
    config.write_text("[limits.acme]\nin_flight = 1\n")
    with pytest.raises(RequestTimeoutError):
        lm_of(work, config=config, timeout=0.2)("q")
    assert work.ended.wait(LONG)
    assert lm_of(work, config=config, timeout=LONG)("q") == ["Paris."]
