"""The keywords that calls take by name: the one table behind the signatures of ``LM``.

``python tests/typing/signatures.py --write`` makes ``signatures.py`` of it. What a plugin takes
beside them goes in as a further keyword, whose type nobody checks. Each of them may be ``UNSET``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import TypedDict

if TYPE_CHECKING:
    from os import PathLike

    from pydantic import SecretStr

__all__ = ["CallOptions", "EmbedParameters", "LMOptions", "Parameters", "RerankParameters"]


class LMOptions(TypedDict, total=False):
    """Where requests go and as whom: of ``get_lm`` and ``copy``, and of no call."""

    config: str | PathLike[str] | None
    api_base: str | None
    api_key: str | SecretStr | None
    headers: Mapping[str, str | SecretStr] | None
    verify: bool | str | PathLike[str]
    history: int


class CallOptions(TypedDict, total=False):
    """The core's options of an LM or of a call; see ``lmgateway.types.Options``."""

    timeout: float | None
    connect_timeout: float
    idle_timeout: float | None
    retries: int
    cache: bool | Literal["only", "refresh"] | None
    sample: int
    recordings: str | PathLike[str] | Sequence[str | PathLike[str]]
    fallbacks: str | Sequence[str]
    transport: Literal["aiohttp", "threads"] | None
    max_body: int
    unsupported: Literal["refuse", "adapt"]


class Parameters(TypedDict, total=False):
    """What shapes an answer: the system text, and the parameters that most services take.

    None takes the LM's default away.
    """

    system: str | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    max_tokens: int | None
    max_completion_tokens: int | None
    stop: str | Sequence[str] | None
    n: int | None
    seed: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    repetition_penalty: float | None
    logit_bias: Mapping[str, float] | Mapping[int, float] | None
    logprobs: bool | int | None
    top_logprobs: int | None
    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    parallel_tool_calls: bool | None
    response_format: Mapping[str, Any] | None
    reasoning_effort: str | None
    user: str | None
    extra_body: Mapping[str, Any] | None


class EmbedParameters(TypedDict, total=False):
    """What shapes vectors, where services agree upon a name."""

    dimensions: int | None
    encoding_format: str | None
    input_type: str | None
    truncate: str | None
    user: str | None
    extra_body: Mapping[str, Any] | None


class RerankParameters(TypedDict, total=False):
    """What shapes an order of documents, where services agree upon a name."""

    top_n: int | None
    max_tokens_per_doc: int | None
    user: str | None
    extra_body: Mapping[str, Any] | None
