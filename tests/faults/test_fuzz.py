"""Whatever comes from the wire: the right answer or one of our errors, within the deadline.

The suite runs a few hundred cases; ``make fuzz`` runs 100,000, with LMGATEWAY_FUZZ=100000.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest
from faults.play import CHUNKED, JSON, KEY, PROMPT, SSE, TEXT, answer, choice, chunk, events, whole
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fault_server import head
from support.service import Body

from lmgateway import LMGatewayError, get_lm
from lmgateway._drive.loops import Done, aadvance, advance
from lmgateway._transports.protocols import BodySource
from lmgateway.types import HTTPResponse

pytestmark = pytest.mark.loopback

CASES = int(os.environ.get("LMGATEWAY_FUZZ", "400"))
TIMEOUT = 5.0
SLACK = 30.0  # a busy machine may give no turn for long; what hangs, hangs for ever

counted: Counter[str] = Counter()


def cases(share: float) -> Callable[[Any], Any]:
    """Settings for that share of all cases."""
    return settings(
        max_examples=int(CASES * share),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module", autouse=True)
def _figures() -> Iterator[None]:
    counted.clear()
    yield
    if CASES > 10_000:
        total = sum(counted[name] for name in counted if name.startswith("case"))
        figures = ", ".join(f"{name} {number}" for name, number in sorted(counted.items()))
        print(f"\n{total} cases: {figures}")


# -- the outcome ---------------------------------------------------------------------------------


def outcome(what: str, act: Callable[[], Any]) -> Any:
    """The completion or the error; anything else, and anything late, fails the test."""
    began = monotonic()
    try:
        result = act()
    except LMGatewayError as error:
        result = error
    assert KEY not in str(result)
    assert PROMPT not in str(result if isinstance(result, Exception) else result["choices"])
    assert monotonic() - began < TIMEOUT + SLACK
    counted[f"case {what}"] += 1
    counted["answer" if isinstance(result, dict) else type(result).__name__] += 1
    return result


def texts(completion: Any) -> list[str]:
    assert completion["choices"]
    return [each["text"] for each in completion["choices"]]


# -- in memory: what is fuzzed is the body, in pieces --------------------------------------------


class Memory:
    """A transport whose far end is one response, for sync and async."""

    def __init__(self, status: int, headers: dict[str, str], pieces: list[bytes]) -> None:
        self.status, self.headers, self.pieces = status, headers, pieces

    def send(self, request: Any, deadline: Any) -> HTTPResponse:
        if request.stream and self.status < 300 and "event-stream" in str(self.headers):
            return HTTPResponse(self.status, self.headers, source=BodySource(Body(self.pieces)))
        return HTTPResponse(self.status, self.headers, b"".join(self.pieces))

    def close(self) -> None: ...


class AsyncMemory(Memory):
    async def send(self, request: Any, deadline: Any) -> HTTPResponse:  # type: ignore[override]
        response = super().send(request, deadline)
        if response.source is not None:
            return HTTPResponse(
                response.status, response.headers, source=BodySource(_Awaited(self))
            )
        return response


class _Awaited(Body):
    def __init__(self, memory: Memory) -> None:
        super().__init__(memory.pieces)

    async def read(self, deadline: Any) -> bytes:  # type: ignore[override]
        return super().read(deadline)


LM = get_lm("openai/m", api_base="http://memory.invalid", api_key=KEY, cache=False, retries=0,
            history=0, timeout=TIMEOUT)  # fmt: skip


def remember(
    pieces: list[bytes],
    status: int = 200,
    headers: dict[str, str] = JSON,
    *,
    stream: bool = False,
    awaited: bool = False,
) -> Any:
    """One call whose service says this; a stream's pieces must make its text."""
    flow, call = LM._flow(PROMPT, None, None, {}, stream=stream)
    heard: list[str] = []

    def hear(event: Any) -> Any:
        if isinstance(event, Done):
            return event.value
        if event.delta.index == 0:
            heard.append(event.delta.text)
        return None

    async def main() -> Any:
        memory = AsyncMemory(status, headers, pieces)
        while (value := hear(await aadvance(flow, memory, call.deadline))) is None:
            pass
        return value

    def blocking() -> Any:
        memory = Memory(status, headers, pieces)
        while (value := hear(advance(flow, memory, call.deadline))) is None:
            pass
        return value

    completion = LOOP.run_until_complete(main()) if awaited else blocking()
    if stream:
        assert "".join(heard) == next(
            (each["text"] for each in completion["choices"] if each["index"] == 0), ""
        )
    return completion


