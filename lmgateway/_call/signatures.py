"""The signatures of ``get_lm`` and of LM's methods, for editors and type checkers.

Written by ``tests/typing/signatures.py``: change the table in ``parameters.py`` and run it.
Nothing here is ever called.
"""

# fmt: off
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, overload

from .._drive.gather import Input
from .._drive.streams import AStream, Stream
from ..errors import LMGatewayError
from ..types import (
    UNSET,
    Completion,
    Count,
    Delta,
    Embeddings,
    Messages,
    ModelCard,
    Parsed,
    Reranked,
    Schema,
    Unset,
)

if TYPE_CHECKING:
    from pydantic import SecretStr



def get_lm(
    name: str | None = None, model: str | None = None, *,
    config: str | PathLike[str] | Unset | None = UNSET, api_base: str | Unset | None = UNSET,
    api_key: str | SecretStr | Unset | None = UNSET,
    headers: Mapping[str, str | SecretStr] | Unset | None = UNSET,
    verify: bool | str | PathLike[str] | Unset = UNSET, history: int | Unset = UNSET,
    timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
    idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
    top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
    min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
    max_completion_tokens: int | Unset | None = UNSET,
    stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
    seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
    frequency_penalty: float | Unset | None = UNSET,
    repetition_penalty: float | Unset | None = UNSET,
    logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
    logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
    tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
    tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
    parallel_tool_calls: bool | Unset | None = UNSET,
    response_format: Mapping[str, Any] | Unset | None = UNSET,
    reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
    extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
) -> Any:
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
    raise NotImplementedError

