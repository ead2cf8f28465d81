"""The registry: from a provider's name to one loaded plugin, each alone in its own PluginManager.

Installed distributions are scanned once per process and ``sys.path``; only the plugin that was
asked for is imported, so a broken one harms nobody else.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass, field
from threading import RLock
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from .. import hookspecs
from .._base.forks import renew_lock
from .._base.spelling import nearest
from .._base.values import shown
from ..errors import (
    DuplicateProviderError,
    PluginContractError,
    PluginLoadError,
    PluginVersionError,
    UnknownProviderError,
)
from ..types import Info
from .distributions import (
    OWN,
    Offer,
    Offers,
    own_version,
    scan,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from importlib.metadata import EntryPoint

    from pydantic import BaseModel

__all__ = ["Installed", "Plugin", "damaged", "installed", "load", "plugin_from"]
__all__ += ["providers"]

#: What ``pip install`` would bring a provider that this project itself publishes.
PUBLISHED = {
    "anyscale": "lmgateway-anyscale",
    "local": "lmgateway-local",
    "anthropic": "lmgateway-anthropic",
}

#: The core's own providers, which are there whatever the metadata say, or without any.
BUILT_IN = {"echo": "lmgateway._plugins.echo", "openai": "lmgateway._plugins.openai"}


class Installed(NamedTuple):
    """One installed provider, known from its distribution's metadata alone."""

    name: str
    distribution: str
    version: str


@dataclass(frozen=True, slots=True, eq=False)
class Plugin:
    """One loaded provider plugin.

    Attributes:
        name: The entry point's name.
        source: The distribution and its version, for messages.
        hook: The plugin's hooks; calling one that is not implemented returns None.
        info: What it said it can do.
        settings: The pydantic model of its settings, None if it has none.
        hooks: Names of the hooks that it implements.
    """

    name: str
    source: str
    hook: Any = field(repr=False)
    info: Info
    settings: type[BaseModel] | None
    hooks: frozenset[str]


_lock = RLock()
renew_lock(sys.modules[__name__], RLock)
_scans: dict[tuple[Any, ...], _Scan] = {}
_plugins: dict[tuple[str, str, str], Plugin] = {}


class _Scan(NamedTuple):
    """What one look through ``sys.path`` has found."""

    rows: list[tuple[Installed, EntryPoint]]
    offers: Offers


def providers() -> list[Installed]:
    """The installed providers by name; imports no plugin."""
    return [row for row, _ in installed()]


def installed(*, afresh: bool = False) -> list[tuple[Installed, EntryPoint]]:
    """The installed providers with their entry points, from one scan of ``sys.path``."""
    return _scanned(afresh=afresh).rows


def damaged() -> dict[str, str]:
    """Names that some distribution meant to offer, and why it does not."""
    return dict(_scanned().offers.damaged)


def _scanned(*, afresh: bool = False) -> _Scan:
    path: tuple[Any, ...] = tuple(sys.path)
    try:
        found = _scans.get(path)
    except TypeError:  # what Python passes over in it may be anything
        path = tuple(map(str, path))
        found = _scans.get(path)
    if found is not None and not afresh:
        return found
    with _lock:
        if afresh or path not in _scans:
            offers = scan(hookspecs.GROUP)
            # The core may be there twice, or under the name that it had in 0.1: it is one package.
            sound = [
                offer
                for offer in offers.sound
                if offer.name not in BUILT_IN or not offer.value.startswith("lmgateway.")
            ]
            version = own_version() or "?"
            sound += [Offer(name, value, OWN, version) for name, value in BUILT_IN.items()]
            _scans[path] = _Scan(sorted(map(_row, sound), key=lambda row: row[0]), offers)
        return _scans[path]


def _row(offer: Offer) -> tuple[Installed, EntryPoint]:
    from importlib.metadata import EntryPoint

    installed = Installed(offer.name, offer.distribution, offer.version)
    return installed, EntryPoint(offer.name, offer.value, hookspecs.GROUP)


