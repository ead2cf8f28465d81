from __future__ import annotations

import asyncio
from time import monotonic

from lmgateway.batch.gate import FIRST, Gate


async def fill(gate: Gate) -> int:
    """Enter until nobody gets in any more."""
    while gate.flying < int(gate.room):
        await gate.enter()
    return gate.flying


def test_it_begins_with_few_and_is_open_after_a_few_rounds() -> None:
    async def main() -> list[int]:
        gate, sizes = Gate(100), []
        for _ in range(8):
            sizes.append(await fill(gate))
            for _ in range(gate.flying):
                gate.succeed()
                gate.leave()
        return sizes

    first, *others = asyncio.run(main())
    assert first == FIRST
    assert others == sorted(others)
    assert others[-1] == 100


def test_room_that_nobody_uses_does_not_grow() -> None:
    gate = Gate(100)
    for _ in range(1000):
        gate.flying = 1
        gate.succeed()
    assert gate.room <= FIRST


def test_one_burst_of_refusals_is_one_cut() -> None:
    gate = Gate(100)
    gate.room = 80.0
    began = monotonic()
    for _ in range(50):
        gate.refuse(began)
    assert gate.room == 40.0
    gate.refuse(monotonic())
    assert gate.room == 30.0


def test_there_is_always_room_for_one() -> None:
    gate = Gate(100)
    for _ in range(50):
        gate.refuse(monotonic())
    assert gate.room == 1.0


def test_who_is_cancelled_in_the_queue_takes_no_room() -> None:
    async def main() -> int:
        gate = Gate(1)
        await gate.enter()
        waiting = [asyncio.ensure_future(gate.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        gate.leave()
        waiting[1].cancel()  # it has been let in, and does not know yet
        await asyncio.gather(*waiting[:2], return_exceptions=True)
        await asyncio.wait_for(waiting[2], 10)
        return gate.flying

    assert asyncio.run(main()) == 1


def test_a_pause_lets_nobody_in_before_its_end() -> None:
    async def main() -> float:
        gate, began = Gate(5), monotonic()
        gate.pause(0.05)
        await gate.enter()
        return monotonic() - began

    assert asyncio.run(main()) >= 0.05


def test_a_pause_ends_when_the_job_is_stopping() -> None:
    async def main() -> None:
        stopping = asyncio.Event()
        gate = Gate(5, stopping)
        gate.pause(1000.0)
        entering = asyncio.ensure_future(gate.enter())
        await asyncio.sleep(0)
        assert not entering.done()
        stopping.set()
        await asyncio.wait_for(entering, 10)

    asyncio.run(main())
