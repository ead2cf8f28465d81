"""Recorded exchanges of llama.cpp, vLLM and Ray Serve LLM, over a socket and through get_lm."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.exchanges import Recorded, exchanges
from support.fault_server import FaultServer, chunk, head, receive, send

from lmgateway import errors, get_lm
from lmgateway.types import Completion

pytestmark = pytest.mark.loopback

HOPS = ("content-length", "transfer-encoding", "connection")
ERRORS: dict[tuple[int, str], type[errors.APIError]] = {
    (401, ""): errors.AuthenticationError,
    (404, ""): errors.NotFoundError,
    (405, ""): errors.InvalidRequestError,
    (400, ""): errors.InvalidRequestError,
    (400, "overflow"): errors.ContextLengthError,
    (501, ""): errors.ServerError,
}
ALL = [each for each in exchanges() if each.path.endswith("completions") and each.method == "POST"]


def script(recorded: Recorded) -> list[Any]:
    """What the recorded server sent, chunk for chunk."""
    headers = {k: v for k, v in recorded.headers.items() if k not in HOPS}
    if recorded.is_stream:
        begin = head(recorded.status, {**headers, "transfer-encoding": "chunked"})
        return [receive(), send(begin, *map(chunk, recorded.chunks), chunk(b""))]
    return [
        receive(),
        send(head(recorded.status, headers, length=len(recorded.body)), recorded.body),
    ]


def expected(recorded: Recorded) -> type[errors.APIError] | None:
    if recorded.status < 300:
        return None
    return ERRORS[recorded.status, "overflow" if "overflow" in recorded.name else ""]


def ask(recorded: Recorded, base: str, *, awaited: bool) -> Completion:
    """Ask as the recording's client did, as far as the answer depends on it."""
    n = (recorded.json or {}).get("n") if isinstance(recorded.json, dict) else None
    lists = isinstance(recorded.json, dict) and isinstance(recorded.json.get("prompt"), list)
    params = {"n": n * 2 if lists else n} if isinstance(n, int) and n > 0 else {}
    settings = {"use_chat_api": "chat" in recorded.path, "template": "none", "retries": 0}
    lm = get_lm("anyscale", model="m", api_base=f"{base}/v1", **settings)
    if not recorded.is_stream:
        return asyncio.run(lm.acomplete("q", **params)) if awaited else lm.complete("q", **params)
    if not awaited:
        stream = lm.stream("q", **params)
        text = "".join(stream)
    else:
        stream, text = asyncio.run(gather(lm, params))
    assert stream.completion is not None
    assert text == stream.completion["choices"][0]["text"]
    completion: Completion = stream.completion
    return completion


async def gather(lm: Any, params: dict[str, Any]) -> tuple[Any, str]:
    stream = lm.astream("q", **params)
    return stream, "".join([piece async for piece in stream])


@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("recorded", ALL, ids=lambda each: each.name)
def test_an_exchange_is_answered_or_is_its_error(recorded: Recorded, awaited: bool) -> None:
    with FaultServer(script(recorded)) as server:
        error = expected(recorded)
        if error is not None:
            with pytest.raises(error) as caught:
                ask(recorded, server.url, awaited=awaited)
            assert type(caught.value) is error
            assert caught.value.status == recorded.status
            return
        completion = ask(recorded, server.url, awaited=awaited)
    assert all(isinstance(choice["text"], str) for choice in completion["choices"])
    assert completion["endpoint"] == recorded.path.removeprefix("/v1/")
    assert completion["model"] == "smollm2-135m-instruct"
    assert [choice["index"] for choice in completion["choices"]] == list(
        range(len(completion["choices"]))
    )