def load(name: str) -> Plugin:
    """Import and check the plugin of that name, once.

    Raises:
        UnknownProviderError: No installed distribution offers it; the nearest are named.
        DuplicateProviderError: Two distributions offer it.
        PluginLoadError: Its module does not import.
        PluginVersionError: It was written for another version of the contract.
        PluginContractError: It breaks the contract.
    """
    rows = [pair for pair in installed() if pair[0].name == name]
    if not rows:  # something may have been installed since the scan, in a notebook say
        rows = [pair for pair in installed(afresh=True) if pair[0].name == name]
    if not rows:
        raise unknown(name, (row.name for row, _ in installed()))
    if len(rows) > 1:
        raise DuplicateProviderError(
            f"the provider name {name!r} is claimed by "
            + " and by ".join(
                f"{row.distribution} {row.version} ({point.value})" for row, point in rows
            )
            + "; uninstall one of them",
            provider=name,
        )
    row, point = rows[0]
    key = (row.name, row.distribution, point.value)
    with _lock:
        if key not in _plugins:
            _plugins[key] = _load(row, point)
        return _plugins[key]


def unknown(name: str, known: Iterable[str], others: Iterable[str] = ()) -> UnknownProviderError:
    """The error for a provider's name that nothing is installed for.

    Args:
        name: The name.
        known: The installed providers.
        others: Further names that may have been meant.
    """
    known = sorted(set(known))
    parts = [f"no provider {shown(name)} is installed"]
    offers = _scanned().offers
    distribution = PUBLISHED.get(name, f"lmgateway-{name}")
    if name in offers.damaged:
        parts.append(offers.damaged[name])
    elif distribution in offers.silent:
        parts.append(
            f"{distribution} is installed, but its entry points do not offer it: reinstall it"
        )
    elif name in PUBLISHED:
        parts.append(f"it comes with: pip install {distribution}")
        if own_version() is None:
            parts.append(
                "where a program is bundled, its metadata must be too (PyInstaller: "
                f"--copy-metadata {distribution})"
            )
    else:
        parts.append(nearest(name, [*known, *PUBLISHED, *others]))
        parts.append(f"installed are: {', '.join(known) or 'none'}")
        parts.append(f"others come as distributions with an entry point in {hookspecs.GROUP}")
    return UnknownProviderError("; ".join(part for part in parts if part), provider=name)


def _load(row: Installed, point: EntryPoint) -> Plugin:
    source = f"plugin {row.name!r} of {row.distribution} {row.version}"
    try:
        module = _imported(point)
    except (Exception, SystemExit) as error:
        raise PluginLoadError(
            f"{source} does not import: {type(error).__name__}: {error}; "
            f"mend or reinstall {row.distribution}",
            provider=row.name,
        ) from error
    return plugin_from(module, name=row.name, source=source)


def _imported(point: EntryPoint) -> Any:
    # Spelt out, so that what bundles a program finds our own.
    if point.value == BUILT_IN["echo"]:
        from . import echo

        return echo
    if point.value == BUILT_IN["openai"]:
        from . import openai

        return openai
    return point.load()


def plugin_from(module: Any, *, name: str, source: str | None = None) -> Plugin:
    """Check a module, or any object with marked hooks, against the contract.

    Args:
        module: What holds the functions marked ``@hookimpl``.
        name: The provider's name.
        source: How to name it in messages.
    """
    source = source or f"plugin {name!r}"
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        _check_version(_peek(module), source, name)
        raise PluginContractError(
            f"{source} breaks the plugin contract: {error}", provider=name
        ) from error
    try:
        info = manager.hook.lmgateway_info() or Info()
        settings = manager.hook.lmgateway_settings()
    except (Exception, SystemExit) as error:
        raise PluginLoadError(
            f"{source} raised {type(error).__name__} while it was asked for its info and "
            f"settings: {error}",
            provider=name,
        ) from error
    if not isinstance(info, Info):
        raise _broken(source, name, f"lmgateway_info returned {type(info).__name__}, not Info")
    _check_version(info, source, name)
    _check_info(info, source, name)
    hooks = frozenset(caller.name for caller in (manager.get_hookcallers(module) or ()))
    if "lmgateway_complete" not in hooks:
        raise _broken(
            source, name, "it has no lmgateway_complete; is the function marked with @hookimpl?"
        )
    _check_arguments(manager, source, name)
    _check_settings(settings, info, source, name)
    return Plugin(name, source, _direct(manager), info, settings, hooks)


def _direct(manager: pluggy.PluginManager) -> SimpleNamespace:
    """The hooks as plain callables, where there is one function to call and nothing around it.

    What pluggy does for a call (it copies the list of implementations, filters arguments, collects
    results) is settled for good once a plugin is loaded, and costs more than most providers do.
    """
    callers = {name: getattr(manager.hook, name) for name in vars(hookspecs) if _is_hook(name)}
    return SimpleNamespace(**{name: _callable(caller) for name, caller in callers.items()})


