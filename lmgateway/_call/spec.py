"""The spec: the immutable configuration of an LM, and how it is made and varied."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .._base.spelling import advise
from .._config.names import Selection, plugin_of, reselect, select, select_for_object
from .._config.provenance import Environment, Provenance
from .._config.tables import OPTION_NAMES, wrong
from .._guard.tracebacks import redact
from .._layers.cache import cache
from .._layers.context import EffectLayer
from .._plugins.contract import Plugin, info_for
from .._store.settings import CacheSettings
from ..errors import InputError, PluginError, UnknownParameterError
from ..types import UNSET, Info, Options
from . import validation
from .endpoint import Endpoint, veiled
from .twins import HINTS

if TYPE_CHECKING:
    from .._config.settings import ResolvedSettings

__all__ = ["FIXED", "OPTION_NAMES", "Spec", "resolve"]

#: Keywords that say where requests go and with which credentials: fixed for the life of an LM.
FIXED = frozenset({"api_base", "api_key", "headers", "verify", "config", "history"})

#: Keywords that are meant for one service, and stay behind where another is asked.
_LOCAL = frozenset({"headers", "verify", "extra_body"})

#: Options for which None is a value of its own; any other None counts as not given.
_NONE = frozenset({"timeout", "idle_timeout", "cache", "transport"})

#: What a table of the file may hold beside settings and options, and which table that is.
_OF_TABLES = {
    **dict.fromkeys(("provider", "model", "params", "alias"), "[models.NAME]"),
    **dict.fromkeys(("plugin", "api_key_env"), "[providers.NAME]"),
}


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
        options, system = _from_file(selection, plugin)
        by_kind = _split(_without_none(arguments), plugin)
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
        params = _params_of_file(selection, plugin, info, options)
        _check_params(by_kind.params, plugin, info.params, options)
        if model or needs_model:
            model = validation.check_model(model, selection.provider)
        params |= by_kind.params
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

    @property
    def endpoint(self) -> Endpoint:
        """Where its requests go and as whom."""
        provider, described = self.selection.provider, self.plugin.described
        api = self.plugin.info.api
        return Endpoint(provider, described, self.settings, self.options, self.left_behind, api)

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
        by_kind = _split(keywords, self.plugin)
        settings, info = self.settings, self.info
        if by_kind.settings and settings is not None:
            settings = settings.changed(by_kind.settings)
            info = _info(self.plugin, settings, self.model)
        params = {**self.params, **by_kind.params}
        options, arguments = self.options, self.arguments
        if by_kind.options:
            options = validation.check_options(by_kind.options, options)
            arguments = {**arguments, **by_kind.options}
        # What the LM was made with is checked, unless something else is taken now.
        anew = info is not self.info or options.unsupported != self.options.unsupported
        if by_kind.params or anew:
            taken = info.params if not beside else info.params | beside
            given = params if anew else by_kind.params
            _check_params(given, self.plugin, () if beside is None else taken, options)
        return replace(
            self,
            options=options,
            arguments=arguments,
            settings=settings,
            params={name: value for name, value in params.items() if value is not None},
            info=info,
            system=self.system if keywords.get("system", UNSET) is UNSET else by_kind.system,
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
            made = Spec.of(chosen, {**carried, **given}, plugin, environment=environment)
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


@dataclass(slots=True, eq=False, repr=False)
class _Keywords:
    """Keywords by their kind."""

    options: dict[str, Any]
    settings: dict[str, Any]
    params: dict[str, Any]
    system: str | None


def _split(keywords: Mapping[str, Any], plugin: Plugin) -> _Keywords:
    """Split keywords by kind."""
    fields = plugin.settings.model_fields if plugin.settings is not None else {}
    by_kind = _Keywords({}, {}, {}, None)
    for name, value in keywords.items():
        if value is UNSET:
            continue
        if name in OPTION_NAMES:
            by_kind.options[name] = value
        elif name in fields:
            by_kind.settings[name] = value
        elif name == "system":
            by_kind.system = value
        else:
            by_kind.params[name] = value
    if by_kind.system is not None:
        _checked_system(by_kind.system)
    return by_kind


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


def _check_params(
    params: Mapping[str, Any], plugin: Plugin, taken: Collection[str], options: Options
) -> None:
    given = {name: value for name, value in params.items() if value is not None}
    if given:
        validation.check_params(given, plugin, taken, options.unsupported)


def _without_none(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments without each None that only means "not given", and without ``config``."""
    return {k: v for k, v in arguments.items() if (v is not None or k in _NONE) and k != "config"}


def _from_file(selection: Selection, plugin: Plugin) -> tuple[Options, str | None]:
    """Options and system text of the file, each value checked once, and the names of its settings.

    Raises ConfigError, with file and line, for what the plugin does not know or cannot use.
    """
    options, system = Options(), None
    for name, each in selection.settings.items():
        _check_setting(name, each, plugin)
    for name, each in selection.keywords.items():
        try:
            if name in OPTION_NAMES:
                options = validation.check_options({name: each.value}, options)
            elif name == "system":
                system = _checked_system(each.value)
            problem = None
        except InputError as error:
            problem = wrong(each.place, error.message)
        if problem is not None:
            raise problem
    return options, system


def _params_of_file(
    selection: Selection, plugin: Plugin, info: Info, options: Options
) -> dict[str, Any]:
    """Generation parameters of the file; raises as ``_from_file`` does."""
    params: dict[str, Any] = {}
    for name, each in selection.keywords.items():
        if name in OPTION_NAMES or name == "system":
            continue
        problem = None
        try:
            validation.check_params({name: each.value}, plugin, info.params, options.unsupported)
        except InputError as error:
            problem = wrong(each.place, error.message)
        if problem is not None:
            raise problem
        params[name] = each.value
    return params


def _check_setting(name: str, each: Provenance, plugin: Plugin) -> None:
    """Refuse a setting of the file that the plugin does not have, or that is a secret."""
    fields = plugin.settings.model_fields if plugin.settings is not None else {}
    if name not in fields:
        if name in plugin.info.params or name in HINTS:
            raise wrong(
                each.place,
                f"{name} is a generation parameter: write params = {{ {name} = ... }} in a model",
            )
        if name in _OF_TABLES:
            raise wrong(each.place, f"{name} belongs into a table {_OF_TABLES[name]}")
        known = [*fields, *OPTION_NAMES, *_OF_TABLES, "system", *plugin.info.params]
        advice = advise(name, known) or f"its settings are {', '.join(sorted(fields)) or 'none'}"
        raise wrong(each.place, f"{plugin.name} has no setting {name!r}: {advice}")
    from .._config.settings import secret_fields

    assert plugin.settings is not None
    if name in secret_fields(plugin.settings):
        raise wrong(
            each.place,
            f"{name} is a secret and must not stand in a file: set its variable in the environment "
            "or in .env; the value is not shown",
        )


def _checked_system(system: object) -> str:
    if not isinstance(system, str):
        raise InputError(f"system must be a str, not {type(system).__name__}")
    validation.check_json(system, "system")
    return system


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
