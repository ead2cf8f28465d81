from __future__ import annotations

import asyncio
from time import monotonic

from lmgateway.batch.adaptive_limit import FIRST, AdaptiveLimit


async def fill(limit: AdaptiveLimit) -> int:
    """Enter until nobody gets in any more."""
    while limit.in_flight < int(limit.limit):
        await limit.acquire()
    return limit.in_flight


def test_it_begins_with_few_and_is_open_after_a_few_rounds() -> None:
    async def main() -> list[int]:
        limit, sizes = AdaptiveLimit(100), []
        for _ in range(8):
            sizes.append(await fill(limit))
            for _ in range(limit.in_flight):
                limit.grow()
                limit.release()
        return sizes

    first, *others = asyncio.run(main())
    assert first == FIRST
    assert others == sorted(others)
    assert others[-1] == 100


def test_room_that_nobody_uses_does_not_grow() -> None:
    limit = AdaptiveLimit(100)
    for _ in range(1000):
        limit.in_flight = 1
        limit.grow()
    assert limit.limit <= FIRST


def test_one_burst_of_refusals_is_one_cut() -> None:
    limit = AdaptiveLimit(100)
    limit.limit = 80.0
    began = monotonic()
    for _ in range(50):
        limit.cut(began)
    assert limit.limit == 40.0
    limit.cut(monotonic())
    assert limit.limit == 30.0


def test_there_is_always_room_for_one() -> None:
    limit = AdaptiveLimit(100)
    for _ in range(50):
        limit.cut(monotonic())
    assert limit.limit == 1.0


def test_who_is_cancelled_in_the_queue_takes_no_room() -> None:
    async def main() -> int:
        limit = AdaptiveLimit(1)
        await limit.acquire()
        waiting = [asyncio.ensure_future(limit.acquire()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        limit.release()
        waiting[1].cancel()  # it has been let in, and does not know yet
        await asyncio.gather(*waiting[:2], return_exceptions=True)
        await asyncio.wait_for(waiting[2], 10)
        return limit.in_flight

    assert asyncio.run(main()) == 1


def test_a_pause_lets_nobody_in_before_its_end() -> None:
    async def main() -> float:
        limit, began = AdaptiveLimit(5), monotonic()
        limit.hold_back(0.05)
        await limit.acquire()
        return monotonic() - began

    assert asyncio.run(main()) >= 0.05


def test_a_pause_ends_when_the_job_is_stopping() -> None:
    async def main() -> None:
        stopping = asyncio.Event()
        limit = AdaptiveLimit(5, stopping)
        limit.hold_back(1000.0)
        entering = asyncio.ensure_future(limit.acquire())
        await asyncio.sleep(0)
        assert not entering.done()
        stopping.set()
        await asyncio.wait_for(entering, 10)

    asyncio.run(main())
