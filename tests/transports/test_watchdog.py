import threading
import weakref
from math import inf
from time import monotonic

import pytest

from lmgateway._transports import watchdog
from lmgateway._transports.urllib3_pool import _PlainConnection
from lmgateway._transports.watchdog import Guard


class Bell:
    def __init__(self) -> None:
        self.rung = threading.Event()
        self.at = 0.0
        self.guard = Guard(self.ring)

    def ring(self) -> None:
        self.at = monotonic()
        self.rung.set()


def test_fires_at_its_time_and_not_before() -> None:
    bell, at = Bell(), monotonic() + 0.1
    bell.guard.arm(at)
    assert bell.rung.wait(5)
    assert bell.at >= at
    assert bell.guard.disarm() is False


def test_fires_at_once_when_the_time_is_past() -> None:
    bell = Bell()
    bell.guard.arm(monotonic() - 1)
    assert bell.rung.wait(5)


def test_sleeps_no_longer_than_the_nearest_of_several() -> None:
    late, soon = Bell(), Bell()
    late.guard.arm(monotonic() + 60)
    soon.guard.arm(monotonic() + 0.05)
    assert soon.rung.wait(5)
    assert late.guard.disarm() is True


@pytest.mark.parametrize(
    "first, then", [(0.05, 0.2), (60.0, 0.1), (inf, 0.1)], ids=["later", "sooner", "from never"]
)
def test_a_new_time_takes_the_place_of_the_old(first: float, then: float) -> None:
    bell, now = Bell(), monotonic()
    bell.guard.arm(now + first)
    bell.guard.arm(now + then)
    assert bell.rung.wait(5)
    assert bell.at >= now + then


def test_disarmed_in_time_it_does_not_fire() -> None:
    disarmed, witness = Bell(), Bell()
    disarmed.guard.arm(monotonic() + 0.05)
    assert disarmed.guard.disarm() is True
    witness.guard.arm(monotonic() + 0.1)
    assert witness.rung.wait(5)
    assert not disarmed.rung.is_set()


def test_outlasts_a_time_centuries_away() -> None:
    far, near = Bell(), Bell()
    far.guard.arm(1e12)
    near.guard.arm(monotonic() + 0.05)
    assert near.rung.wait(5)
    assert far.guard.disarm() is True


def test_can_be_armed_again_after_it_fired() -> None:
    bell = Bell()
    for _ in range(2):
        bell.rung.clear()
        bell.guard.arm(monotonic() + 0.02)
        assert bell.rung.wait(5)
    assert bell.guard.disarm() is False
    bell.guard.arm(monotonic() + 60)
    assert bell.guard.disarm() is True


def test_a_thread_that_could_not_be_started_is_started_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(watchdog, "_watchdog", watchdog._Watchdog())
    bell = Bell()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            bell.guard.arm(monotonic())
    other = Bell()
    other.guard.arm(monotonic())
    assert other.rung.wait(5)
    assert bell.rung.wait(5)


def test_what_the_collector_drops_in_the_midst_of_a_check_may_disarm_it() -> None:
    disarmed = threading.Event()

    def shut() -> None:  # runs where the collector may: in the watchdog's thread, inside a check
        guard.disarm()
        disarmed.set()

    guard = Guard(shut)
    guard.arm(monotonic())
    assert disarmed.wait(5)


def test_a_connection_that_is_forgotten_is_not_kept_until_its_time() -> None:
    connection = _PlainConnection("127.0.0.1")
    connection.guard.arm(monotonic() + 60)
    forgotten = weakref.ref(connection)
    del connection
    assert forgotten() is None
