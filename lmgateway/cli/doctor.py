"""``lmgateway doctor``: what works, what does not, and what to do about it."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import typer

from ..errors import (
    APIError,
    AuthenticationError,
    ConfigError,
    InputError,
    InvalidRequestError,
    InvalidSettingError,
    LMGatewayError,
    MissingCredentialError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    TransportError,
)
from .models import AsJSON, ConfigPath, Name, open_anyhow
from .output import print_json, say

if TYPE_CHECKING:
    from .._call.spec import Spec
    from ..lm import LM

__all__ = ["Finding", "examine", "register"]

CALL_TIMEOUT = 30.0  # seconds for the one call that is made
_MARKS = {True: "ok  ", False: "FAIL", None: "--  "}


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact.

    Attributes:
        ok: Whether all is well; None for a fact that is neither good nor bad.
        what: The subject.
        fact: What was found.
        next: What to do, if it is not well.
    """

    ok: bool | None
    what: str
    fact: str
    next: str = ""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(name: Name = None, config: ConfigPath = None, as_json: AsJSON = False) -> None:
    """Look at configuration, plugins and credentials, and ask the model one short question."""
    findings = []
    for finding in examine(name, config):
        findings.append(finding)
        if not as_json:
            print(f"{_MARKS[finding.ok]}  {finding.what}: {finding.fact}", flush=True)
            if finding.next:
                print(f"      next: {finding.next}", flush=True)
    failed = sum(finding.ok is False for finding in findings)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    elif failed:
        say(f"{failed} of {len(findings)} checks failed")
    raise typer.Exit(1 if failed else 0)


def examine(name: str | None = None, config: str | None = None) -> Iterator[Finding]:
    """Examine everything that a call needs, in the order in which it needs it."""
    readable = yield from _examine_files(config)
    yield from _examine_plugins()
    if not readable:
        return
    yield from _examine_models(config)
    try:
        alone = {"retries": 0, "cache": False, "fallbacks": ()}  # the answer must be its own
        lm = open_anyhow(name, config=config, timeout=CALL_TIMEOUT, **alone)
    except LMGatewayError as error:
        yield _failed("model", error)
        return
    except Exception as error:
        yield _unforeseen("model", error, name or "")
        return
    with lm:
        yield from _examine_lm(lm)


# -- what is on this machine -------------------------------------------------------------------


def _examine_files(config: str | None) -> Generator[Finding, None, bool]:
    """The files; returns whether they could be read."""
    from .._config.files import find, user_file
    from .._config.names import configuration
    from .._config.provenance import Environment

    readable = True
    try:
        found = find(config)
        configuration(config)
        if found:
            yield Finding(True, "configuration", f"{found.path} ({found.why})")
        else:
            fact = f"none, neither upwards from the working directory nor at {user_file()}"
            yield Finding(None, "configuration", fact)
    except ConfigError as error:
        readable = False
        yield Finding(False, "configuration", error.message, "mend that place in the file")
    try:
        dotenv = Environment().dotenv
        yield Finding(
            None if dotenv is None else True, ".env", str(dotenv.path) if dotenv else "none"
        )
    except ConfigError as error:
        readable = False
        yield _failed(".env", error)
    return readable


def _examine_plugins() -> Iterator[Finding]:
    from .._plugins.registry import damaged, installed, load

    for name, why in damaged().items():
        fact, _, advice = why.partition(": ")
        yield Finding(False, f"plugin {name}", fact, advice or "reinstall its distribution")
    seen = set()
    for row, _ in installed():
        if row.name in seen:
            continue
        seen.add(row.name)
        what = f"plugin {row.name}"
        try:
            load(row.name)
            yield Finding(True, what, f"loads, from {row.distribution} {row.version}")
        except LMGatewayError as error:
            yield _failed(what, error)
        except Exception as error:  # one broken plugin must not hide what the others are like
            yield _unforeseen(what, error, row.name)


def _examine_models(config: str | None) -> Iterator[Finding]:
    from .._config.names import configuration

    for name, table in configuration(config).models.items():
        try:
            open_anyhow(name, config=config).close()
        except LMGatewayError as error:
            found = _failed(f"model {name}", error)
            yield replace(found, fact=f"{found.fact} ({table.place})")
        except Exception as error:
            yield _unforeseen(f"model {name}", error, name)


# -- what a call needs, and a call -------------------------------------------------------------


def _examine_lm(lm: LM) -> Iterator[Finding]:
    from ..lm import spec_of

    spec = spec_of(lm)
    named = spec.selection.provenance["name"]
    fact = f"{lm.model or 'none named,'} of provider {lm.provider}, from {named}"
    yield Finding(True if lm.model else None, "model", fact)
    complete = True
    for finding in (*_examine_base(spec), *_examine_secrets(spec)):
        complete = complete and finding.ok is not False
        yield finding
    if complete:
        yield from _examine_call(lm, spec)


