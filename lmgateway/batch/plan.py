"""The plan: the arguments of a run, checked before anything is opened."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .._base.values import shown
from .._config.settings import plain_settings
from .._drive.gather import check_concurrency
from .._guard.paths import absolute
from .._layers.limit import Limits
from ..errors import InputError
from ..lm import LM, get_lm, spec_of
from .job import Fingerprint, relative
from .rows import Raw, Row, check_columns, digest, identified, labels_of
from .sources import Input, RowSource, check_rows, open_source

__all__ = ["Plan"]

#: Calls in flight, or actors: each is a task or a process, before any of them has asked.
MOST = 100_000

#: How many rows, for each call in flight, a row may be ahead of the first without a reply.
WINDOW = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do; see ``lmgateway.batch.run`` for the fields.

    Attributes:
        command: What resumes the job, for messages.
        workers: How many Ray actors ask; None for this process.
    """

    source: Input
    output: str | os.PathLike[str]
    lm: LM | str | None = None
    errors: str | os.PathLike[str] | None = None
    concurrency: int = 100
    limits: Limits = field(default_factory=Limits)
    ordered: bool = False
    ignore: Collection[str] = ()
    keep: Collection[str] = ()
    form: str | None = None
    retry_errors: bool = False
    progress: bool = False
    command: str = "run it again with the same arguments"
    workers: int | None = None
    patience: float | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_concurrency(self.concurrency, most=MOST)
        check_patience(self.patience)
        if self.workers is not None:
            check_concurrency(self.workers, name="workers", most=MOST)
        for name in ("ignore", "keep"):
            if not _are_texts(names := getattr(self, name)):
                raise InputError(f"{name} must be a list of names, not {shown(names)}")
        if own := {"response", "error"}.intersection(self.keep):
            raise InputError(
                f"keep: a row of the output has its own {own.pop()!r}: rename that column"
            )
        if not isinstance(self.source, (str, os.PathLike)):
            check_rows(self.source)
        if not (self.lm is None or isinstance(self.lm, (str, LM))):
            raise InputError(f"lm must be an LM or a name for get_lm, not {shown(self.lm)}")
        if self.to_stdout and self.retry_errors:
            raise InputError("a pipe keeps no errors to retry: write to a file")
        given = {"input": self.source, "output": self.output, "errors": self.errors}
        files = [self._path(each, name) for name, each in given.items()]
        named = [path for path in files if path is not None]
        if len(set(map(os.path.realpath, named))) < len(named):
            raise InputError("input, output and errors must be three different files")
        for path in files[1:]:
            if path is not None:
                _check_place(path)

    @property
    def to_stdout(self) -> bool:
        """Whether the answers go to a pipe."""
        return self.output == "-"

    @property
    def kept(self) -> list[str]:
        """The columns that are copied to the output, which has the ``custom_id`` anyway."""
        return [name for name in dict.fromkeys(self.keep) if name != "custom_id"]

    @property
    def window(self) -> int | None:
        """How far rows may be ahead where their order is kept; None where it is not."""
        return self.concurrency * WINDOW if self.ordered else None

    def open_lm(self) -> AbstractContextManager[LM]:
        """The LM, to be used within the block; it is closed then, unless it is the caller's."""
        if not isinstance(self.lm, LM):
            return get_lm(self.lm, **self.keywords)
        return self.lm.copy(**self.keywords) if self.keywords else nullcontext(self.lm)

    def open_rows(self, lm: LM) -> tuple[RowSource, Callable[[], Iterator[Row]]]:
        """The input, whose columns are checked, and what begins to read its rows.

        Raises InputError or UnsupportedError for an input that cannot be used.
        """
        spec = spec_of(lm)
        labels = labels_of(self.kept, spec)
        unasked = labels.union(self.ignore)
        check = partial(check_columns, spec=spec, ignore=unasked, keep=self.kept)
        source = open_source(self.source, self.form, check, labels)
        return source, lambda: self.identified(source.read(), lm)

    def identified(self, raws: Iterable[Raw], lm: LM) -> Iterator[Row]:
        """The rows, each with its id, and without the columns that are not for the model."""
        unasked = labels_of(self.kept, spec_of(lm)).union(self.ignore)
        return identified(raws, unasked, self.kept)

    def errors_path(self) -> Path | None:
        """The file for errors."""
        return self._path(self.errors, "errors")

    def fingerprint(self, source: RowSource, lm: LM) -> Fingerprint:
        """By what the job is known again."""
        errors, output = self.errors_path(), Path(absolute(self.output, "output"))
        return Fingerprint(
            source.digest,
            lm.provider,
            lm.model,
            _digest_of(lm, self.ignore, self.kept),
            None if errors is None else relative(errors, output.parent),
        )

    @staticmethod
    def _path(given: object, name: str) -> Path | None:
        """Where a file is; None for a pipe, an iterable, or none. Raises InputError."""
        if given == "-" or (name == "errors" and given is None):
            return None
        if name == "input" and not isinstance(given, (str, os.PathLike)):
            return None
        return Path(absolute(given, name))


def check_patience(given: object) -> None:
    """Raise InputError for what is no number of seconds."""
    if given is None:
        return
    with suppress(OverflowError):  # an integer of hundreds of digits
        if isinstance(given, (int, float)) and not isinstance(given, bool) and float(given) > 0:
            return
    raise InputError(f"patience must be a number of seconds above 0, not {shown(given)}")


def _are_texts(names: object) -> bool:
    if isinstance(names, (str, bytes)):
        return False
    return isinstance(names, Collection) and all(isinstance(name, str) for name in names)


def _check_place(path: Path) -> None:
    """Refuse a file that cannot be one, before a job leaves its traces beside it."""
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InputError(f"{shown(str(path))} cannot be written: {error.strerror}") from None
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(
            f"{path} is there and is no regular file, so nothing written to it could be resumed: "
            "write to another"
        )
    if not os.path.isdir(path.parent):
        raise InputError(f"there is no folder {path.parent}: make it, or write to another file")


def _digest_of(lm: LM, ignore: Collection[str], keep: Collection[str]) -> str:
    """A digest of what else decides about the answers; the key and the host do not."""
    decisive = {
        "settings": plain_settings(lm.settings),
        "params": lm.params,
        "system": spec_of(lm).system,
        "sample": lm.options.sample,
        "fallbacks": [str(each) for each in lm.options.fallbacks],
        "ignore": sorted(ignore),
        **({"keep": sorted(keep)} if keep else {}),
    }
    return digest(json.dumps(decisive, sort_keys=True, default=str)).hex()
