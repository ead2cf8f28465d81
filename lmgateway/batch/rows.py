"""Rows: what each one asks, by which id it is known, and how the ids are counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from math import isfinite, isnan
from numbers import Integral
from shlex import quote
from typing import TYPE_CHECKING, Any, TypeAlias

from .._call.allowlist import check_name
from ..errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from .._call.spec import Spec

__all__ = [
    "IGNORE",
    "BadLine",
    "DigestCounter",
    "Raw",
    "Row",
    "check_columns",
    "digest",
    "fields_of",
    "identified",
    "labels_of",
]

Raw: TypeAlias = "str | list[Any] | Mapping[str, Any] | BadLine"
"""What a source gives: a prompt, messages, a dict, or a line that cannot be read."""

IGNORE = "or, if it is no parameter, name it in ignore= or --ignore, or in keep= or --keep"
_ENVELOPE = frozenset({"method", "url", "body", "id"})


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of the input that is no row, and why."""

    content: bytes = field(repr=False)
    fault: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a job.

    Attributes:
        id: Its ``custom_id``, or else a digest of its content and which occurrence of it this is.
        arguments: Keywords for ``LM.complete``.
        model: The model that the row names; None for that of the job.
        raw_endpoint: Whether it is written for ``/completions``: its prompt goes out as it is.
        fault: Why it cannot be asked; None if it can.
        number: Which row of the input it is, counted from 1.
        kept: Columns that stand in the output, too.
    """

    id: str
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)
    model: str | None = None
    raw_endpoint: bool = False
    fault: InputError | UnsupportedError | None = None
    number: int = field(default=0, compare=False)
    kept: Mapping[str, Any] | None = field(default=None, repr=False)


def check_columns(
    names: Iterable[str],
    seen: Iterable[str] | None = None,
    *,
    spec: Spec,
    ignore: Collection[str] = (),
    keep: Collection[str] = (),
) -> None:
    """Refuse a column that no row may have, or that none has, before the first row is asked.

    Args:
        names: The columns; of rows that are no table, see ``fields_of``.
        seen: The fields that any row has, where not all rows have the same; empty if no row has
            any.
        spec: Of the LM that is asked.
        ignore: Columns that are not for the model.
        keep: Columns that must be there.

    Raises InputError, or UnknownParameterError for a name that nobody knows.
    """
    names = list(names)
    beside = {"custom_id", "model", *ignore, *(_ENVELOPE if "body" in names else ())}
    problem: InputError | UnsupportedError | None = None
    odd = []
    for name in names:
        try:
            if name not in beside:
                check_name(name, spec, f"the column {name!r:.80}")
        except (InputError, UnsupportedError) as error:
            problem = problem or error
            odd.append(name)
    if problem is not None:
        raise problem.advise(_ways(odd)) from None
    there = names if seen is None else seen
    if missing := sorted(set(keep).difference(there)) if there else ():
        listed = ", ".join(f"{each!r:.80}" for each in list(there)[:20])
        raise InputError(f"keep: there is no column {missing[0]!r:.80} in the input, but {listed}")


def _ways(names: list[str]) -> str:
    listed = quote(",".join(names)) if len(names) < 20 else "..."
    what, them = ("it is", "it") if len(names) == 1 else (f"{', '.join(names[:20])} are", "them")
    return (
        f"if {what} no parameter: --ignore {listed} leaves {them} out, --keep {listed} copies "
        f"{them} to the output (ignore=[...], keep=[...] in Python)"
    )


def labels_of(keep: Collection[str], spec: Spec) -> frozenset[str]:
    """Those of the kept columns that are not for the model."""
    return frozenset(name for name in keep if not _is_asked(name, spec))


def _is_asked(name: str, spec: Spec) -> bool:
    if name in ("custom_id", "model", "body"):
        return True
    try:
        check_name(name, spec, "")
    except (InputError, UnsupportedError):
        return False
    return True


def fields_of(raws: Iterable[Raw]) -> tuple[list[str], list[str]]:
    """The fields that are columns of some rows, and all fields that any has, in their order.

    A column is what most rows have, or what all have, of which some are null. Those of the
    ``body`` stand beside the others; rows that are no objects have none.
    """
    there, filled = Counter[str](), Counter[str]()
    rows = 0
    for raw in raws:
        if isinstance(raw, Mapping):
            body = raw.get("body")
            both = {**raw, **body} if isinstance(body, Mapping) else raw
            there.update(name for name in both if isinstance(name, str))
            filled.update(k for k, v in both.items() if isinstance(k, str) and v is not None)
            rows += 1
    columns = [name for name, count in filled.items() if 2 * count > rows or there[name] == rows]
    return columns, list(there)


def identified(
    raws: Iterable[Raw], ignore: Collection[str] = (), keep: Collection[str] = ()
) -> Iterator[Row]:
    """The rows of a source, each with an id of its own.

    Two rows of the same content are two samples. Of two rows with the same ``custom_id`` the
    second is at fault, since nobody could tell the answers apart; it gets the id that it would
    have without one.

    Args:
        raws: What the source gives.
        ignore: Names of fields that are not for the model.
        keep: Names of fields that the output should have, too.
    """
    seen = DigestCounter()
    for number, raw in enumerate(raws, 1):
        kept = _kept(raw, keep) if keep else None
        try:
            if isinstance(raw, BadLine):
                raise InputError(raw.fault)
            name, row = _interpret(raw, ignore, keep)
        except (InputError, UnsupportedError) as error:
            name, row = None, Row("", fault=error)
            with suppress(InputError):
                name = _custom_id(raw)
        if name is not None and seen.add(digest("id:" + name)) > 1:
            fault = InputError(f"the custom_id {name!r:.80} occurs more than once in the input")
            name, row = None, Row("", fault=fault)
        if name is None:
            key = digest(b"row:" + _content(raw, row, kept))
            name = f"{key.hex()}-{seen.add(key)}"
        yield replace(row, id=name, number=number, kept=kept)


def _kept(raw: Raw, keep: Collection[str]) -> dict[str, Any] | None:
    """The fields of a row for the output; null where it has none of a name."""
    if not isinstance(raw, Mapping):
        return None
    body = raw.get("body")
    if isinstance(body, Mapping):
        raw = {**body, **raw}
    try:
        return {name: _without_nan(raw.get(name)) for name in keep}
    except RecursionError:  # an object of a program that holds itself
        return {name: repr(raw.get(name)) for name in keep}


def _without_nan(value: Any) -> Any:
    """A value with null for what JSON has no number for."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _without_nan(each) for name, each in value.items()}
    return [_without_nan(each) for each in value] if isinstance(value, (list, tuple)) else value


