"""Settings: the values of a plugin's own settings model, and where each came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, ValidationError, create_model

from .._guard.tracebacks import masked
from ..errors import InvalidSettingError, MissingCredentialError
from ..types import Variables
from .provenance import ARGUMENT, DEFAULT, Environment, Provenance

if TYPE_CHECKING:
    from .names import Selection

__all__ = [
    "MissingSecret",
    "ResolvedSettings",
    "is_quoted",
    "missing_key_message",
    "resolve_settings",
]
__all__ += ["plain_settings", "secret_fields", "secrets_in", "variable_for"]


class MissingSecret(SecretStr):
    """Stands in place of a required secret that is missing. It raises when the secret is used."""

    def __init__(self, message: str) -> None:
        super().__init__("")
        self._message = message

    def get_secret_value(self) -> str:
        """Raise MissingCredentialError, which names the variable and the files looked in."""
        raise self.missing()

    def missing(self) -> MissingCredentialError:
        """The error that names the variable to set."""
        return MissingCredentialError(self._message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._message,)


@dataclass(frozen=True, slots=True, eq=False)
class ResolvedSettings:
    """The settings of a plugin, and where each value came from.

    Attributes:
        values: An instance of the plugin's settings model.
        provenance: For each field, where its value came from.
        variables: For each field, the variable that would set it.
        further: For each field that names more of them (see ``lmgateway.types.Variables``), those.
        looked_in: Where the variables were looked for, for messages.
    """

    values: BaseModel
    provenance: Mapping[str, Provenance]
    variables: Mapping[str, str]
    looked_in: str
    further: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def named(self, name: str) -> str:
        """The variables that would set a field, for messages: ``A``, or ``A or B``."""
        return " or ".join((self.variables[name], *self.further.get(name, ())))

    def secrets(self) -> Iterator[str]:
        """The secret values, for redaction only."""
        for name in type(self.values).model_fields:
            yield from secrets_in(getattr(self.values, name, None))

    def changed(self, changes: Mapping[str, Any]) -> ResolvedSettings:
        """The same settings with some values changed, all checked anew.

        Raises InvalidSettingError for a value that cannot be used.
        """
        current = {
            name: each._replace(value=getattr(self.values, name))
            for name, each in self.provenance.items()
            if each.kind != "default"
        }
        current.update({name: Provenance(value, "argument") for name, value in changes.items()})
        values = _validate(type(self.values), current, "")
        return replace(self, values=values, provenance={**self.provenance, **current})


_HOLDING = (BaseModel, Mapping, list, tuple, set, frozenset)
_PLAIN = frozenset({type(None), bool, int, float, str, bytes})


def secrets_in(value: Any) -> Iterator[str]:
    """The secrets that a value is or holds, however deep; it may even hold itself."""
    waiting, seen = [value], set[int]()
    while waiting:
        each = waiting.pop()
        if type(each) in _PLAIN:
            continue  # as nearly all; the checks below cost more
        if isinstance(each, (SecretStr, SecretBytes, Secret)):
            if not isinstance(each, MissingSecret):
                plain = each.get_secret_value()
                yield plain.decode("utf-8", "replace") if isinstance(plain, bytes) else str(plain)
        elif isinstance(each, _HOLDING) and id(each) not in seen:
            seen.add(id(each))
            waiting += _held_by(each)


def _held_by(value: Any) -> Iterable[Any]:
    if isinstance(value, BaseModel):
        return [getattr(value, name, None) for name in type(value).model_fields]
    return value.values() if isinstance(value, Mapping) else value


def variable_for(provider: str, setting: str) -> str:
    """``<PROVIDER>_<FIELD>``; an underscore replaces each character that no variable can hold."""
    name = f"{provider}_{setting}".upper()
    return "".join(each if each.isascii() and each.isalnum() else "_" for each in name)


@lru_cache(maxsize=256)
def _variables(provider: str, model: type[BaseModel]) -> Mapping[str, str]:
    return {name: variable_for(provider, name) for name in model.model_fields}


@lru_cache(maxsize=256)
def _further(model: type[BaseModel], *, at_home: bool) -> Mapping[str, tuple[str, ...]]:
    """The further variables of each field that names some.

    Args:
        model: The settings model.
        at_home: Whether the provider has the plugin's own name. Under another name it may be
            another host's, which must not be sent a key from a variable of the first one's.
    """
    away = frozenset() if at_home else secret_fields(model)
    named = {
        name: tuple(_named_in(field.annotation, field.metadata))
        for name, field in model.model_fields.items()
        if name not in away
    }
    return {name: variables for name, variables in named.items() if variables}


def _named_in(annotation: Any, metadata: Iterable[Any] = ()) -> Iterator[str]:
    """The variables that a field names, also within ``Annotated[...] | None``."""
    for each in (*metadata, *getattr(annotation, "__metadata__", ())):
        if isinstance(each, Variables):
            yield from each.names
    for inner in get_args(annotation):
        if not isinstance(inner, Variables):
            yield from _named_in(inner)


@lru_cache(maxsize=256)
def secret_fields(model: type[BaseModel]) -> frozenset[str]:
    """Names of the fields of a settings model that hold a secret."""
    return frozenset(
        name
        for name, field in model.model_fields.items()
        if SecretStr in (field.annotation, *map(_bare, get_args(field.annotation)))
    )


def plain_settings(settings: BaseModel | None) -> dict[str, Any]:
    """What settings decide about answers, by name: neither secrets nor the host, and no objects."""
    if settings is None:
        return {}
    hidden = secret_fields(type(settings)) | {"api_base"}
    found = {
        name: getattr(settings, name) for name in type(settings).model_fields if name not in hidden
    }
    return {
        name: value
        for name, value in found.items()
        if value is None or isinstance(value, (str, int, float))
    }


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation


@lru_cache(maxsize=256)
def _required(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(name for name, field in model.model_fields.items() if field.is_required())


def resolve_settings(
    model: type[BaseModel],
    selection: Selection,
    arguments: Mapping[str, Any],
    environment: Environment,
) -> ResolvedSettings:
    """Resolve each setting: argument > environment > ``.env`` > file > catalogue > default.

    Args:
        model: The settings model of the plugin.
        selection: The provider, whose variables are read, and what file and catalogue say of it.
        arguments: What the caller gave.
        environment: Where variables are looked up.

    Raises:
        InvalidSettingError: A value cannot be used. A missing one is no error yet.
    """
    variables, secrets = _variables(selection.provider, model), secret_fields(model)
    further = _further(model, at_home=selection.provider == selection.plugin)
    if selection.key_variable:  # it takes the place of those that the plugin names
        further = {name: names for name, names in further.items() if name != "api_key"}
    found = dict(selection.settings)
    found.update(_in_variables(variables, further, selection.key_variable, environment))
    for name, given in arguments.items():
        plain = given.get_secret_value() if isinstance(given, SecretStr) else given
        if plain is not None and not (isinstance(plain, str) and not plain.strip()):
            found[name] = Provenance(given, "argument")
    for name in found:
        if name == "api_base" or name in secrets:
            found[name] = _tidy(name, found[name])
    values = _validate(model, found, selection.provider)
    if selection.key_variable:
        variables = {**variables, "api_key": selection.key_variable}
    missing = [
        name
        for name in secrets
        if name not in found and (name in _required(model) or _needs(name, selection, found))
    ]
    for name in variables:
        found.setdefault(name, DEFAULT)
    resolved = ResolvedSettings(values, found, variables, environment.looked_in(), further)
    return _with_gaps(resolved, missing, selection.provider) if missing else resolved


def _in_variables(
    variables: Mapping[str, str],
    further: Mapping[str, tuple[str, ...]],
    named: str | None,
    environment: Environment,
) -> Iterator[tuple[str, Provenance]]:
    """What variables say of each field; of two values of one field the later counts."""
    for name, more in further.items():
        if value := next(filter(None, map(environment.lookup, more)), None):
            yield name, value
    if named and "api_key" in variables and (value := environment.lookup(named)):
        yield "api_key", value
    for name, variable in variables.items():
        if value := environment.lookup(variable):
            yield name, value


def _with_gaps(
    resolved: ResolvedSettings, missing: Iterable[str], provider: str
) -> ResolvedSettings:
    """The settings in which a missing secret raises when it is used."""
    gaps = {name: MissingSecret(missing_key_message(provider, resolved, name)) for name in missing}
    return replace(resolved, values=resolved.values.model_copy(update=gaps))


def _needs(name: str, selection: Selection, found: Mapping[str, Provenance]) -> bool:
    """Whether the file says that there is a key, and requests go to the file's own host."""
    base = found.get("api_base")
    at_home = base is None or base.kind in ("file", "catalogue")
    return name == "api_key" and selection.needs_key and at_home


