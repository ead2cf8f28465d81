"""A plugin that hangs in an effect: the deadline holds, and nobody else is harmed."""

from __future__ import annotations

import asyncio
import time

import pytest
from support.distributions import SitePackages

import lmgateway
from lmgateway import errors

HANGING = """
import threading
from lmgateway import hookimpl
from lmgateway.types import Blocking, send

@hookimpl
def lmgateway_complete(request):
    yield from send(Blocking(threading.Event().wait))

@hookimpl
def lmgateway_stream(request):
    head = yield from send(Blocking(lambda push: threading.Event().wait(), stream=True))
    yield from head.source.read()
"""


@pytest.fixture
def lm(site_packages: SitePackages) -> lmgateway.LM:
    site_packages.install("hanging", HANGING)
    return lmgateway.get_lm("hanging", model="m", timeout=0.3, retries=0)


def test_a_call_ends_at_its_deadline(lm: lmgateway.LM) -> None:
    began = time.monotonic()
    with pytest.raises(errors.RequestTimeoutError):
        lm("hi")
    assert time.monotonic() - began < 5
    assert lmgateway.get_lm("echo")("still here") == ["still here"]


def test_a_stream_ends_at_its_deadline(lm: lmgateway.LM) -> None:
    began = time.monotonic()
    with pytest.raises(errors.LMGatewayError) as caught:
        list(lm.stream("hi"))
    assert isinstance(caught.value, (errors.RequestTimeoutError, errors.StreamInterruptedError))
    assert time.monotonic() - began < 5


def test_others_answer_while_it_hangs(lm: lmgateway.LM) -> None:
    async def both() -> list[object]:
        echo = lmgateway.get_lm("echo")
        hanging = asyncio.create_task(lm.acall("hi"))
        answers = [await echo.acall(str(n)) for n in range(10)]
        (outcome,) = await asyncio.gather(hanging, return_exceptions=True)
        return [answers, type(outcome)]

    answers, kind = asyncio.run(both())
    assert answers == [[str(n)] for n in range(10)]
    assert kind is errors.RequestTimeoutError
