"""How one case is played through get_lm on a real socket, and what every error must hold to."""

from __future__ import annotations

import asyncio
import json
import pickle
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import pytest
from support.fault_server import FaultServer, Peer, Script, Step, chunk, head, receive, start_tls
from transports.checking import Authority

from lmgateway import get_lm
from lmgateway.errors import LMGatewayError

KEY = "sk-fault-canary-0123456789"
PROMPT = "What no message may ever quote, however much of it a service sends back"
TEXT = "yes, \u00e9\u4e16\U0001f600"
FILLER = "x"
JSON = {"Content-Type": "application/json", "X-Request-Id": "req-77"}
SSE = {"Content-Type": "text/event-stream", "X-Request-Id": "req-77"}
CHUNKED = {"Transfer-Encoding": "chunked"}
DONE = b"data: [DONE]\n\n"
SLACK = 5.0  # seconds that a loaded machine may add to a deadline


# -- what a service says -------------------------------------------------------------------------


def answer(*texts: str, **changes: Any) -> dict[str, Any]:
    """A chat completion with these choices."""
    choices = [
        {"index": n, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for n, text in enumerate(texts or [TEXT])
    ]
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {"id": "chat-1", "model": "m-1", "choices": choices, "usage": usage, **changes}


def choice(content: Any = TEXT, finish_reason: Any = "stop", **message: Any) -> dict[str, Any]:
    """One choice, for ``answer(choices=[...])``."""
    message = {"role": "assistant", "content": content, **message}
    return {"index": 0, "message": message, "finish_reason": finish_reason}


def event(text: str | None = None, finish_reason: str | None = None, **more: Any) -> bytes:
    """One event of a streamed chat completion."""
    delta = {} if text is None else {"content": text}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    data = {"id": "chat-1", "model": "m-1", "choices": choices, **more}
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def events(text: str = TEXT) -> list[bytes]:
    """A whole stream, event by event."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    end = [event(finish_reason="stop"), event(choices=[], usage=usage), DONE]
    return [event(text[:2]), event(text[2:]), *end]


def whole(document: Any, status: int = 200, headers: Mapping[str, str] = JSON) -> bytes:
    """A response whose body is this: JSON, or bytes as they are."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return head(status, {**JSON, **headers}, length=len(body)) + body


def streamed(*pieces: bytes, end: bool = True) -> bytes:
    """A chunked event stream of these pieces."""
    chunks = b"".join(map(chunk, pieces)) + (chunk(b"") if end else b"")
    return head(200, SSE | CHUNKED) + chunks


def respond(make: Callable[[dict[str, Any]], bytes]) -> Step:
    """Receive a request, and send what ``make`` makes of its JSON."""
    receive_request = receive()

    def step(peer: Peer) -> None:
        receive_request(peer)
        mine = [each for each in list(peer.server.requests) if each.connection == peer.number]
        peer.send(make(json.loads(mine[-1].body or b"{}")))

    return step


def fine(text: str = TEXT) -> Step:
    """A right answer, streamed if a stream was asked for."""
    return respond(
        lambda asked: streamed(*events(text)) if asked.get("stream") else whole(answer(text))
    )


# -- modes -------------------------------------------------------------------------------------


def _sync(lm: Any, prompt: Any, **keywords: Any) -> Any:
    return lm.complete(prompt, **keywords)


def _async(lm: Any, prompt: Any, **keywords: Any) -> Any:
    async def main() -> Any:
        return await lm.acomplete(prompt, **keywords)

    return asyncio.run(main())


def _sync_stream(lm: Any, prompt: Any, **keywords: Any) -> Any:
    with lm.stream(prompt, **keywords) as stream:
        pieces = list(stream)
    assert "".join(pieces) == stream.completion["choices"][0]["text"]
    return stream.completion


def _async_stream(lm: Any, prompt: Any, **keywords: Any) -> Any:
    async def main() -> Any:
        async with lm.astream(prompt, **keywords) as stream:
            pieces = [piece async for piece in stream]
        assert "".join(pieces) == stream.completion["choices"][0]["text"]
        return stream.completion

    return asyncio.run(main())


@dataclass(frozen=True)
class Mode:
    """One of the ways to call.

    Attributes:
        name: Readable.
        shape: "plain" or "stream".
        ask: Called with an LM, a prompt and keywords; the completion.
        transport: The option of that name.
    """

    name: str
    shape: str
    ask: Callable[..., Any] = field(repr=False)
    transport: str | None = None


MODES = [
    Mode("sync", "plain", _sync),
    Mode("async", "plain", _async, "aiohttp"),
    Mode("threads", "plain", _async, "threads"),
    Mode("sync-stream", "stream", _sync_stream),
    Mode("async-stream", "stream", _async_stream, "aiohttp"),
    Mode("threads-stream", "stream", _async_stream, "threads"),
]
PLAIN = [mode for mode in MODES if mode.shape == "plain"]
STREAMS = [mode for mode in MODES if mode.shape == "stream"]
NATIVE = [mode for mode in MODES if mode.transport != "threads"]


# -- cases ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One thing that goes wrong, and what is right.

    Attributes:
        row: The row of the table that it belongs to.
        script: What a connection plays; the connection after the last fault is a right answer.
        right: The class of the error, exactly, or what must hold of the completion.
        what: Which of the row's cases; "" for its only one.
        retried: How often it is tried again before the error is raised.
        modes: Which apply.
        mentions: Parts of the error's message.
        options: Keywords for get_lm.
        certificate: Talk TLS and show this one; "plain" does not shake hands.
        more: Judges the error further.
        within: Seconds after which the error must have come; None does not look.
    """

    row: str
    script: Script
    right: type[LMGatewayError] | Callable[[Any], bool]
    what: str = ""
    retried: int = 0
    modes: Sequence[Mode] = tuple(MODES)
    mentions: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    certificate: str | None = None
    more: Callable[[Any], bool] | None = None
    within: float | None = None


def params(section: str, cases: Sequence[Case], among: Sequence[Mode] = tuple(MODES)) -> list[Any]:
    """The cases in all their modes, each with the mark of its row."""
    return [
        pytest.param(
            case,
            mode,
            id="-".join(filter(None, (case.row, case.what, mode.name))),
            marks=pytest.mark.row(section, case.row, mode.name),
        )
        for case in cases
        for mode in case.modes
        if mode in among
    ]


def row(section: str, case: str, modes: Sequence[Mode] = tuple(MODES)) -> Any:
    """Parametrize a test over modes, each with the mark of the row it proves."""
    marked = [
        pytest.param(each, id=each.name, marks=pytest.mark.row(section, case, each.name))
        for each in modes
    ]
    return pytest.mark.parametrize("mode", marked)


def lm_at(url: str, mode: Mode, **keywords: Any) -> Any:
    """An LM of a service there, in a mode, uncached unless said otherwise."""
    options = {"cache": False, "transport": mode.transport, **keywords}
    return get_lm("openai/m", api_base=url, **options)


def play(case: Case, mode: Mode, authority: Authority) -> None:
    """Play a case: for ever, and where it is worth another try, once before a right answer."""
    options, script = dict(case.options), list(case.script)
    if case.certificate is not None:
        options["verify"] = authority.bundle
        if case.certificate != "plain":
            script.insert(0, start_tls(authority.context(case.certificate)))
    if not isinstance(case.right, type):
        with FaultServer(script) as server, lm_at(server.url, mode, **options) as lm:
            assert case.right(mode.ask(lm, PROMPT))
            assert len(server.requests) == 1
        return
    with FaultServer(script) as server:
        url = server.url if case.certificate is None else server.tls_url
        with lm_at(url, mode, **options) as lm:
            check_failure(case, lambda: mode.ask(lm, PROMPT), server)
    if case.retried:
        with FaultServer(script, [fine()]) as server, lm_at(server.url, mode, **options) as lm:
            assert mode.ask(lm, PROMPT)["choices"][0]["text"] == TEXT
            assert len(server.requests) == 2


def check_failure(case: Case, act: Callable[[], Any], server: FaultServer) -> None:
    """The error is of the right class, says where, on which attempt, and shows no secret."""
    assert isinstance(case.right, type)
    began = monotonic()
    with pytest.raises(LMGatewayError) as caught:
        act()
    took, error = monotonic() - began, caught.value
    assert type(error) is case.right, f"{type(error).__name__}: {error}"
    check_words(error, host=server.url.split("/")[2] if case.certificate is None else None)
    assert error.attempt == case.retried + 1
    assert error.attempts == 3
    if case.certificate is None:
        assert len(server.requests) == case.retried + 1
    else:
        assert server.requests == []
    for mention in case.mentions:
        assert mention in str(error), str(error)
    assert case.more is None or case.more(error)
    if case.within is not None:
        assert took < case.within


def check_words(error: LMGatewayError, host: str | None = None) -> None:
    """A message names provider, host and model, and shows neither key nor prompt."""
    message = str(error)
    assert "provider openai" in message
    assert "model m" in message
    if host is not None:
        assert f"host {host}" in message
    printed = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    for secret in (KEY, PROMPT, PROMPT[:24]):
        assert secret not in printed
        assert secret.encode() not in pickle.dumps(error)
    assert max(map(len, re.findall(f"{FILLER}+", message)), default=0) <= 300
