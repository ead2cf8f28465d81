from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from lmgateway._drive.cancel import Deadline
from lmgateway._transports.protocols import Body, BodySource, TransportOptions
from lmgateway._transports.requests import RequestsTransport
from lmgateway.types import HTTPRequest
from transports.contract import CASES, Answer, Authority, Case, check

pytestmark = pytest.mark.loopback


class BlockingClient:
    def __init__(self, options: TransportOptions) -> None:
        self.transport = RequestsTransport(options)

    def exchange(self, request: HTTPRequest, timeout: float) -> Answer:
        deadline = Deadline(timeout)
        response = self.transport.send(request, deadline)
        if response.source is None:
            return Answer(response.status, response.body)
        assert isinstance(response.source, BodySource)
        body = cast(Body, response.source.body)
        pieces = []
        while piece := body.read(deadline):
            pieces.append(piece)
        return Answer(response.status, b"".join(pieces), streamed=True)


@contextmanager
def open_client(options: TransportOptions) -> Iterator[BlockingClient]:
    client = BlockingClient(options)
    yield client
    client.transport.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_contract(case: Case, authority: Authority) -> None:
    check(case, open_client, authority)
