"""A run: a file of texts embedded, each text once, and written as a file of vectors."""

from __future__ import annotations

import json
import signal
import sys
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._call import flow as flows
from .._call import kinds
from .._call.parts import Room, limits_of
from .._call.validation import check_texts
from .._config.settings import plain_settings
from .._drive.gather import check_concurrency, in_threads
from .._records.usage import price
from ..batch.interrupts import listening
from ..errors import APIError, InputError, LMGatewayError
from ..lm import spec_of
from ..types import Embeddings, EmbedLimits
from .outputs import Embedded, check_output, write_rows
from .progress import Shown, say
from .texts import TextFile, TextRow
from .work import Span, Work

if TYPE_CHECKING:
    from ..lm import LM

__all__ = ["Summary", "embed_file", "split_params"]

#: Texts in one request, where the host would take more or says nothing.
_MOST = 2048
#: What shapes vectors, and is for ``embed`` alone.
_SHAPING = kinds.EMBED.params or frozenset()
#: With one of these statuses a text is refused, and it may be that another one is taken.
_REFUSED = frozenset({400, 413, 422})


@dataclass(slots=True)
class Summary:
    """What became of a run.

    Attributes:
        total: Texts of the file.
        skipped: Those that were embedded before.
        embedded: Those that were embedded now.
        cached: How many of these the cache knew, as far as whole requests go.
        tokens: Tokens read, as the service counted them.
        cost: US dollars; None if the price of any answer is unknown.
        dimensions: Of each vector.
        seconds: How long it took.
        interrupted: Whether it was stopped by Ctrl-C before the end.
    """

    total: int = 0
    skipped: int = 0
    embedded: int = 0
    cached: int = 0
    tokens: int = 0
    cost: Decimal | None = field(default_factory=Decimal)
    dimensions: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    def add(self, count: int, answer: Embeddings) -> None:
        """Count an answer about so many texts."""
        self.embedded += count
        usage = answer.get("usage") or {}
        self.tokens += usage.get("prompt_tokens") or 0
        if answer.get("cached"):
            self.cached += count
            return
        paid = price(answer)
        self.cost = None if paid is None or self.cost is None else self.cost + paid


