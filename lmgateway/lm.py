"""LM: a model of a provider, ready to be called, streamed and awaited."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from ._call import flow as flows
from ._call import kinds, signatures
from ._call import spec as specs
from ._call.allowlist import check_row
from ._call.faults import complain
from ._drive.gather import REQUESTS_IN_FLIGHT, Batch, Input
from ._drive.loops import arun, run
from ._drive.streams import AStream, Stream, show_delta, show_text
from ._guard.tracebacks import conceal, door
from ._records.history import History, show
from ._transports.leases import Leases, closed
from .types import (
    UNSET,
    Completion,
    Count,
    Embeddings,
    Flow,
    Messages,
    ModelCard,
    Options,
    Reranked,
)

if TYPE_CHECKING:
    from types import TracebackType

    from pydantic import BaseModel

    from ._call.embedding import Embedding
    from ._call.spec import Spec
    from ._layers.context import Call, EffectLayer

__all__ = ["LM", "get_lm", "lm_from_state"]

Declared = TypeVar("Declared", bound=Callable[..., Any])
Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


def _shown_as(declared: Declared) -> Callable[[Callable[..., Any]], Declared]:
    """Give a function the signature of another for whoever looks: a checker, an editor, inspect.

    A call goes to the function itself; nothing stands in between.
    """

    def decorate(function: Any) -> Declared:
        function.__wrapped__ = declared
        named: Declared = function
        return named

    return decorate


def _taking(
    declared: Callable[Parameters, Any],
) -> Callable[[Callable[..., Returned]], Callable[Parameters, Returned]]:
    """As ``_shown_as``, but the function's own return type is shown: the other knows no LM."""

    def decorate(function: Any) -> Callable[Parameters, Returned]:
        declared.__annotations__["return"] = function.__annotations__["return"]
        shown: Callable[Parameters, Returned] = _shown_as(declared)(function)
        return shown

    return decorate


@_taking(signatures.get_lm)
@door
def get_lm(name: str | None = None, model: str | None = None, **keywords: Any) -> LM:
    """Get a language model by name; no request is sent and nothing is opened.

    Args:
        name: A provider (``"anyscale"``), a provider and a model (``"anyscale/meta-llama/..."``),
            or a name from ``lmgateway.toml``; without one, LMGATEWAY_MODEL or the file's default.
        model: The model; ``name`` is then a provider.
        **keywords: Core options (see ``lmgateway.types.Options``), ``config`` (the path of a
            configuration file, instead of the one that would be found), the provider's
            settings (``api_base``, ``api_key``, ...), ``system`` and generation parameters, which
            are the defaults of every call.

    Raises:
        UnknownProviderError: Nothing of that name is installed or configured.
        InputError: A keyword that nobody knows, or a value that means nothing.
        ConfigError: The configuration is wrong. A missing key or base URL is no error yet.
    """
    return LM(specs.resolve(name, model, _without_unset(keywords)))


