"""The spec: the immutable configuration of an LM, and how it is made, varied and pickled."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .._base.masking import holds_secret
from .._config.names import (
    Selection,
    plugin_of,
    reselect,
    select,
)
from .._config.provenance import Sourced
from .._layers.cache import cache
from .._layers.call import (
    EffectLayer,
)
from .._plugins.registry import Plugin
from .._store.settings import CacheSettings
from ..errors import (
    InputError,
    UnknownParameterError,
)
from ..types import UNSET, Options
from . import validation
from .endpoint import Endpoint, veiled
from .file_values import check_file

if TYPE_CHECKING:
    from .._config.settings import Filled

__all__ = ["FIXED", "OPTION_NAMES", "Spec", "leads_to", "recipe", "respecify", "revive"]
__all__ += ["specify", "varied"]

OPTION_NAMES = frozenset(Options.__dataclass_fields__)

#: Where requests go and as whom: fixed for the life of an LM.
FIXED = frozenset({"api_base", "api_key", "headers", "verify", "config", "history"})

#: Keywords that are meant for one service, and stay behind where another is asked.
_LOCAL = frozenset({"headers", "verify", "extra_body"})

#: Options for which None is a value of its own; any other None counts as not given.
_NONE = frozenset({"timeout", "idle_timeout", "cache", "transport"})


@dataclass(frozen=True, slots=True, eq=False)
class Spec:
    """The immutable configuration of an LM.

    Attributes:
        selection: What the name stands for.
        plugin: The loaded plugin.
        model: The model, "" until one is named.
        options: Core options.
        filled: The plugin's settings with their origins.
        params: Default generation parameters.
        system: A system text for every call.
        arguments: The keywords it was made with, and the core options of the call.
        layers: What an exchange passes on its way out: cache > limit.
        alternatives: The configurations of its fallbacks by name, each there once it was needed.
        left: What stayed behind when the LM was pickled, in words.
    """

    selection: Selection
    plugin: Plugin
    model: str
    options: Options
    filled: Filled | None = field(repr=False)
    params: Mapping[str, Any] = field(repr=False)
    system: str | None = field(repr=False)
    arguments: Mapping[str, Any] = field(repr=False)
    layers: tuple[EffectLayer, ...] = field(repr=False)
    alternatives: dict[str, Spec] = field(repr=False, default_factory=dict)
    left: tuple[str, ...] = ()

    @property
    def given(self) -> Mapping[str, Any]:
        """The arguments that count: all but those that are None and mean nothing by it."""
        return _given(self.arguments)

    def with_layers(self, *layers: EffectLayer) -> Spec:
        """The same configuration with further layers, next to the wire."""
        return replace(self, layers=(*self.layers, *layers))

    @property
    def endpoint(self) -> Endpoint:
        """Where its requests go and as whom."""
        provider, source = self.selection.provider, self.plugin.source
        return Endpoint(provider, source, self.filled, self.options, self.left)


@dataclass(slots=True, eq=False, repr=False)
class _Keywords:
    """Keywords, told apart."""

    options: dict[str, Any]
    settings: dict[str, Any]
    params: dict[str, Any]
    system: str | None


def _told_apart(
    keywords: Mapping[str, Any], plugin: Plugin, known: Collection[str] | None = None
) -> _Keywords:
    """Tell keywords apart; ``known`` are parameters in place of those that Info names."""
    fields = plugin.settings.model_fields if plugin.settings is not None else {}
    told = _Keywords({}, {}, {}, None)
    for name, value in keywords.items():
        if value is UNSET:
            continue
        if name in OPTION_NAMES:
            told.options[name] = value
        elif name in fields:
            told.settings[name] = value
        elif name == "system":
            told.system = value
        else:
            told.params[name] = value
    if told.system is not None:
        if not isinstance(told.system, str):
            raise InputError(f"system must be a str, not {type(told.system).__name__}")
        validation.check_text(told.system, "system")
    given = {name: value for name, value in told.params.items() if value is not None}
    validation.check_params(given, plugin, known)
    return told


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in arguments.items() if (v is not None or k in _NONE) and k != "config"}


def specify(
    name: str | None,
    model: str | None,
    arguments: Mapping[str, Any],
    plugin: Plugin | None = None,
    selection: Selection | None = None,
) -> Spec:
    """Resolve a name and keywords into the configuration of an LM; opens nothing.

    Args:
        name: A provider, ``provider/model``, or a name in the configuration; None for its default.
        model: The model; then ``name`` is a provider.
        arguments: Core options, the plugin's settings and generation parameters.
        plugin: Use this one and load none.
        selection: What a name was resolved to before; then ``name`` and ``model`` say nothing.
    """
    selection = selection or select(name, model, arguments.get("config"))
    plugin = plugin or plugin_of(selection)
    check_file(selection, plugin)
    from_file = {k: each.value for k, each in selection.keywords.items()}
    told = _told_apart({**from_file, **_given(arguments)}, plugin)
    filled = None
    if plugin.settings is not None:
        from .._config.settings import fill

        filled = fill(
            plugin,
            selection.provider,
            told.settings,
            file=selection.settings,
            key_variable=selection.key_variable,
            needs_key=selection.needs_key,
        )
        arguments = _veiled(arguments, plugin)
    options = validation.check_options(told.options, Options())
    if options.headers:
        headers = veiled(options.headers, filled.secrets() if filled is not None else ())
        options = replace(options, headers=headers)
        if arguments.get("headers"):
            arguments = {**arguments, "headers": headers}
    chosen = selection.model or plugin.info.default_model or ""
    return Spec(
        selection,
        plugin,
        validation.check_model(chosen, selection.provider),
        options,
        filled,
        {name: value for name, value in told.params.items() if value is not None},
        told.system,
        dict(arguments),
        _layers(selection),
    )


def _layers(selection: Selection) -> tuple[EffectLayer, ...]:
    """What an exchange passes on its way out: cache > limit."""
    layers = [cache(CacheSettings(**{k: each.value for k, each in selection.cache.items()}))]
    if selection.limits:
        from .._layers.limit import Limits, limit

        limits = Limits(**{k: each.value for k, each in selection.limits.items()})
        layers += [limit(limits)] if limits else []
    return tuple(layers)


def respecify(spec: Spec, changes: Mapping[str, Any]) -> Spec:
    """The configuration of an LM with some of get_lm's arguments changed.

    Where the change leads to another provider, or to the same by a name that the configuration
    gives another host, what was meant for the old one stays behind: credentials, host, headers,
    authorities and settings. Core options, ``system`` and generation parameters go along.
    """
    given = dict(changes)
    name, model = given.pop("name", None), given.pop("model", None)
    old = chosen = spec.selection
    if name is not None:
        chosen = select(name, model, given.get("config", spec.arguments.get("config")))
    else:
        if "config" in changes:
            chosen = reselect(chosen, changes["config"])
        if model is not None:
            origins = {**chosen.origins, "model": Sourced(model, "argument")}
            chosen = replace(chosen, model=model, origins=origins)
    plugin = spec.plugin if chosen.plugin == old.plugin else plugin_of(chosen)
    if leads_to(chosen) == leads_to(old):
        made = specify(None, None, {**spec.arguments, **given}, plugin, chosen)
        return replace(made, left=tuple(each for each in spec.left if each not in given))
    carried = _carried_over(spec, plugin)
    try:
        return specify(None, None, {**carried, **given}, plugin, chosen)
    except UnknownParameterError as error:
        params = (each for each in carried if each in spec.params and each not in given)
        strange = next((each for each in params if each not in plugin.info.params), None)
        if strange is not None:
            error.advise(f"it is a parameter of the LM copied: {strange}=None leaves it behind")
        raise


def leads_to(selection: Selection) -> tuple[Any, ...]:
    """What decides where requests go and as whom, as far as a name does."""
    settings = {name: each.value for name, each in selection.settings.items()}
    return selection.provider, selection.plugin, selection.key_variable, settings


def _carried_over(spec: Spec, plugin: Plugin) -> dict[str, Any]:
    """The arguments of an LM that mean the same to another provider."""
    fields: set[str] = set()
    for each in (spec.plugin, plugin):
        fields |= set(each.settings.model_fields if each.settings is not None else ())
    return {k: v for k, v in spec.arguments.items() if k not in fields | _LOCAL}


def varied(spec: Spec, keywords: Mapping[str, Any], known: Collection[str] | None = None) -> Spec:
    """The configuration with a call's keywords laid over it.

    Args:
        spec: The configuration of the LM.
        keywords: Of the call.
        known: The parameters of the call, in place of those that the plugin's Info names.

    Raises InputError for a keyword that says where requests go or as whom.
    """
    if not keywords:
        return spec
    fixed = sorted(FIXED & keywords.keys())
    if fixed:
        raise InputError(f"{fixed[0]} belongs to the LM: give it to get_lm, or to lm.copy(...)")
    told = _told_apart(keywords, spec.plugin, known)
    filled = spec.filled
    if told.settings and filled is not None:
        from .._config.settings import overridden

        filled = overridden(filled, told.settings)
    params = {**spec.params, **told.params}
    options, arguments = spec.options, spec.arguments
    if told.options:
        options = validation.check_options(told.options, options)
        arguments = {**arguments, **told.options}
    return replace(
        spec,
        options=options,
        arguments=arguments,
        filled=filled,
        params={name: value for name, value in params.items() if value is not None},
        system=spec.system if told.system is None else told.system,
    )


def _veiled(arguments: Mapping[str, Any], plugin: Plugin) -> dict[str, Any]:
    """The arguments with their secrets wrapped, so that no look at an LM shows one."""
    from pydantic import SecretStr

    from .._config.settings import secret_fields

    assert plugin.settings is not None
    secrets = secret_fields(plugin.settings)
    return {
        name: SecretStr(value) if name in secrets and isinstance(value, str) else value
        for name, value in arguments.items()
    }


def recipe(spec: Spec) -> tuple[Selection, dict[str, Any], tuple[str, ...]]:
    """What makes the LM anew elsewhere, without the secrets it was given, and what those are.

    What a configuration file said goes along: the file need not be there.
    """
    arguments, left = {}, list(spec.left)
    secrets = list(spec.endpoint.secrets())
    for name, value in spec.arguments.items():
        told = name in spec.params and holds_secret(repr(value), secrets)  # as some services want
        if told or hasattr(value, "get_secret_value"):
            left.append(name)
        elif name != "headers" or not value:
            arguments[name] = value
        else:
            arguments[name] = {k: each for k, each in value.items() if isinstance(each, str)}
            left += [f"header {each}" for each in value if each not in arguments[name]]
    selection = spec.selection
    if (said := selection.keywords.get("headers")) is not None:
        shown = {
            k: v for k, v in said.value.items() if isinstance(spec.options.headers.get(k), str)
        }
        headers = said._replace(value=shown)
        selection = replace(selection, keywords={**selection.keywords, "headers": headers})
    return selection, arguments, tuple(dict.fromkeys(left))


def revive(selection: Selection, arguments: dict[str, Any], left: tuple[str, ...] = ()) -> Spec:
    """The configuration that a recipe makes."""
    return replace(specify(None, None, arguments, selection=selection), left=left)
