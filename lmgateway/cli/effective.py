"""Effective values: the whole configuration of an LM, and where each value came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._base.masking import MASK
from .._config.provenance import ARGUMENT, DEFAULT, Provenance
from ..lm import spec_of
from ..types import Options

if TYPE_CHECKING:
    from .._call.spec import Spec
    from ..lm import LM

__all__ = ["Row", "effective"]


@dataclass(frozen=True, slots=True)
class Row:
    """One value.

    Attributes:
        name: Of the setting, option or parameter.
        value: As it is used, a secret masked; None if it is not set.
        origin: Where it came from.
        kind: ``name``, ``setting``, ``option``, ``parameter``, ``limit`` or ``cache``.
    """

    name: str
    value: Any
    origin: Provenance
    kind: str

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        origin = {"kind": self.origin.kind, "place": self.origin.place}
        return {"name": self.name, "value": self.value, "origin": origin, "kind": self.kind}


def effective(lm: LM) -> list[Row]:
    """The values of an LM's configuration, settings before options before parameters."""
    spec = spec_of(lm)
    return [*_names(spec), *_settings(spec), *_options(spec), *_params(spec), *_shared(spec)]


def _names(spec: Spec) -> Iterator[Row]:
    values = {
        "provider": spec.selection.provider,
        "plugin": spec.plugin.described,
        "model": spec.model,
    }
    for name, value in values.items():
        yield Row(name, value, spec.selection.provenance.get(name, DEFAULT), "name")


def _settings(spec: Spec) -> Iterator[Row]:
    if spec.settings is None:
        return
    from pydantic import SecretStr

    from .._config.settings import MissingSecret

    for name in type(spec.settings.values).model_fields:
        value = getattr(spec.settings.values, name)
        if isinstance(value, SecretStr):
            value = None if isinstance(value, MissingSecret) else MASK
        yield Row(name, _plain(value), spec.settings.provenance[name], "setting")


def _options(spec: Spec) -> Iterator[Row]:
    for name in Options.__dataclass_fields__:
        value = getattr(spec.options, name)
        if name == "headers":  # what is secret among them is no str
            value = {key: text if isinstance(text, str) else MASK for key, text in value.items()}
        value = _plain(value)
        yield Row(name, value, _origin(spec, name), "option")


def _params(spec: Spec) -> Iterator[Row]:
    if spec.system is not None:
        yield Row("system", spec.system, _origin(spec, "system"), "parameter")
    for name, value in spec.params.items():
        yield Row(name, _plain(value), _origin(spec, name), "parameter")


def _shared(spec: Spec) -> Iterator[Row]:
    for name, each in spec.selection.limits.items():
        yield Row(name, each.value, each, "limit")
    for name, each in spec.selection.cache.items():
        yield Row(name, _plain(each.value), each, "cache")


def _origin(spec: Spec, name: str) -> Provenance:
    if name in spec.given:
        return ARGUMENT
    return spec.selection.keywords.get(name, DEFAULT)


def _plain(value: Any) -> Any:
    """A value as plain JSON."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each) for each in value]
    return str(value)
