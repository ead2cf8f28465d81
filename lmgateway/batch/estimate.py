"""Estimates: what a batch will read, may write and may cost, told before anything is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from .._call.allowlist import check_row
from .._guard.paths import absolute
from .._records.usage import price
from ..errors import InputError, UnsupportedError
from ..lm import LM, spec_of
from .job import beside, read_job
from .journal import Rows
from .plan import Plan
from .progress import dollars
from .rows import DigestCounter, Row, digest

__all__ = ["Estimate", "describe_estimate", "estimate"]

BYTES_A_TOKEN = 4  # of UTF-8: about right for English and for Chinese; code takes somewhat more
_TEXTS = ("prompt", "messages", "system", "schema", "tools")
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_NOT_TEXT = frozenset({"data", "image_url", "url", "input_audio", "file_data", "state"})


@dataclass(slots=True)
class ModelEstimate:
    """What is to be asked of one model.

    Attributes:
        rows: Rows.
        prompt_tokens: Tokens to read, estimated from the length of the texts.
        limit_tokens: Tokens to write at most, of the rows that have a limit.
        unlimited: Rows without a limit to their answer.
    """

    rows: int = 0
    prompt_tokens: int = 0
    limit_tokens: int = 0
    unlimited: int = 0


@dataclass(slots=True)
class Estimate:
    """What a batch would do.

    Attributes:
        provider: Who would be asked.
        rows: Rows of the input.
        done: Those that are in the output already.
        faulty: Those that would fail without being asked.
        first_fault: Why the first of these would fail.
        media: Rows with images, audio or files, whose tokens are not estimated.
        models: What is to be asked of each model.
    """

    provider: str
    rows: int = 0
    done: int = 0
    faulty: int = 0
    first_fault: str = ""
    media: int = 0
    models: dict[str, ModelEstimate] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """Rows that would be asked."""
        return sum(each.rows for each in self.models.values())

    @property
    def prompt_tokens(self) -> int:
        """Tokens to read, estimated."""
        return sum(each.prompt_tokens for each in self.models.values())

    @property
    def most_tokens(self) -> int | None:
        """Tokens to write at most; None if any row has no limit."""
        if any(each.unlimited for each in self.models.values()):
            return None
        return sum(each.limit_tokens for each in self.models.values())

    @property
    def least_cost(self) -> Decimal | None:
        """US dollars for what is read alone; None if the price of any model is not known."""
        return self._cost(dict.fromkeys(self.models, 0))

    @property
    def most_cost(self) -> Decimal | None:
        """US dollars if each answer is as long as its limit; None if that is not known."""
        if self.most_tokens is None:
            return None
        return self._cost({name: each.limit_tokens for name, each in self.models.items()})

    @property
    def unpriced(self) -> list[str]:
        """The models whose price is not known."""
        return [name for name, each in self.models.items() if self._row_cost(name, each, 0) is None]

    def _cost(self, written: Mapping[str, int]) -> Decimal | None:
        total = Decimal(0)
        for name, each in self.models.items():
            cost = self._row_cost(name, each, written[name])
            if cost is None:
                return None
            total += cost * each.rows
        return total

    def _row_cost(self, name: str, each: ModelEstimate, written: int) -> Decimal | None:
        """The price of a row of the mean size: prices may differ with the length of a prompt."""
        rows = max(1, each.rows)
        usage = {"prompt_tokens": each.prompt_tokens // rows, "completion_tokens": written // rows}
        return price({"provider": self.provider, "model": name, "usage": usage})


def estimate(plan: Plan) -> Estimate:
    """What a plan would do; nothing is asked and no file is written.

    Raises InputError where the run would, for what is known before its first row.
    """
    with plan.open_lm() as lm:
        _, read = plan.open_rows(lm)
        done = _done(plan)
        found = Estimate(lm.provider)
        for row in read():
            found.rows += 1
            if digest(row.id) in done:
                found.done += 1
            elif fault := _fault(row, lm):
                found.faulty += 1
                found.first_fault = found.first_fault or str(fault)
            else:
                _add(found, row, lm)
        return found


def _done(plan: Plan) -> DigestCounter:
    """The ids of the rows that are in the output."""
    done = DigestCounter()
    output = Path("-") if plan.to_stdout else Path(absolute(plan.output, "output"))
    if plan.to_stdout or not beside(output).exists():
        return done
    errors = read_job(output).get("errors")
    for path in filter(None, (output, errors and output.parent / errors)):
        with suppress(FileNotFoundError), path.open("rb") as file:
            for line in Rows(file, str(path)):
                if line.error is None or not plan.retry_errors:
                    done.add(digest(line.id))
    return done


def _fault(row: Row, lm: LM) -> Exception | None:
    if row.fault is not None:
        return row.fault
    try:
        check_row(row.arguments, spec_of(lm), f"row {row.number}")
    except (InputError, UnsupportedError) as error:
        return error
    return None


def _add(found: Estimate, row: Row, lm: LM) -> None:
    each = found.models.setdefault(row.model or lm.model, ModelEstimate())
    arguments: dict[str, Any] = {"system": spec_of(lm).system, **lm.params, **row.arguments}
    size, media = 0, False
    for name in _TEXTS:
        for text in _texts(arguments.get(name)):
            size += len(text.encode("utf-8", "replace"))
            media = media or not text
    found.media += media
    each.rows += 1
    each.prompt_tokens += -(-size // BYTES_A_TOKEN)
    limits = [arguments[name] for name in _LIMITS if isinstance(arguments.get(name), int)]
    if limits:
        count = arguments.get("n")
        each.limit_tokens += min(limits) * (count if isinstance(count, int) else 1)
    else:
        each.unlimited += 1


def _texts(value: Any) -> Iterator[str]:
    """The texts in a value, however deep; an empty one for each thing that is no text."""
    values = [value]
    while values:
        each = values.pop()
        if isinstance(each, str):
            if each:
                yield each
        elif isinstance(each, Mapping):
            for name, part in each.items():
                if name in _NOT_TEXT and isinstance(part, (str, Mapping)):
                    yield ""
                else:
                    values.append(part)
        elif isinstance(each, (list, tuple)):
            values += each


def describe_estimate(found: Estimate) -> list[tuple[str, str]]:
    """The estimate in words: names, and what is so."""
    rows = f"{found.rows:,}"
    parts = [f"{found.done:,} done before"] if found.done else []
    parts += [f"{found.faulty:,} would fail: {found.first_fault}"] if found.faulty else []
    lines = [("rows", rows + (f" ({'; '.join(parts)})" if parts else ""))]
    lines.append(("to ask", f"{found.asked:,} of {', '.join(found.models) or 'no model'}"))
    read = f"about {found.prompt_tokens:,}, estimated from the length of the texts"
    if found.media:
        read += f"; images, audio and files of {found.media:,} rows not counted"
    lines.append(("to read", f"{read} (tokens)"))
    if found.most_tokens is None:
        unlimited = sum(each.unlimited for each in found.models.values())
        written = f"unknown: {unlimited:,} of them have no max_tokens"
    else:
        written = f"at most {found.most_tokens:,} (tokens, by max_tokens)"
    lines += [("to write", written), ("price", _price_text(found))]
    return lines


def _price_text(found: Estimate) -> str:
    if not found.asked:
        return "$0: there is nothing to ask"
    least, most = found.least_cost, found.most_cost
    if least is None:
        names = ", ".join(f"{found.provider}/{name}" for name in found.unpriced[:3])
        return f"unknown: no price is known for {names} (they come with the extra [prices])"
    beside = " without images, audio and files" if found.media else ""
    if most is None:
        return f"about {dollars(least)} for what is read{beside}; for what is written, unknown"
    return f"about {dollars(least)} for what is read, {dollars(most)} in all at most{beside}"
