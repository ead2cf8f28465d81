"""The rows of plugins that misbehave while they answer; those of loading are the registry's."""

from __future__ import annotations

from time import monotonic

import pytest
from faults.play import NATIVE, PROMPT, SLACK, Mode, row
from support.distributions import SitePackages

import lmgateway
from lmgateway import errors

HEAD = """
import threading, time
from lmgateway import hookimpl
from lmgateway.types import Blocking, Delta, Emit, HTTPRequest, Sleep, Wait, read, send
from concurrent.futures import Future

def answer(request):
    {code}

@hookimpl
def lmgateway_complete(request):
    return answer(request)

@hookimpl
def lmgateway_stream(request):
    return answer(request)
"""

IN_A_CALL = "raises or returns the wrong type in a call"
HANGS = "hangs inside an effect"


def ask(site_packages: SitePackages, mode: Mode, code: str, **options: object) -> object:
    site_packages.install("odd", HEAD.format(code=code))
    lm = lmgateway.get_lm("odd", model="m", **options)
    return mode.ask(lm, PROMPT)


@row("Plugins", IN_A_CALL, NATIVE)
@pytest.mark.parametrize(
    "code, error",
    [
        pytest.param("1 / 0", errors.PluginError, id="raises"),
        pytest.param("yield Sleep(0); 1 / 0", errors.PluginError, id="its flow raises"),
        pytest.param("yield Sleep(0); return 3", errors.PluginContractError, id="a number"),
        pytest.param("yield Sleep(0); return {}", errors.PluginContractError, id="no choices"),
        pytest.param("yield 3", errors.PluginContractError, id="no effect"),
        pytest.param("yield Emit(3)", errors.PluginError, id="emits a number"),
        pytest.param("yield Emit(Delta(3))", errors.PluginError, id="emits a delta of a number"),
        pytest.param(
            "yield from send(HTTPRequest('GET', 3, '/'))", errors.PluginError, id="a base of 3"
        ),
        pytest.param("yield Sleep('long')", errors.PluginError, id="sleeps a text"),
        pytest.param("yield Sleep(float('nan'))", errors.PluginError, id="sleeps NaN"),
        pytest.param("yield Sleep(-1)", errors.PluginError, id="sleeps backwards"),
        pytest.param("yield Wait(3)", errors.PluginError, id="waits for a number"),
        pytest.param("yield Blocking(3)", errors.PluginError, id="runs a number"),
        pytest.param("yield from read(3)", errors.PluginError, id="reads a number"),
        pytest.param("yield from send(Blocking(lambda: 1 / 0))", errors.PluginError, id="work"),
        pytest.param("while True: yield from send(3)", errors.PluginContractError, id="sends 3"),
        pytest.param("raise RecursionError", errors.PluginError, id="recurses"),
        pytest.param("raise MemoryError", errors.PluginError, id="out of memory"),
        pytest.param("raise StopIteration", errors.PluginError, id="stops"),
        pytest.param("yield Sleep(0); raise StopIteration", errors.PluginError, id="flow stops"),
    ],
)
def test_a_plugin_that_fails_is_named(
    site_packages: SitePackages, mode: Mode, code: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"lmgateway-odd 1\.0"):
        ask(site_packages, mode, code, timeout=10)


@row("Plugins", HANGS, NATIVE)
@pytest.mark.parametrize(
    "code",
    [
        pytest.param("yield from send(Blocking(threading.Event().wait))", id="in its own work"),
        pytest.param("yield Wait(Future())", id="waiting for nobody"),
        pytest.param("yield Sleep(1e9)", id="sleeping"),
        pytest.param(
            "head = yield from send(Blocking(lambda push: time.sleep(5), stream=True))\n"
            "    yield from read(head)",
            id="reading",
        ),
    ],
)
def test_the_deadline_holds(site_packages: SitePackages, mode: Mode, code: str) -> None:
    began = monotonic()
    with pytest.raises(errors.RequestTimeoutError, match="provider odd"):
        ask(site_packages, mode, code, timeout=0.2)
    assert monotonic() - began < SLACK