LOOP = asyncio.new_event_loop()


@pytest.fixture(scope="module", autouse=True)
def _loop() -> Iterator[None]:
    yield
    LOOP.close()


def split(data: bytes, places: list[int]) -> list[bytes]:
    """The data cut at these places, whatever they are."""
    cuts = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(cuts)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner,
                                                                max_size=3),
    max_leaves=8,
)  # fmt: skip
PLACES = [
    ("choices",),
    ("choices", 0),
    ("choices", 0, "message"),
    ("choices", 0, "message", "content"),
    ("choices", 0, "message", "tool_calls"),
    ("choices", 0, "message", "refusal"),
    ("choices", 0, "message", "reasoning"),
    ("choices", 0, "index"),
    ("choices", 0, "finish_reason"),
    ("choices", 0, "logprobs"),
    ("choices", 0, "delta"),
    ("choices", 0, "delta", "content"),
    ("choices", 0, "delta", "tool_calls"),
    ("usage",),
    ("usage", "total_tokens"),
    ("model",),
    ("id",),
    ("error",),
    ("object",),
]
awaited = st.booleans()


def changed(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy of a document with another value at a place, where there is such a place."""
    copy = json.loads(json.dumps(document))
    inner = copy
    for step in place[:-1]:
        try:
            inner = inner[step]
        except (KeyError, IndexError, TypeError):
            return copy
    if isinstance(inner, (dict, list)):
        try:
            inner[place[-1]] = value
        except (IndexError, TypeError):
            return copy
    return copy


def text_in(content: Any) -> str:
    """What a content says: it may be a list of parts, and those that are no text say nothing."""
    if not isinstance(content, list):
        return content or ""
    said = [part.get("text") for part in content if part.get("type", "text") == "text"]
    return "".join(text for text in said if isinstance(text, str))


def is_answer(document: Any, completion: Any) -> bool:
    """Whether the completion says what the document says, read in the simplest way."""
    choices = sorted(document["choices"], key=lambda each: each.get("index", 0))
    said = [text_in(each["message"].get("content")) for each in choices]
    mended = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in said]
    return texts(completion) == mended


@cases(0.22)
@given(st.sampled_from(PLACES), json_values, awaited, st.sampled_from([200, 201, 400, 500, 429]))
def test_json_of_any_shape(place: Any, value: Any, awaited: bool, status: int) -> None:
    document = changed(answer("one", "two"), place, value)
    body = json.dumps(document).encode()
    result = outcome("json", lambda: remember([body], status, awaited=awaited))
    if isinstance(result, dict):
        assert status < 300
        assert is_answer(document, result)


@cases(0.1)
@given(json_values, awaited, st.sampled_from([200, 204, 302, 401, 404, 429, 503]))
def test_any_json(value: Any, awaited: bool, status: int) -> None:
    body = json.dumps(value).encode()
    result = outcome("any json", lambda: remember([body], status, awaited=awaited))
    assert isinstance(result, LMGatewayError)


@cases(0.1)
@given(st.binary(max_size=300), st.integers(0, 1000), st.integers(0, 1000), awaited)
def test_bytes_in_a_body(junk: bytes, begin: int, end: int, awaited: bool) -> None:
    good = json.dumps(answer("one")).encode()
    body = good[: begin % (len(good) + 1)] + junk + good[end % (len(good) + 1) :]
    result = outcome("bytes in a body", lambda: remember([body], awaited=awaited))
    if isinstance(result, dict):
        assert is_answer(json.loads(body), result)


STREAM = b"".join(events())
FINISHED = STREAM.index(b"data: [DONE]")  # finish_reason and usage are there: nothing can miss


@cases(0.12)
@given(st.integers(0, len(STREAM)), st.lists(st.integers(0, 9999), max_size=12), awaited)
def test_a_stream_cut_anywhere(end: int, places: list[int], awaited: bool) -> None:
    pieces = split(STREAM[:end], places)
    result = outcome(
        "cut stream", lambda: remember(pieces, headers=SSE, stream=True, awaited=awaited)
    )
    if isinstance(result, dict):
        assert end >= FINISHED
        assert texts(result) == [TEXT]
    else:
        assert end < len(STREAM)
        assert TEXT.startswith(result.partial or "")


@cases(0.18)
@given(
    st.lists(st.tuples(st.sampled_from(PLACES), json_values), max_size=3),
    st.lists(st.integers(0, 9999), max_size=8),
    awaited,
)
def test_events_of_any_shape(changes: list[Any], places: list[int], awaited: bool) -> None:
    data = [json.loads(each[6:]) for each in events()[:-1]]
    for number, (place, value) in enumerate(changes):
        data[number % 2] = changed(data[number % 2], place, value)
    lines = [b"data: " + json.dumps(each).encode() + b"\n\n" for each in data]
    pieces = split(b"".join(lines) + b"data: [DONE]\n\n", places)
    outcome("events", lambda: remember(pieces, headers=SSE, stream=True, awaited=awaited))


@cases(0.08)
@given(st.binary(max_size=200), st.integers(0, 9999), st.lists(st.integers(0, 9999)), awaited)
def test_bytes_in_a_stream(junk: bytes, place: int, places: list[int], awaited: bool) -> None:
    at = place % len(STREAM)
    pieces = split(STREAM[:at] + junk + STREAM[at:], places)
    outcome("bytes in a stream", lambda: remember(pieces, headers=SSE, stream=True,
                                                  awaited=awaited))  # fmt: skip


# -- over a socket: what is fuzzed is every byte of the response ---------------------------------


class OneShot:
    """A server that answers each connection with the bytes it was last given, and closes it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.response = b""
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with sock:
                try:
                    self.receive(sock)
                    sock.sendall(self.response)
                except OSError:
                    continue

    def receive(self, sock: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += sock.recv(65536)
        begin, _, body = data.partition(b"\r\n\r\n")
        length = int(begin.lower().partition(b"content-length:")[2].split()[0])
        while len(body) < length:
            body += sock.recv(65536)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)


@pytest.fixture(scope="module")
def far() -> Iterator[tuple[OneShot, Any]]:
    """The server, and an LM of it."""
    server = OneShot()
    options: Any = {"api_key": KEY, "cache": False, "retries": 0, "history": 0}
    with get_lm("openai/m", api_base=server.url, timeout=TIMEOUT, **options) as lm:
        yield server, lm
    server.close()


GOOD = [
    whole(answer()),
    whole(answer(choices=[choice()]), 503, {"Retry-After": "3"}),
    head(200, JSON | CHUNKED) + chunk(json.dumps(answer()).encode()) + chunk(b""),
    head(200, SSE | CHUNKED) + b"".join(map(chunk, [*events(), b""])),
    head(200, SSE) + STREAM,
]
responses = (
    st.tuples(st.sampled_from(GOOD), st.integers(0, 2000), st.integers(0, 40),
              st.binary(max_size=40)).map(
        lambda each: each[0][: each[1] % len(each[0])] + each[3]
        + each[0][each[1] % len(each[0]) + each[2] :]
    )
    | st.tuples(st.sampled_from(GOOD), st.integers(0, 2000)).map(
        lambda each: each[0][: each[1] % len(each[0])]
    )
    | st.sampled_from(GOOD)
    | st.binary(max_size=300)
    | st.binary(max_size=300).map(lambda body: head(200, JSON, length=len(body)) + body)
    | st.binary(max_size=300).map(lambda body: b"HTTP/1.1 200 OK\r\n" + body)
)  # fmt: skip


@cases(0.2)
@given(responses, st.booleans(), st.booleans())
def test_any_bytes_as_the_response(
    far: tuple[OneShot, Any], data: bytes, stream: bool, awaited: bool
) -> None:
    server, lm = far
    server.response = data

    async def main() -> Any:
        if not stream:
            return await lm.acomplete(PROMPT)
        async with lm.astream(PROMPT) as pieces:
            return "".join([piece async for piece in pieces]), pieces.completion

    def blocking() -> Any:
        if not stream:
            return lm.complete(PROMPT)
        with lm.stream(PROMPT) as pieces:
            return "".join(pieces), pieces.completion

    def act() -> Any:
        said = LOOP.run_until_complete(main()) if awaited else blocking()
        if not stream:
            return said
        assert said[0] == said[1]["choices"][0]["text"]
        return said[1]

    result = outcome("response", act)
    if data in GOOD:
        right = b"503" not in data and (stream or b"event-stream" not in data)
        assert isinstance(result, dict) == right
