"""The registry: finds and loads the plugin of a provider by its name.

Installed distributions are scanned once for each process and ``sys.path``. Only the plugin that is
asked for is imported, so a broken plugin does no harm to the others.
"""

from __future__ import annotations

import sys
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple

from .._base.forks import renew_lock
from .._base.spelling import handful, nearest, with_slash
from .._base.values import shown
from ..errors import DuplicateProviderError, PluginLoadError, UnknownProviderError
from ..hookspecs import GROUP
from .contract import Plugin, plugin_from
from .distributions import OWN, Offer, Offers, own_version, scan

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import EntryPoint

__all__ = ["Installed", "damaged", "installed", "is_installed", "load", "providers", "unknown"]

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


_lock = RLock()
renew_lock(sys.modules[__name__], RLock)
_scans: dict[tuple[Any, ...], _Scan] = {}
_plugins: dict[tuple[str, str, str], Plugin] = {}


class _Scan(NamedTuple):
    """The result of one scan of ``sys.path``."""

    rows: list[tuple[Installed, EntryPoint]]
    names: frozenset[str]
    offers: Offers


def providers() -> list[Installed]:
    """The installed providers by name; imports no plugin."""
    return [row for row, _ in installed()]


def installed(*, afresh: bool = False) -> list[tuple[Installed, EntryPoint]]:
    """The installed providers with their entry points, from one scan of ``sys.path``."""
    return _scanned(afresh=afresh).rows


def is_installed(name: str) -> bool:
    """Whether some distribution offers a provider of that name."""
    return name in _scanned().names


def damaged() -> dict[str, str]:
    """For each name whose entry point cannot be used, why."""
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
            offers = scan(GROUP)
            # The core may be there twice, or under the name that it had in 0.1: it is one package.
            sound = [
                offer
                for offer in offers.sound
                if offer.name not in BUILT_IN or not offer.value.startswith("lmgateway.")
            ]
            version = own_version() or "?"
            sound += [Offer(name, value, OWN, version) for name, value in BUILT_IN.items()]
            rows = sorted(map(_row, sound), key=lambda row: row[0])
            _scans[path] = _Scan(rows, frozenset(row.name for row, _ in rows), offers)
        return _scans[path]


def _row(offer: Offer) -> tuple[Installed, EntryPoint]:
    from importlib.metadata import EntryPoint

    installed = Installed(offer.name, offer.distribution, offer.version)
    return installed, EntryPoint(offer.name, offer.value, GROUP)


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
        raise unknown(name)
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


def unknown(
    name: str, providers: Iterable[str] = (), models: Iterable[str] = (), file: str = ""
) -> UnknownProviderError:
    """The error for a provider's name that nothing is installed for.

    Args:
        name: The name.
        providers: Other providers that are known: hosts of the catalogue, and the file's own.
        models: Names of models in the configuration file.
        file: The configuration file.
    """
    here = {row.name for row, _ in installed()}
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
        known = {*here, *PUBLISHED, *providers}
        if name in models:
            parts.append(f"it names a model in {file}, so nothing follows it: get_lm({name!r})")
        else:
            near = with_slash(name, known) or nearest(name, [*known, *models])
            parts.append(near or "a model's name follows its provider's: 'openai/gpt-4o-mini'")
        parts.append(f"installed are: {handful(name, here) or 'none'}")
        if models:
            parts.append(f"models in {file}: {handful(name, models)}")
        if others := known - here:
            parts.append(f"known as well: {handful(name, others)}")
        parts.append(f"others come as distributions with an entry point in {GROUP}")
    return UnknownProviderError("; ".join(filter(None, parts)), provider=name[:100])


def _load(row: Installed, point: EntryPoint) -> Plugin:
    described = f"plugin {row.name!r} of {row.distribution} {row.version}"
    try:
        module = _imported(point)
    except (Exception, SystemExit) as error:
        raise PluginLoadError(
            f"{described} does not import: {type(error).__name__}: {error}; "
            f"mend or reinstall {row.distribution}",
            provider=row.name,
        ) from error
    return plugin_from(module, name=row.name, described=described, installed=True)


def _imported(point: EntryPoint) -> Any:
    # Spelt out, so that what bundles a program finds our own.
    if point.value == BUILT_IN["echo"]:
        from . import echo

        return echo
    if point.value == BUILT_IN["openai"]:
        from . import openai

        return openai
    return point.load()
