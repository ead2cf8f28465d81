"""Names: what a name given to get_lm stands for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from .._base.spelling import nearest
from .._base.values import shown
from .._plugins import registry
from .._plugins.contract import Plugin
from .._plugins.registry import is_installed
from .._store.settings import SWITCH, says_off
from ..errors import ConfigError, InputError, UnknownProviderError
from .catalogue import WITH_OWN_ROW, Host, hosts
from .files import Document, find, read
from .provenance import Environment, Provenance
from .tables import NOTHING, Config, ModelTable, build, wrong

__all__ = ["Selection", "configuration", "default_name", "known_providers", "plugin_of"]
__all__ += ["reselect", "select", "select_for_object"]

MODEL_VARIABLE = "LMGATEWAY_MODEL"

ConfigPath = str | os.PathLike[str] | None


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """A provider, its model, and what configuration file and catalogue say of both.

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
        provenance: Where ``name``, ``provider``, ``plugin`` and ``model`` came from.
    """

    provider: str
    plugin: str
    model: str | None
    keywords: Mapping[str, Provenance] = field(default_factory=dict)
    settings: Mapping[str, Provenance] = field(default_factory=dict)
    key_variable: str | None = None
    needs_key: bool = False
    limits: Mapping[str, Provenance] = field(default_factory=dict)
    cache: Mapping[str, Provenance] = field(default_factory=dict)
    config: str = ""
    provenance: Mapping[str, Provenance] = field(default_factory=dict)

    @property
    def destination(self) -> tuple[Any, ...]:
        """What decides where requests go and as whom, as far as a name does."""
        settings = {name: each.value for name, each in self.settings.items()}
        return self.provider, self.plugin, self.key_variable, settings

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Selection:
        """The selection of a pickle, in which a provenance is ``[value, kind, place]``."""
        found: dict[str, Any] = {
            name: {key: Provenance(*each) for key, each in value.items()}
            if isinstance(value, Mapping)
            else value
            for name, value in state.items()
        }
        return cls(**found)


def configuration(config: ConfigPath = None, environment: Environment | None = None) -> Config:
    """The configuration file that is used, read and checked; an empty Config without a file.

    Raises ConfigError, with file and line, for whatever is wrong in it.
    """
    found = find(config, environment)
    if found is None:
        return NOTHING
    document = read(found.path)
    if document is None:
        raise ConfigError(f"{found.path} has no table [tool.lmgateway]: add it, or name another")
    return _checked(document)


def select(
    name: object,
    model: str | None = None,
    config: ConfigPath = None,
    environment: Environment | None = None,
) -> Selection:
    """Resolve a name. No file but the configuration is opened, and no plugin is loaded.

    Args:
        name: A provider, ``provider/model``, or a ``[models.NAME]``; None for LMGATEWAY_MODEL, or
            else the file's ``default``.
        model: The model; then ``name`` is a provider.
        config: The configuration file, instead of the one that would be found.
        environment: A look at the process's surroundings that was taken before.

    Raises:
        InputError: The name cannot stand for anything.
        ConfigError: The configuration file is wrong.
    """
    environment = environment or Environment()
    found = _configured(config, environment)
    given = Provenance(name, "argument") if name is not None else default_name(found, environment)
    if given is None:
        raise _no_default(found)
    text = given.value
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"a name must be a text, not {shown(text)}")
    if model is not None:
        if text in found.models and not _is_provider(text, found):
            raise InputError(
                f"{shown(text)} names a model in {found.path}, so it takes no model=: "
                f"give a provider's name, or copy it: get_lm({text!r}).copy(model=...)"
            )
        if "/" in text:
            raise InputError(
                f"{shown(text)} names a model already, so it takes no model=: "
                "give the provider's name alone, or no model="
            )
        return _of_provider(given, given, Provenance(model, "argument"), found)
    if "/" in text:
        provider, _, model = text.partition("/")
        at = (given.kind, given.place)
        return _of_provider(given, Provenance(provider, *at), Provenance(model, *at), found)
    if text in found.models:
        return _of_model(given, found)
    return _of_provider(given, given, None, found)


def select_for_object(
    name: str, model: str | None, config: ConfigPath, environment: Environment
) -> Selection:
    """The selection for a plugin that is handed over as an object, under a name of its own.

    What the configuration file says of a provider of that name counts. No plugin and no host of
    the catalogue is looked up.
    """
    given = Provenance(name, "argument")
    named = None if model is None else Provenance(model, "argument")
    return _of_provider(given, given, named, _configured(config, environment), plugin=given)


def reselect(selection: Selection, config: ConfigPath, environment: Environment) -> Selection:
    """What the same name stands for in another configuration file."""
    named = selection.provenance["name"]
    if named.kind != "argument":
        return select(None, None, config, environment)
    model = selection.provenance.get("model")
    apart = model is not None and model.kind == "argument" and "/" not in named.value
    return select(named.value, selection.model if apart else None, config, environment)


def plugin_of(selection: Selection) -> Plugin:
    """Load the plugin of a selection.

    Raises UnknownProviderError, which names what is near, what is known and what to install, and
    the other PluginErrors of ``registry.load``.
    """
    try:
        return registry.load(selection.plugin)
    except UnknownProviderError:
        config = configuration(selection.config or None)
    hosts_known = [*config.providers, *hosts()]
    problem = registry.unknown(selection.plugin, hosts_known, config.models, config.path)
    origin = selection.provenance["plugin"]
    if origin.kind != "argument":
        problem.advise(f"the name comes from {origin}")
    raise problem


def known_providers(config: Config) -> set[str]:
    """Every name that get_lm takes without a "/": tables, plugins, hosts and models."""
    names = {row.name for row, _ in registry.installed()} | set(registry.PUBLISHED)
    return names | set(config.providers) | set(config.models) | set(hosts())


# -- the ways a name may go --------------------------------------------------------------------


def _configured(config: ConfigPath, environment: Environment) -> Config:
    """The configuration; ``.env`` may turn its cache off, and a call itself does not look there."""
    found = configuration(config, environment)
    said = environment.lookup(SWITCH) if environment.dotenv is not None else None
    if said is None or said.kind == "environment" or not says_off(said.value, said.place):
        return found
    return found._replace(cache={**found.cache, "enabled": said._replace(value=False)})


def default_name(config: Config, environment: Environment) -> Provenance | None:
    """The name that ``get_lm()`` stands for: LMGATEWAY_MODEL, or else the file's ``default``."""
    return environment.lookup(MODEL_VARIABLE) or config.default


