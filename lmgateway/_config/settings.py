"""Settings: a plugin's own model, filled from argument, environment, .env, file and default."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, ValidationError, create_model

from .._guard.tracebacks import masked
from ..errors import InvalidSettingError, MissingCredentialError
from .provenance import Environment, Sourced

if TYPE_CHECKING:
    from .._plugins.registry import Plugin

__all__ = ["Filled", "MissingSecret", "fill", "is_quoted", "missing_key", "overridden"]
__all__ += ["secret_fields", "variable_for"]


class MissingSecret(SecretStr):
    """Stands where a required secret is missing: it raises when it is really needed."""

    def __init__(self, message: str) -> None:
        super().__init__("")
        self._message = message

    def get_secret_value(self) -> str:
        """Raise MissingCredentialError, which names the variable and the files looked in."""
        raise self.missing()

    def missing(self) -> MissingCredentialError:
        """The error that it raises."""
        return MissingCredentialError(self._message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._message,)


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """A plugin's settings, and where each value came from.

    Attributes:
        values: An instance of the plugin's settings model.
        origins: For each field, its value's origin (the values in it are masked).
        variables: For each field, the variable that would set it.
        looked_in: Where the variables were looked for, for messages.
    """

    values: BaseModel
    origins: Mapping[str, Sourced]
    variables: Mapping[str, str]
    looked_in: str

    def secrets(self) -> Iterator[str]:
        """The secret values, for redaction only."""
        for name in type(self.values).model_fields:
            yield from _secrets_in(getattr(self.values, name, None))


_HOLDING = (BaseModel, Mapping, list, tuple, set, frozenset)


def _secrets_in(value: Any) -> Iterator[str]:
    """The secrets that a value is or holds, however deep: it may hold itself."""
    waiting, seen = [value], set[int]()
    while waiting:
        each = waiting.pop()
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
    """``<PROVIDER>_<FIELD>``, with every character a variable cannot hold made an underscore."""
    name = f"{provider}_{setting}".upper()
    return "".join(each if each.isascii() and each.isalnum() else "_" for each in name)


def fill(
    plugin: Plugin,
    provider: str,
    arguments: Mapping[str, Any],
    *,
    file: Mapping[str, Sourced] | None = None,
    key_variable: str | None = None,
    needs_key: bool = False,
    environment: Environment | None = None,
) -> Filled | None:
    """Fill a plugin's settings; None if it has none.

    Args:
        plugin: The loaded plugin.
        provider: Whose variables to read: the provider's name, which need not be the plugin's.
        arguments: What the caller gave.
        file: What configuration file and catalogue say.
        key_variable: A further variable for ``api_key``, named by file or catalogue.
        needs_key: Whether a request to the configured base needs ``api_key``.
        environment: Where to look for variables; the process's own by default.

    Raises:
        InvalidSettingError: A value cannot be used. A missing one is no error yet.
    """
    if plugin.settings is None:
        return None
    environment = environment or Environment()
    names = plugin.settings.model_fields
    variables = {name: variable_for(provider, name) for name in names}
    found = dict(file or {})
    if key_variable and "api_key" in names and (value := environment.lookup(key_variable)):
        found["api_key"] = value
    found.update(_gathered(variables, arguments, environment))
    secrets = secret_fields(plugin.settings)
    found = {name: _tidy(name, value, secrets) for name, value in found.items()}
    values = _validate(plugin.settings, found, provider)
    if key_variable:
        variables["api_key"] = key_variable
    base = found.get("api_base")
    if base is not None and base.kind not in ("file", "catalogue"):
        needs_key = False  # another host than the one that the file speaks of
    looked_in = environment.looked_in()
    gaps = {
        name: MissingSecret(missing_key(provider, variables[name], looked_in, name))
        for name in secrets - set(found)
        if names[name].is_required() or (needs_key and name == "api_key")
    }
    if gaps:
        values = values.model_copy(update=gaps)
    for name in names:
        found.setdefault(name, Sourced(getattr(values, name), "default"))
    return Filled(values, found, variables, looked_in)


def _gathered(
    variables: Mapping[str, str], arguments: Mapping[str, Any], environment: Environment
) -> Iterator[tuple[str, Sourced]]:
    """What the variables say, and after it what the caller gave."""
    for name, variable in variables.items():
        if value := environment.lookup(variable):
            yield name, value
    for name, given in arguments.items():
        plain = given.get_secret_value() if isinstance(given, SecretStr) else given
        if plain is not None and not (isinstance(plain, str) and not plain.strip()):
            yield name, Sourced(given, "argument")


def missing_key(provider: str, variable: str, looked_in: str, name: str = "api_key") -> str:
    """What to say where a key is needed and there is none."""
    return f"{provider} needs a key: set {variable}, or give {name}=; looked in {looked_in}"


def overridden(filled: Filled, changes: Mapping[str, Any]) -> Filled:
    """The same settings with some of them changed, checked anew."""
    model = type(filled.values)
    current = {
        name: Sourced(getattr(filled.values, name), origin.kind, origin.place)
        for name, origin in filled.origins.items()
        if origin.kind != "default"
    }
    current.update({name: Sourced(value, "argument") for name, value in changes.items()})
    values = _validate(model, current, "")
    return Filled(values, {**filled.origins, **current}, filled.variables, filled.looked_in)


def _tidy(name: str, given: Sourced, secrets: set[str]) -> Sourced:
    """Check what every provider has: a base URL and a key; the value is never shown."""
    value = given.value
    if name == "api_base" and isinstance(value, str):
        return Sourced(_checked_base(value, given), given.kind, given.place)
    if name in secrets:
        secret = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(value, MissingSecret) or not isinstance(secret, str):
            return given
        return Sourced(_checked_key(secret.strip(), name, given), given.kind, given.place)
    return given


def is_quoted(value: str) -> bool:
    """Whether it stands in quotation marks, which ``docker --env-file`` leaves where they are."""
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def _checked_base(value: str, given: Sourced) -> str:
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


def _checked_key(secret: str, name: str, given: Sourced) -> SecretStr:
    bad = next((n for n, c in enumerate(secret) if not ("\x20" < c <= "\xff") or c == "\x7f"), None)
    if bad is not None:
        raise _invalid(
            name,
            given,
            f"its character {bad + 1} cannot stand in an HTTP header "
            "(white space, a control character or one beyond latin-1); the key is not shown",
        )
    return SecretStr(secret)


def _invalid(name: str, given: Sourced, why: str) -> InvalidSettingError:
    return InvalidSettingError(f"{name} (from {given}) cannot be used: {why}")


def _validate(model: type[BaseModel], found: Mapping[str, Sourced], provider: str) -> BaseModel:
    """An instance of the model; a required field without a value is None in it."""
    missing = {
        name: (cast(Any, field.annotation) | None, None)
        for name, field in model.model_fields.items()
        if field.is_required() and name not in found
    }
    if missing:
        model = create_model(model.__name__, __base__=model, **cast(dict[str, Any], missing))
    try:
        return model.model_validate({name: each.value for name, each in found.items()})
    except ValidationError as error:
        # pydantic's own message prints the input, which may be a key.
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        given = found.get(name, Sourced(None, "argument"))
        problem = _invalid(name, given, first["msg"].removeprefix("Value error, "))
    except Exception as error:  # of a validator of the plugin's own
        raise masked(error, _all_secrets(found)) from None
    problem.redact(_all_secrets(found))
    problem.provider = provider or None
    raise problem


def _all_secrets(found: Mapping[str, Sourced]) -> Iterator[str]:
    for each in found.values():
        yield from _secrets_in(each.value)


def secret_fields(model: type[BaseModel]) -> set[str]:
    """Names of the fields that hold a secret."""
    return {
        name
        for name, field in model.model_fields.items()
        if field.annotation is SecretStr or SecretStr in get_args(field.annotation)
    }
