"""Figures: what a report tells of the rows of a batch, gathered in one pass and in flat memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import ceil, floor, log10
from random import Random
from typing import Any

from .results import Results

__all__ = ["ErrorKind", "Figures", "Histogram", "gather"]

STEPS = 40  # bins for each power of ten: neighbours differ by 6 %
LEAST = 1e-12  # what is smaller counts as 0
EXAMPLES = 3
SAMPLES = 8
MOST_KINDS = 50  # names that are told apart; a service may invent any number
OTHERS = "others"


class Histogram:
    """How often values of each size occur, in bins of equal ratio; exact in number, sum and ends.

    Attributes:
        count: How many values there are.
        total: Their sum.
        least: The smallest; 0 without any.
        most: The largest; 0 without any.
        zeros: How many of them are 0.
        bins: How many lie in each bin; bin n begins at 10 ** (n / STEPS).
    """

    def __init__(self) -> None:
        self.count = self.zeros = 0
        self.total = self.least = self.most = 0.0
        self.bins: Counter[int] = Counter()

    def add(self, value: float) -> None:
        """Count a value of at least 0."""
        self.least = min(self.least, value) if self.count else value
        self.most = max(self.most, value)
        self.count += 1
        self.total += value
        if value > LEAST:
            self.bins[floor(log10(value) * STEPS)] += 1
        else:
            self.zeros += 1

    @property
    def mean(self) -> float:
        """The mean; 0 without any value."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, share: float) -> float:
        """The value below which this share of all lies, to about 3 %."""
        rank = ceil(share * self.count)
        seen = self.zeros
        if not self.count or rank <= seen:
            return 0.0
        for number in sorted(self.bins):
            seen += self.bins[number]
            if seen >= rank:
                middle = 10 ** ((number + 0.5) / STEPS)
                return min(max(middle, self.least), self.most)
        return self.most


@dataclass(slots=True)
class ErrorKind:
    """Rows that failed for one reason.

    Attributes:
        count: How many.
        examples: The ``custom_id`` and the message of the first few, messages that differ.
    """

    count: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class ModelFigures:
    """What one model answered.

    Attributes:
        rows: Answers.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        cost: US dollars, of those answers whose price is known.
        unpriced: Answers whose price is not known.
    """

    rows: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0


@dataclass(slots=True)
class Figures:
    """See the module.

    Attributes:
        answered: Rows with an answer.
        failed: Rows with an error.
        cached: Answers that the cache or a recording gave.
        seconds: How long a call took; of calls that were sent, retries within them included.
        prompt_tokens: Tokens read for an answer.
        completion_tokens: Tokens written for an answer.
        cost: US dollars for an answer that was paid for.
        unpriced: Answers that were paid for, at a price that is not known.
        finishes: Why answers ended.
        errors: By class and HTTP status.
        models: By provider and model.
        samples: Some answers, each with its ``custom_id``, chosen by chance.
    """

    answered: int = 0
    failed: int = 0
    cached: int = 0
    seconds: Histogram = field(default_factory=Histogram)
    prompt_tokens: Histogram = field(default_factory=Histogram)
    completion_tokens: Histogram = field(default_factory=Histogram)
    cost: Histogram = field(default_factory=Histogram)
    unpriced: int = 0
    finishes: Counter[str] = field(default_factory=Counter)
    errors: dict[str, ErrorKind] = field(default_factory=dict)
    models: dict[str, ModelFigures] = field(default_factory=dict)
    samples: list[tuple[str, str]] = field(default_factory=list)


def gather(results: Results) -> Figures:
    """The figures of all rows."""
    figures, random = Figures(), Random(0)  # the same page for the same rows
    for record in results:
        if record["error_type"] is not None:
            _add_error(figures, record)
        else:
            _add_answer(figures, record, random)
    return figures


def _add_error(figures: Figures, record: dict[str, Any]) -> None:
    figures.failed += 1
    status = record["error_status"]
    name = record["error_type"] + (f" ({status})" if status else "")
    if name not in figures.errors and len(figures.errors) >= MOST_KINDS:
        name = OTHERS
    kind = figures.errors.setdefault(name, ErrorKind())
    kind.count += 1
    message = (record["error_message"] or "")[:500]
    if len(kind.examples) < EXAMPLES and all(message != each for _, each in kind.examples):
        kind.examples.append((record["custom_id"][:200], message))


def _add_answer(figures: Figures, record: dict[str, Any], random: Random) -> None:
    figures.answered += 1
    figures.finishes[_bounded(record["finish_reason"] or "untold", figures.finishes)] += 1
    read, written, cost = (
        record["prompt_tokens"], record["completion_tokens"], record["cost"],
    )  # fmt: skip
    name = "/".join(filter(None, (record["provider"], record["model"]))) or "unknown"
    model = figures.models.setdefault(_bounded(name, figures.models), ModelFigures())
    model.rows += 1
    model.prompt_tokens += read or 0
    model.completion_tokens += written or 0
    if read is not None:
        figures.prompt_tokens.add(read)
    if written is not None:
        figures.completion_tokens.add(written)
    if record["cached"]:
        figures.cached += 1
    else:
        if record["seconds"] is not None:
            figures.seconds.add(record["seconds"])
        if cost is None:
            figures.unpriced += 1
            model.unpriced += 1
        else:
            figures.cost.add(cost)
            model.cost += cost
    sample = (record["custom_id"][:200], (record["answer"] or "")[:2000])
    if len(figures.samples) < SAMPLES:
        figures.samples.append(sample)
    elif (place := int(random.random() * figures.answered)) < SAMPLES:
        figures.samples[place] = sample


def _bounded(name: str, known: dict[str, Any]) -> str:
    return name[:100] if name[:100] in known or len(known) < MOST_KINDS else OTHERS