def _no_default(config: Config) -> InputError:
    where = f"write default = ... into {config.path}" if config.path else (
        "write one into a configuration file, which `lmgateway config --init` begins"
    )  # fmt: skip
    return InputError(
        "there is no default: give a name, get_lm('echo') or get_lm('groq/...'), "
        f"or set {MODEL_VARIABLE}, or {where}"
    )


def _of_model(given: Provenance, config: Config) -> Selection:
    name = given.value
    while (alias := config.models[name].alias) is not None:
        name, given = alias.value, alias
        if name not in config.models:
            return _beyond(alias, config)
    table = config.models[name]
    assert table.provider is not None
    return _of_provider(given, table.provider, table.model, config, table=table)


def _beyond(alias: Provenance, config: Config) -> Selection:
    """The selection for an alias that names a provider, not a model of the file."""
    provider, slash, model = alias.value.partition("/")
    at = (alias.kind, alias.place)
    named = Provenance(model, *at) if slash else None
    if not _is_provider(provider, config):
        near = nearest(provider, known_providers(config))
        raise wrong(alias.place, f"alias names {alias.value!r}, which is nothing known: {near}")
    return _of_provider(alias, Provenance(provider, *at), named, config)


def _of_provider(
    given: Provenance,
    provider: Provenance,
    model: Provenance | None,
    config: Config,
    *,
    table: ModelTable | None = None,
    plugin: Provenance | None = None,
) -> Selection:
    """The selection of a provider, with what its own table and that of a model say."""
    name, host = provider.value, None
    own = config.providers.get(name)
    if plugin is None:
        plugin, host = _served_by(provider, config)
    settings = dict(host.settings) if host is not None else {}
    keywords: dict[str, Provenance] = {}
    for part in (own, table):  # a model's own values before those of its provider
        if part is not None:
            settings.update(part.settings)
            keywords.update(part.keywords)
    variable = own.key_variable if own is not None else None
    provenance = {"name": given, "provider": provider, "plugin": plugin}
    if model is not None:
        provenance["model"] = model
    return Selection(
        name,
        plugin.value,
        model.value if model is not None else None,
        keywords,
        settings,
        variable.value if variable else host.key_variable if host else None,
        variable is not None,
        config.limits.get(name, {}),
        config.cache,
        config.path,
        provenance,
    )


def _served_by(provider: Provenance, config: Config) -> tuple[Provenance, Host | None]:
    """Which plugin serves a provider: its table's > an installed one > the catalogue's."""
    name = provider.value
    own = config.providers.get(name)
    if own is not None and own.plugin is not None:
        host = hosts().get(name)
        # Without its host [providers.groq] plugin = "openai" would send GROQ_API_KEY to OpenAI.
        return own.plugin, host if host is not None and host.plugin == own.plugin.value else None
    if is_installed(name):  # for most of them the catalogue need not be read
        return provider, hosts().get(name) if name in WITH_OWN_ROW else None
    host = hosts().get(name)
    return (provider, None) if host is None else (Provenance(host.plugin, "catalogue", name), host)


def _is_provider(name: str, config: Config) -> bool:
    return name in config.providers or is_installed(name) or name in hosts()


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
    """Raise ConfigError for aliases that go in a circle; the message shows it."""
    way = [name]
    for alias in _aliases(name, config):
        if alias.value in way:
            way = way[way.index(alias.value) :]
            cycle = " -> ".join([*way, alias.value])
            raise wrong(alias.place, f"these aliases go in a circle: {cycle}")
        way.append(alias.value)


def _aliases(name: str, config: Config) -> Iterator[Provenance]:
    while name in config.models and (alias := config.models[name].alias) is not None:
        yield alias
        name = alias.value


def _refuse_misspelt(name: str, place: str, section: str, config: Config) -> None:
    """Refuse a name that is nearly a known one; any other may be of a plugin not installed."""
    known = {row.name for row, _ in registry.installed()} | set(registry.PUBLISHED) | set(hosts())
    known |= set(config.providers) if section == "limits" else set()
    if name not in known and (near := nearest(name, known)):
        raise wrong(
            place,
            f"[{section}.{name}] is for no provider that is known: {near}"
            + (' A host of your own needs plugin = "openai".' if section == "providers" else ""),
        )
