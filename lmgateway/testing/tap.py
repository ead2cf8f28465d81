"""The tap: ``record_call`` makes a call of an LM and writes down what was asked and answered."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from .._base.masking import Plain, holds_secret
from .._layers.context import Attempt, Send, Stretch
from .._store.recordings import append_line, to_json
from .._store.serialization import Replay, stored_headers
from ..errors import InputError, LMGatewayError
from ..lm import LM, spec_of
from ..types import JSON, Exchange, Flow, HTTPRequest, HTTPResponse
from .calls import KINDS, request_to_json

__all__ = ["record_call"]

_MADE_UP = "a-token-of-the-kit"
_FEWEST = 6  # characters; what is shorter is no token
_OF_A_TOKEN = re.compile(r"(?<!page)_?(token|secret|password|assertion|jwt|api_?key)$", re.I)


def record_call(
    path: str | os.PathLike[str],
    lm: LM,
    *,
    name: str | None = None,
    stream: bool = False,
    kind: str | None = None,
    **call: Any,
) -> None:
    """Make one call without cache and retries, and append it to a file of JSON lines.

    ::

        record_call("calls.jsonl", lm, prompt="Say hi.", temperature=0)
        record_call("calls.jsonl", lm, prompt="Say hi.", temperature=0, stream=True)
        record_call("calls.jsonl", lm, texts=["a cat", "a dog"])
        record_call("calls.jsonl", lm, kind="models")

    An error is recorded as well: it is the answer of a service to a call that is wrong. Neither
    the key nor the host is in the file, nor a token that was fetched; prompt and answer are, in
    full. Of an exchange with ``keep=False`` (a token, a poll) only method and path are written
    down, and its answer with made-up values in the place of secrets.

    Args:
        path: The file; made when it is not there.
        lm: The LM to call.
        name: Names the call in test ids.
        stream: Ask for the answer piece by piece.
        kind: ``complete``, ``embed``, ``models``, ``rerank`` or ``count``. Without it, ``texts=``
            means ``embed`` and ``documents=`` means ``rerank``.
        **call: As for the LM's method of that kind: for ``embed``, ``texts`` and parameters.

    Raises:
        InputError: Nothing was asked for; there is no such kind, or it does not stream; or a key or
            a token stands in what would be written.
    """
    kind = kind or ("embed" if "texts" in call else "rerank" if "documents" in call else "complete")
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}, not {kind!r:.40}")
    if stream and kind != "complete":
        raise InputError(f"{kind} does not stream: leave out stream=True")
    tap = _Tap(spec_of(lm).info.headers)
    error = _make(lm, tap, kind, call, stream=stream)
    if not tap.exchanges:
        raise InputError(f"{lm.provider} asked for nothing, so there is nothing to record")
    entry: dict[str, JSON] = {"name": name} if name else {}
    if kind != "complete":
        entry.update(kind=kind, model=lm.model)
    entry["call"] = call
    if error is not None:
        entry["error"] = error
    if stream and not tap.exchanges[-1][0].stream:  # a stream made of what came whole
        entry["stream"] = True
    exchanges = [tap.entry(each, answer, lm.provider) for each, answer in tap.exchanges]
    entry.update(exchanges[0] if len(exchanges) == 1 else {"exchanges": exchanges})
    entry = _without_tokens(entry, tap)
    if holds_secret(json.dumps(entry, ensure_ascii=False, default=repr), tap.secrets):
        raise InputError(
            "a key or a token stands in what was asked or answered; nothing is written"
        )
    append_line(os.fspath(path), entry)


def _make(lm: LM, tap: _Tap, kind: str, call: Mapping[str, Any], *, stream: bool) -> str | None:
    """Make the call; return the name of the error it ended in."""
    options = replace(lm.options, retries=0)
    spec = replace(spec_of(lm), layers=(tap.layer,), options=options)
    with LM(spec) as tapped:
        try:
            if stream:
                for _ in tapped.stream(**call):
                    pass
            else:
                getattr(tapped, kind)(**call)
        except LMGatewayError as raised:
            if not tap.exchanges:
                raise
            return type(raised).__name__
    return None


class _Tap:
    """An effect layer that keeps each exchange and its answer.

    Args:
        deciding: Names of response headers to keep beside the usual ones.
    """

    def __init__(self, deciding: Iterable[str]) -> None:
        self._deciding = deciding
        self._secrets: Callable[[], Iterator[str]] | None = None
        self.exchanges: list[tuple[Exchange, Any]] = []

    @property
    def secrets(self) -> list[str]:
        """What must not be written; all of it is known when the call has ended."""
        return list(self._secrets()) if self._secrets else []

    def layer(self, send: Send, attempt: Attempt) -> Send:
        self._secrets = attempt.call.all_secrets

        def answer(exchange: Exchange) -> Flow[Any]:
            if isinstance(exchange, Stretch):
                response = yield from exchange.run(send)
            else:
                response = yield from send(exchange)
            source = getattr(response, "source", None)
            if source is None:
                self.exchanges.append((exchange, response))
                return response
            copying = _CopyingSource(source)
            head = HTTPResponse(response.status, stored_headers(response.headers, self._deciding))
            self.exchanges.append((exchange, lambda: replace(head, source=Replay(copying.chunks))))
            return replace(response, source=copying)

        answer.keeps = True  # type: ignore[attr-defined]  # it is handed what is kept as a whole
        return answer

    def entry(self, exchange: Exchange, answer: Any, provider: str) -> dict[str, JSON]:
        """An exchange and its answer as JSON."""
        returned = answer() if callable(answer) else answer
        request = request_to_json(exchange, provider)
        if isinstance(exchange, HTTPRequest) and not exchange.keep:
            request = {name: request[name] for name in ("provider", "method", "path")}
            request["keep"] = False
        return {"request": request, "response": to_json(returned, self._deciding)}


class _CopyingSource:
    """A source that reads from another one and keeps a copy of what it read."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.chunks: list[bytes] = []

    def read(self) -> Flow[bytes]:
        chunk: bytes = yield from self._source.read()
        self.chunks.append(chunk)
        return chunk

    def close(self) -> None:
        self._source.close()


# -- tokens that the plugin has fetched by itself --------------------------------------------------


def _without_tokens(entry: dict[str, JSON], tap: _Tap) -> dict[str, JSON]:
    """The entry with a made-up token in the place of each that was fetched."""
    exchanges = entry.get("exchanges", [entry])
    fetched = [each["response"] for each in exchanges if each["request"].get("keep") is False]
    if not fetched:
        return entry
    told = json.dumps(fetched, ensure_ascii=False)
    tokens = {secret for secret in tap.secrets if not isinstance(secret, Plain) and secret in told}
    tokens.update(token for response in fetched for token in _tokens(response))
    for token in sorted(tokens, key=len, reverse=True):
        if len(token) >= _FEWEST:
            entry = _replaced(entry, token)
    return entry


def _tokens(tree: JSON, name: str = "") -> Iterator[str]:
    if isinstance(tree, dict):
        for key, each in tree.items():
            yield from _tokens(each, key)
    elif isinstance(tree, list):
        for each in tree:
            yield from _tokens(each, name)
    elif isinstance(tree, str) and _OF_A_TOKEN.search(name):
        yield tree


def _replaced(tree: JSON, token: str) -> JSON:
    if isinstance(tree, dict):
        return {key: _replaced(each, token) for key, each in tree.items()}
    if isinstance(tree, list):
        return [_replaced(each, token) for each in tree]
    return tree.replace(token, _MADE_UP) if isinstance(tree, str) else tree