def missing_key_message(provider: str, settings: ResolvedSettings, name: str = "api_key") -> str:
    """The message for a key that is needed and missing."""
    return (
        f"{provider} needs a key: set {settings.named(name)}, or give {name}=; "
        f"looked in {settings.looked_in}"
    )


def _tidy(name: str, given: Provenance) -> Provenance:
    """Check what every provider has: a base URL and a key; the value is never shown."""
    value = given.value
    if name == "api_base":
        value = _checked_base(value, given) if isinstance(value, str) else value
        return Provenance(value, given.kind, given.place)
    secret = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(value, MissingSecret) or not isinstance(secret, str):
        return given
    return Provenance(_checked_key(secret.strip(), name, given), given.kind, given.place)


def is_quoted(value: str) -> bool:
    """Whether the value is in quotation marks; ``docker --env-file`` does not remove them."""
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def _checked_base(value: str, given: Provenance) -> str:
    value = value.strip()
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise _invalid("api_base", given, "it is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        quoted = "; the quotation marks around it must go" if is_quoted(value) else ""
        wanted = f"it must begin with http:// or https:// and a host{quoted}"
        raise _invalid("api_base", given, wanted)
    if "@" in parts.netloc:
        raise _invalid("api_base", given, "it must not hold a user or password; give api_key")
    if parts.query or parts.fragment:
        raise _invalid("api_base", given, "it must hold neither a query nor a fragment")
    if any(each.isspace() or not each.isprintable() for each in value):
        raise _invalid("api_base", given, "it must hold no white space")
    return value.rstrip("/")


def _checked_key(secret: str, name: str, given: Provenance) -> SecretStr:
    bad = next((n for n, c in enumerate(secret) if not ("\x20" < c <= "\xff") or c == "\x7f"), None)
    if bad is not None:
        raise _invalid(
            name,
            given,
            f"its character {bad + 1} cannot stand in an HTTP header "
            "(white space, a control character or one beyond latin-1); the key is not shown",
        )
    return SecretStr(secret)


def _invalid(name: str, given: Provenance, why: str) -> InvalidSettingError:
    return InvalidSettingError(f"{name} (from {given}) cannot be used: {why}")


def _validate(model: type[BaseModel], found: Mapping[str, Provenance], provider: str) -> BaseModel:
    """Make an instance of the model, in which a required field without a value is None."""
    if missing := _required(model).difference(found):
        model = _without(model, missing)
    try:
        return model.model_validate({name: each.value for name, each in found.items()})
    except ValidationError as error:
        # pydantic's own message prints the input, which may be a key.
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        name = _field_at(first["loc"], model)
        given = found.get(name, ARGUMENT)
        problem = _invalid(name, given, first["msg"].removeprefix("Value error, "))
    except Exception as error:  # of a validator of the plugin's own
        raise masked(error, _all_secrets(found)) from None
    problem.redact(_all_secrets(found))
    problem.provider = provider or None
    raise problem


def _field_at(place: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """The name of the field that an error is about; pydantic names it by its alias."""
    said = str(place[0]) if place else "settings"
    fields = model.model_fields.items()
    return next((name for name, field in fields if field.validation_alias == said), said)


@lru_cache(maxsize=256)
def _without(model: type[BaseModel], missing: frozenset[str]) -> type[BaseModel]:
    """The model with some required fields None by default."""
    fields = {name: (model.model_fields[name].annotation, None) for name in missing}
    optional = {name: (cast(Any, kind) | None, default) for name, (kind, default) in fields.items()}
    return create_model(model.__name__, __base__=model, **cast(dict[str, Any], optional))


def _all_secrets(found: Mapping[str, Provenance]) -> Iterator[str]:
    for each in found.values():
        yield from secrets_in(each.value)