def _is_hook(name: str) -> bool:
    return name.startswith(f"{hookspecs.PROJECT}_")


def _callable(caller: pluggy.HookCaller) -> Callable[..., Any]:
    impls = caller.get_hookimpls()
    if len(impls) != 1 or impls[0].wrapper or impls[0].hookwrapper or caller.spec is None:
        return caller
    function, wanted = impls[0].function, impls[0].argnames
    if set(wanted) == set(caller.spec.argnames):
        return function
    return lambda **arguments: function(**{name: arguments[name] for name in wanted})


def _broken(source: str, name: str, what: str) -> PluginContractError:
    return PluginContractError(f"{source} breaks the plugin contract: {what}", provider=name)


def _peek(module: Any) -> Any:
    """A plugin's info without pluggy's checks, which another version may not pass."""
    try:
        return module.lmgateway_info()
    except (Exception, SystemExit):
        return None


def _check_version(info: Any, source: str, name: str) -> None:
    api = getattr(info, "api", hookspecs.API_VERSION)
    if isinstance(api, bool) or not isinstance(api, int):
        raise _broken(source, name, f"Info.api must be an int, not {type(api).__name__}")
    if api == hookspecs.API_VERSION:
        return
    newer = api > hookspecs.API_VERSION
    raise PluginVersionError(
        f"{source} was written for version {api} of the plugin API, and this lmgateway speaks "
        f"version {hookspecs.API_VERSION}: "
        + (f"pip install -U {OWN}" if newer else "install a newer version of the plugin"),
        provider=name,
    )


def _check_info(info: Info, source: str, name: str) -> None:
    """Refuse what is of a wrong type: ``in`` would find "top" in "top_p", and say nothing."""
    for field_name in ("capabilities", "params"):
        value = getattr(info, field_name)
        if not isinstance(value, (set, frozenset)):
            what = f"not {type(value).__name__}"
        elif odd := [each for each in value if not isinstance(each, str)]:
            what = f"and {odd[0]!r:.40} in it is none"
        else:
            continue
        raise _broken(source, name, f"Info.{field_name} must be a frozenset of str, {what}")
    model = info.default_model
    if not (model is None or isinstance(model, str)):
        kind = type(model).__name__
        raise _broken(source, name, f"Info.default_model must be a str or None, not {kind}")


def _check_arguments(manager: pluggy.PluginManager, source: str, name: str) -> None:
    """Refuse an argument that no call would pass: they come by name, and without defaults."""
    for caller in manager.get_hookcallers(manager.get_plugin(name)) or ():
        for impl in caller.get_hookimpls():
            for argument in inspect.signature(impl.function).parameters.values():
                if argument.kind in (argument.POSITIONAL_ONLY, argument.KEYWORD_ONLY):
                    raise _broken(
                        source,
                        name,
                        f"the argument {argument.name!r} of {caller.name} is "
                        f"{argument.kind.description} and would never be passed: "
                        "remove the / or the * from its signature",
                    )
                if argument.default is not argument.empty:
                    raise _broken(
                        source,
                        name,
                        f"the argument {argument.name!r} of {caller.name} has a default and "
                        "would never be passed: remove the default",
                    )


def _check_settings(settings: Any, info: Info, source: str, name: str) -> None:
    if settings is None:
        return
    from pydantic import BaseModel

    if not (isinstance(settings, type) and issubclass(settings, BaseModel)):
        raise _broken(source, name, "lmgateway_settings must return a subclass of BaseModel")
    taken = RESERVED | info.params
    shadowing = sorted(set(settings.model_fields) & taken)
    if shadowing:
        raise _broken(
            source,
            name,
            f"its setting {shadowing[0]!r} shadows a keyword of the core or a generation "
            "parameter: rename it",
        )


def _reserved() -> frozenset[str]:
    from ..types import Options, Request

    own = set(Options.__dataclass_fields__) | set(Request.__dataclass_fields__)
    return frozenset((own - {"params"}) | {"name", "provider", "plugin", "config", "params"})


#: Keywords of get_lm and of a call that no setting of a plugin may be named after.
RESERVED = _reserved()
