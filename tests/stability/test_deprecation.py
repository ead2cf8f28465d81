from __future__ import annotations

import sys
import warnings
from types import ModuleType
from typing import Any

import pluggy
import pytest

from lmgateway.deprecation import LMGatewayDeprecationWarning, deprecation, warn_deprecated
from lmgateway.hookspecs import hookimpl

CORE = """
from lmgateway.deprecation import warn_deprecated

def outer():
    return inner()

def inner():
    warn_deprecated("lmgateway.old", instead="call new()", removed_in="0.9")

def flow():
    inner()
    yield
"""


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the package that deprecates something."""
    module = ModuleType("lmgateway.made_up")
    exec(compile(CORE, "core.py", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_it_warns_at_the_line_outside_the_package(core: Any) -> None:
    here = sys._getframe().f_lineno + 2
    with pytest.warns(LMGatewayDeprecationWarning, match=r"call new\(\).*0\.9") as caught:
        core.outer()
    assert (caught[0].filename, caught[0].lineno) == (__file__, here)


def test_a_flow_warns_at_the_line_that_takes_part_in_it(core: Any) -> None:
    def plugin() -> Any:
        yield from core.flow()

    line = plugin.__code__.co_firstlineno + 1
    with pytest.warns(LMGatewayDeprecationWarning) as caught:
        next(plugin())
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)


def test_a_deprecated_argument_warns_at_the_implementation() -> None:
    class Spec:
        @pluggy.HookspecMarker("lmgateway")(
            warn_on_impl_args={"settings": deprecation("take config", "0.9")}
        )
        def lmgateway_made_up(self, settings: object, config: object) -> None: ...

    class Plugin:
        @hookimpl
        def lmgateway_made_up(self, settings: object) -> None: ...

    manager = pluggy.PluginManager("lmgateway")
    manager.add_hookspecs(Spec)
    with pytest.warns(LMGatewayDeprecationWarning, match="take config") as caught:
        manager.register(Plugin())
    line = Plugin.lmgateway_made_up.__code__.co_firstlineno
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)


def test_each_line_is_told_once(core: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            core.outer()
    assert len(caught) == 1


def test_without_a_line_outside_it_warns_all_the_same() -> None:
    with pytest.warns(LMGatewayDeprecationWarning, match="old is deprecated"):
        warn_deprecated("old", instead="do not", removed_in="1")
