"""What calls used and cost: ``with lmgateway.usage() as used: ...``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from threading import Lock
from typing import cast

from .prices import Answered, price, stated_cost

__all__ = ["UsageTotals", "account", "price", "usage"]

_open: ContextVar[tuple[UsageTotals, ...]] = ContextVar("lmgateway_usage", default=())


@dataclass(slots=True, eq=False)
class UsageTotals:
    """Sums over the calls of a block: completions, embeddings and documents in order.

    Attributes:
        calls: Calls that were answered, and attempts that ended without an answer but may be
            billed. A list of models and a count of tokens do not count: they are free.
        cached: Those of them answered by the cache or a recording: they cost nothing.
        prompt_tokens: Tokens read, as the services counted them; cached calls count too.
        completion_tokens: Tokens written, counted in the same way.
        known_cost: US dollars, for the calls whose price is known.
        unpriced: How many calls were sent whose price is unknown, by provider and model.
        failed: Attempts that ended without an answer and count all the same, because each may be
            billed: the service told what it used, or had taken the request. So it is of a stream
            that was left, and of a call that timed out.
    """

    calls: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    known_cost: Decimal = Decimal(0)
    unpriced: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    @property
    def total_tokens(self) -> int:
        """Tokens read and written."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def cost(self) -> Decimal | None:
        """US dollars in all; None if the price of any call is unknown: see ``unpriced``."""
        return None if self.unpriced else self.known_cost

    def add(self, answer: Answered, *, failed: bool = False, partial: bool = False) -> None:
        """Add one call: its answer; of a failed one its usage, provider and model.

        Args:
            answer: What is added.
            failed: Whether it is an attempt that ended without an answer.
            partial: Whether its usage was told before the end: then the cost is not known by it,
                unless the service states one.
        """
        usage: object = answer.get("usage")
        used: Mapping[str, object] = usage if isinstance(usage, Mapping) else {}
        if answer.get("cached"):
            paid: Decimal | None = Decimal(0)
        else:
            paid = stated_cost(used) if partial else price(answer)
        with self._lock:
            self.calls += 1
            self.failed += failed
            self.cached += bool(answer.get("cached"))
            self.prompt_tokens += _count(used.get("prompt_tokens"))
            self.completion_tokens += _count(used.get("completion_tokens"))
            if paid is not None:
                self.known_cost += paid
            else:
                name = f"{answer.get('provider', '')}/{answer.get('model', '')}"
                self.unpriced[name] = self.unpriced.get(name, 0) + 1

    def __str__(self) -> str:
        cost = "unknown" if self.cost is None else f"${self.cost:.6f}"
        return (
            f"{self.calls} calls ({self.cached} cached), {self.prompt_tokens} tokens read, "
            f"{self.completion_tokens} written, cost {cost}"
        )


def _count(tokens: object) -> int:
    is_count = type(tokens) is int and tokens >= 0  # what a service says is not always one
    return cast(int, tokens) if is_count else 0


@contextmanager
def usage() -> Iterator[UsageTotals]:
    """Sum up the calls made inside the block, over all LMs: their tokens and what they cost.

    Blocks may be nested, and each counts. Tasks that are created inside belong to the block;
    a thread does when it runs in a copy of the context, as those of ``lm.batch`` do
    (``pool.submit(contextvars.copy_context().run, lm, prompt)``).
    """
    totals = UsageTotals()
    token = _open.set((*_open.get(), totals))
    try:
        yield totals
    finally:
        _open.reset(token)


def account(answer: Answered, *, failed: bool = False, partial: bool = False) -> None:
    """Count one call in every block around it; the core does so once for each attempt."""
    for totals in _open.get():
        totals.add(answer, failed=failed, partial=partial)