class LM:
    """A model of a provider. Its configuration never changes; ``copy`` gives a changed one.

    It may be shared by threads and event loops.
    """

    _spec: Spec
    _connections: Leases
    _closed: bool
    _finalizer: weakref.finalize[Any, LM]
    _history: History

    def __init__(
        self,
        spec: Spec,
        history: History | None = None,
        connections: Leases | None = None,
        *,
        tells_plugin: bool = True,
    ) -> None:
        connections = Leases() if connections is None else connections
        set_ = object.__setattr__
        set_(self, "_spec", spec)
        set_(self, "_connections", connections)
        set_(self, "_closed", False)
        set_(self, "_history", History(spec.options.history) if history is None else history)
        to_tell = spec if tells_plugin else None
        set_(self, "_finalizer", weakref.finalize(self, _let_go, to_tell, connections))
        self._finalizer.atexit = False

    # -- what it is ----------------------------------------------------------------------------

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self._spec.selection.provider

    @property
    def model(self) -> str:
        """The model's name, as the service knows it."""
        return self._spec.model

    @property
    def params(self) -> dict[str, Any]:
        """The default generation parameters."""
        return dict(self._spec.params)

    @property
    def options(self) -> Options:
        """The core options."""
        return self._spec.options

    @property
    def settings(self) -> BaseModel | None:
        """The provider's settings; None if it has none."""
        return self._spec.settings.values if self._spec.settings else None

    @property
    def history(self) -> History:
        """The last calls, oldest first, as copies.

        Each is a dict: ``kind``, ``prompt``, ``params``, ``completion``, ``embeddings`` or
        ``reranked``, ``error``, ``seconds`` and ``time``.
        """
        return self._history

    # -- one answer ----------------------------------------------------------------------------

    @_shown_as(signatures.__call__)
    def __call__(
        self, prompt: str | None = None, *, messages: Messages | None = None, **keywords: Any
    ) -> list[str]:
        """Answer a prompt or messages with the texts of the choices.

        Takes and raises what ``complete`` does.
        """
        try:
            completion = self.complete(prompt, messages=messages, **keywords)
            return [choice["text"] for choice in completion["choices"]]
        except BaseException as error:
            conceal(error)
            raise

    @_shown_as(signatures.complete)
    def complete(
        self,
        prompt: str | None = None,
        *,
        messages: Messages | None = None,
        schema: Any = None,
        **keywords: Any,
    ) -> Completion:
        """Answer a prompt or messages, with everything the service said.

        Args:
            prompt: The prompt; or else:
            messages: A conversation, each turn a dict with ``role`` and ``content``.
            schema: A pydantic model (or type, or JSON schema as a dict) that the answer must fit;
                the object is in each choice's ``parsed``. A text is never evaluated.
            **keywords: Generation parameters, core options and settings, for this call.

        Raises:
            InputError, UnsupportedError: Before any I/O.
            LMGatewayError: Anything else; see ``lmgateway.errors`` for the tree.
        """
        try:
            flow, call = self._flow(prompt, messages, schema, keywords)
            return run(flow, self._connections.blocking(call), call.deadline)
        except BaseException as error:
            conceal(error)
            raise

    @_shown_as(signatures.acall)
    async def acall(
        self, prompt: str | None = None, *, messages: Messages | None = None, **keywords: Any
    ) -> list[str]:
        """As calling the LM, awaited."""
        try:
            completion = await self.acomplete(prompt, messages=messages, **keywords)
            return [choice["text"] for choice in completion["choices"]]
        except BaseException as error:
            conceal(error)
            raise

    @_shown_as(signatures.acomplete)
    async def acomplete(
        self,
        prompt: str | None = None,
        *,
        messages: Messages | None = None,
        schema: Any = None,
        **keywords: Any,
    ) -> Completion:
        """As ``complete``, awaited."""
        try:
            flow, call = self._flow(prompt, messages, schema, keywords)
            return await arun(flow, self._connections.awaiting(call), call.deadline)
        except BaseException as error:
            conceal(error)
            raise

    # -- piece by piece ------------------------------------------------------------------------

    @_shown_as(signatures.stream)
    @door
    def stream(
        self,
        prompt: str | None = None,
        *,
        messages: Messages | None = None,
        schema: Any = None,
        events: bool = False,
        **keywords: Any,
    ) -> Stream[Any]:
        """Answer piece by piece: an iterator of texts, whose ``completion`` is the whole answer.

        With ``events=True`` the pieces are deltas, of every choice. Leave it early with
        ``close()`` or ``with``. ``messages=`` and all other keywords, and the errors, are those
        of ``complete``.
        """
        flow, call = self._flow(prompt, messages, schema, keywords, stream=True)
        show: Any = show_delta if events else show_text
        return Stream(self._holding_self(flow), self._connections.blocking(call), call, show)

    @_shown_as(signatures.astream)
    @door
    def astream(
        self,
        prompt: str | None = None,
        *,
        messages: Messages | None = None,
        schema: Any = None,
        events: bool = False,
        **keywords: Any,
    ) -> AStream[Any]:
        """As ``stream``, for ``async for``."""
        flow, call = self._flow(prompt, messages, schema, keywords, stream=True)
        show: Any = show_delta if events else show_text
        return AStream(self._holding_self(flow), self._connections.awaiting(call), call, show)

    # -- many at once --------------------------------------------------------------------------

    @_shown_as(signatures.batch)
    @door
    def batch(
        self,
        inputs: Iterable[Input],
        *,
        concurrency: int = 100,
        return_exceptions: bool = False,
        progress: bool = False,
        **keywords: Any,
    ) -> list[Any]:
        """Answer many inputs at once, in threads: a list of Completions in their order.

        Works inside a running event loop too, and blocks it: what a task of that loop is being
        answered is then asked once more, and a place in flight that such a task holds is not
        waited for, but raised as a RequestTimeoutError at once. ``abatch`` shares and waits.

        Args:
            inputs: Prompts, message lists or dicts; any iterable, read as needed. A dict says what
                to ask: ``prompt`` or ``messages``, ``system``, ``schema``, ``sample`` and
                generation parameters; settings and core options are for all, as keywords.
            concurrency: Calls in flight at most.
            return_exceptions: Put an LMGatewayError into the list in place of a Completion;
                otherwise the first one is raised, and no further call is begun.
            progress: Show a bar (needs rich).
            **keywords: As for ``complete``, for every input that does not say otherwise.
        """
        self._check_open()
        work = Batch(
            inputs,
            keywords,
            self._checking(keywords),
            concurrency=concurrency,
            return_exceptions=return_exceptions,
            progress=progress,
        )
        return work.run(self.complete)

    @_shown_as(signatures.abatch)
    @door
    async def abatch(
        self,
        inputs: Iterable[Input],
        *,
        concurrency: int = 100,
        return_exceptions: bool = False,
        progress: bool = False,
        **keywords: Any,
    ) -> list[Any]:
        """As ``batch``, in tasks."""
        self._check_open()
        work = Batch(
            inputs,
            keywords,
            self._checking(keywords),
            concurrency=concurrency,
            return_exceptions=return_exceptions,
            progress=progress,
        )
        return await work.arun(self.acomplete)

    # -- beside answers ------------------------------------------------------------------------

    @_shown_as(signatures.preview)
    @door
    def preview(
        self,
        prompt: str | None = None,
        *,
        messages: Messages | None = None,
        schema: Any = None,
        stream: bool = False,
        **keywords: Any,
    ) -> dict[str, Any]:
        """Show the request that a call would send, secrets masked; nothing is sent.

        Returns ``method``, ``url``, ``headers`` and ``json`` of the first request, or what a
        plugin would run in the process.
        """
        from ._call.preview import first_exchange

        spec = self._spec.vary(keywords)
        request, call = flows.prepare(spec, prompt, messages, schema, stream=stream)
        return first_exchange(spec, call, request)

    @_shown_as(signatures.models)
    @door
    def models(self, **keywords: Any) -> list[ModelCard]:
        """List the models that the service offers; takes core options and settings."""
        flow, call = self._listing(keywords)
        answer = run(flow, self._connections.blocking(call), call.deadline)
        return answer["models"]  # type: ignore[no-any-return]

    @_shown_as(signatures.amodels)
    @door
    async def amodels(self, **keywords: Any) -> list[ModelCard]:
        """As ``models``, awaited."""
        flow, call = self._listing(keywords)
        answer = await arun(flow, self._connections.awaiting(call), call.deadline)
        return answer["models"]  # type: ignore[no-any-return]

    @_shown_as(signatures.embed)
    @door
    def embed(
        self,
        texts: str | Iterable[str],
        *,
        concurrency: int = REQUESTS_IN_FLIGHT,
        progress: bool = False,
        **params: Any,
    ) -> Embeddings:
        """Embed texts: a vector for each, in their order.

        The texts go out in as many requests as the host's limits need, several at once; equal ones
        go out once. With ``cache=True`` each text is stored by itself, so that only new ones are
        asked for the next time. If a request fails, its error is raised and says which texts it was
        about; what others have brought by then is in the cache.

        Args:
            texts: One or more: a text, or any iterable of texts (a list, a generator, a column).
                Where the model takes images, a text may be a list of parts, as in a message.
            concurrency: Requests in flight at most.
            progress: Show a bar (needs rich).
            **params: What shapes vectors (``dimensions``; ``input_type``, ``"query"`` or
                ``"document"``; ``user``, ...; the rest goes into ``extra_body``), and core options
                and settings, as for ``complete``; ``timeout`` is for each request. Vectors of two
                models do not compare: of the LM's fallbacks only those with the same model are
                asked, and any that are given here.

        Returns:
            ``embeddings`` is a ``lmgateway.types.Vectors``: a sequence of sequences of floats of 32
            bits, which ``np.asarray`` gives as an array without a copy.

        Raises:
            InputError: What cannot be embedded, by its place: ``texts[17]``. Before any I/O.
            LMGatewayError: Anything else; see ``lmgateway.errors`` for the tree.
        """
        work = self._embedding(texts, params, concurrency, progress)
        return work.run(self._connections)

    @_shown_as(signatures.aembed)
    @door
    async def aembed(
        self,
        texts: str | Iterable[str],
        *,
        concurrency: int = REQUESTS_IN_FLIGHT,
        progress: bool = False,
        **params: Any,
    ) -> Embeddings:
        """As ``embed``, awaited."""
        work = self._embedding(texts, params, concurrency, progress)
        return await work.arun(self._connections)

    @_shown_as(signatures.rerank)
    @door
    def rerank(self, query: str, documents: Sequence[str], **params: Any) -> Reranked:
        """Order documents by how well they answer a query, the best first.

        Args:
            query: What is looked for.
            documents: One or more texts.
            **params: ``top_n`` and what else shapes the order (the rest goes into ``extra_body``),
                and core options and settings, as for ``complete``. Scores of two models do not
                compare: of the LM's fallbacks only those with the same model are asked, and any
                that are given here.
        """
        flow, call = self._ranking(query, documents, params)
        return run(flow, self._connections.blocking(call), call.deadline)

    @_shown_as(signatures.arerank)
    @door
    async def arerank(self, query: str, documents: Sequence[str], **params: Any) -> Reranked:
        """As ``rerank``, awaited."""
        flow, call = self._ranking(query, documents, params)
        return await arun(flow, self._connections.awaiting(call), call.deadline)

    @_shown_as(signatures.count)
    @door
    def count(
        self, prompt: str | None = None, *, messages: Messages | None = None, **keywords: Any
    ) -> Count:
        """Count the tokens that a completion would read, as the service counts them.

        Takes what ``complete`` does, but for ``schema``: the system text and ``tools`` count too.
        """
        flow, call = self._counting(prompt, messages, keywords)
        return run(flow, self._connections.blocking(call), call.deadline)

    @_shown_as(signatures.acount)
    @door
    async def acount(
        self, prompt: str | None = None, *, messages: Messages | None = None, **keywords: Any
    ) -> Count:
        """As ``count``, awaited."""
        flow, call = self._counting(prompt, messages, keywords)
        return await arun(flow, self._connections.awaiting(call), call.deadline)

    def inspect_history(self, n: int = 1) -> None:
        """Print the last ``n`` calls readably."""
        show(list(self._history), n)

    # -- its life ------------------------------------------------------------------------------

    @_taking(signatures.copy)
    @door
    def copy(self, **changes: Any) -> Self:
        """An LM with some keywords changed; it has a history and connections of its own.

        Takes what ``get_lm`` takes, ``name`` and ``model`` included. With the name of another
        provider, what was meant for the old one stays behind, unless it is given here: its
        credentials, host, headers, authorities, ``extra_body`` and settings.
        """
        self._check_open()
        return type(self)(self._spec.with_(_without_unset(changes)))

    def close(self) -> None:
        """Give the connections back; a closed LM raises when it is called."""
        object.__setattr__(self, "_closed", True)
        self._finalizer()

    async def aclose(self) -> None:
        """As ``close``."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an LM's configuration does not change: use lm.copy({name}=...)")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        from ._call.pickling import to_json

        return lm_from_state, (to_json(self._spec),)

    def __repr__(self) -> str:
        return f"<LM {self.provider!r} model={self.model!r}>"

    def _checking(self, keywords: Mapping[str, Any]) -> Callable[[Mapping[Any, Any], str], None]:
        """What checks the rows of a batch with these keywords for all."""
        mode = {name: keywords[name] for name in ("unsupported",) if name in keywords}
        spec = self._spec.vary(mode)
        return lambda row, place: check_row(row, spec, place, types=True)

    def _check_open(self) -> None:
        if self._closed:
            raise closed()

    def _flow(
        self,
        prompt: object,
        messages: object,
        schema: object,
        keywords: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> tuple[Flow[Completion], Call]:
        self._check_open()
        spec = self._spec.vary(keywords)
        request, call = flows.prepare(spec, prompt, messages, schema, stream=stream)
        return flows.compose(spec, call, request, self._history), call

    def _holding_self(self, flow: Flow[Completion]) -> Flow[Completion]:
        """Keep this LM until a stream's flow has ended, which may begin when nobody else does."""
        self._check_open()
        return (yield from flow)

    def _listing(self, keywords: Mapping[str, Any]) -> tuple[Flow[Any], Call]:
        self._check_open()
        return flows.ask(kinds.MODELS, self._spec, keywords, self._history)

    def _embedding(
        self, texts: object, keywords: Mapping[str, Any], concurrency: int, progress: bool
    ) -> Embedding:
        self._check_open()
        from ._call.embedding import Embedding  # most programs embed nothing

        return Embedding(self._spec, keywords, self._history, texts, concurrency, progress)

    def _counting(
        self, prompt: object, messages: object, keywords: Mapping[str, Any]
    ) -> tuple[Flow[Count], Call]:
        self._check_open()
        spec = self._spec.vary(keywords)
        kind = flows.kind_for(kinds.COUNT, keywords)
        request, call = flows.prepare(spec, prompt, messages, kind=kind)
        return flows.compose(spec, call, request, self._history), call

    def _ranking(
        self, query: object, documents: object, keywords: Mapping[str, Any]
    ) -> tuple[Flow[Reranked], Call]:
        from ._call.validation import check_documents, check_query

        self._check_open()
        asked = check_query(query), check_documents(documents)
        return flows.ask(kinds.RERANK, self._spec, keywords, self._history, *asked)


