"""The transport contract, fault for fault, over both asynchronous transports."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lmgateway._drive.cancel import Deadline
from lmgateway._transports.aiohttp import AiohttpTransport
from lmgateway._transports.protocols import AsyncTransport, BodySource, TransportOptions
from lmgateway._transports.requests import RequestsTransport
from lmgateway._transports.threads import ThreadedTransport
from lmgateway.types import HTTPRequest
from transports.contract import CASES, Answer, Authority, Case, check

pytestmark = pytest.mark.loopback


class AwaitingClient:
    """A transport on an event loop of its own, which runs while an exchange does."""

    def __init__(self, transport: AsyncTransport, runner: asyncio.Runner) -> None:
        self.transport = transport
        self.runner = runner

    def exchange(self, request: HTTPRequest, timeout: float) -> Answer:
        return self.runner.run(self.aexchange(request, Deadline(timeout)))

    async def aexchange(self, request: HTTPRequest, deadline: Deadline) -> Answer:
        response = await self.transport.send(request, deadline)
        if response.source is None:
            return Answer(response.status, response.body)
        assert isinstance(response.source, BodySource)
        pieces = []
        while piece := await response.source.body.read(deadline):  # type: ignore[misc]
            pieces.append(piece)
        return Answer(response.status, b"".join(pieces), streamed=True)


@contextmanager
def open_aiohttp(options: TransportOptions) -> Iterator[AwaitingClient]:
    with asyncio.Runner() as runner:
        yield AwaitingClient(AiohttpTransport(options), runner)


@contextmanager
def open_threads(options: TransportOptions) -> Iterator[AwaitingClient]:
    with asyncio.Runner() as runner:
        transport = ThreadedTransport(RequestsTransport(options))
        yield AwaitingClient(transport, runner)
        transport.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("open_client", [open_aiohttp, open_threads], ids=["aiohttp", "threads"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_contract(case: Case, open_client: object, authority: Authority) -> None:
    check(case, open_client, authority)  # type: ignore[arg-type]