def _interpret(
    raw: Raw, ignore: Collection[str] = (), keep: Collection[str] = ()
) -> tuple[str | None, Row]:
    """The ``custom_id`` of a row, if it has one, and the row without an id.

    Raises InputError or UnsupportedError for what is no row.
    """
    if isinstance(raw, str):
        return None, Row("", {"prompt": raw})
    if isinstance(raw, (list, tuple)):
        return None, Row("", {"messages": raw})
    if not isinstance(raw, Mapping):
        raise InputError(f"a row must be a prompt, messages or an object, not {_kind(raw)}")
    fields = _used_fields(raw, ignore)
    name = _custom_id(fields)
    fields.pop("custom_id", None)
    raw_endpoint = False
    if "body" in fields:
        parts = _ENVELOPE.intersection(keep, raw)  # kept or not, they say what is asked
        fields |= {each: raw[each] for each in parts if raw[each] is not None}
        raw_endpoint = _check_envelope(fields)
        body = fields["body"]
        if not isinstance(body, Mapping):
            raise InputError(f'"body" must be an object, not {_kind(body)}')
        fields = _used_fields(body, ignore)
    if ("prompt" in fields) == ("messages" in fields):
        both = "both" if "prompt" in fields else "neither"
        raise InputError(f'a row has "prompt" or "messages": this one has {both}')
    model = fields.pop("model", None)
    if model is not None and not isinstance(model, str):
        raise InputError(f'"model" must be a text, not {_kind(model)}')
    return name, Row("", fields, model, raw_endpoint)


def _used_fields(raw: Mapping[str, Any], ignore: Collection[str]) -> dict[str, Any]:
    """The fields that have a value and are not to be ignored."""
    return {name: raw[name] for name in raw if name not in ignore and raw[name] is not None}


