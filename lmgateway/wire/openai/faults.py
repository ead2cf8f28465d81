"""Errors of OpenAI-compatible hosts, read from whatever shape they come in.

Seen in the wild: ``{"error": {"message", "type", "param", "code"}}`` with a code that is a number
or a word and a param that is anything; ``{"error": "Unauthorized"}``; ``{"detail": ...}`` with a
text or a list; the fields of an error at the top; plain text or HTML from a proxy.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from math import isinf
from typing import Any, TypeAlias

from ..._base.masking import CUT
from ..._base.values import on_fresh_stack
from ...errors import APIError, ResponseFormatError, api_error, excerpt
from ...types import EmbedRequest, HTTPResponse, Request, RerankRequest
from ..pieces import mend
from .fields import malformed
from .limits import rate_limit

__all__ = ["check", "checked", "error_in", "load", "locate", "request_id", "retry_after"]

_STATUS_OF = {
    **dict.fromkeys(
        ("invalid_request_error", "badrequesterror", "bad request", "invalid_parameter",
         "exceed_context_size_error", "context_length_exceeded", "string_above_max_length",
         "content_filter", "content_policy_violation", "vllmvalidationerror"),
        400,
    ),
    **dict.fromkeys(("authentication_error", "invalid_api_key", "unauthorized"), 401),
    **dict.fromkeys(("permission_error", "permission_denied", "forbidden"), 403),
    **dict.fromkeys(("not_found_error", "notfounderror", "model_not_found"), 404),
    **dict.fromkeys(
        ("rate_limit_error", "rate_limit_exceeded", "insufficient_quota", "quota_exceeded",
         "too_many_requests", "tokens", "requests"),
        429,
    ),
    "not_supported_error": 501,
    **dict.fromkeys(("unavailable_error", "overloaded_error", "serviceunavailableerror"), 503),
}  # fmt: skip

Asked: TypeAlias = Request | EmbedRequest | RerankRequest

_REQUEST_IDS = ("x-request-id", "request-id")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]+)?")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_.\[\]-]{0,60}")
# Each of these stops at the next "<": a page of nothing but beginnings is read in linear time.
_MARKUP = re.compile(r"<[^<>]*>")
_TITLE = re.compile(r"<title[^<>]*>([^<]*)</title", re.IGNORECASE)
_UNSEEN = re.compile(r"<(/?)(script|style|head)\b[^<>]*>", re.IGNORECASE)
# vLLM's validation errors end with what the user sent: 'msg': '...', 'input': '...'
_INPUT = re.compile(r"""['"]?input['"]?\s*[:=]\s*['"{\[]""")
_LONG_ENOUGH = 24  # a text that begins with the same so many characters is no coincidence
_BODY = 64 * 1024  # bytes of an error's body that are looked at
_WORDS = 1000  # characters of what it says


def check(response: HTTPResponse, request: Asked | None = None) -> None:
    """Raise the APIError that the answer is, unless its status is 2xx.

    Args:
        response: With its whole body.
        request: What was asked; the service's echo of it is cut from the message.
    """
    status = response.status
    if 200 <= status <= 299:
        return
    body = response.body[:_BODY]
    codes: list[str] = []
    try:
        message, codes, _ = _read(load(body, strict=False))
    except ResponseFormatError:
        message = _plain_text(response.body)
    raise _error(response.headers, status, message, codes, request)


def checked(
    payload: Any, headers: Mapping[str, str], request: Request | None = None
) -> dict[str, Any]:
    """The answer as an object; an error object in it is raised as its kind."""
    if type(payload) is not dict:
        raise malformed("the body", payload, "an object")
    if payload.get("error") or payload.get("object") == "error":
        raise error_in(payload, headers, request)
    return payload


def locate(error: APIError, headers: Mapping[str, str]) -> None:
    """Put on an error what the headers of the answer say: the request's id, and the limits."""
    error.locate(request_id=request_id(headers), rate_limit=rate_limit(headers) or None)


def error_in(payload: Any, headers: Mapping[str, str], request: Request | None = None) -> APIError:
    """The error for an error object inside a 2xx, whole or streamed.

    Its status is the one it states or its type stands for, else 500: the service failed.
    """
    message, codes, status = _read(payload)
    if status is None:
        names = (code.lower() for code in codes)
        status = next((_STATUS_OF[name] for name in names if name in _STATUS_OF), 500)
    return _error(headers, status, message, codes, request)


def load(body: bytes | str, *, strict: bool = True) -> Any:
    """Decode JSON.

    Args:
        body: UTF-8, with or without its byte order mark, or text.
        strict: Refuse NaN and infinite numbers, which JSON has not. Otherwise they become floats,
            as do whole numbers too long for Python: in a field that nobody reads they do no harm,
            and whoever reads a field looks at its type.

    Raises:
        ResponseFormatError: it is empty, no JSON or nested too deep for Python (all retryable), or
            holds a NaN.
    """
    if not body or body.isspace():
        raise _unreadable("the answer is empty")
    try:
        text = body if isinstance(body, str) else str(body.removeprefix(BOM_UTF8), "utf-8")
        return _decode(text) if strict else _decode_loosely(text)
    except _NotANumberError as error:
        raise ResponseFormatError(f"the answer holds {error}, which is not JSON") from None
    except (ValueError, RecursionError):
        # The decoder's message would quote the answer; where it went wrong helps nobody.
        shown = excerpt(repr(_plain_text(body, 4096)))
        raise _unreadable(f"the answer is not JSON: {shown}") from None


def request_id(headers: Mapping[str, str]) -> str | None:
    """The service's own id of the request."""
    for name in _REQUEST_IDS:
        if name in headers:
            return mend(headers[name])
    return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the service asks to wait, from ``retry-after-ms`` or both forms of ``Retry-After``.

    None where it says nothing that makes sense: a negative number, NaN, a date gone by, garbage.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _SECONDS.fullmatch(milliseconds):
        return float(milliseconds) / 1000
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    return _until(value) if value else None


def _until(date: str) -> float | None:
    from email.utils import parsedate_to_datetime
    from time import time

    try:
        seconds = parsedate_to_datetime(date).timestamp() - time()
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    return seconds if seconds >= 0 else None


def _error(
    headers: Mapping[str, str],
    status: int,
    message: str,
    codes: list[str],
    request: Asked | None,
) -> APIError:
    message = _without_echo(mend(message), request)
    error = api_error(
        status,
        message if excerpt(message) else _phrase(status),
        codes=map(mend, codes),
        request_id=request_id(headers),
        retry_after=retry_after(headers),
    )
    error.rate_limit = {**rate_limit(headers)} or None
    should_retry = headers.get("x-should-retry", "").strip().lower()
    if should_retry in ("true", "false"):
        error.retryable = should_retry == "true"
    return error


def _read(payload: Any) -> tuple[str, list[str], int | None]:
    """The words, the codes (most telling first) and the status of an error in JSON."""
    error = payload.get("error") if isinstance(payload, dict) else payload
    fields: Any = error if isinstance(error, dict) else payload
    if not isinstance(fields, dict):
        return _words(payload), [], None
    number, codes = None, []
    for name in ("code", "status", "type"):
        value = fields.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value[:9])
        if isinstance(value, int) and not isinstance(value, bool):
            number = value if number is None else number
        elif isinstance(value, str) and value:
            codes.append(value)
    # Ray puts the offending value itself into param: only a name may pass, and only last.
    param = fields.get("param")
    if isinstance(param, str) and _IDENTIFIER.fullmatch(param):
        codes.append(param)
    if not codes and number is not None:
        codes.append(str(number))
    status = number if number is not None and 400 <= number <= 599 else None
    return _words(payload), codes, status


def _words(value: Any, depth: int = 0) -> str:
    """The first text meant for people in an error of any shape."""
    if isinstance(value, str):
        return _plain_text(value) if value.lstrip().startswith("<") else value
    if depth > 4:
        return ""
    if isinstance(value, list):
        return "; ".join(filter(None, (_words(item, depth + 1) for item in value[:5])))
    if not isinstance(value, dict):
        return ""
    place = value.get("loc")
    where = ""
    if isinstance(place, list) and len(place) < 9:
        where = ".".join(str(step) for step in place if isinstance(step, str | int)) + ": "
    for name in ("error", "message", "detail", "msg", "errors", "error_description", "title"):
        if words := _words(value.get(name), depth + 1):
            return where + words
    return ""


def _plain_text(body: bytes | str, reach: int = _BODY) -> str:
    """The text of a body's beginning; where it is cut it says so, for whoever masks a key in it."""
    text = body[:reach]
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if len(body) > reach:
        text = text.rstrip("\N{REPLACEMENT CHARACTER}") + CUT
    if "<" in text:
        from html import unescape

        title = _TITLE.search(text)
        seen = unescape(_MARKUP.sub(" ", _seen(text))).strip()
        text = seen or (unescape(title[1]) if title else "")
    text = " ".join(text.split())
    return text if len(text) <= _WORDS else text[:_WORDS] + CUT


def _seen(page: str) -> str:
    """A page without its scripts, styles and head."""
    kept: list[str] = []
    begin, unseen = 0, None
    for tag in _UNSEEN.finditer(page):
        closes, name = bool(tag[1]), tag[2].lower()
        if unseen is None and not closes:
            kept.append(page[begin : tag.start()])
            begin, unseen = tag.end(), name
        elif closes and name == unseen:
            begin, unseen = tag.end(), None
    return " ".join([*kept, page[begin:]])


def _phrase(status: int) -> str:
    from http import HTTPStatus

    try:
        return f"{HTTPStatus(status).phrase}, without a word of explanation"
    except ValueError:
        return "an answer without a word of explanation"


def _without_echo(message: str, request: Asked | None) -> str:
    """The message without what the user sent: a prompt has no place in a log."""
    if echo := _INPUT.search(message):
        message = message[: echo.start()].rstrip().removesuffix(",") + ", …"
    for text in _texts(request) if request is not None else ():
        beginning = text[:_LONG_ENOUGH]
        if len(beginning) < _LONG_ENOUGH:
            continue
        for form in (beginning, repr(beginning)[1:-1], json.dumps(beginning)[1:-1]):
            message = message.partition(form)[0] + "…" if form in message else message
    return message


def _texts(request: Asked) -> Iterator[str]:
    """What the user said, message by message; of other kinds of call, the texts that were given."""
    if isinstance(request, EmbedRequest):
        yield from request.texts
        return
    if isinstance(request, RerankRequest):
        yield from (request.query, *request.documents)
        return
    if request.prompt is not None:
        yield request.prompt
    if request.system is not None:
        yield request.system
    for turn in request.messages or ():
        content = turn.get("content")
        if isinstance(content, str):
            yield content
        for part in content if isinstance(content, list) else ():
            yield from (value for value in part.values() if isinstance(value, str))
            image = part.get("image_url")
            if isinstance(image, dict) and isinstance(image.get("url"), str):
                yield image["url"]


class _NotANumberError(ValueError):
    pass


def _refuse(constant: str) -> None:
    raise _NotANumberError(constant)


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise _NotANumberError("a number beyond 1.8e308")
    return number


def _whole_number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:  # longer than sys.get_int_max_str_digits()
        return float(text)


_strictly = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite).decode
_loosely = json.JSONDecoder().decode
_at_once = json.JSONDecoder().raw_decode
_by_any_means = json.JSONDecoder(parse_int=_whole_number).decode


def _decode(text: str) -> Any:
    try:
        return _strictly(text)
    except RecursionError:
        return on_fresh_stack(_strictly, text)


def _decode_loosely(text: str) -> Any:
    try:
        if text[:1] == "{":  # as nearly always, and then with no white space around it
            value, end = _at_once(text)
            if end == len(text):
                return value
        return _loosely(text)
    except RecursionError:
        return on_fresh_stack(_by_any_means, text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        if not text.lstrip().startswith("{"):
            raise
        return _by_any_means(text)


def _unreadable(message: str) -> ResponseFormatError:
    error = ResponseFormatError(message)
    error.retryable, error.max_retries = True, 1
    return error
