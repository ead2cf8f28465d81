"""Keywords: those of get_lm, of a call and of the configuration file, by their kind and checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from .._base.spelling import advise
from .._config.names import Selection
from .._config.provenance import Provenance
from .._config.tables import OPTION_NAMES, wrong
from .._plugins.contract import Plugin
from ..errors import InputError
from ..types import UNSET, Info, Options
from . import validation
from .twins import HINTS

__all__ = ["Keywords", "check_given", "options_of_file", "params_of_file", "split"]

#: What a table of the file may hold beside settings and options, and which table that is.
_OF_TABLES = {
    **dict.fromkeys(("provider", "model", "params", "alias"), "[models.NAME]"),
    **dict.fromkeys(("plugin", "api_key_env"), "[providers.NAME]"),
}


@dataclass(slots=True, eq=False, repr=False)
class Keywords:
    """Keywords by their kind."""

    options: dict[str, Any]
    settings: dict[str, Any]
    params: dict[str, Any]
    system: str | None


def split(keywords: Mapping[str, Any], plugin: Plugin) -> Keywords:
    """Split keywords by kind."""
    fields = plugin.settings.model_fields if plugin.settings is not None else {}
    by_kind = Keywords({}, {}, {}, None)
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


def check_given(
    params: Mapping[str, Any], plugin: Plugin, taken: Collection[str], options: Options
) -> None:
    """Check the parameters that were given: None means that one was not."""
    given = {name: value for name, value in params.items() if value is not None}
    if given:
        validation.check_params(given, plugin, taken, options.unsupported)


def options_of_file(selection: Selection, plugin: Plugin) -> tuple[Options, str | None]:
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


def params_of_file(
    selection: Selection, plugin: Plugin, info: Info, options: Options
) -> dict[str, Any]:
    """Generation parameters of the file; raises as ``options_of_file`` does."""
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
