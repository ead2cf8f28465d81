"""The contract of plugins: an object with hooks, checked, in a PluginManager of its own."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pluggy

from .. import hookspecs
from .._base.spelling import nearest
from ..errors import (
    MissingCredentialError,
    PluginContractError,
    PluginLoadError,
    PluginVersionError,
)
from ..types import EmbedLimits, Info
from .distributions import OWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

__all__ = ["RESERVED", "SOUND_LIMITS", "Plugin", "are_sound", "info_for", "plugin_from"]


@dataclass(frozen=True, slots=True, eq=False)
class Plugin:
    """One loaded provider plugin.

    Attributes:
        name: The entry point's name.
        described: How messages name it: with its distribution and version, where it has them.
        hook: The plugin's hooks; calling one that is not implemented returns None.
        info: What it said it can do, with all its models together.
        has_variants: Whether its info depends on the model or the settings; see ``info_for``.
        settings: The pydantic model of its settings, None if it has none.
        hooks: Names of the hooks that it implements.
        installed: Whether another process can find it by its name.
    """

    name: str
    described: str
    hook: Any = field(repr=False)
    info: Info
    settings: type[BaseModel] | None
    hooks: frozenset[str]
    installed: bool = True
    has_variants: bool = False


def plugin_from(
    module: Any, *, name: str, described: str | None = None, installed: bool = False
) -> Plugin:
    """Check a module, or any object with marked hooks, against the contract.

    Args:
        module: What holds the functions marked ``@hookimpl``.
        name: The provider's name.
        described: How messages name it.
        installed: Whether another process can find it by its name.

    Raises:
        PluginContractError: It breaks the contract.
        PluginVersionError: It was written for another version of the contract.
        PluginLoadError: It raised while it was asked for its info and settings.
    """
    described = described or f"plugin {name!r}"
    _check_kind(module, described, name)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        _check_version(_peek(module), described, name)
        raise _broken(described, name, f"{error}{_meant(manager)}") from error
    try:
        _check_arguments(manager, described, name)
    except PluginContractError:
        _check_version(_peek(module), described, name)
        raise
    try:
        info = manager.hook.lmgateway_info(settings=None, model=None) or Info()
        settings = manager.hook.lmgateway_settings()
    except (Exception, SystemExit) as error:
        raise _raised(error, described, name, "info and settings") from error
    _check_version(info, described, name)
    _check_info(info, described, name)
    callers = manager.get_hookcallers(module) or ()
    hooks = frozenset(caller.name for caller in callers if caller.spec is not None)
    if "lmgateway_complete" not in hooks:
        raise _broken(
            described, name, "it has no lmgateway_complete; is the function marked with @hookimpl?"
        )
    _check_settings(settings, info, described, name)
    has_variants = any(each.argnames for each in manager.hook.lmgateway_info.get_hookimpls())
    hook = _direct(manager)
    return Plugin(name, described, hook, info, settings, hooks, installed, has_variants)


def info_for(plugin: Plugin, settings: BaseModel | None, model: str) -> Info:
    """What a plugin can do with one model and these settings.

    ``api`` and ``default_model`` are what it said when it was loaded, whatever it says here. Where
    it needs a credential to tell and there is none, it is what all its models can do together.

    Raises:
        PluginContractError: It is no Info, or a field of it is of a wrong type.
        PluginLoadError: The plugin raised.
    """
    described, name = plugin.described, plugin.name
    try:
        info = plugin.hook.lmgateway_info(settings=settings, model=model or None)
    except MissingCredentialError:
        return plugin.info
    except (Exception, SystemExit) as error:
        what = f"info on the model {model!r:.80}"
        raise _raised(error, described, name, what) from error
    said = plugin.info
    if info is said or info is None:
        return said
    told = _check_info(info, described, name)
    if told.api != said.api or told.default_model != said.default_model:
        told = replace(told, api=said.api, default_model=said.default_model)
    return told


def _direct(manager: pluggy.PluginManager) -> SimpleNamespace:
    """The hooks as plain functions, where only one function implements a hook.

    What pluggy does for a call (it copies the list of implementations, filters arguments, collects
    results) never changes after a plugin is loaded, and takes longer than most providers do.
    """
    callers = {name: getattr(manager.hook, name) for name in vars(hookspecs) if _is_hook(name)}
    return SimpleNamespace(**{name: _callable(caller) for name, caller in callers.items()})


def _is_hook(name: str) -> bool:
    return name.startswith(f"{hookspecs.PROJECT}_")


def _callable(caller: pluggy.HookCaller) -> Callable[..., Any]:
    impls = caller.get_hookimpls()
    if len(impls) != 1 or impls[0].wrapper or impls[0].hookwrapper or caller.spec is None:
        return caller
    function, wanted = impls[0].function, impls[0].argnames
    if set(wanted) == set(caller.spec.argnames):
        return function
    return lambda **arguments: function(**{name: arguments[name] for name in wanted})


def _raised(error: BaseException, described: str, name: str, what: str) -> PluginLoadError:
    said = f"{described} raised {type(error).__name__} while it was asked for its {what}: {error}"
    return PluginLoadError(said, provider=name)


def _broken(described: str, name: str, what: str) -> PluginContractError:
    return PluginContractError(f"{described} breaks the plugin contract: {what}", provider=name)


def _check_kind(module: Any, described: str, name: str) -> None:
    """Refuse an object that has no hooks by its type, and a class whose hooks want an instance."""
    kind = type(module)
    if inspect.isclass(module):
        hooks = (inspect.getattr_static(module, each) for each in dir(module) if _is_hook(each))
        if any(map(inspect.isfunction, hooks)):
            what = f"it is the class {module.__name__}: give an instance of it, {module.__name__}()"
            raise _broken(described, name, what)
    elif kind.__module__ == "builtins" and not inspect.ismodule(module):
        what = f"it is of the type {kind.__name__}: give a module, or an object with hooks"
        raise _broken(described, name, what)


def _meant(manager: pluggy.PluginManager) -> str:
    """What hooks that nobody knows may have been meant to be, and how to mark one that is new."""
    callers = [each for each in vars(manager.hook).values() if isinstance(each, pluggy.HookCaller)]
    unknown = next((each.name for each in callers if each.spec is None), None)
    if unknown is None:
        return ""
    prefix = f"{hookspecs.PROJECT}_"
    names = [name.removeprefix(prefix) for name in vars(hookspecs) if _is_hook(name)]
    advice = nearest(unknown.removeprefix(prefix), names)
    return f"; {advice or 'one that only newer cores call is marked @hookimpl(optionalhook=True)'}"


def _peek(module: Any) -> Any:
    """A plugin's info without pluggy's checks, which another version may not pass."""
    try:
        hook = module.lmgateway_info
        return hook(*(None for _ in inspect.signature(hook).parameters))
    except (Exception, SystemExit):
        return None


def _check_version(info: Any, described: str, name: str) -> None:
    api = getattr(info, "api", hookspecs.API_VERSION)
    if isinstance(api, bool) or not isinstance(api, int):
        raise _broken(described, name, f"Info.api must be an int, not {type(api).__name__}")
    if api > hookspecs.API_VERSION:
        raise PluginVersionError(
            f"{described} was written for version {api} of the plugin API, and this lmgateway "
            f"speaks version {hookspecs.API_VERSION} and all before: pip install -U {OWN}",
            provider=name,
        )


def _check_info(info: Any, described: str, name: str) -> Info:
    """Refuse what is no Info of ours, and fields of a wrong type.

    In a str, ``"top" in "top_p"`` would be true.
    """
    if not isinstance(info, Info):
        raise _broken(described, name, f"lmgateway_info returned {type(info).__name__}, not Info")
    for field_name in ("capabilities", "params", "portable", "headers"):
        value = getattr(info, field_name)
        if not isinstance(value, (set, frozenset)):
            what = f"not {type(value).__name__}"
        elif odd := [each for each in value if not isinstance(each, str)]:
            what = f"and {odd[0]!r:.40} in it is none"
        else:
            continue
        raise _broken(described, name, f"Info.{field_name} must be a frozenset of str, {what}")
    model = info.default_model
    if not (model is None or isinstance(model, str)):
        kind = type(model).__name__
        raise _broken(described, name, f"Info.default_model must be a str or None, not {kind}")
    embed = info.embed
    if embed is not None and not (callable(embed) or are_sound(embed)):
        raise _broken(described, name, f"Info.embed must be {SOUND_LIMITS}, a function, or None")
    return info


SOUND_LIMITS = "an EmbedLimits of whole numbers from 1"


def are_sound(limits: object) -> bool:
    """Whether these are limits of embeddings that a host may have."""
    if not isinstance(limits, EmbedLimits):
        return False
    counts = (limits.texts, limits.tokens, limits.text_tokens)
    return all(each is None or (type(each) is int and each > 0) for each in counts)


def _check_arguments(manager: pluggy.PluginManager, described: str, name: str) -> None:
    """Refuse an argument that pluggy never passes: one that is not by name, or has a default."""
    for caller in manager.get_hookcallers(manager.get_plugin(name)) or ():
        if caller.spec is None:  # of a newer core, which calls it in its own way
            continue
        for impl in caller.get_hookimpls():
            for argument in inspect.signature(impl.function).parameters.values():
                if argument.kind in (argument.POSITIONAL_ONLY, argument.KEYWORD_ONLY):
                    raise _broken(
                        described,
                        name,
                        f"the argument {argument.name!r} of {caller.name} is "
                        f"{argument.kind.description} and would never be passed: "
                        "remove the / or the * from its signature",
                    )
                if argument.default is not argument.empty:
                    raise _broken(
                        described,
                        name,
                        f"the argument {argument.name!r} of {caller.name} has a default and "
                        "would never be passed: remove the default",
                    )


def _check_settings(settings: Any, info: Info, described: str, name: str) -> None:
    if settings is None:
        return
    from pydantic import BaseModel

    if not (isinstance(settings, type) and issubclass(settings, BaseModel)):
        raise _broken(described, name, "lmgateway_settings must return a subclass of BaseModel")
    _check_aliases(settings, info, described, name)
    taken = RESERVED | info.params
    shadowing = sorted(set(settings.model_fields) & taken)
    if shadowing:
        raise _broken(
            described,
            name,
            f"its setting {shadowing[0]!r} shadows a keyword of the core or a generation "
            "parameter: rename it",
        )


def _check_aliases(settings: type[BaseModel], info: Info, described: str, name: str) -> None:
    """Refuse a field that pydantic knows by another name: a setting has one name everywhere.

    A plugin of version 1 may have one if its model takes the field's own name as well.
    """
    config = settings.model_config
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    if info.api == 1 and by_name:
        return
    for field_name, each in settings.model_fields.items():
        if each.validation_alias not in (None, field_name):
            raise _broken(
                described,
                name,
                f"its setting {field_name!r} has an alias, and a setting has one name everywhere: "
                "remove the alias (also of an alias_generator); further variables are named by "
                "Annotated[..., Variables(...)]",
            )


def _reserved() -> frozenset[str]:
    from ..types import Options, Request

    own = set(Options.__dataclass_fields__) | set(Request.__dataclass_fields__)
    return frozenset((own - {"params"}) | {"name", "provider", "plugin", "config", "params"})


#: Keywords of get_lm and of a call that no setting of a plugin may be named after.
RESERVED = _reserved()
