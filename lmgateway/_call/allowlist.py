"""Which keywords a row of data may hold: it says what is asked, never how or of whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._base.values import shown
from .._config.tables import is_secret_name
from .._plugins.contract import RESERVED, Plugin
from ..errors import InputError, LMGatewayError, UnknownParameterError
from .twins import is_adaptable
from .validation import check_params

if TYPE_CHECKING:
    from .spec import Spec

__all__ = ["check_name", "check_row"]

#: What a row may say, beside the generation parameters of the plugin. A row may name another model:
#: so those of all models count here, and the call itself is checked by what its own model takes.
_ASKED = ("prompt", "messages", "system", "schema", "sample")
#: Parameters that change the request as a whole, the text it is rendered with, or the host that
#: computes it. A template is a program, and belongs to the operator.
_HOW = frozenset({"chat_template", "kv_transfer_params", "ec_transfer_params"})
#: A ``response_format`` that may be said in another way: only names are looked at here.
_JSON_OBJECT = {"type": "json_object"}
_INSTEAD = {
    "custom_id": "the answers come in the order of the inputs",
    "model": "ask lm.copy(model=...)",
    "stream": "a batch has whole answers only",
    **dict.fromkeys(("name", "provider", "plugin"), "give its LM another name"),
}


def check_row(row: Mapping[Any, Any], spec: Spec, place: str, *, types: bool = False) -> None:
    """Refuse a row that says how to ask, or whom.

    Args:
        row: Keywords for ``LM.complete``, from outside.
        spec: Of the LM that is asked.
        place: Which row it is, for the message.
        types: Whether a schema may be a type (in a program), or must be JSON (in a row of data).

    Raises:
        UnknownParameterError: A name that nobody knows; the nearest is offered.
        InputError: A name that belongs to the job, or a schema that is none.
    """
    for name, value in row.items():
        check_name(name, spec, place)
        if name == "schema" and value is not None:
            _check_schema(value, place, types=types)
        elif name.endswith("_kwargs") and isinstance(value, Mapping):
            for inner in value:  # vLLM takes a template from there, too
                if _says_how(inner):
                    raise _refused(f"{inner!r} in {name!r}", inner, place)


def check_name(name: object, spec: Spec, place: str) -> None:
    """Refuse a name that a row may not hold.

    Raises as ``check_row`` does.
    """
    if not isinstance(name, str):
        kind = type(name).__name__
        raise InputError(f"{place}: its names must be texts, and {shown(name)} is a {kind}")
    if name in _ASKED:
        return
    plugin = spec.plugin
    if _belongs_to_the_job(name, plugin):
        raise _refused(shown(name), name, place)
    if name in plugin.info.params or name in spec.info.params:
        return
    taken = plugin.info.params | spec.info.params
    if is_adaptable(name, _JSON_OBJECT, taken, spec.options.unsupported):
        return
    try:
        check_params({name: None}, plugin, taken)
    except UnknownParameterError as error:
        raise UnknownParameterError(f"{place}: {error.message}") from None


def _belongs_to_the_job(name: str, plugin: Plugin) -> bool:
    if name in RESERVED or name in ("api_base", "api_key") or _says_how(name):
        return True
    return plugin.settings is not None and name in plugin.settings.model_fields


def _says_how(name: object) -> bool:
    return name in _HOW or (isinstance(name, str) and name.startswith("extra_"))


def _check_schema(schema: object, place: str, *, types: bool) -> None:
    if isinstance(schema, Mapping):
        return
    if not types or isinstance(schema, (str, bytes)):
        kind = type(schema).__name__
        wanted = "a JSON schema or a type" if types else "a JSON schema, as an object"
        raise InputError(f"{place}: schema must be {wanted}, not a {kind}")


def _refused(said: str, name: str, place: str) -> LMGatewayError:
    if is_secret_name(name):
        how = "set its variable in the environment, or give it to get_lm"
    else:
        how = _INSTEAD.get(name, f"give it there, as {name}=... or --param {name}=...")
    return InputError(
        f"{place}: {said} says how or where to ask, which belongs to the job, not to a row: {how}"
    )
