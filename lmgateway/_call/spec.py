"""The spec: the immutable configuration of an LM, and how it is made and varied."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .._config.names import Selection, plugin_of, reselect, select, select_for_object
from .._config.provenance import Environment, Provenance
from .._config.tables import OPTION_NAMES
from .._guard.tracebacks import redact
from .._layers.cache import cache
from .._layers.context import EffectLayer
from .._plugins.contract import Plugin, info_for
from .._store.settings import CacheSettings
from ..errors import InputError, PluginError, UnknownParameterError
from ..types import UNSET, Info, Options
from . import validation
from .endpoint import Endpoint, veiled
from .keywords import check_given, options_of_file, params_of_file, split
from .twins import merged

if TYPE_CHECKING:
    from .._config.settings import ResolvedSettings

__all__ = ["FIXED", "OPTION_NAMES", "Spec", "resolve"]

#: Keywords that say where requests go and with which credentials: fixed for the life of an LM.
FIXED = frozenset({"api_base", "api_key", "headers", "verify", "config", "history"})

#: Keywords that are meant for one service, and stay behind where another is asked.
_LOCAL = frozenset({"headers", "verify", "extra_body"})

#: Options for which None is a value of its own; any other None counts as not given.
_NONE = frozenset({"timeout", "idle_timeout", "cache", "transport"})


def resolve(
    name: str | None,
    model: str | None,
    arguments: Mapping[str, Any],
    *,
    needs_model: bool = True,
) -> Spec:
    """The configuration of the LM that get_lm is asked for; opens nothing.

    Args:
        name: A provider, ``provider/model``, or a name in the configuration; None for its default.
        model: The model; then ``name`` is a provider.
        arguments: Core options, the plugin's settings and generation parameters.
        needs_model: False allows an LM without a model, which can be looked at but not asked.
    """
    environment = Environment()
    selection = select(name, model, arguments.get("config"), environment)
    return Spec.of(selection, arguments, environment=environment, needs_model=needs_model)


@dataclass(frozen=True, slots=True, eq=False)
class Spec:
    """The immutable configuration of an LM.

    Attributes:
        selection: What the name stands for.
        plugin: The loaded plugin.
        model: The model, "" until one is named.
        options: Core options.
        settings: The plugin's settings; None if it has none.
        params: Default generation parameters.
        system: A system text for every call.
        arguments: The keywords it was made with, and the core options of the call.
        layers: What an exchange passes on its way out: cache > limit.
        info: What the plugin can do with this model and these settings.
        alternatives: The configurations of its fallbacks by name, each made when first needed.
        left_behind: What did not go along when the LM was pickled: names of keywords and headers.
        endpoint: Where its requests go and as whom.
    """

    selection: Selection
    plugin: Plugin
    model: str
    options: Options
    settings: ResolvedSettings | None = field(repr=False)
    params: Mapping[str, Any] = field(repr=False)
    system: str | None = field(repr=False)
    arguments: Mapping[str, Any] = field(repr=False)
    layers: tuple[EffectLayer, ...] = field(repr=False)
    info: Info = field(repr=False)
    alternatives: dict[str, Spec] = field(repr=False, default_factory=dict)
    left_behind: tuple[str, ...] = ()
    endpoint: Endpoint = field(init=False, repr=False)

    def __post_init__(self) -> None:
        endpoint = Endpoint(
            self.selection.provider,
            self.plugin.described,
            self.settings,
            self.options,
            self.left_behind,
            self.plugin.info.api,
        )
        object.__setattr__(self, "endpoint", endpoint)

    # -- how it is made ------------------------------------------------------------------------

    @classmethod
    def of(
        cls,
        selection: Selection,
        arguments: Mapping[str, Any],
        plugin: Plugin | None = None,
        *,
        environment: Environment | None = None,
        needs_model: bool = True,
    ) -> Spec:
        """The configuration for a selection and the keywords of get_lm.

        Args:
            selection: What the name stands for.
            arguments: Core options, the plugin's settings and generation parameters.
            plugin: The plugin, where it is loaded already.
            environment: Where the plugin's variables are looked up.
            needs_model: See ``resolve``.

        Raises:
            InputError: A keyword that nobody knows, or a value that means nothing.
            ConfigError: The same in the configuration file, with its line.
        """
        plugin = plugin or plugin_of(selection)
        options, system = options_of_file(selection, plugin)
        by_kind = split(_without_none(arguments), plugin)
        if by_kind.options:
            options = validation.check_options(by_kind.options, options)
        settings = None
        if plugin.settings is not None:
            from .._config.settings import resolve_settings

            environment = environment or Environment()
            settings = resolve_settings(plugin.settings, selection, by_kind.settings, environment)
            arguments = _veiled(arguments, plugin)
        if options.headers:
            headers = veiled(options.headers, settings.secrets() if settings is not None else ())
            options = replace(options, headers=headers)
            if arguments.get("headers"):
                arguments = {**arguments, "headers": headers}
        model = selection.model or plugin.info.default_model or ""
        info = _info(plugin, settings, model)
        params = params_of_file(selection, plugin, info, options)
        check_given(by_kind.params, plugin, info.params, options)
        if model or needs_model:
            model = validation.check_model(model, selection.provider)
        params = merged(params, by_kind.params)
        system = system if by_kind.system is None else by_kind.system
        layers = _layers(selection)
        return cls(
            selection,
            plugin,
            model,
            options,
            settings,
            params,
            system,
            dict(arguments),
            layers,
            info,
        )

    @classmethod
    def of_object(cls, plugin: Plugin, model: str | None, arguments: Mapping[str, Any]) -> Spec:
        """The configuration for a plugin that is handed over, under the name that it was given."""
        environment = Environment()
        config = arguments.get("config")
        selection = select_for_object(plugin.name, model, config, environment)
        return cls.of(selection, arguments, plugin, environment=environment)

    # -- what differs from it ------------------------------------------------------------------

    @property
    def given(self) -> Mapping[str, Any]:
        """The arguments without each None that only means "not given"."""
        return _without_none(self.arguments)

    def with_layers(self, *layers: EffectLayer) -> Spec:
        """The same configuration with further layers, next to the wire."""
        return replace(self, layers=(*self.layers, *layers))

    def vary(
        self, keywords: Mapping[str, Any], beside: frozenset[str] | None = frozenset()
    ) -> Spec:
        """The configuration with the keywords of one call laid over it.

        Args:
            keywords: Of the call.
            beside: Parameters that the call takes beside those of Info; None if it takes none.

        Raises InputError for a keyword that says where requests go or as whom.
        """
        if not keywords:
            return self
        for name in sorted(FIXED & keywords.keys()):
            if keywords[name] is not UNSET:
                raise InputError(f"{name} belongs to the LM: give it to get_lm, or to lm.copy(...)")
        by_kind = split(keywords, self.plugin)
        settings, info = self.settings, self.info
        if by_kind.settings and settings is not None:
            settings = settings.changed(by_kind.settings)
            info = _info(self.plugin, settings, self.model)
        params = merged(self.params, by_kind.params)
        options, arguments = self.options, self.arguments
        if by_kind.options:
            options = validation.check_options(by_kind.options, options)
            arguments = {**arguments, **by_kind.options}
        # What the LM was made with is checked, unless something else is taken now.
        anew = info is not self.info or options.unsupported != self.options.unsupported
        if by_kind.params or anew:
            taken = info.params if not beside else info.params | beside
            given = params if anew else by_kind.params
            check_given(given, self.plugin, () if beside is None else taken, options)
        return Spec(  # replace() takes twice as long
            self.selection,
            self.plugin,
            self.model,
            options,
            settings,
            {name: value for name, value in params.items() if value is not None},
            self.system if keywords.get("system", UNSET) is UNSET else by_kind.system,
            arguments,
            self.layers,
            info,
            self.alternatives,
            self.left_behind,
        )

    def with_(self, changes: Mapping[str, Any]) -> Spec:
        """The configuration of an LM with some of get_lm's arguments changed.

        Where the change leads to another provider, or to the same by a name that the configuration
        gives another host, what was meant for the old one stays behind: credentials, host, headers,
        authorities and settings. Core options, ``system`` and generation parameters go along.
        """
        given, environment = dict(changes), Environment()
        name, model = given.pop("name", None), given.pop("model", None)
        chosen = self._chosen(name, model, changes, environment)
        plugin = self.plugin
        if chosen.plugin != self.selection.plugin:
            plugin = plugin_of(chosen)
        stays = chosen.destination == self.selection.destination
        carried = self.arguments if stays else self._carried_to(plugin)
        try:
            made = Spec.of(chosen, merged(carried, given), plugin, environment=environment)
        except UnknownParameterError as error:
            strange = error.param
            if strange in self.params and strange not in given:
                error.advise(f"it is a parameter of the LM copied: {strange}=None leaves it behind")
            raise
        if not stays:
            return made
        left = tuple(each for each in self.left_behind if each not in given)
        return replace(made, left_behind=left)

    def _chosen(
        self,
        name: str | None,
        model: str | None,
        changes: Mapping[str, Any],
        environment: Environment,
    ) -> Selection:
        """What the changed name, model and configuration file stand for."""
        chosen, config = self.selection, changes.get("config", self.arguments.get("config"))
        if name is not None:
            return select(name, model, config, environment)
        if "config" in changes:
            if self.plugin.installed:
                chosen = reselect(chosen, config, environment)
            else:
                chosen = select_for_object(chosen.provider, chosen.model, config, environment)
        if model is not None:
            provenance = {**chosen.provenance, "model": Provenance(model, "argument")}
            chosen = replace(chosen, model=model, provenance=provenance)
        return chosen

    def _carried_to(self, plugin: Plugin) -> dict[str, Any]:
        """The arguments that mean the same to another provider."""
        fields: set[str] = set()
        for each in (self.plugin, plugin):
            fields |= set(each.settings.model_fields if each.settings is not None else ())
        return {k: v for k, v in self.arguments.items() if k not in fields | _LOCAL}


def _info(plugin: Plugin, settings: ResolvedSettings | None, model: str) -> Info:
    """What a plugin can do with one model and these settings."""
    if not plugin.has_variants:
        return plugin.info
    if settings is None:
        return info_for(plugin, None, model)
    try:
        return info_for(plugin, settings.values, model)
    except PluginError as error:
        redact(error, settings.secrets(), sys._getframe())
        raise


def _without_none(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments without each None that only means "not given", and without ``config``."""
    return {k: v for k, v in arguments.items() if (v is not None or k in _NONE) and k != "config"}


def _layers(selection: Selection) -> tuple[EffectLayer, ...]:
    """What an exchange passes on its way out: cache > limit."""
    layers = [cache(CacheSettings(**{k: each.value for k, each in selection.cache.items()}))]
    if selection.limits:
        from .._layers.limit import Limits, limit

        limits = Limits(**{k: each.value for k, each in selection.limits.items()})
        layers += [limit(limits)] if limits else []
    return tuple(layers)


def _veiled(arguments: Mapping[str, Any], plugin: Plugin) -> dict[str, Any]:
    """The arguments with their secrets wrapped, so that no repr of an LM shows one."""
    from pydantic import SecretStr

    from .._config.settings import secret_fields

    assert plugin.settings is not None
    secrets = secret_fields(plugin.settings)
    return {
        name: SecretStr(value) if name in secrets and isinstance(value, str) else value
        for name, value in arguments.items()
    }
