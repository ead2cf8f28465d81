"""Pickling: the configuration of an LM as plain JSON, without the secrets that it was given."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from .._base.masking import holds_secret
from .._base.values import flaw
from .._config.names import Selection
from ..errors import InputError
from .spec import Spec

__all__ = ["from_json", "portable_arguments", "to_json"]

VERSION = 1


def to_json(spec: Spec) -> dict[str, Any]:
    """What makes the same LM in another process.

    What a configuration file said goes along: the file need not be there.

    Raises InputError for an argument that JSON cannot carry, and for a plugin that another process
    cannot find.
    """
    if not spec.plugin.installed:
        raise InputError(
            f"an LM of {spec.plugin.described} cannot be pickled: the plugin was handed over as an "
            "object, which another process cannot find by its name; make the LM there"
        )
    selection = spec.selection
    if (said := selection.keywords.get("headers")) is not None:
        options = spec.options.headers
        shown = {k: each for k, each in said.value.items() if isinstance(options.get(k), str)}
        keywords = {**selection.keywords, "headers": said._replace(value=shown)}
        selection = replace(selection, keywords=keywords)
    arguments, left = portable_arguments(spec)
    return {
        "version": VERSION,
        "selection": json.loads(json.dumps(asdict(selection), default=str)),  # TOML has dates
        "arguments": arguments,
        "left_behind": left,
    }


def from_json(state: Mapping[str, Any]) -> Spec:
    """The configuration that ``to_json`` wrote down.

    Raises InputError for what another version of lmgateway wrote, and for what is no such state.
    """
    if not isinstance(state, Mapping) or state.get("version") != VERSION:
        raise InputError("this LM was pickled by another version of lmgateway: make it anew")
    try:
        selection, arguments = Selection.from_json(state["selection"]), dict(state["arguments"])
        left = tuple(state["left_behind"])
    except (AttributeError, LookupError, TypeError, ValueError):
        raise InputError("this is no pickled LM, or it was changed: make it anew") from None
    return replace(Spec.of(selection, arguments), left_behind=left)


def portable_arguments(spec: Spec) -> tuple[dict[str, Any], list[str]]:
    """The arguments of an LM as plain JSON; and what of them is secret and was left out.

    Raises InputError for an argument that JSON cannot carry.
    """
    portable: dict[str, Any] = {}
    left = list(spec.left_behind)
    secrets = list(spec.endpoint.secrets())
    for name, value in spec.arguments.items():
        if name == "headers" and value:
            portable[name] = {k: each for k, each in value.items() if isinstance(each, str)}
            left += [f"header {each}" for each in value if each not in portable[name]]
        elif _is_secret(spec, name, value, secrets):
            left.append(name)
        else:
            portable[name] = _as_json(spec, name, value)
    return portable, list(dict.fromkeys(left))


def _is_secret(spec: Spec, name: str, value: Any, secrets: list[str]) -> bool:
    if name in spec.params:  # some services want the key in extra_body
        return holds_secret(repr(value), secrets)
    if spec.settings is None or name not in spec.settings.variables:
        return hasattr(value, "get_secret_value")
    from .._config.settings import secrets_in

    return hasattr(value, "get_secret_value") or any(True for _ in secrets_in(value))


def _as_json(spec: Spec, name: str, value: Any) -> Any:
    """An argument as JSON; a setting that is none is written as its own model writes it."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    elif isinstance(value, (list, tuple)):
        value = [os.fspath(each) if isinstance(each, os.PathLike) else each for each in value]
    problem = flaw(value, name)
    if problem and spec.settings is not None and name in spec.settings.variables:
        with suppress(Exception):  # whatever a model of a plugin's own makes of it
            values = spec.settings.values
            value = values.model_dump(mode="json", include={name}, by_alias=False)[name]
            if spec.settings.changed({name: value}).values == values:
                problem = flaw(value, name)
    if problem:
        raise InputError(f"this LM cannot be pickled: {problem}")
    return json.loads(json.dumps(value, default=dict))
