"""Semaphores and rate limiters by themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from support.collector import LINES, Collector

from lmgateway._layers import permits
from lmgateway._layers.limit import Limiter, Limits
from lmgateway._layers.permits import Permit, RateLimiter, Reservation, Semaphore


class Clock:
    """Stands in for the clock of the machine, not for anything of ours."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(permits, "monotonic", clock)
    return clock


def seconds(rate: RateLimiter, units: float = 1, longest: float = 1e9) -> float:
    reservation = rate.reserve(units, longest)
    assert isinstance(reservation, Reservation)
    return reservation.seconds


# -- rates -------------------------------------------------------------------------------------


def test_units_are_spread_evenly(clock: Clock) -> None:
    rate = RateLimiter(0.5, 0)
    assert [seconds(rate) for _ in range(4)] == [0.0, 0.5, 1.0, 1.5]


def test_a_burst_leaves_at_once_and_then_the_pace_holds(clock: Clock) -> None:
    rate = RateLimiter(0.5, 2)
    assert [seconds(rate) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 1.0]


def test_time_that_passed_unused_is_no_credit(clock: Clock) -> None:
    rate = RateLimiter(0.5, 1)
    clock.now += 3600
    assert [seconds(rate) for _ in range(3)] == [0.0, 0.0, 0.5]


def test_more_than_the_burst_is_let_through_and_paid_afterwards(clock: Clock) -> None:
    rate = RateLimiter(0.1, 10)
    assert seconds(rate, 1000) == 0.0
    assert seconds(rate, 1) == pytest.approx(99.0)


def test_nothing_is_reserved_for_who_cannot_wait_so_long(clock: Clock) -> None:
    rate = RateLimiter(1.0, 0)
    seconds(rate)
    assert rate.reserve(1, longest=0.5) == pytest.approx(1.0)
    assert seconds(rate) == pytest.approx(1.0)


def test_the_last_slot_can_be_given_back(clock: Clock) -> None:
    rate = RateLimiter(1.0, 0)
    seconds(rate)
    reservation = rate.reserve(1, 10)
    assert isinstance(reservation, Reservation)
    reservation.cancel()
    assert seconds(rate) == pytest.approx(1.0)


def test_a_slot_before_others_is_not_given_back(clock: Clock) -> None:
    rate = RateLimiter(1.0, 0)
    reservation = rate.reserve(1, 10)
    assert isinstance(reservation, Reservation)
    seconds(rate)
    reservation.cancel()
    assert seconds(rate) == pytest.approx(2.0)


@pytest.mark.parametrize("units, due", [(5, 15.0), (-5, 5.0)])
def test_a_correction_moves_what_comes_next(clock: Clock, units: float, due: float) -> None:
    rate = RateLimiter(1.0, 0)
    seconds(rate, 10)
    rate.correct(units)
    assert seconds(rate) == pytest.approx(due)


@pytest.mark.parametrize("rpm", [1, 7, 59, 61, 150, 600])
def test_no_minute_sees_more_requests_than_the_limit(clock: Clock, rpm: int) -> None:
    rate = Limiter("p", Limits(rpm=rpm)).requests
    assert rate is not None
    times = [seconds(rate) for _ in range(2 * rpm + 1)]
    assert all(late - early > 59.999 for early, late in zip(times, times[rpm:], strict=False))
    assert times[rpm] < 66  # and it is made good use of


# -- permits -----------------------------------------------------------------------------------


def granted(permit: Permit) -> bool:
    return permit.granted is None or permit.granted.done()


def test_a_gate_lets_in_as_many_as_it_has_places() -> None:
    semaphore = Semaphore(2)
    assert [granted(semaphore.acquire()) for _ in range(4)] == [True, True, False, False]


def test_a_place_is_handed_to_the_first_in_the_queue() -> None:
    semaphore = Semaphore(1)
    first, second, third = semaphore.acquire(), semaphore.acquire(), semaphore.acquire()
    first.release()
    assert (granted(second), granted(third)) == (True, False)
    second.release()
    assert granted(third)


def test_nobody_overtakes_the_queue() -> None:
    semaphore = Semaphore(1)
    first, waiting = semaphore.acquire(), semaphore.acquire()
    first.release()
    assert granted(waiting)
    assert not granted(semaphore.acquire())


def test_who_leaves_the_queue_is_passed_over() -> None:
    semaphore = Semaphore(1)
    first, second, third = semaphore.acquire(), semaphore.acquire(), semaphore.acquire()
    second.release()
    first.release()
    assert granted(third)


def test_who_was_granted_a_place_unseen_gives_it_back() -> None:
    semaphore = Semaphore(1)
    first, second, third = semaphore.acquire(), semaphore.acquire(), semaphore.acquire()
    first.release()
    second.release()
    assert granted(third)


def test_leaving_twice_frees_one_place() -> None:
    semaphore = Semaphore(1)
    first, second, third = semaphore.acquire(), semaphore.acquire(), semaphore.acquire()
    first.release()
    first.release()
    assert (granted(second), granted(third)) == (True, False)


@pytest.mark.parametrize("number", LINES)
def test_the_collector_may_drop_one_while_another_enters(number: int) -> None:
    """As in a finalizer that runs while this very thread is inside the semaphore."""
    semaphore = Semaphore(1)
    first, second = semaphore.acquire(), semaphore.acquire()
    with Collector(permits, number, first.release):
        third = semaphore.acquire()
    first.release()
    assert (granted(second), granted(third)) == (True, False)
    second.release()
    assert granted(third)


def in_thread(action: Callable[[], Permit]) -> Permit:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(action).result()


def test_a_wait_for_places_of_ones_own_thread_could_never_end() -> None:
    semaphore = Semaphore(2)
    semaphore.acquire(), semaphore.acquire()
    assert semaphore.acquire().owner == threading.get_ident()
    assert in_thread(semaphore.acquire).owner is None


def test_a_wait_for_another_threads_place_can_end() -> None:
    semaphore = Semaphore(2)
    semaphore.acquire(), in_thread(semaphore.acquire)
    assert semaphore.acquire().owner is None


def test_ones_own_in_the_queue_before_count_for_they_come_first() -> None:
    semaphore = Semaphore(1)
    in_thread(semaphore.acquire), semaphore.acquire()
    assert semaphore.acquire().owner == threading.get_ident()


def test_threads_that_come_and_go_at_random_never_exceed_the_size_and_none_is_lost() -> None:
    semaphore, size, inside, most = Semaphore(3), 3, 0, 0
    lock = threading.Lock()

    def visit(seed: int) -> int:
        nonlocal inside, most
        random, visits = Random(seed), 0
        for _ in range(100):
            permit = semaphore.acquire()
            if permit.granted is not None:
                if random.random() < 0.2:  # gives up while it waits
                    permit.release()
                    continue
                permit.granted.result(30)
            with lock:
                inside += 1
                most = max(most, inside)
            with lock:
                inside -= 1
            permit.release()
            visits += 1
        return visits

    with ThreadPoolExecutor(8) as pool:
        visits = sum(pool.map(visit, range(8)))
    assert visits > 0
    assert most <= size
    assert all(granted(semaphore.acquire()) for _ in range(size))
