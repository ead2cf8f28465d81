"""The plugin contract: the hooks a provider may implement, version 2.

A provider is a module with functions marked ``@hookimpl``, named by an entry point of the group
``lmgateway.providers``; the entry point's name is the provider's name. A hook may take fewer
arguments than its spec here, so this contract can grow without breaking anyone. A hook that is not
here is refused, as it may be misspelt, unless it is marked ``@hookimpl(optionalhook=True)``: so a
plugin may serve newer cores too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

    from .types import (
        Answer,
        Count,
        Embeddings,
        EmbedRequest,
        Flow,
        Info,
        ModelCard,
        Request,
        Reranked,
        RerankRequest,
    )

__all__ = [
    "API_VERSION",
    "GROUP",
    "PROJECT",
    "hookimpl",
    "lmgateway_close",
    "lmgateway_complete",
    "lmgateway_count",
    "lmgateway_embed",
    "lmgateway_info",
    "lmgateway_models",
    "lmgateway_rerank",
    "lmgateway_settings",
    "lmgateway_stream",
]

PROJECT = "lmgateway"
GROUP = "lmgateway.providers"
API_VERSION = 2

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a provider plugin as the implementation of the hook it is named after."""


@hookspec(firstresult=True)
def lmgateway_complete(request: Request, settings: BaseModel) -> Flow[Answer] | Answer:  # type: ignore[empty-body]
    """Answer a request. The only required hook.

    Either a generator that yields effects and returns the Answer, or a function that returns
    it. ``settings`` is an instance of what ``lmgateway_settings`` named; a required field for
    which no source has a value is there all the same, and raises MissingCredentialError when it
    is needed to send something.
    """


@hookspec(firstresult=True)
def lmgateway_stream(request: Request, settings: BaseModel) -> Flow[Answer]:  # type: ignore[empty-body]
    """Answer a request piece by piece: ``yield Emit(...)`` each, and return the Answer."""


@hookspec(firstresult=True)
def lmgateway_embed(request: EmbedRequest, settings: BaseModel) -> Flow[Embeddings] | Embeddings:  # type: ignore[empty-body]
    """Embed texts: one vector for each, in their order.

    The texts are no more than ``Info.embed`` allows: the core makes parts of what the user gave,
    and hands over each text once. A vector is a list of finite numbers; all are of one length. An
    array (of numpy, say) is taken as well, and all of them become a ``lmgateway.types.Vectors``,
    which is also the quickest to give.
    """


@hookspec(firstresult=True)
def lmgateway_rerank(request: RerankRequest, settings: BaseModel) -> Flow[Reranked] | Reranked:  # type: ignore[empty-body]
    """Order documents by how well they answer a query.

    A result for each document, or as many as ``params["top_n"]`` says; each names a document once.
    """


@hookspec(firstresult=True)
def lmgateway_count(request: Request, settings: BaseModel) -> Flow[Count] | Count:  # type: ignore[empty-body]
    """Count the tokens of a prompt or a conversation, with its system text and tools.

    The request is one of ``lmgateway_complete``; nothing is to be answered.
    """


@hookspec(firstresult=True)
def lmgateway_models(settings: BaseModel) -> Flow[Sequence[ModelCard]] | Sequence[ModelCard]:  # type: ignore[empty-body]
    """List the models that the service offers: dicts, each with an ``id``."""


@hookspec(firstresult=True)
def lmgateway_settings() -> type[BaseModel]:  # type: ignore[empty-body]
    """Name the pydantic model of the plugin's settings; without it the plugin has none.

    The core fills it: argument > environment (``<PROVIDER>_<FIELD>``) > ``.env`` > configuration
    file > the field's default.
    """


@hookspec(firstresult=True)
def lmgateway_info(settings: BaseModel | None, model: str | None) -> Info:  # type: ignore[empty-body]
    """Say what the plugin can do; without it: API 1, a bare prompt, no parameters.

    When the plugin is loaded it is called with None and None, and says what all its models can do
    together. A hook that takes an argument is asked again for each LM, with its settings and its
    model, and says what that model can do; ``api`` and ``default_model`` count as said at first.
    It does no I/O, and says the same to the same question. Where a setting that it needs has no
    value, MissingCredentialError goes through it, and then the first answer counts.
    """


@hookspec(firstresult=True)
def lmgateway_close(settings: BaseModel) -> None:
    """Let go of what was kept for these settings (a loaded model): their LM was closed.

    Each LM has an instance of its own. It is called once, also when an LM is dropped unclosed.
    What it raises becomes a RuntimeWarning.
    """
