"""The contract of a provider as tests: its author writes a subclass of ``ProviderContract``.

::

    from lmgateway.testing import ProviderContract

    class TestAcme(ProviderContract):
        provider = "acme"
        model = "acme-large"
        recordings = "recordings.jsonl"      # beside this file; record_call writes it

No socket is opened: recorded answers stand where the network would be.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, cast

import pytest

from .._plugins.contract import Plugin
from .._plugins.registry import installed, load
from ..errors import LMGatewayError
from .bench import Bench
from .calls import RecordedCall, read_calls
from .checks.answers import AnswerChecks
from .checks.arrival import ArrivalChecks
from .checks.calls import CallChecks
from .checks.choices import ChoiceChecks
from .checks.endings import EndingChecks
from .checks.failures import FailureChecks
from .checks.histories import HistoryChecks
from .checks.inputs import InputChecks
from .checks.kinds import KindChecks
from .checks.loading import LoadingChecks
from .checks.losses import LossChecks
from .checks.orders import OrderChecks
from .checks.parameters import ParameterChecks
from .checks.requests import RequestChecks
from .checks.secrets import SecretChecks
from .checks.streams import StreamChecks
from .checks.turns import TurnChecks
from .checks.voices import VoiceChecks

__all__ = ["ProviderContract"]

#: A check that takes one of these runs once for each recorded call, or parameter of Info.
_SUBJECTS = {"answered", "plain", "streamed", "asked", "failed", "pair", "parameter", "way"}


class ProviderContract(
    LoadingChecks,
    AnswerChecks,
    LossChecks,
    EndingChecks,
    StreamChecks,
    ArrivalChecks,
    CallChecks,
    ChoiceChecks,
    TurnChecks,
    FailureChecks,
    RequestChecks,
    ParameterChecks,
    HistoryChecks,
    OrderChecks,
    VoiceChecks,
    InputChecks,
    KindChecks,
    SecretChecks,
):
    """Everything the gateway promises of a provider, checked on recorded answers.

    A check cannot be overridden or left out. One that a provider cannot pass is named in
    ``xfails``, with the reason; one that passes all the same then fails.

    Attributes:
        provider: The name of the plugin's entry point.
        model: The model to ask for; "" for the plugin's default.
        settings: Keywords of get_lm. A secret that is not among them is filled with a canary;
            one that is must be made up, and serves as the canary.
        recordings: Files or folders of recorded calls, relative to the test's file, or
            RecordedCalls.
        samples: Values to try a parameter with, by its name, where those of the kit do not fit.
        unread: Names of fields in the service's answers that nobody can want, so that the
            completion need not hold them.
        xfails: Reasons by the name of a check, or by its id: ``"test_x[temperature]"``.
    """

    provider: ClassVar[str]
    model: ClassVar[str] = ""
    settings: ClassVar[Mapping[str, Any]] = {}
    recordings: ClassVar[str | os.PathLike[str] | Sequence[Any]] = ()
    samples: ClassVar[Mapping[str, Sequence[Any]]] = {}
    unread: ClassVar[Collection[str]] = ()
    xfails: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        replaced = sorted(_NAMES & vars(cls).keys())
        if replaced:
            raise TypeError(
                f"{cls.__name__} replaces the check {replaced[0]}: name it in xfails, with a reason"
            )
        for name, reason in cls.xfails.items():
            if name.partition("[")[0] not in _NAMES:
                raise TypeError(f"xfails of {cls.__name__} names {name!r}, which is no check")
            if not reason.strip():
                raise TypeError(f"xfails of {cls.__name__} gives no reason for {name!r}")

    # -- the subjects of the checks -------------------------------------------------------------

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a check on every recorded call it applies to, and on every declared parameter."""
        wanted = _SUBJECTS & set(metafunc.fixturenames)
        if not wanted:
            return
        calls = self._recorded()
        good = [call for call in calls if not call.is_error and call.kind == "complete"]
        hooks, params = _hooks_and_params(self.provider)
        plain = [call for call in good if not call.stream] or [RecordedCall("unrecorded")]
        streamed = [call for call in good if call.stream]
        if "lmgateway_stream" in hooks:
            streamed = streamed or [RecordedCall("unrecorded", stream=True)]
        subjects: dict[str, Sequence[Any]] = {
            "answered": plain + streamed,
            "plain": plain,
            "streamed": streamed,
            "asked": [call for call in calls if call.requests and not call.is_error],
            "failed": [call for call in calls if call.is_error],
            "pair": _pairs(good),
            "parameter": sorted(params),
            "way": [False, True] if "lmgateway_stream" in hooks else [False],
        }
        for name in sorted(wanted):
            given = subjects[name] or [_none(name)]
            metafunc.parametrize(name, given, ids=_identify)

    def _recorded(self) -> list[RecordedCall]:
        cls = type(self)
        if "_calls" not in vars(cls):
            cls._calls = self._read()
        return cls._calls

    _calls: ClassVar[list[RecordedCall]]

    def _read(self) -> list[RecordedCall]:
        folder = Path(sys.modules[type(self).__module__].__file__ or ".").parent
        given = self.recordings
        several = [given] if isinstance(given, str | os.PathLike | RecordedCall) else given
        calls: list[RecordedCall] = []
        for each in several:
            calls += [each] if isinstance(each, RecordedCall) else read_calls(folder / each)
        return calls

    @pytest.fixture
    def calls(self) -> list[RecordedCall]:
        """All recorded calls."""
        return self._recorded()

    @pytest.fixture
    def module(self) -> ModuleType:
        """The plugin's module."""
        points = [point for row, point in installed() if row.name == self.provider]
        if not points:
            pytest.skip(f"no {self.provider} is installed: see test_it_loads")
        try:
            return import_module(points[0].module)
        except Exception:
            pytest.skip("it does not load: see test_it_loads")

    @pytest.fixture
    def bench(self) -> Bench:
        """The provider with its settings; every secret is a canary."""
        cls = type(self)
        if "_bench" not in vars(cls):
            cls._bench = self._set_up()
        return cls._bench

    _bench: ClassVar[Bench]

    def _set_up(self) -> Bench:
        try:
            plugin = load(self.provider)
        except LMGatewayError:
            pytest.skip("it does not load: see test_it_loads")
        settings = dict(self.settings)
        secrets = _secrets(plugin)
        for name in secrets:
            settings.setdefault(name, f"canary-{name.replace('_', '-')}-4f1d9c27ab3e8056")
        model = self.model or plugin.info.default_model
        model = "a-model" if model is None else model  # "" if there is one only
        canaries = tuple(str(settings[name]) for name in secrets)
        return Bench(plugin, model, settings, canaries, tuple(self._recorded()))

    # -- no outside world ------------------------------------------------------------------------

    @pytest.fixture(autouse=True)
    def _alone(
        self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Give a check no socket, and no variable, configuration file or cache of the user."""
        prefix = "".join(c if c.isalnum() else "_" for c in self.provider).upper() + "_"
        for name in list(os.environ):
            if name.startswith((prefix, "LMGATEWAY_")):
                monkeypatch.delenv(name)
        empty = tmp_path_factory.getbasetemp() / "contract"
        empty.mkdir(exist_ok=True)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(empty))
        monkeypatch.setenv("LMGATEWAY_CACHE", "off")
        monkeypatch.chdir(empty)
        monkeypatch.setattr(socket, "getaddrinfo", _no_network)
        monkeypatch.setattr(socket, "create_connection", _no_network)
        monkeypatch.setattr(socket.socket, "connect", _no_network)

    @pytest.fixture(autouse=True)
    def _expected_to_fail(self, request: pytest.FixtureRequest) -> None:
        """Expect the checks that ``xfails`` names to fail."""
        for name in (request.node.name, request.node.originalname):
            if reason := self.xfails.get(name):
                request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


def _no_network(*_: object, **__: object) -> Any:
    raise AssertionError(
        "the provider reaches for the network by itself: `yield from send(HTTPRequest(...))` asks "
        "the gateway, and `send(Blocking(...))` runs what blocks"
    )


def _pairs(calls: Sequence[RecordedCall]) -> list[tuple[RecordedCall, RecordedCall]]:
    """Calls that were recorded both plain and streamed."""
    return [
        (one, other)
        for one, other in product(calls, calls)
        if not one.stream and other.stream and one.requests and one.call == other.call
    ]


#: Why a check that wants certain recorded calls does not run.
_WITHOUT = {
    "asked": "no request is recorded beside an answer: record_call writes both",
    "failed": "no error is recorded: record_call with a wrong key makes one",
    "pair": "no call is recorded both plain and streamed",
    "parameter": "its Info.params is empty",
    "streamed": "it has no lmgateway_stream",
}


def _none(name: str) -> Any:
    return pytest.param(None, marks=pytest.mark.skip(reason=_WITHOUT[name]), id="none")


def _identify(subject: Any) -> str | None:
    if isinstance(subject, bool):
        return "stream" if subject else "plain"
    if isinstance(subject, tuple):
        return cast(str, subject[0].name)
    return subject.name if isinstance(subject, RecordedCall) else None


def _hooks_and_params(provider: str) -> tuple[frozenset[str], frozenset[str]]:
    try:
        plugin = load(provider)
    except LMGatewayError:
        return frozenset(), frozenset()
    return plugin.hooks, plugin.info.params


def _secrets(plugin: Plugin) -> list[str]:
    if plugin.settings is None:
        return []
    from .._config.settings import secret_fields

    return sorted(secret_fields(plugin.settings))


#: The checks, by their names; none may be overridden.
_NAMES = frozenset(
    name
    for checks in ProviderContract.__bases__
    for name in vars(checks)
    if name.startswith("test_")
)
