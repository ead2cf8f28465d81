"""Log probabilities in one shape, whatever the server and the endpoint."""

from __future__ import annotations

import sys
from math import isfinite

from ...errors import ResponseFormatError
from ...types import JSON
from ..pieces import mend
from .fields import others

__all__ = ["beside_logprobs", "read_logprobs"]

_LARGEST = sys.float_info.max
_READ = frozenset({"content", "tokens", "token_logprobs", "top_logprobs"})


def read_logprobs(raw: JSON, where: str) -> list[dict[str, JSON]] | None:
    """A list of ``{"token", "logprob", "bytes"?, "top_logprobs": [...]}``, one a token.

    Chat's shape holds ``content``, the legacy one ``tokens`` and ``token_logprobs``; llama.cpp
    answers in chat's shape on both endpoints, so the shape is told by its fields. The logprob
    of an echoed prompt's first token is None. None for the whole where there are none.

    Raises:
        ResponseFormatError: it is neither shape.
    """
    if type(raw) is dict:
        if type(raw.get("tokens")) is list:
            return _legacy(raw, where)
        content = raw.get("content", raw)  # itself is neither a list nor None
        if type(content) is list:
            return [_token(item, f"{where}.content[{i}]") for i, item in enumerate(content)]
        if content is None:
            return None
    raise ResponseFormatError(f"{where} in the answer holds neither content nor tokens")


def beside_logprobs(raw: dict[str, JSON]) -> dict[str, JSON]:
    """What ``read_logprobs`` does not read, such as the tokens of a refusal and ``text_offset``."""
    return {} if _READ.issuperset(raw) else others(raw, _READ)


def _token(raw: JSON, where: str) -> dict[str, JSON]:
    entry = _entry(raw, where)
    top = raw.get("top_logprobs")
    if top is not None and type(top) is not list:
        raise ResponseFormatError(f"{where}.top_logprobs in the answer is not a list")
    entry["top_logprobs"] = [
        _entry(item, f"{where}.top_logprobs[{i}]") for i, item in enumerate(top or ())
    ]
    return entry


def _entry(raw: JSON, where: str) -> dict[str, JSON]:
    if type(raw) is not dict:
        raise ResponseFormatError(f"{where} in the answer is not an object")
    token = raw.get("token")
    if type(token) is not str:
        raise ResponseFormatError(f"{where}.token in the answer is not a string")
    if not token.isascii():
        token = mend(token)
    entry: dict[str, JSON] = {"token": token, "logprob": _number(raw.get("logprob"), where)}
    spelt = raw.get("bytes")
    if type(spelt) is list:
        try:
            bytes(spelt)  # only whole numbers below 256 are some
        except (TypeError, ValueError):
            return entry
        entry["bytes"] = spelt
    return entry


def _legacy(raw: dict[str, JSON], where: str) -> list[dict[str, JSON]]:
    tokens = raw["tokens"]
    values = raw.get("token_logprobs")
    tops = raw.get("top_logprobs")
    if tops is None:
        tops = [None] * len(tokens)
    if type(values) is not list or type(tops) is not list:
        raise ResponseFormatError(f"{where}.token_logprobs in the answer is not a list")
    if not len(tokens) == len(values) == len(tops):
        raise ResponseFormatError(f"{where} in the answer holds lists of different lengths")
    answer = []
    for token, value, top in zip(tokens, values, tops, strict=True):
        if type(token) is not str or (top is not None and type(top) is not dict):
            raise ResponseFormatError(f"{where}.tokens in the answer does not hold strings")
        others = [
            {"token": mend(other), "logprob": _number(number, where)}
            for other, number in (top or {}).items()
        ]
        logprob = _number(value, where)
        answer.append({"token": mend(token), "logprob": logprob, "top_logprobs": others})
    return answer


def _number(value: JSON, where: str) -> float | None:
    if value is None:
        return None
    if type(value) is float:
        if isfinite(value):
            return value
    elif type(value) is int and -_LARGEST <= value <= _LARGEST:
        return value
    raise ResponseFormatError(f"{where}.logprob in the answer is not a finite number")
