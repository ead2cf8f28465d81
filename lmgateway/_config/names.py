"""Names: what a name given to get_lm stands for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from .._base.spelling import nearest
from .._base.values import shown
from .._plugins import registry
from .._plugins.registry import Plugin, installed
from .._store.settings import SWITCH, says_off
from ..errors import ConfigError, InputError, UnknownProviderError
from .catalogue import Host, hosts
from .files import Document, find, read
from .provenance import Environment, Sourced
from .tables import (
    NOTHING,
    Config,
    ModelTable,
    build,
    wrong,
)

__all__ = ["Selection", "configuration", "known_providers", "plugin_of", "reselect"]
__all__ += ["select"]

MODEL_VARIABLE = "LMGATEWAY_MODEL"

ConfigPath = str | os.PathLike[str] | None


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """A provider, its model, and what the configuration says of both.

    Attributes:
        provider: The provider's name: the prefix of its variables.
        plugin: The entry point that serves it.
        model: The model, None if none was named.
        keywords: Core options, ``system`` and generation parameters from the file.
        settings: Settings from file and catalogue, by field.
        key_variable: The variable that ``api_key_env`` or the catalogue names.
        needs_key: Whether the file says, by ``api_key_env``, that there is a key.
        limits: ``rpm``, ``tpm`` and ``in_flight`` of the provider, where the file says so.
        cache: The file's ``[cache]``, and what ``.env`` says of it.
        config: The configuration file, "" without one.
        origins: Where ``name``, ``provider``, ``plugin`` and ``model`` came from.
    """

    provider: str
    plugin: str
    model: str | None
    keywords: Mapping[str, Sourced] = field(default_factory=dict)
    settings: Mapping[str, Sourced] = field(default_factory=dict)
    key_variable: str | None = None
    needs_key: bool = False
    limits: Mapping[str, Sourced] = field(default_factory=dict)
    cache: Mapping[str, Sourced] = field(default_factory=dict)
    config: str = ""
    origins: Mapping[str, Sourced] = field(default_factory=dict)


def configuration(config: ConfigPath = None) -> Config:
    """The configuration file that counts, read and checked; an empty one without a file.

    Raises ConfigError, with file and line, for whatever is wrong in it.
    """
    found = find(config)
    if found is None:
        return NOTHING
    document = read(found.path)
    if document is None:
        raise ConfigError(f"{found.path} has no table [tool.lmgateway]: add it, or name another")
    return _checked(document)


def select(name: object, model: str | None, config: ConfigPath = None) -> Selection:
    """Resolve a name; opens nothing.

    Args:
        name: A provider, ``provider/model``, or a ``[models.NAME]``; None for LMGATEWAY_MODEL, or
            else the file's ``default``.
        model: The model; then ``name`` is a provider.
        config: The configuration file, instead of the one that would be found.

    Raises:
        InputError: It cannot stand for anything.
        ConfigError: The configuration file is wrong.
    """
    settled = configuration(config)
    given = _default(settled) if name is None else Sourced(name, "argument")
    text = given.value
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"a name must be a text, not {shown(text)}")
    if model is not None:
        if text in settled.models and not _is_provider(text, settled):
            raise InputError(
                f"{shown(text)} names a model in {settled.path}, so it takes no model=: "
                f"give a provider's name, or copy it: get_lm({text!r}).copy(model=...)"
            )
        return _of_provider(given, given, Sourced(model, "argument"), settled)
    if "/" in text:
        provider, _, model = text.partition("/")
        at = (given.kind, given.place)
        return _of_provider(given, Sourced(provider, *at), Sourced(model, *at), settled)
    if text in settled.models:
        return _of_model(given, settled)
    return _of_provider(given, given, None, settled)


def reselect(selection: Selection, config: ConfigPath) -> Selection:
    """What the same name stands for in another configuration file."""
    named = selection.origins["name"]
    if named.kind != "argument":
        return select(None, None, config)
    model = selection.origins.get("model")
    apart = model is not None and model.kind == "argument" and "/" not in named.value
    return select(named.value, selection.model if apart else None, config)


def plugin_of(selection: Selection) -> Plugin:
    """Load the plugin of a selection.

    Raises UnknownProviderError, which names what is installed, what is near and what to install,
    and the other PluginErrors of ``registry.load``.
    """
    try:
        return registry.load(selection.plugin)
    except UnknownProviderError:
        known = known_providers(configuration(selection.config or None))
    here = [row.name for row, _ in installed()]
    problem = registry.unknown(selection.plugin, here, known)
    origin = selection.origins["plugin"]
    if origin.kind != "argument":
        problem.advise(f"the name comes from {origin}")
    raise problem


def known_providers(config: Config) -> set[str]:
    """Every name that get_lm takes without a "/": own tables, plugins, catalogue, models."""
    names = {row.name for row, _ in installed()} | set(registry.PUBLISHED)
    return names | set(config.providers) | set(config.models) | set(hosts())


# -- the ways a name may go --------------------------------------------------------------------


def _default(config: Config) -> Sourced:
    if variable := Environment().lookup(MODEL_VARIABLE):
        return variable
    if config.default is not None:
        return config.default
    where = f"write default = ... into {config.path}" if config.path else (
        "write one into a configuration file, which `lmgateway config --init` begins"
    )  # fmt: skip
    raise InputError(
        "there is no default: give a name, get_lm('echo') or get_lm('groq/...'), "
        f"or set {MODEL_VARIABLE}, or {where}"
    )


def _of_model(given: Sourced, config: Config) -> Selection:
    name = given.value
    while (alias := config.models[name].alias) is not None:
        name, given = alias.value, alias
        if name not in config.models:
            return _beyond(alias, config)
    table = config.models[name]
    assert table.provider is not None
    return _of_provider(given, table.provider, table.model, config, table)


def _beyond(alias: Sourced, config: Config) -> Selection:
    """What an alias names outside of ``[models]``."""
    provider, slash, model = alias.value.partition("/")
    at = (alias.kind, alias.place)
    named = Sourced(model, *at) if slash else None
    if not _is_provider(provider, config):
        near = nearest(provider, known_providers(config))
        raise wrong(alias.place, f"alias names {alias.value!r}, which is nothing known: {near}")
    return _of_provider(alias, Sourced(provider, *at), named, config)


def _of_provider(
    given: Sourced,
    provider: Sourced,
    model: Sourced | None,
    config: Config,
    table: ModelTable | None = None,
) -> Selection:
    """A provider: a table with ``plugin`` > an installed plugin > a row of the catalogue."""
    name = provider.value
    own = config.providers.get(name)
    plugin, host = provider, None
    if own is not None and own.plugin is not None:
        plugin = own.plugin
        host = _host_beneath(name, plugin.value)
    elif not _is_installed(name) and (host := hosts().get(name)) is not None:
        plugin = Sourced(host.plugin, "catalogue", name)
    settings = dict(host.settings) if host is not None else {}
    keywords: dict[str, Sourced] = {}
    for part in (own, table):  # a model's own values before those of its provider
        if part is not None:
            settings.update(part.settings)
            keywords.update(part.keywords)
    variable = own.key_variable if own is not None else None
    origins = {"name": given, "provider": provider, "plugin": plugin}
    if model is not None:
        origins["model"] = model
    return Selection(
        name,
        plugin.value,
        model.value if model is not None else None,
        keywords,
        settings,
        variable.value if variable else host.key_variable if host else None,
        variable is not None,
        config.limits.get(name, {}),
        _cache(config),
        config.path,
        origins,
    )


def _cache(config: Config) -> Mapping[str, Sourced]:
    """``[cache]``, turned off if ``.env`` says so: no call has the time to look there."""
    said = Environment().lookup(SWITCH)
    if said is None or said.kind == "environment" or not says_off(said.value, said.place):
        return config.cache
    return {**config.cache, "enabled": Sourced(False, said.kind, said.place)}


def _host_beneath(name: str, plugin: str) -> Host | None:
    """The catalogue's row for a table that names its plugin, if they agree about it.

    Without it ``[providers.groq] plugin = "openai"`` would send GROQ_API_KEY to OpenAI.
    """
    host = hosts().get(name)
    return host if host is not None and host.plugin == plugin else None


def _is_installed(name: str) -> bool:
    return any(row.name == name for row, _ in installed())


def _is_provider(name: str, config: Config) -> bool:
    return name in config.providers or _is_installed(name) or name in hosts()


# -- what only all tables together can show ----------------------------------------------------


@lru_cache(maxsize=32)
def _checked(document: Document) -> Config:
    config = build(document)
    for name, model in config.models.items():
        if _is_provider(name, config):
            raise wrong(
                model.place,
                f"{name!r} is a provider already, so no model can have that name: rename it",
            )
        _follow(name, config)
    for name, provider in config.providers.items():
        if provider.plugin is None:
            _refuse_misspelt(name, provider.place, "providers", config)
    for name, place in config.places.items():
        _refuse_misspelt(name, place, "limits", config)
    return config


def _follow(name: str, config: Config) -> None:
    """Raise ConfigError, which prints it, for a cycle of aliases."""
    way = [name]
    for alias in _aliases(name, config):
        if alias.value in way:
            way = way[way.index(alias.value) :]
            cycle = " -> ".join([*way, alias.value])
            raise wrong(alias.place, f"these aliases go in a circle: {cycle}")
        way.append(alias.value)


def _aliases(name: str, config: Config) -> Iterator[Sourced]:
    while name in config.models and (alias := config.models[name].alias) is not None:
        yield alias
        name = alias.value


def _refuse_misspelt(name: str, place: str, section: str, config: Config) -> None:
    """A name nobody knows may be a plugin's that is not installed here, if it is near no other."""
    known = {row.name for row, _ in installed()} | set(registry.PUBLISHED) | set(hosts())
    known |= set(config.providers) if section == "limits" else set()
    if name not in known and (near := nearest(name, known)):
        raise wrong(
            place,
            f"[{section}.{name}] is for no provider that is known: {near}"
            + (' A host of your own needs plugin = "openai".' if section == "providers" else ""),
        )