if TYPE_CHECKING:
    @overload
    def __call__(
        self: Any, prompt: str, *, messages: None = None, schema: Schema[Parsed] = None,
        timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
        idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> list[str]: ...
    @overload
    def __call__(
        self: Any, prompt: str | None = None, *, messages: Messages | None,
        schema: Schema[Parsed] = None, timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> list[str]: ...

def __call__(
    self: Any, prompt: str | None = None, *, messages: Messages | None = None,
    schema: Schema[Any] = None, timeout: float | Unset | None = UNSET,
    connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
    retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
    top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
    min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
    max_completion_tokens: int | Unset | None = UNSET,
    stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
    seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
    frequency_penalty: float | Unset | None = UNSET,
    repetition_penalty: float | Unset | None = UNSET,
    logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
    logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
    tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
    tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
    parallel_tool_calls: bool | Unset | None = UNSET,
    response_format: Mapping[str, Any] | Unset | None = UNSET,
    reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
    extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
) -> list[str]:
    """Answer a prompt or messages with the texts of the choices.

    Takes and raises what ``complete`` does.
    """
    raise NotImplementedError

if TYPE_CHECKING:
    @overload
    async def acall(
        self: Any, prompt: str, *, messages: None = None, schema: Schema[Parsed] = None,
        timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
        idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> list[str]: ...
    @overload
    async def acall(
        self: Any, prompt: str | None = None, *, messages: Messages | None,
        schema: Schema[Parsed] = None, timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> list[str]: ...

async def acall(
    self: Any, prompt: str | None = None, *, messages: Messages | None = None,
    schema: Schema[Any] = None, timeout: float | Unset | None = UNSET,
    connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
    retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
    top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
    min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
    max_completion_tokens: int | Unset | None = UNSET,
    stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
    seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
    frequency_penalty: float | Unset | None = UNSET,
    repetition_penalty: float | Unset | None = UNSET,
    logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
    logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
    tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
    tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
    parallel_tool_calls: bool | Unset | None = UNSET,
    response_format: Mapping[str, Any] | Unset | None = UNSET,
    reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
    extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
) -> list[str]:
    """As calling the LM, awaited."""
    raise NotImplementedError

if TYPE_CHECKING:
    @overload
    def complete(
        self: Any, prompt: str, *, messages: None = None, schema: Schema[Parsed] = None,
        timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
        idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> Completion[Parsed]: ...
    @overload
    def complete(
        self: Any, prompt: str | None = None, *, messages: Messages | None,
        schema: Schema[Parsed] = None, timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> Completion[Parsed]: ...

def complete(
    self: Any, prompt: str | None = None, *, messages: Messages | None = None,
    schema: Schema[Any] = None, timeout: float | Unset | None = UNSET,
    connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
    retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
    top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
    min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
    max_completion_tokens: int | Unset | None = UNSET,
    stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
    seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
    frequency_penalty: float | Unset | None = UNSET,
    repetition_penalty: float | Unset | None = UNSET,
    logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
    logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
    tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
    tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
    parallel_tool_calls: bool | Unset | None = UNSET,
    response_format: Mapping[str, Any] | Unset | None = UNSET,
    reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
    extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
) -> Completion[Any]:
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
    raise NotImplementedError

if TYPE_CHECKING:
    @overload
    async def acomplete(
        self: Any, prompt: str, *, messages: None = None, schema: Schema[Parsed] = None,
        timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
        idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> Completion[Parsed]: ...
    @overload
    async def acomplete(
        self: Any, prompt: str | None = None, *, messages: Messages | None,
        schema: Schema[Parsed] = None, timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> Completion[Parsed]: ...

async def acomplete(
    self: Any, prompt: str | None = None, *, messages: Messages | None = None,
    schema: Schema[Any] = None, timeout: float | Unset | None = UNSET,
    connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
    retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
    top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
    min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
    max_completion_tokens: int | Unset | None = UNSET,
    stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
    seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
    frequency_penalty: float | Unset | None = UNSET,
    repetition_penalty: float | Unset | None = UNSET,
    logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
    logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
    tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
    tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
    parallel_tool_calls: bool | Unset | None = UNSET,
    response_format: Mapping[str, Any] | Unset | None = UNSET,
    reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
    extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
) -> Completion[Any]:
    """As ``complete``, awaited."""
    raise NotImplementedError

if TYPE_CHECKING:
    @overload
    def stream(
        self: Any, prompt: str, *, messages: None = None, schema: Schema[Parsed] = None,
        events: Literal[False] = False, timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> Stream[str, Parsed]: ...
    @overload
    def stream(
        self: Any, prompt: str, *, messages: None = None, schema: Schema[Parsed] = None,
        events: Literal[True], timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> Stream[Delta, Parsed]: ...
    @overload
    def stream(
        self: Any, prompt: str, *, messages: None = None, schema: Schema[Parsed] = None,
        events: bool, timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
        idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> Stream[str, Parsed] | Stream[Delta, Parsed]: ...
    @overload
    def stream(
        self: Any, prompt: str | None = None, *, messages: Messages | None,
        schema: Schema[Parsed] = None, events: Literal[False] = False,
        timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
        idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> Stream[str, Parsed]: ...
    @overload
    def stream(
        self: Any, prompt: str | None = None, *, messages: Messages | None,
        schema: Schema[Parsed] = None, events: Literal[True], timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> Stream[Delta, Parsed]: ...
    @overload
    def stream(
        self: Any, prompt: str | None = None, *, messages: Messages | None,
        schema: Schema[Parsed] = None, events: bool, timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> Stream[str, Parsed] | Stream[Delta, Parsed]: ...

def stream(
    self: Any, prompt: str | None = None, *, messages: Messages | None = None,
    schema: Schema[Any] = None, events: bool = False, timeout: float | Unset | None = UNSET,
    connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
    retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
    top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
    min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
    max_completion_tokens: int | Unset | None = UNSET,
    stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
    seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
    frequency_penalty: float | Unset | None = UNSET,
    repetition_penalty: float | Unset | None = UNSET,
    logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
    logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
    tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
    tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
    parallel_tool_calls: bool | Unset | None = UNSET,
    response_format: Mapping[str, Any] | Unset | None = UNSET,
    reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
    extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
) -> Stream[str, Any] | Stream[Delta, Any]:
    """Answer piece by piece: an iterator of texts, whose ``completion`` is the whole answer.

    With ``events=True`` the pieces are deltas, of every choice. Leave it early with
    ``close()`` or ``with``. ``messages=`` and all other keywords, and the errors, are those
    of ``complete``.
    """
    raise NotImplementedError

if TYPE_CHECKING:
    @overload
    def astream(
        self: Any, prompt: str, *, messages: None = None, schema: Schema[Parsed] = None,
        events: Literal[False] = False, timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> AStream[str, Parsed]: ...
    @overload
    def astream(
        self: Any, prompt: str, *, messages: None = None, schema: Schema[Parsed] = None,
        events: Literal[True], timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> AStream[Delta, Parsed]: ...
    @overload
    def astream(
        self: Any, prompt: str, *, messages: None = None, schema: Schema[Parsed] = None,
        events: bool, timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
        idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> AStream[str, Parsed] | AStream[Delta, Parsed]: ...
    @overload
    def astream(
        self: Any, prompt: str | None = None, *, messages: Messages | None,
        schema: Schema[Parsed] = None, events: Literal[False] = False,
        timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
        idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> AStream[str, Parsed]: ...
    @overload
    def astream(
        self: Any, prompt: str | None = None, *, messages: Messages | None,
        schema: Schema[Parsed] = None, events: Literal[True], timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> AStream[Delta, Parsed]: ...
    @overload
    def astream(
        self: Any, prompt: str | None = None, *, messages: Messages | None,
        schema: Schema[Parsed] = None, events: bool, timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> AStream[str, Parsed] | AStream[Delta, Parsed]: ...

def astream(
    self: Any, prompt: str | None = None, *, messages: Messages | None = None,
    schema: Schema[Any] = None, events: bool = False, timeout: float | Unset | None = UNSET,
    connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
    retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
    top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
    min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
    max_completion_tokens: int | Unset | None = UNSET,
    stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
    seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
    frequency_penalty: float | Unset | None = UNSET,
    repetition_penalty: float | Unset | None = UNSET,
    logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
    logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
    tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
    tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
    parallel_tool_calls: bool | Unset | None = UNSET,
    response_format: Mapping[str, Any] | Unset | None = UNSET,
    reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
    extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
) -> AStream[str, Any] | AStream[Delta, Any]:
    """As ``stream``, for ``async for``."""
    raise NotImplementedError

if TYPE_CHECKING:
    @overload
    def batch(
        self: Any, inputs: Iterable[Input], *, concurrency: int = 100,
        return_exceptions: Literal[False] = False, progress: bool = False,
        schema: Schema[Parsed] = None, timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> list[Completion[Parsed]]: ...
    @overload
    def batch(
        self: Any, inputs: Iterable[Input], *, concurrency: int = 100, return_exceptions: bool,
        progress: bool = False, schema: Schema[Parsed] = None,
        timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
        idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> list[Completion[Parsed] | LMGatewayError]: ...

def batch(
    self: Any, inputs: Iterable[Input], *, concurrency: int = 100,
    return_exceptions: bool = False, progress: bool = False, schema: Schema[Any] = None,
    timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
    idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
    top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
    min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
    max_completion_tokens: int | Unset | None = UNSET,
    stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
    seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
    frequency_penalty: float | Unset | None = UNSET,
    repetition_penalty: float | Unset | None = UNSET,
    logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
    logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
    tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
    tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
    parallel_tool_calls: bool | Unset | None = UNSET,
    response_format: Mapping[str, Any] | Unset | None = UNSET,
    reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
    extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
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
    raise NotImplementedError

if TYPE_CHECKING:
    @overload
    async def abatch(
        self: Any, inputs: Iterable[Input], *, concurrency: int = 100,
        return_exceptions: Literal[False] = False, progress: bool = False,
        schema: Schema[Parsed] = None, timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> list[Completion[Parsed]]: ...
    @overload
    async def abatch(
        self: Any, inputs: Iterable[Input], *, concurrency: int = 100, return_exceptions: bool,
        progress: bool = False, schema: Schema[Parsed] = None,
        timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
        idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> list[Completion[Parsed] | LMGatewayError]: ...

async def abatch(
    self: Any, inputs: Iterable[Input], *, concurrency: int = 100,
    return_exceptions: bool = False, progress: bool = False, schema: Schema[Any] = None,
    timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
    idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
    top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
    min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
    max_completion_tokens: int | Unset | None = UNSET,
    stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
    seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
    frequency_penalty: float | Unset | None = UNSET,
    repetition_penalty: float | Unset | None = UNSET,
    logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
    logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
    tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
    tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
    parallel_tool_calls: bool | Unset | None = UNSET,
    response_format: Mapping[str, Any] | Unset | None = UNSET,
    reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
    extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
) -> list[Any]:
    """As ``batch``, in tasks."""
    raise NotImplementedError

if TYPE_CHECKING:
    @overload
    def preview(
        self: Any, prompt: str, *, messages: None = None, schema: Schema[Parsed] = None,
        stream: bool = False, timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> dict[str, Any]: ...
    @overload
    def preview(
        self: Any, prompt: str | None = None, *, messages: Messages | None,
        schema: Schema[Parsed] = None, stream: bool = False, timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> dict[str, Any]: ...

def preview(
    self: Any, prompt: str | None = None, *, messages: Messages | None = None,
    schema: Schema[Any] = None, stream: bool = False, timeout: float | Unset | None = UNSET,
    connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
    retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
    top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
    min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
    max_completion_tokens: int | Unset | None = UNSET,
    stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
    seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
    frequency_penalty: float | Unset | None = UNSET,
    repetition_penalty: float | Unset | None = UNSET,
    logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
    logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
    tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
    tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
    parallel_tool_calls: bool | Unset | None = UNSET,
    response_format: Mapping[str, Any] | Unset | None = UNSET,
    reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
    extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
) -> dict[str, Any]:
    """Show the request that a call would send, secrets masked; nothing is sent.

    Returns ``method``, ``url``, ``headers`` and ``json`` of the first request, or what a
    plugin would run in the process.
    """
    raise NotImplementedError

def models(
    self: Any, *, timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
    idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    **params: Any,
) -> list[ModelCard]:
    """List the models that the service offers; takes core options and settings."""
    raise NotImplementedError

async def amodels(
    self: Any, *, timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
    idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    **params: Any,
) -> list[ModelCard]:
    """As ``models``, awaited."""
    raise NotImplementedError

def embed(
    self: Any, texts: str | Iterable[str], *, concurrency: int = 4, progress: bool = False,
    timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
    idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    dimensions: int | Unset | None = UNSET, encoding_format: str | Unset | None = UNSET,
    input_type: str | Unset | None = UNSET, truncate: str | Unset | None = UNSET,
    user: str | Unset | None = UNSET, extra_body: Mapping[str, Any] | Unset | None = UNSET,
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
    raise NotImplementedError

async def aembed(
    self: Any, texts: str | Iterable[str], *, concurrency: int = 4, progress: bool = False,
    timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
    idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    dimensions: int | Unset | None = UNSET, encoding_format: str | Unset | None = UNSET,
    input_type: str | Unset | None = UNSET, truncate: str | Unset | None = UNSET,
    user: str | Unset | None = UNSET, extra_body: Mapping[str, Any] | Unset | None = UNSET,
    **params: Any,
) -> Embeddings:
    """As ``embed``, awaited."""
    raise NotImplementedError

def rerank(
    self: Any, query: str, documents: Sequence[str], *, timeout: float | Unset | None = UNSET,
    connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
    retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    top_n: int | Unset | None = UNSET, max_tokens_per_doc: int | Unset | None = UNSET,
    user: str | Unset | None = UNSET, extra_body: Mapping[str, Any] | Unset | None = UNSET,
    **params: Any,
) -> Reranked:
    """Order documents by how well they answer a query, the best first.

    Args:
        query: What is looked for.
        documents: One or more texts.
        **params: ``top_n`` and what else shapes the order (the rest goes into ``extra_body``),
            and core options and settings, as for ``complete``. Scores of two models do not
            compare: of the LM's fallbacks only those with the same model are asked, and any
            that are given here.
    """
    raise NotImplementedError

async def arerank(
    self: Any, query: str, documents: Sequence[str], *, timeout: float | Unset | None = UNSET,
    connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
    retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    top_n: int | Unset | None = UNSET, max_tokens_per_doc: int | Unset | None = UNSET,
    user: str | Unset | None = UNSET, extra_body: Mapping[str, Any] | Unset | None = UNSET,
    **params: Any,
) -> Reranked:
    """As ``rerank``, awaited."""
    raise NotImplementedError

if TYPE_CHECKING:
    @overload
    def count(
        self: Any, prompt: str, *, messages: None = None, timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> Count: ...
    @overload
    def count(
        self: Any, prompt: str | None = None, *, messages: Messages | None,
        timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
        idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> Count: ...

def count(
    self: Any, prompt: str | None = None, *, messages: Messages | None = None,
    timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
    idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
    top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
    min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
    max_completion_tokens: int | Unset | None = UNSET,
    stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
    seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
    frequency_penalty: float | Unset | None = UNSET,
    repetition_penalty: float | Unset | None = UNSET,
    logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
    logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
    tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
    tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
    parallel_tool_calls: bool | Unset | None = UNSET,
    response_format: Mapping[str, Any] | Unset | None = UNSET,
    reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
    extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
) -> Count:
    """Count the tokens that a completion would read, as the service counts them.

    Takes what ``complete`` does, but for ``schema``: the system text and ``tools`` count too.
    """
    raise NotImplementedError

if TYPE_CHECKING:
    @overload
    async def acount(
        self: Any, prompt: str, *, messages: None = None, timeout: float | Unset | None = UNSET,
        connect_timeout: float | Unset = UNSET, idle_timeout: float | Unset | None = UNSET,
        retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> Count: ...
    @overload
    async def acount(
        self: Any, prompt: str | None = None, *, messages: Messages | None,
        timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
        idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
        cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
        sample: int | Unset = UNSET,
        recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
        fallbacks: str | Sequence[str] | Unset = UNSET,
        transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
        max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
        system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
        top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
        min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
        max_completion_tokens: int | Unset | None = UNSET,
        stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
        seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
        frequency_penalty: float | Unset | None = UNSET,
        repetition_penalty: float | Unset | None = UNSET,
        logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
        logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
        tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
        tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
        parallel_tool_calls: bool | Unset | None = UNSET,
        response_format: Mapping[str, Any] | Unset | None = UNSET,
        reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
        extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
    ) -> Count: ...

async def acount(
    self: Any, prompt: str | None = None, *, messages: Messages | None = None,
    timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
    idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
    top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
    min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
    max_completion_tokens: int | Unset | None = UNSET,
    stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
    seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
    frequency_penalty: float | Unset | None = UNSET,
    repetition_penalty: float | Unset | None = UNSET,
    logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
    logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
    tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
    tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
    parallel_tool_calls: bool | Unset | None = UNSET,
    response_format: Mapping[str, Any] | Unset | None = UNSET,
    reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
    extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
) -> Count:
    """As ``count``, awaited."""
    raise NotImplementedError

def copy(
    self: Any, *, name: str | None = None, model: str | None = None,
    config: str | PathLike[str] | Unset | None = UNSET, api_base: str | Unset | None = UNSET,
    api_key: str | SecretStr | Unset | None = UNSET,
    headers: Mapping[str, str | SecretStr] | Unset | None = UNSET,
    verify: bool | str | PathLike[str] | Unset = UNSET, history: int | Unset = UNSET,
    timeout: float | Unset | None = UNSET, connect_timeout: float | Unset = UNSET,
    idle_timeout: float | Unset | None = UNSET, retries: int | Unset = UNSET,
    cache: bool | Literal["only", "refresh"] | Unset | None = UNSET,
    sample: int | Unset = UNSET,
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]] | Unset = UNSET,
    fallbacks: str | Sequence[str] | Unset = UNSET,
    transport: Literal["aiohttp", "threads"] | Unset | None = UNSET,
    max_body: int | Unset = UNSET, unsupported: Literal["refuse", "adapt"] | Unset = UNSET,
    system: str | Unset | None = UNSET, temperature: float | Unset | None = UNSET,
    top_p: float | Unset | None = UNSET, top_k: int | Unset | None = UNSET,
    min_p: float | Unset | None = UNSET, max_tokens: int | Unset | None = UNSET,
    max_completion_tokens: int | Unset | None = UNSET,
    stop: str | Sequence[str] | Unset | None = UNSET, n: int | Unset | None = UNSET,
    seed: int | Unset | None = UNSET, presence_penalty: float | Unset | None = UNSET,
    frequency_penalty: float | Unset | None = UNSET,
    repetition_penalty: float | Unset | None = UNSET,
    logit_bias: Mapping[str, float] | Mapping[int, float] | Unset | None = UNSET,
    logprobs: bool | int | Unset | None = UNSET, top_logprobs: int | Unset | None = UNSET,
    tools: Sequence[Mapping[str, Any]] | Unset | None = UNSET,
    tool_choice: str | Mapping[str, Any] | Unset | None = UNSET,
    parallel_tool_calls: bool | Unset | None = UNSET,
    response_format: Mapping[str, Any] | Unset | None = UNSET,
    reasoning_effort: str | Unset | None = UNSET, user: str | Unset | None = UNSET,
    extra_body: Mapping[str, Any] | Unset | None = UNSET, **params: Any,
) -> Any:
    """An LM with some keywords changed; it has a history and connections of its own.

    Takes what ``get_lm`` takes, ``name`` and ``model`` included. With the name of another
    provider, what was meant for the old one stays behind, unless it is given here: its
    credentials, host, headers, authorities, ``extra_body`` and settings.
    """
    raise NotImplementedError
