"""The tally: what a run has done so far, and the summary at its end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.util import find_spec
from time import monotonic

from .._records.usage import price
from ..errors import LMGatewayError
from ..types import Completion

__all__ = ["Summary", "Tally"]


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a run.

    Attributes:
        total: Rows of the input; None where that is not known.
        skipped: Rows that were done before.
        answered: Rows answered in this run.
        failed: Rows that went to the errors in this run.
        errors: How many of those, by class.
        prompt_tokens: Tokens read, as the service counted them.
        completion_tokens: Tokens written, likewise.
        cached: Rows that the cache or a recording answered.
        cost: US dollars; None if the price of any answer is unknown.
        attempts: Requests sent, retries included.
        rejections: How many of them were answered 429, 503 or 529.
        seconds: How long it took.
        interrupted: Whether it was stopped by Ctrl-C before the end.
    """

    total: int | None
    skipped: int
    answered: int
    failed: int
    errors: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    cached: int
    cost: Decimal | None
    attempts: int
    rejections: int
    seconds: float
    interrupted: bool = False

    @property
    def done(self) -> int:
        """Rows of this run that are in the output."""
        return self.answered + self.failed


@dataclass(slots=True)
class Tally:
    """Counts while a run goes on; see Summary. Its size does not depend on the rows."""

    total: int | None = None
    skipped: int = 0
    answered: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: int = 0
    known_cost: Decimal = Decimal(0)
    attempts: int = 0
    rejections: int = 0
    interrupted: bool = False
    started: float = field(default_factory=monotonic)
    _priced: bool = field(default_factory=lambda: find_spec("genai_prices") is not None)
    _unpriced: set[tuple[str, str]] = field(default_factory=set)

    def answer(self, completion: Completion) -> None:
        """Count an answer."""
        self.answered += 1
        usage = completion.get("usage") or {}
        self.prompt_tokens += usage.get("prompt_tokens") or 0
        self.completion_tokens += usage.get("completion_tokens") or 0
        if completion.get("cached"):
            self.cached += 1
        elif self._priced:
            self._pay(completion)

    def fail(self, error: LMGatewayError) -> None:
        """Count a row that goes to the errors."""
        self.errors[type(error).__name__] += 1

    def _pay(self, completion: Completion) -> None:
        who = (completion.get("provider", ""), completion.get("model", ""))
        if who not in self._unpriced:  # a look-up that fails is slow
            paid = price(completion)
            if paid is None:
                self._unpriced.add(who)
            else:
                self.known_cost += paid

    @property
    def failed(self) -> int:
        """Rows that went to the errors."""
        return sum(self.errors.values())

    @property
    def cost(self) -> Decimal | None:
        """US dollars; None if not known."""
        paid = self.answered - self.cached
        return None if self._unpriced or (paid and not self._priced) else self.known_cost

    def summary(self) -> Summary:
        """The counts as they stand."""
        return Summary(
            total=self.total,
            skipped=self.skipped,
            answered=self.answered,
            failed=self.failed,
            errors=dict(self.errors.most_common()),
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached=self.cached,
            cost=self.cost,
            attempts=self.attempts,
            rejections=self.rejections,
            seconds=monotonic() - self.started,
            interrupted=self.interrupted,
        )
