"""Tables: the content of a configuration file, checked, each value with its line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .._base.spelling import advise
from ..errors import ConfigError
from ..types import Options
from .files import Document
from .provenance import Provenance

__all__ = [
    "NOTHING",
    "Config",
    "ModelTable",
    "ProviderTable",
    "build",
    "is_secret_name",
    "wrong",
]

OPTION_NAMES = frozenset(Options.__dataclass_fields__)
#: Keywords of get_lm that are no settings of a plugin.
_KEYWORDS = OPTION_NAMES | {"system"}

_TOP = ("default", "models", "providers", "cache", "limits")
_CACHE: dict[str, type | tuple[type, ...]] = {
    "path": str, "enabled": bool, "size_mb": int, "recordings": (list, str),
}  # fmt: skip
_LIMITS: dict[str, type | tuple[type, ...]] = {
    "rpm": (int, float), "tpm": (int, float), "in_flight": int,
}  # fmt: skip
_KINDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a number",
          list: "a list", dict: "a table"}  # fmt: skip

_SECRET = re.compile(r"(^|[_-])(auth|authorization|key|apikey|token|secret|password|cookie)$", re.I)
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")

Values = Mapping[str, Provenance]


class ModelTable(NamedTuple):
    """One ``[models.NAME]``.

    Attributes:
        provider: The provider, None for an alias.
        model: The model, None for the provider's own default.
        alias: The other name that it stands for.
        keywords: Core options, ``system`` and generation parameters.
        settings: Settings of the provider's plugin.
        place: ``file:line``.
    """

    provider: Provenance | None
    model: Provenance | None
    alias: Provenance | None
    keywords: Values
    settings: Values
    place: str


class ProviderTable(NamedTuple):
    """One ``[providers.NAME]``.

    Attributes:
        plugin: The entry point that serves it; None for that of its own name.
        key_variable: The variable that ``api_key_env`` names.
        keywords: Core options.
        settings: Settings of the plugin.
        place: ``file:line``.
    """

    plugin: Provenance | None
    key_variable: Provenance | None
    keywords: Values
    settings: Values
    place: str


class Config(NamedTuple):
    """The content of a configuration file. Each value has its line.

    Attributes:
        path: The file, "" if there is none.
        default: The name that get_lm() stands for.
        models: ``[models]`` by name.
        providers: ``[providers]`` by name.
        cache: ``[cache]``.
        limits: ``[limits]`` by provider.
        places: ``file:line`` of every ``[limits.NAME]``.
    """

    path: str
    default: Provenance | None
    models: Mapping[str, ModelTable]
    providers: Mapping[str, ProviderTable]
    cache: Values
    limits: Mapping[str, Values]
    places: Mapping[str, str]


NOTHING = Config("", None, {}, {}, {}, {}, {})


def wrong(place: str, what: str) -> ConfigError:
    """The error for a value at ``file:line``."""
    return ConfigError(f"{place}: {what}")


def is_secret_name(name: str) -> bool:
    """Whether a setting or header of that name holds a secret, which must not stand in a file.

    A name that is doubtful is allowed.

    See ``_store.serialization.is_secret_header`` for what is only hidden.
    """
    return _SECRET.search(name) is not None


def build(document: Document) -> Config:
    """Check the tables of a file, and give each value its line.

    Raises ConfigError, with file and line, for an unknown key (the nearest known one is offered),
    a value of the wrong type, and a key that must not stand in a file (without showing it).
    """
    reader = _Reader(document)
    reader.refuse_unknown((), document.data, _TOP)
    default = reader.typed(("default",), str) if "default" in document.data else None
    limits = {name: reader.checked(("limits", name), _LIMITS) for name in reader.names("limits")}
    return Config(
        document.path,
        default,
        {name: reader.model(name) for name in reader.names("models")},
        {name: reader.provider(name) for name in reader.names("providers")},
        reader.cache() if "cache" in document.data else {},
        limits,
        {name: document.place("limits", name) for name in limits},
    )


class _Reader:
    """A document, read table by table."""

    def __init__(self, document: Document) -> None:
        self.document = document

    def at(self, keys: tuple[str, ...]) -> Any:
        value: Any = self.document.data
        for key in keys:
            value = value[key]
        return value

    def wrong(self, keys: tuple[str, ...], what: str) -> ConfigError:
        return wrong(self.document.place(*keys), what)

    def typed(self, keys: tuple[str, ...], kinds: type | tuple[type, ...]) -> Provenance:
        """A value, if it is of the right type; true is no number."""
        value = self.at(keys)
        several = kinds if isinstance(kinds, tuple) else (kinds,)
        if not isinstance(value, several) or (isinstance(value, bool) and bool not in several):
            wanted = " or ".join(dict.fromkeys(_KINDS[kind] for kind in several))
            raise self.wrong(keys, f"{'.'.join(keys)} must be {wanted}, not {_said(value)}")
        if isinstance(value, str) and not value.strip():
            raise self.wrong(keys, f"{'.'.join(keys)} is empty: fill it in, or remove it")
        return self.document.provenance(value, *keys)

    def table(self, keys: tuple[str, ...]) -> Mapping[str, Any]:
        value: Mapping[str, Any] = self.typed(keys, dict).value
        return value

    def names(self, section: str) -> list[str]:
        """The names of the tables in a section."""
        if section not in self.document.data:
            return []
        for name in self.table((section,)):
            if not name.strip() or "/" in name:
                raise self.wrong((section, name), f"{name!r}: a name holds no '/' and is not empty")
        return list(self.table((section,)))

    def refuse_unknown(
        self, keys: tuple[str, ...], given: Iterable[str], known: Iterable[str]
    ) -> None:
        for name in given:
            if name not in known:
                where = ".".join(keys) or "the file"
                advice = advise(name, known) or f"it may hold {', '.join(sorted(known))}"
                raise self.wrong((*keys, name), f"{where} has an unknown key {name!r}: {advice}")

    def checked(
        self, keys: tuple[str, ...], kinds: Mapping[str, type | tuple[type, ...]]
    ) -> dict[str, Provenance]:
        """A table, if all its keys are known."""
        self.refuse_unknown(keys, self.table(keys), kinds)
        values = {name: self.typed((*keys, name), kinds[name]) for name in self.table(keys)}
        for name, each in values.items():
            if type(each.value) in (int, float) and not each.value > 0:
                raise self.wrong((*keys, name), f"{'.'.join((*keys, name))} must be above 0")
        return values

    def cache(self) -> dict[str, Provenance]:
        values = self.checked(("cache",), _CACHE)
        return {name: self._resolved(name, each) for name, each in values.items()}

    def model(self, name: str) -> ModelTable:
        keys = ("models", name)
        table = self.table(keys)
        fixed = {
            each: self.typed((*keys, each), str) if each in table else None
            for each in ("provider", "model", "alias")
        }
        if fixed["alias"] is not None and len(table) > 1:
            raise self.wrong(keys, f"{'.'.join(keys)} has an alias: it may hold nothing else")
        if fixed["alias"] is None and fixed["provider"] is None:
            raise self.wrong(keys, f"{'.'.join(keys)} needs a provider, or an alias")
        provider = fixed["provider"]
        if provider is not None and "/" in provider.value:
            before, _, after = provider.value.partition("/")
            raise self.wrong(
                (*keys, "provider"),
                f"a provider's name holds no '/': write provider = {before!r}, model = {after!r}",
            )
        rest = {key: value for key, value in table.items() if key not in fixed and key != "params"}
        keywords, settings = self._split(keys, rest)
        if "params" in table:
            inner = (*keys, "params")
            for key, value in self.table(inner).items():
                keywords[key] = self.document.provenance(value, *inner, key)
        place = self.document.place(*keys)
        return ModelTable(
            fixed["provider"], fixed["model"], fixed["alias"], keywords, settings, place
        )

    def provider(self, name: str) -> ProviderTable:
        keys = ("providers", name)
        table = self.table(keys)
        plugin = self.typed((*keys, "plugin"), str) if "plugin" in table else None
        variable = None
        if "api_key_env" in table:
            variable = self.typed((*keys, "api_key_env"), str)
            if not _VARIABLE.fullmatch(variable.value):  # perhaps the key itself: not echoed
                raise self.wrong(
                    (*keys, "api_key_env"),
                    "api_key_env names a variable, in capitals, such as "
                    f"{name.upper().replace('-', '_')}_API_KEY; what stands there is no such name",
                )
        rest = {k: v for k, v in table.items() if k not in ("plugin", "api_key_env")}
        keywords, settings = self._split(keys, rest)
        return ProviderTable(plugin, variable, keywords, settings, self.document.place(*keys))

    def _split(
        self, keys: tuple[str, ...], table: Mapping[str, Any]
    ) -> tuple[dict[str, Provenance], dict[str, Provenance]]:
        """Split a table into keywords of get_lm and settings of the plugin."""
        keywords: dict[str, Provenance] = {}
        settings: dict[str, Provenance] = {}
        for name, value in table.items():
            self._refuse_secret((*keys, name), value)
            each = self._resolved(name, self.document.provenance(value, *keys, name))
            (keywords if name in _KEYWORDS else settings)[name] = each
        return keywords, settings

    def _refuse_secret(self, keys: tuple[str, ...], value: Any) -> None:
        section, name, key = keys
        if key == "headers" and isinstance(value, Mapping):
            for header in value:
                if is_secret_name(header):
                    raise self.wrong(
                        (*keys, header),
                        f"the header {header} must not stand in a file: give it in the program, "
                        "get_lm(..., headers={...}); it is not shown",
                    )
        if not is_secret_name(key):
            return
        variable = f"{name.upper().replace('-', '_')}_API_KEY"
        table = f" in [providers.{name}]" if section == "providers" else " in its provider's table"
        raise self.wrong(
            keys,
            f'{key} must not stand in a file: write api_key_env = "{variable}"{table}, and set '
            "that variable in the environment or in .env; the value is not shown",
        )

    def _resolved(self, name: str, each: Provenance) -> Provenance:
        """Make one text a list of texts, and make paths relative to the file's folder."""
        value = each.value
        if name in ("recordings", "fallbacks"):
            value = [value] if isinstance(value, str) else value
            if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
                raise wrong(each.place, f"{name} must be a text or a list of texts")
        if name in ("recordings", "path", "verify"):
            texts = value if isinstance(value, list) else [value]
            if any(isinstance(text, str) and "\0" in text for text in texts):
                raise wrong(each.place, f"{name} holds a NUL, which no path can: remove it")
        if name == "recordings":
            value = [self.document.beside(path) for path in value]
        elif name in ("path", "verify") and isinstance(value, str):
            value = self.document.beside(value)
        return Provenance(value, each.kind, each.place)


def _said(value: Any) -> str:
    """The type of a value, and a short value itself."""
    kind = _KINDS.get(type(value), type(value).__name__)
    return kind if isinstance(value, (dict, list, str)) else f"{kind} ({value!r:.40})"
