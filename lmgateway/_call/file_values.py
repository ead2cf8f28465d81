"""Checks of what only a loaded plugin can judge in a configuration file, each with its line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._base.spelling import advise
from .._config.provenance import Sourced
from .._config.tables import OPTION_NAMES, wrong
from .._plugins.registry import Plugin
from ..errors import InputError
from ..types import Options
from .validation import check_options, check_params, check_text

if TYPE_CHECKING:
    from .._config.names import Selection

__all__ = ["check_file"]

_OWN = ("provider", "model", "params", "alias", "plugin", "api_key_env", "system")


def check_file(selection: Selection, plugin: Plugin) -> None:
    """Refuse what the file gives a provider and its plugin does not know or cannot use.

    Raises ConfigError with file and line.
    """
    for name, each in selection.settings.items():
        _check_setting(name, each, plugin)
    for name, each in selection.keywords.items():
        try:
            if name in OPTION_NAMES:
                check_options({name: each.value}, Options())
            elif name == "system":
                if not isinstance(each.value, str):
                    raise InputError(f"system must be a text, not {type(each.value).__name__}")
                check_text(each.value, name)
            else:
                check_params({name: each.value}, plugin)
            problem = None
        except InputError as error:
            problem = wrong(each.place, error.message)
        if problem is not None:
            raise problem


def _check_setting(name: str, each: Sourced, plugin: Plugin) -> None:
    fields = plugin.settings.model_fields if plugin.settings is not None else {}
    if name not in fields:
        if name in plugin.info.params:
            raise wrong(
                each.place,
                f"{name} is a generation parameter: write params = {{ {name} = ... }} in a model",
            )
        known = [*fields, *OPTION_NAMES, *_OWN, *plugin.info.params]
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
