"""A service in the process, a provider of it, and calls through the core's own attempt."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import SecretStr

from lmgateway._call.attempt import attempt_step
from lmgateway._call.endpoint import Endpoint
from lmgateway._call.kinds import COMPLETE
from lmgateway._drive.cancel import Deadline
from lmgateway._drive.loops import advance, arun, run
from lmgateway._layers.context import Call, EffectLayer
from lmgateway._transports.protocols import BodySource
from lmgateway.errors import (
    LMGatewayError,
    MissingCredentialError,
    ResponseFormatError,
    StreamInterruptedError,
    api_error,
)
from lmgateway.types import (
    Answer,
    Blocking,
    Completion,
    Emit,
    Flow,
    HTTPRequest,
    HTTPResponse,
    Options,
    Request,
    read,
    send,
)

CANARY = "sk-canary-0123456789"
BASE = "https://one.example/v1"
DONE = b"data: [DONE]\n\n"

Responder = Callable[[HTTPRequest], HTTPResponse]


def says(text: str, status: int = 200) -> HTTPResponse:
    """A plain answer, with headers no cache should keep."""
    body = {"choices": [{"text": text}], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}
    headers = {
        "Content-Type": "application/json",
        "X-Request-Id": "r1",
        "Set-Cookie": CANARY,
        "Retry-After": "7",
    }
    return HTTPResponse(status, headers, json.dumps(body).encode())


def streams(*chunks: bytes) -> HTTPResponse:
    """A streamed answer in exactly these chunks."""
    return HTTPResponse(200, {"Content-Type": "text/event-stream"}, source=BodySource(Body(chunks)))


class Body:
    """A body that arrives in given chunks."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks = list(chunks)
        self.closed = False

    def read(self, deadline: Deadline) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""

    def close(self) -> None:
        self.closed = True


class Service:
    """A transport whose far end is a function; counts what reached it.

    With ``gate`` set, an answer waits for it, so that a test decides who is in flight.
    """

    def __init__(self, answer: Responder | None = None) -> None:
        self.answer: Responder = answer or (lambda request: says(f"answer to {request.json}"))
        self.requests: list[HTTPRequest] = []
        self.arrived = threading.Semaphore(0)
        self.gate: threading.Event | None = None
        self._lock = threading.Lock()

    def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        with self._lock:
            self.requests.append(request)
        self.arrived.release()
        if self.gate is not None and not self.gate.wait(min(deadline.remaining(), 30)):
            raise TimeoutError("the test never opened the gate")
        return self.answer(request)

    def close(self) -> None: ...


class AsyncService:
    """The same, awaited."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.gate: asyncio.Event | None = None

    async def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        self.service.requests.append(request)
        if self.gate is not None:
            await self.gate.wait()
        return self.service.answer(request)

    async def aclose(self) -> None: ...


def answer(request: Request) -> Flow[Answer]:
    """The provider: a prompt to ``/completions``, whole or streamed."""
    body = {"prompt": request.prompt, **request.params, "stream": request.stream}
    exchange = HTTPRequest(
        "POST", None, "/completions", json=body, auth=SecretStr(CANARY), stream=request.stream
    )
    response = yield from send(exchange)
    if not 200 <= response.status <= 299:
        raise api_error(response.status, "refused", retry_after=_seconds(response.headers))
    if response.source is not None:
        return (yield from _read(response))
    try:
        data = json.loads(response.body)
        return {"prompt": "", "choices": data["choices"], "usage": data.get("usage", {})}
    except (ValueError, KeyError):
        raise ResponseFormatError("no choices") from None


def _seconds(headers: Mapping[str, str]) -> float | None:
    return float(headers["retry-after"]) if "retry-after" in headers else None


def _read(response: HTTPResponse) -> Flow[Answer]:
    text = ""
    while chunk := (yield from read(response)):
        if chunk == DONE:
            return {"prompt": "", "choices": [{"text": text}]}
        text += chunk.decode()
        yield Emit(chunk.decode())
    raise StreamInterruptedError("no end mark")


@dataclass
class Where:
    """Where requests go and as whom."""

    base_url: str | None = BASE
    provider: str = "one"
    described: str = "the test's provider"
    has_credentials: bool = False
    api: int = 2

    def owns(self, auth: object) -> bool:
        return False

    def secrets(self) -> tuple[str, ...]:
        return (CANARY,)

    def headers(self) -> Mapping[str, str]:
        return {}

    def identity(self) -> str:
        return "we"

    def missing_base_error(self) -> LMGatewayError:
        return MissingCredentialError("set ONE_API_BASE")

    def missing_key_error(self, request: HTTPRequest) -> None: ...

    def explain(self, error: LMGatewayError) -> None: ...


@dataclass
class World:
    """Calls of one provider, through one cache layer, to one service."""

    layer: EffectLayer
    service: Service = field(default_factory=Service)
    where: Where = field(default_factory=Where)
    provider: Callable[[Request], Any] = answer
    last_call: Call | None = None

    def flow(
        self, prompt: str, options: Mapping[str, Any], *, stream: bool = False
    ) -> tuple[Flow[Completion], Call]:
        """The flow of one attempt; keywords that are no options are parameters."""
        known = {name: options[name] for name in options if name in Options.__dataclass_fields__}
        params = {name: options[name] for name in options if name not in known}
        chosen = Options(**{"timeout": 30.0, **known})
        deadline, where = Deadline(chosen.timeout), cast(Endpoint, self.where)
        call = Call(COMPLETE, where.provider, chosen, where, deadline)
        step = attempt_step(self.provider, call, (self.layer,))
        self.last_call = call
        return step(Request("m", prompt, params=params, stream=stream)), call

    def ask(self, prompt: str = "q", **options: Any) -> Completion:
        """One plain call; temperature 0 unless it says otherwise."""
        flow, call = self.flow(prompt, {"temperature": 0, **options})
        return run(flow, self.service, call.deadline)

    async def aask(self, prompt: str, service: AsyncService, **options: Any) -> Completion:
        """The same, awaited."""
        flow, call = self.flow(prompt, {"temperature": 0, **options})
        return await arun(flow, service, call.deadline)

    def stream(self, prompt: str = "q", **options: Any) -> tuple[list[Any], Completion]:
        """One streamed call: its pieces and the whole."""
        flow, call = self.flow(prompt, {"temperature": 0, **options}, stream=True)
        pieces = []
        while isinstance(event := advance(flow, self.service, call.deadline), Emit):
            pieces.append(event.delta)
        return pieces, event.value


def embedded(fn: Callable[..., Any], key: Any, *, stream: bool = False) -> Callable[..., Any]:
    """A provider that runs a function in the process, and puts what it returns into a choice."""

    def provider(request: Request) -> Flow[dict[str, Any]]:
        outcome = yield from send(Blocking(fn, key=key, stream=stream))
        return {"choices": [{"text": json.dumps(outcome)}], "raw": outcome}

    return provider
