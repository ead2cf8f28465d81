"""DSPy on lmgateway: a ``dspy.LM`` for any provider, and for any name in ``lmgateway.toml``.

::

    import dspy
    from lmgateway.dspy import LM

    dspy.configure(lm=LM("anyscale", model="meta-llama/Llama-2-70b-chat-hf"))
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import unwrap
from typing import Any, Self

try:
    import dspy
    from dspy import lm15
    from dspy.utils.callback import with_callbacks
except ImportError as error:
    raise ImportError(
        f"lmgateway.dspy needs DSPy 3.4 or newer ({error}): pip install 'lmgateway-core[dspy]'"
    ) from error

from .. import lm as gateway
from .._guard.tracebacks import door
from ..errors import InputError
from .asking import CARRIED
from .citing import cites, readable, written_out
from .embedder import Embedder
from .engine import AsyncEngine, Engine, Named
from .limits import LIMITS, limit_of, one_limit
from .parcels import is_adapters, odd_turns, packed, standing_for, unpacked, with_turns

__all__ = ["LM", "Anyscale", "Embedder"]

# DSPy has a cache, retries and a history of its own. A second cache would answer all its rollouts
# with one and the same completion.
_OFF: Mapping[str, Any] = {"cache": False, "retries": 0, "history": 0}

# Keywords of DSPy's own, or in a form of its own.
_DSPY = frozenset({"n", "response_format", "prompt_cache", "rollout_id", "async_engine"})
_SAVED = frozenset({"cache", "num_retries", "rollout_id"})


class LM(dspy.LM):  # type: ignore[misc]  # DSPy has no types
    """A ``dspy.LM`` that asks through lmgateway.

    Everything of DSPy's works with it: adapters, tools, streaming, async, caching, retries,
    history, usage, optimizers, saved programs. Caching, retries and history are DSPy's, unless
    an LM of your own, ``LM(get_lm(..., retries=2))``, or the configuration says otherwise.

    Args:
        name: A provider, ``provider/model``, a name from ``lmgateway.toml`` (without one, its
            default), or an LM that get_lm made.
        model: The model; ``name`` is then a provider.
        cache: Whether DSPy caches the answers.
        num_retries: How often DSPy repeats an attempt that failed for a passing reason.
        callbacks: DSPy's.
        supports: What the model can do where the provider cannot tell: whether it reasons
            natively, and whether it takes tools and response schemas.
        **keywords: As for get_lm: settings (``api_base``, ``api_key``, ...), core options
            (``timeout`` holds for each attempt) and generation parameters. ``retries`` and
            ``history`` turn lmgateway's own on.

    Raises:
        UnknownProviderError, InputError, ConfigError: As get_lm does; nothing is sent.
    """

    @door
    def __init__(
        self,
        name: str | gateway.LM | None = None,
        *,
        model: str | None = None,
        cache: bool = True,
        num_retries: int = 3,
        callbacks: list[Any] | None = None,
        supports: lm15.ModelSupport | None = None,
        **keywords: Any,
    ) -> None:
        if not isinstance(cache, bool):
            raise InputError(
                "cache is DSPy's and is True or False; for lmgateway's own give "
                f"LM(get_lm(..., cache={cache!r}))"
            )
        theirs = {each: keywords.pop(each) for each in sorted(_DSPY & keywords.keys())}
        keywords = _with_headers(keywords)
        lm = _resolved(name, model, keywords)
        named = (lm.provider, lm.model) if isinstance(name, gateway.LM) else (name, model)
        carried = {each: value for each, value in lm.params.items() if each in CARRIED}
        limit = one_limit(carried, keywords)
        engine, async_engine = _engines(lm, named, supports or lm15.ModelSupport(), limit)
        super().__init__(
            engine.model,
            cache=cache,
            num_retries=num_retries,
            callbacks=callbacks,
            engine=engine,
            async_engine=async_engine,
            **carried,
            **theirs,
        )

    def __call__(self, prompt: Any = None, *, messages: Any = None, **keywords: Any) -> Any:
        """As ``dspy.LM``: a list of outputs; for a ``dspy.lm15.Request`` one Response."""
        if not (messages or keywords):
            return super().__call__(prompt)
        keywords = self._with_one_limit(keywords)
        if odd_turns(messages):
            outputs = self._call_packed(prompt, messages=messages, **keywords)
        else:
            outputs = super().__call__(prompt, messages=messages, **keywords)
        return readable(outputs) if cites(outputs) and is_adapters(self, messages) else outputs

    async def acall(self, prompt: Any = None, *, messages: Any = None, **keywords: Any) -> Any:
        """As a call, awaited."""
        if not (messages or keywords):
            return await super().acall(prompt)
        keywords = self._with_one_limit(keywords)
        if odd_turns(messages):
            outputs = await self._acall_packed(prompt, messages=messages, **keywords)
        else:
            outputs = await super().acall(prompt, messages=messages, **keywords)
        return readable(outputs) if cites(outputs) and is_adapters(self, messages) else outputs

    # DSPy's callbacks are told of the messages as they were given, not of those that are sent.
    @with_callbacks  # type: ignore[untyped-decorator]
    def _call_packed(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        sent, given = self._packed(messages, kwargs)
        with standing_for(self, messages, sent):
            return unwrap(dspy.LM.__call__)(self, prompt, messages=sent, **given)

    @with_callbacks  # type: ignore[untyped-decorator]
    async def _acall_packed(
        self, prompt: Any = None, *, messages: Any = None, **kwargs: Any
    ) -> Any:
        sent, given = self._packed(messages, kwargs)
        with standing_for(self, messages, sent):
            return await unwrap(dspy.LM.acall)(self, prompt, messages=sent, **given)

    def _packed(self, messages: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        metadata = keywords.get("metadata", self.kwargs.get("metadata"))
        messages, metadata = packed(messages, metadata)
        return messages, {**keywords, "metadata": metadata}

    def _with_one_limit(self, keywords: dict[str, Any]) -> dict[str, Any]:
        """A call's keywords; the limit in them takes the LM's own away, whatever its name."""
        limit = limit_of(keywords)
        if limit is None:
            return keywords
        default = [each for each in LIMITS if self.kwargs.get(each) is not None]
        return {**keywords, **dict.fromkeys(default), limit: keywords[limit]}

    def update_history(self, entry: dict[str, Any]) -> None:
        """Remember a call as it was made, with its citations whole."""
        if cites(entry["outputs"]):
            written_out(entry)
        if "metadata" in entry["kwargs"]:
            kwargs = dict(entry["kwargs"])
            if turns := unpacked(kwargs):
                messages = with_turns(entry["messages"], turns)
                entry = {**entry, "messages": messages, "kwargs": kwargs}
        super().update_history(entry)

    @property
    def gateway(self) -> gateway.LM:
        """The LM of lmgateway that is called."""
        lm: gateway.LM = self.engine.lm
        return lm

    @door
    def copy(self, **changes: Any) -> Self:
        """A changed LM. Takes DSPy's own keywords, generation parameters, and what get_lm takes.

        Copies share their connections, unless ``model``, a setting or a core option is changed.
        """
        changes, old = _with_headers(changes), self.engine
        limit = limit_of(changes)
        if limit is not None:
            changes = {**changes, **dict.fromkeys(LIMITS), limit: changes[limit]}
        ours = {each: value for each, value in changes.items() if self._is_ours(each)}
        renamed = limit is not None and limit != old.limit and changes[limit] is not None
        if not (ours or renamed) or "engine" in changes:
            return super().copy(**changes)  # type: ignore[no-any-return]
        lm = self.gateway.copy(**ours) if ours else self.gateway
        named = (lm.provider, lm.model) if "model" in ours else old.named
        engine, async_engine = _engines(
            lm, named, old.supports, limit if renamed and limit else old.limit
        )
        rest = {each: value for each, value in changes.items() if each not in ours}
        rest |= {"engine": engine, "async_engine": async_engine, "model": engine.model}
        return super().copy(**rest)  # type: ignore[no-any-return]

    def _is_ours(self, name: str) -> bool:
        if name == "model":
            return True
        return name not in CARRIED and name not in _DSPY and not hasattr(self, name)

    @classmethod
    def load_state(cls, state: dict[str, Any], *, allow_custom_lm_class: bool = False) -> LM:
        """The LM that ``dump_state`` described. Its name is resolved again, in this process.

        ``dump_state`` is DSPy's, and holds no secret. DSPy loads a program with it by
        ``program.load(path, allow_unsafe_lm_state=True)``, as it does any class not its own.
        """
        engine = Engine.load_state(state["engine"]["state"])
        known = {each: value for each, value in state.items() if each in _SAVED | CARRIED}
        given = {each: value for each, value in known.items() if value is not None}
        if "prompt_cache" in state and state["prompt_cache"] is not None:
            given["prompt_cache"] = lm15.CacheConfig(**state["prompt_cache"])
        lm = LM(engine.lm, supports=engine.supports, **given)
        for each in (lm.engine, lm._async_engine_spec):
            each.named, each.limit = engine.named, engine.limit
        return lm

    def __repr__(self) -> str:
        return f"<LM {getattr(self, 'model', None)!r}>"  # it may not have come so far


class Anyscale(LM):
    """``dspy.Anyscale`` as DSPy 2.4 had it, for programs that were written for it.

    Args:
        model: The model, as the service names it.
        api_base: The service's URL; else ``ANYSCALE_API_BASE``.
        api_key: Its token; else ``ANYSCALE_API_KEY``.
        **kwargs: As for LM. As in DSPy 2.4, ``temperature`` is 0.0 unless it is given.
    """

    @door
    def __init__(
        self, model: str, api_base: str | None = None, api_key: str | None = None, **kwargs: Any
    ) -> None:
        kwargs = {"temperature": 0.0, **kwargs}
        super().__init__("anyscale", model=model, api_base=api_base, api_key=api_key, **kwargs)


def _resolved(name: str | gateway.LM | None, model: str | None, keywords: Any) -> gateway.LM:
    """The LM to call. What DSPy does by itself is turned off in it, unless it was asked for."""
    if isinstance(name, gateway.LM):
        changes = keywords if model is None else {"model": model, **keywords}
        return name.copy(**changes) if changes else name
    lm = gateway.get_lm(name, model=model, **keywords)
    asked = keywords.keys() | gateway.spec_of(lm).selection.keywords.keys()
    off = {each: value for each, value in _OFF.items() if each not in asked}
    return lm.copy(**off) if off else lm


def _engines(
    lm: gateway.LM, named: Named, supports: lm15.ModelSupport, limit: str = "max_tokens"
) -> tuple[Engine, AsyncEngine]:
    refused: set[str] = set()  # both ask the same host
    return (
        Engine(lm, named, supports, limit, refused),
        AsyncEngine(lm, named, supports, limit, refused),
    )


def _with_headers(keywords: dict[str, Any]) -> dict[str, Any]:
    """Keywords in which ``extra_headers``, as ``dspy.LM`` calls them, are ``headers``."""
    if "extra_headers" not in keywords:
        return keywords
    keywords = dict(keywords)
    extra, headers = keywords.pop("extra_headers"), keywords.get("headers")
    if isinstance(extra, Mapping) and isinstance(headers, Mapping):
        extra = {**headers, **extra}
    return keywords if extra is None else {**keywords, "headers": extra}