def split_params(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keywords for get_lm, and those that shape vectors, which ``embed`` takes."""
    shaping = {name: value for name, value in given.items() if name in _SHAPING}
    return {name: value for name, value in given.items() if name not in shaping}, shaping


def embed_file(
    lm: LM,
    source: TextFile,
    output: Path,
    params: Mapping[str, Any],
    *,
    concurrency: int,
    command: str,
) -> Summary:
    """Embed the texts of a file and write their vectors in their order.

    Run again after it was stopped, in whatever way, it asks only for what was not yet there.

    Args:
        lm: Who embeds.
        source: The texts.
        output: Where the vectors go; its ending says in which form.
        params: What shapes vectors.
        concurrency: Requests in flight at most.
        command: What goes on with the work, for messages.

    Raises:
        InputError: A text or a file cannot be used; nothing was sent.
        LMGatewayError: A request failed; what has come is kept.
        OSError: The output cannot be written.
    """
    check_concurrency(concurrency)
    check_output(output)
    if output.suffix == ".npy" and source.id is not None:
        raise InputError("--id is for .jsonl and .parquet: .npy has a row for each text, no names")
    started = monotonic()
    limits = limits_of(flows.varied(kinds.EMBED, spec_of(lm), params))
    with Work(output, _identity(lm, params, source.column)) as work:
        survey = _Survey(source, limits, work.spans)
        had = len(work.spans)
        summary = Summary(total=survey.count)
        summary.skipped = work.keep(survey.digests, read=not work.finished)
        if work.finished and summary.skipped == survey.count:
            work.clear()
        elif work.finished:
            raise InputError(
                f"{output} is whole, and {source.path} is not what it was made of any more: write "
                "to another output, or remove this one"
            )
        elif had and not work.spans and not survey.is_like:
            raise InputError(
                f"{output} was begun with other texts than those of {source.path}: write to "
                f"another output, or remove {output}.job"
            )
        else:
            _Run(lm, source, work, limits, params, summary, command).run(concurrency)
            if not summary.interrupted:
                _write(work, source, survey)
        summary.dimensions = work.dimensions
    summary.seconds = monotonic() - started
    return summary


class _Survey:
    """What a file of texts holds, read once from end to end; each text is checked.

    Attributes:
        count: How many texts there are.
        digests: The digest of the texts of each span, by its begin.
        is_like: Whether any of the spans has the same texts as before.
        id_type: ``int`` if all ids are whole numbers, else ``str``.
    """

    def __init__(self, source: TextFile, limits: EmbedLimits, spans: Mapping[int, Span]) -> None:
        self.count = 0
        self.digests: dict[int, str] = {}
        self.id_type = "int"
        span: Span | None = None
        hashed = blake2b()
        for row in source.read():
            _check(row, source, limits)
            if source.id is not None and type(row.id) is not int:
                self.id_type = "str"
            if self.count in spans:
                span, hashed = spans[self.count], blake2b(digest_size=16)
            self.count += 1
            if span is not None:
                hashed.update(_spelled(row.text))
                if self.count == span.end:
                    self.digests[span.begin], span = hashed.hexdigest(), None
        if not self.count:
            raise InputError(f"there are no texts in {source.path}")
        self.is_like = any(self.digests.get(each.begin) == each.texts for each in spans.values())


def _check(row: TextRow, source: TextFile, limits: EmbedLimits) -> None:
    try:
        check_texts([row.text], limits)
    except InputError as error:
        told = str(error).replace("texts[0]", f"row {row.number} of {source.path}", 1)
        raise InputError(told) from None


def _spelled(text: Any) -> bytes:
    return json.dumps(text).encode() + b"\n"


def _digest(texts: Sequence[Any]) -> str:
    hashed = blake2b(digest_size=16)
    for text in texts:
        hashed.update(_spelled(text))
    return hashed.hexdigest()


def _identity(lm: LM, params: Mapping[str, Any], column: str) -> dict[str, str]:
    """What vectors depend on besides the texts; the key and the host are not in it."""
    text = json.dumps([plain_settings(lm.settings), dict(params)], sort_keys=True, default=str)
    digest = blake2b(text.encode(), digest_size=16).hexdigest()
    return {"provider": lm.provider, "model": lm.model, "settings": digest, "column": column}


class _Part:
    """Texts that go out together.

    Attributes:
        begin: The place of the first, counted from 0.
        texts: All of them.
    """

    __slots__ = ("begin", "texts")

    def __init__(self, begin: int, texts: list[Any]) -> None:
        self.begin = begin
        self.texts = texts

    def halves(self) -> list[_Part]:
        """The second half and the first."""
        middle = len(self.texts) // 2
        first, second = self.texts[:middle], self.texts[middle:]
        return [_Part(self.begin + middle, second), _Part(self.begin, first)]


def _parts(
    rows: Iterator[TextRow], spans: Mapping[int, Span], limits: EmbedLimits
) -> Iterator[_Part]:
    """The texts that have no vector yet, in parts that the host takes as one request."""
    room = Room(replace(limits, texts=min(limits.texts or _MOST, _MOST)))
    part = _Part(0, [])
    done = 0
    for place, row in enumerate(rows):
        if place in spans:
            done = spans[place].end
        has_vector = place < done
        goes_on = not has_vector and room.takes(row.text)
        if part.texts and not goes_on:
            yield part
            part = _Part(place, [])
        if has_vector:
            room.clear()
            continue
        if not part.texts:
            part = _Part(place, [])
        part.texts.append(row.text)
    if part.texts:
        yield part


class _Run:
    """The requests of a run, several in flight."""

    def __init__(
        self,
        lm: LM,
        source: TextFile,
        work: Work,
        limits: EmbedLimits,
        params: Mapping[str, Any],
        summary: Summary,
        command: str,
    ) -> None:
        self._lm = lm
        self._source = source
        self._work = work
        self._params = params
        self._summary = summary
        self._command = command
        self._lock = threading.Lock()
        self._parts = _parts(source.read(), dict(work.spans), limits)
        self._stopped = False

    def run(self, concurrency: int) -> None:
        """Embed all that is missing, or as much as there is before Ctrl-C."""
        with (
            Shown(self._summary.total, self._summary.skipped) as self._shown,
            _interruptible(self._interrupt),
        ):
            try:
                in_threads(concurrency, self._ask_all, self._stop, name="lmgateway-embed")
            except LMGatewayError as error:
                done = self._summary.skipped + self._summary.embedded
                raise error.advise(
                    f"it has stopped with {done:,} of {self._summary.total:,} texts embedded; "
                    f"to go on: {self._command}"
                ) from error.__cause__

    def _ask_all(self) -> None:
        for part in iter(self._take, None):
            waiting = [part]
            while waiting and not self._stopped:
                part = waiting.pop()
                try:
                    answer = self._lm.embed(part.texts, concurrency=1, **self._params)
                except APIError as error:
                    if len(part.texts) == 1 or error.status not in _REFUSED:
                        raise error.advise(f"it was about {self._named(part)}") from error.__cause__
                    waiting += part.halves()  # so the text is found that is refused
                else:
                    self._put(part, answer)

    def _put(self, part: _Part, answer: Embeddings) -> None:
        vectors: Any = answer["embeddings"]
        model = str(answer.get("model") or self._lm.model)
        self._work.put(part.begin, _digest(part.texts), vectors, model)
        with self._lock:
            self._summary.add(len(part.texts), answer)
            self._shown.show(self._summary.skipped + self._summary.embedded, self._summary.tokens)

    def _take(self) -> _Part | None:
        with self._lock:
            return None if self._stopped else next(self._parts, None)

    def _stop(self) -> None:
        self._stopped = True

    def _interrupt(self) -> None:
        self._stopped = self._summary.interrupted = True

    def _named(self, part: _Part) -> str:
        first, last = part.begin + 1, part.begin + len(part.texts)
        rows = f"row {first}" if first == last else f"rows {first} to {last}"
        return f"{rows} of {self._source.path}"


@contextmanager
def _interruptible(stop: Callable[[], None]) -> Iterator[None]:
    """Within the block, the first Ctrl-C lets what is in flight end, and the second does not."""

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop()
        say("waiting for the requests in flight; Ctrl-C again stops at once")

    with listening(interrupt):
        yield


def _write(work: Work, source: TextFile, survey: _Survey) -> None:
    """Make the output of all vectors."""
    now = _Survey(source, EmbedLimits(images=True), work.spans)
    if work.keep(now.digests, read=False) != survey.count or now.count != survey.count:
        raise InputError(f"{source.path} has changed meanwhile: run it again")
    made = work.seal(survey.count)
    if work.output.suffix != ".npy":
        name = "index" if source.id is None else "id"
        id_type = "int" if source.id is None else survey.id_type
        rows = _rows(work, source, survey.count)
        made = write_rows(work.output, rows, name, id_type, work.dimensions)
    work.finish(made)


def _rows(work: Work, source: TextFile, count: int) -> Iterator[Embedded]:
    for row, data in zip(source.read(), work.vectors(count), strict=True):
        vector = array("f", data)
        if sys.byteorder == "big":
            vector.byteswap()
        name = row.number - 1 if source.id is None else row.id
        yield Embedded(name, row.text, vector)
