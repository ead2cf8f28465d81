"""Checks of loading: the plugin loads, and its Info is true."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import replace
from types import ModuleType
from typing import Any, ClassVar

import pytest

from ... import hookspecs
from ..._call.validation import check_model
from ..._plugins.registry import load
from ...errors import LMGatewayError, MissingCredentialError
from ...lm import get_lm
from ..bench import Bench
from ..calls import RecordedCall
from ..wire import Wire

__all__ = ["LoadingChecks"]

_CAPABILITIES = frozenset({"messages", "images", "system", "schema"})
#: Of API 2, beside those.
_LATER = frozenset({"tools", "audio", "files", "reasoning", "prefill"})
_OF_MESSAGES = frozenset({"images", "audio", "files", "prefill"})


class LoadingChecks:
    """The entry point, the hooks' signatures, info and settings."""

    provider: ClassVar[str]

    def test_hooks_take_what_the_core_passes(self, module: ModuleType) -> None:
        """A misspelt hook or argument, or an argument with a default, would never be used."""
        problems = [problem for name in dir(module) for problem in _problems(module, name)]
        assert not problems, "; ".join(problems)

    def test_it_loads(self) -> None:
        """The core accepts the plugin under its name."""
        try:
            load(self.provider)
        except LMGatewayError as error:
            pytest.fail(f"get_lm({self.provider!r}) fails: {error}", pytrace=False)

    def test_info_is_of_this_api(self, bench: Bench) -> None:
        """Info names the version of the contract, and only capabilities that the contract knows."""
        info = bench.plugin.info
        assert bench.info.capabilities <= info.capabilities, "Info of a model holds more than all"
        assert bench.info.params <= info.params, "Info of a model holds more than all models take"
        assert 1 <= info.api <= hookspecs.API_VERSION, "Info.api is a newer version of the contract"
        known = _CAPABILITIES | _LATER if info.api > 1 else _CAPABILITIES
        unknown = info.capabilities - known
        assert not unknown, f"Info.capabilities holds {sorted(unknown)}, which nothing asks for"
        inside = sorted(info.capabilities & _OF_MESSAGES)
        assert not inside or "messages" in info.capabilities, (
            f"{' and '.join(inside)} come inside messages: a provider that takes them takes both"
        )
        if info.default_model is not None:
            check_model(info.default_model, self.provider)

    def test_nothing_is_needed_before_a_request_is_sent(
        self, bench: Bench, answered: RecordedCall
    ) -> None:
        """An LM can be made without any setting; only sending needs a key or a base URL."""
        bare = replace(bench, settings={})
        wire = Wire(*answered.answers())
        lm = bare.lm(wire)
        missing = None
        try:
            if answered.stream:
                list(lm.stream(**answered.call))
            else:
                lm.complete(**answered.call)
        except MissingCredentialError as error:
            missing = str(error)
        if missing is not None:
            variable = f"{self.provider.upper().replace('-', '_')}_"
            assert variable in missing, f"this names no {variable}... to set: {missing}"
            assert not wire.sent, "a request went out before the missing credential was noticed"

    def test_an_lm_of_it_is_pickled_and_copied(self, bench: Bench) -> None:
        """An LM can be sent to another process, so its settings are plain values."""
        lm = get_lm(self.provider, model=bench.model, **bench.settings)
        twin = pickle.loads(pickle.dumps(lm))
        assert (twin.provider, twin.model) == (lm.provider, lm.model)
        assert lm.copy(timeout=5.0).options.timeout == 5.0


def _problems(module: ModuleType, name: str) -> list[str]:
    function: Any = getattr(module, name)
    marked: Any = getattr(function, f"{hookspecs.PROJECT}_impl", None)
    spec: Any = getattr(hookspecs, name, None) if name.startswith("lmgateway_") else None
    if marked is None:
        return [f"{name} is not marked with @hookimpl"] if spec and callable(function) else []
    if spec is None:  # a newer core may have it
        return [] if marked["optionalhook"] else [f"there is no hook {name}"]
    known = inspect.signature(spec).parameters
    found = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not parameter.empty:
            found.append(
                f"{name}: the argument {parameter.name!r} has a default and is never passed"
            )
        elif parameter.name not in known:
            found.append(f"{name}: the core passes no argument {parameter.name!r}")
    return found