def _examine_base(spec: Spec) -> Iterator[Finding]:
    if spec.settings is None or "api_base" not in spec.settings.variables:
        yield Finding(None, "host", "none: this provider has no base URL")
        return
    base = spec.endpoint.base_url
    if base is None:
        yield _failed("base URL", spec.endpoint.missing_base_error())
    else:
        yield Finding(True, "base URL", f"{base}, from {spec.settings.provenance['api_base']}")


def _examine_secrets(spec: Spec) -> Iterator[Finding]:
    from .._base.masking import MASK
    from .._config.settings import MissingSecret, secret_fields
    from ..types import HTTPRequest

    if spec.settings is None:
        return
    for name in sorted(secret_fields(type(spec.settings.values))):
        value = getattr(spec.settings.values, name)
        variable = spec.settings.named(name)
        problem: LMGatewayError | None = None
        if isinstance(value, MissingSecret):
            problem = value.missing()
        elif value is None and name == "api_key":
            problem = spec.endpoint.missing_key_error(HTTPRequest("GET", None, "/"))
        if problem is not None and not (name == "api_key" and _has_token(spec)):
            yield _failed(name, problem)
        elif value is None or problem is not None:
            yield Finding(None, name, f"none; {variable} would set it")
        else:
            yield Finding(True, name, f"{MASK}, from {spec.settings.provenance[name]}")


def _has_token(spec: Spec) -> bool:
    """Whether there is a token, which some services take in place of a key."""
    return spec.settings is not None and bool(getattr(spec.settings.values, "auth_token", None))


def _examine_call(lm: LM, spec: Spec) -> Iterator[Finding]:
    """Ask one short question, or list the models if none is named, and say what that shows."""
    if not lm.model and "lmgateway_models" not in spec.plugin.hooks:
        yield Finding(None, "call", "not tried: no model is named")
        return
    began = time.perf_counter()
    error = None
    try:
        answer = _ask(lm, spec)
    except LMGatewayError as caught:
        error = caught
    took = f"{time.perf_counter() - began:.2f} s"
    if error is None:
        yield Finding(True, "call", f"{answer}, in {took}")
        return
    if isinstance(error, APIError):
        yield Finding(True, "host", f"{error.host} answered, in {took}")
    yield _judged(lm, spec, error)


def _ask(lm: LM, spec: Spec) -> str:
    if not lm.model:
        return f"{len(lm.models())} models are listed; name one to try the key on it"
    few: dict[str, Any] = {"max_tokens": 16} if "max_tokens" in spec.info.params else {}
    try:
        completion = lm.complete("Say OK.", **few)
    except InvalidRequestError:
        if not few:
            raise
        completion = lm.complete("Say OK.")  # some models take no max_tokens
    return f"{completion.get('model') or lm.model} answered"


def _judged(lm: LM, spec: Spec, error: LMGatewayError) -> Finding:
    """The finding for a call that failed."""
    settings = spec.settings
    if isinstance(error, TransportError):
        base = spec.endpoint.base_url
        advice = f"see that a server runs at {base} and that this machine may reach it"
        return Finding(False, "host", error.message, advice)
    if isinstance(error, (AuthenticationError, PermissionDeniedError, MissingCredentialError)):
        origin = settings.provenance.get("api_key") if settings else None
        has_key = settings is not None and "api_key" in settings.variables
        variable = settings.named("api_key") if settings and has_key else "the key"
        came = f"the key from {origin} was refused" if origin else "the request was refused"
        if origin is not None and origin.kind == "default":
            came = "a key is wanted, and none was sent"
        status = f" ({error.status})" if isinstance(error, APIError) else ""
        return Finding(False, "api_key", f"{came}{status}", f"put a valid key into {variable}")
    if isinstance(error, NotFoundError):
        advice = f"see what there is with: lmgateway models {lm.provider}; and look at the base URL"
        return Finding(False, "model", f"{lm.model} was not found there", advice)
    if isinstance(error, RateLimitError):
        return Finding(False, "call", error.message, "wait, or write [limits] into the file")
    return _failed("call", error)


def _failed(what: str, error: LMGatewayError) -> Finding:
    """The finding for an error: the end of its message says what to do next."""
    if isinstance(error, InvalidSettingError):
        fact, _, advice = error.message.rpartition(": ")
    elif isinstance(error, (InputError, MissingCredentialError)):
        fact, _, advice = error.message.partition(": ")
    else:
        fact, _, advice = error.message.partition("; ")
    return Finding(False, what, fact, advice)


def _unforeseen(what: str, error: Exception, name: str) -> Finding:
    """The finding for an untyped error, without its message, which may hold a secret."""
    advice = f"mend or reinstall the plugin; lmgateway --debug models {name}".rstrip()
    return Finding(False, what, f"raised {type(error).__name__}", f"{advice} shows where")