vars(signatures).update(LM=LM, Self=Self)  # where typing.get_type_hints looks for them


def _without_unset(keywords: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in keywords.items() if value is not UNSET}


def spec_of(lm: LM) -> Spec:
    """The configuration of an LM, for the rooms that are built on top of it."""
    return lm._spec


def derived(lm: LM, *layers: EffectLayer, connections: Leases | None = None) -> LM:
    """The same LM with further layers next to the wire, and without a history.

    It must be closed before the LM that it comes from. Its plugin is not told when it is closed:
    the settings are those of the other LM.

    Args:
        lm: The LM; it must stay open meanwhile.
        *layers: See ``Spec.with_layers``.
        connections: Instead of some of its own, which lead to the network.
    """
    spec = lm._spec.with_layers(*layers)
    return LM(spec, History(0), connections, tells_plugin=False)


def _let_go(spec: Spec | None, connections: Leases) -> None:
    """What happens when an LM is closed or dropped, once."""
    connections.close()
    for each in (spec, *spec.alternatives.values()) if spec is not None else ():
        if "lmgateway_close" in each.plugin.hooks and each.settings is not None:
            try:
                each.plugin.hook.lmgateway_close(settings=each.settings.values)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                complain(error, each.endpoint, each.endpoint.secrets(), "while an LM was closed")


def lm_from_state(state: Mapping[str, Any]) -> LM:
    """The LM that a pickle describes: how ``pickle`` makes it anew.

    The state is plain JSON, and holds none of the secrets that the LM was given.

    Raises:
        InputError: Another version of lmgateway wrote it.
        PluginError: The plugin is not installed here, or does not load.
    """
    from ._call.pickling import from_json

    return LM(from_json(state))
