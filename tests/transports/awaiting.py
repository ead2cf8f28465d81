"""What the tests of the asynchronous transports share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from lmgateway._drive.cancel import Deadline
from lmgateway._transports.protocols import AsyncBody, AsyncTransport, BodySource
from lmgateway.types import HTTPRequest, HTTPResponse
from transports.sending import final

__all__ = ["SSE", "body_of", "call", "in_thread", "post"]

SSE = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}


def post(url: str, *, stream: bool = False, **headers: str) -> HTTPRequest:
    return final("POST", url, "/v1", json={"prompt": "Hi"}, headers=headers, stream=stream)


def body_of(response: HTTPResponse) -> AsyncBody:
    assert isinstance(response.source, BodySource)
    return cast(AsyncBody, response.source.body)


async def call(transport: AsyncTransport, url: str, timeout: float = 20) -> HTTPResponse:
    return await transport.send(post(url), Deadline(timeout))


async def in_thread(function: Callable[..., object], *args: object) -> None:
    await asyncio.get_running_loop().run_in_executor(None, function, *args)