def _check_envelope(fields: Mapping[str, Any]) -> bool:
    """Check OpenAI's batch form; whether it is for ``/completions``."""
    method, url = fields.get("method", "POST"), fields.get("url", "/v1/chat/completions")
    others = sorted(map(repr, fields.keys() - _ENVELOPE))
    if others:
        raise InputError(f'beside "body", OpenAI\'s batch form has no field {others[0]:.80}')
    if method != "POST" or not isinstance(url, str):
        raise InputError('"method" must be "POST", and "url" a text')
    if "://" in url or url.startswith("//"):
        raise InputError(f'"url" is a path, and names no host: that is the job\'s, not {url!r:.80}')
    path = url.rstrip("/")
    if path.endswith("/chat/completions"):
        return False
    if path.endswith("/completions"):
        return True
    raise UnsupportedError(f"a batch asks /chat/completions or /completions, not {url!r:.80}")


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=repr).encode


def _custom_id(raw: Any) -> str | None:
    name = raw.get("custom_id") if isinstance(raw, Mapping) else None
    if name is None or name == "" or (isinstance(name, float) and isnan(name)):
        return None  # tables write a missing value as one of these
    if isinstance(name, str):
        return name
    # A column of whole numbers in which some are missing comes as floats.
    if isinstance(name, Integral) and not isinstance(name, bool):
        return str(int(name))
    if isinstance(name, float) and name.is_integer():
        return str(int(name))
    raise InputError(
        f'"custom_id" must be a text or a whole number, not {_kind(name)} {name!r:.80}'
    )


def _content(raw: Raw, row: Row, kept: Mapping[str, Any] | None) -> bytes:
    """What a row asks, in one spelling; the whole of a bad row."""
    if isinstance(raw, BadLine):
        return raw.content
    what: Any = raw if row.fault else [row.model, row.raw_endpoint, row.arguments]
    if kept and not row.fault:  # else the labels of two equal prompts could change places
        what.append(kept)
    try:
        return _encode(what).encode()
    except (TypeError, ValueError, RecursionError):  # keys of several types, circles, great depth
        return repr(what).encode("utf-8", "surrogatepass")


def _kind(value: object) -> str:
    return type(value).__name__


# -- digests -----------------------------------------------------------------------------------

SIZE = 12  # bytes: among a thousand million rows, two alike by chance once in 10**11 jobs
_COUNT = 4
_SLOT = SIZE + _COUNT
_FREE = bytes(_COUNT)
_SHARDS = 256  # each grows by itself, so that no growth stops the work or doubles the memory
_LOAD = 0.75


def digest(text: str | bytes) -> bytes:
    """What stands for a text in a DigestCounter."""
    if isinstance(text, str):
        text = text.encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=SIZE).digest()


class DigestCounter:
    """How often each digest was seen, in about 25 bytes a digest, however many there are.

    A dict of ``bytes`` objects would take five times the memory. This is open addressing in one
    ``bytearray`` a shard.
    """

    __slots__ = ("_shards", "_used")

    def __init__(self) -> None:
        self._shards = [bytearray(_SLOT * 8) for _ in range(_SHARDS)]
        self._used = [0] * _SHARDS

    def add(self, key: bytes) -> int:
        """Count a digest once more; returns how often it was counted by now."""
        number = key[0]
        table = self._shards[number]
        if (self._used[number] + 1) * _SLOT > len(table) * _LOAD:
            table = self._shards[number] = _grown(table)
        at = _find(table, key)
        count = int.from_bytes(table[at + SIZE : at + _SLOT], "little")
        if not count:
            table[at : at + SIZE] = key
            self._used[number] += 1
        count = min(count + 1, 2**32 - 1)
        table[at + SIZE : at + _SLOT] = count.to_bytes(_COUNT, "little")
        return count

    def __contains__(self, key: bytes) -> bool:
        table = self._shards[key[0]]
        at = _find(table, key)
        return table[at + SIZE : at + _SLOT] != _FREE

    def __len__(self) -> int:
        """How many different digests there are."""
        return sum(self._used)


def _find(table: bytearray, key: bytes) -> int:
    """Where the digest is, or else the free slot where it belongs."""
    end = len(table)
    at = (int.from_bytes(key[1:5], "little") * (end // _SLOT) >> 32) * _SLOT
    while table[at : at + SIZE] != key and table[at + SIZE : at + _SLOT] != _FREE:
        at += _SLOT
        if at == end:
            at = 0
    return at


def _grown(table: bytearray) -> bytearray:
    larger = bytearray(len(table) // _SLOT * 3 // 2 * _SLOT)
    for at in range(0, len(table), _SLOT):
        if table[at + SIZE : at + _SLOT] != _FREE:
            to = _find(larger, bytes(table[at : at + SIZE]))
            larger[to : to + _SLOT] = table[at : at + _SLOT]
    return larger
