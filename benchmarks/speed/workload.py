"""What all workers have alike: the prompt, the calls before the clock begins, and the clock."""

from __future__ import annotations

import gc
import time

__all__ = ["PROMPT", "WARM_UP", "Clock", "Figures", "ShortClock"]

PROMPT = "What is the capital of France? Answer in one word, and say why. " * 6
WARM_UP = 5  # calls before the clock begins

Figures = dict[str, float]


class Clock:
    """Wall and CPU time from its making."""

    def __init__(self) -> None:
        gc.collect()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self, per: int = 1) -> Figures:
        """Seconds since then, divided."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {"wall": wall / per, "cpu": cpu / per}


class ShortClock(Clock):
    """A clock for what lasts less than a collection of garbage would."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def add_to(self, total: Figures) -> None:
        """Add what it reads."""
        for name, seconds in self.read().items():
            total[name] += seconds
