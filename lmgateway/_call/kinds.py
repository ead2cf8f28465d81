"""The kinds of call, a row each: all that sets a completion, an embedding and others apart."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from .._base.values import are_finite
from .._base.vectors import Vectors, extend, first_odd
from .._layers.context import Kind
from ..errors import PluginContractError, ResponseFormatError
from ..types import EmbedRequest, Request, RerankRequest

__all__ = ["COMPLETE", "COUNT", "EMBED", "MODELS", "RERANK", "STREAM"]


def _completion(returned: Any, request: Request, plugin: str) -> dict[str, Any]:
    """What a provider answered, checked, as a Completion of the user's own."""
    if not isinstance(returned, dict):
        raise _wrong(plugin, type(returned), 'a dict {"prompt": ..., "choices": [{"text": ...}]}')
    choices = returned.get("choices")
    if not isinstance(choices, list) or not choices:
        raise PluginContractError(
            f'{plugin} returned {"a wrong" if "choices" in returned else "no"} "choices": '
            'the contract wants a list of {"text": ...}, one or more'
        )
    for place, choice in enumerate(choices):
        if type(choice) is dict and type(choice.get("text")) is str:
            continue  # as nearly always
        if not isinstance(choice, dict) or not _says(choice):
            raise PluginContractError(
                f'{plugin} returned choices[{place}] without a "text" that is a string'
            )
    wanted = request.params.get("n") or 1
    if len(choices) < wanted:
        error = ResponseFormatError(f"{wanted} choices were asked for and {len(choices)} came")
        error.completion = returned
        raise error
    asked = request.input
    completion = {"prompt": asked, **returned}
    completion["prompt"] = asked
    completion["choices"] = [dict(choice) for choice in choices]
    return completion


def _says(choice: dict[str, Any]) -> bool:
    """Whether a choice has its heart: a text, or parts of which its text is made."""
    text = choice.get("text")
    return isinstance(text, str) or (text is None and isinstance(choice.get("parts"), list))


def _embeddings(returned: Any, request: EmbedRequest, plugin: str) -> dict[str, Any]:
    """The vectors a provider answered, checked, as Vectors of the user's own."""
    if not isinstance(returned, dict):
        raise _wrong(plugin, type(returned), 'a dict {"embeddings": [[...], ...]}')
    given = returned.get("embeddings")
    if type(given) is not Vectors:
        return {**returned, "embeddings": _vectors(given, returned, request, plugin)}
    if len(given) != len(request.texts):
        raise _miscounted(len(request.texts), len(given))
    if (odd := first_odd(given.memory)) is not None:
        raise _no_vector(odd // given.dimensions, plugin)
    return {**returned, "embeddings": given}


def _vectors(
    given: Any, returned: Mapping[str, Any], request: EmbedRequest, plugin: str
) -> Vectors:
    rows = given if isinstance(given, (list, tuple)) else _rows(given)
    if rows is None:
        raise PluginContractError(
            f'{plugin} returned {"a wrong" if "embeddings" in returned else "no"} "embeddings": '
            "the contract wants a list of vectors, one for each text"
        )
    if len(rows) != len(request.texts):
        raise _miscounted(len(request.texts), len(rows))
    floats, dimensions = array("f"), 0
    for place, row in enumerate(rows):
        before = len(floats)
        try:
            extend(floats, row)
        except (TypeError, OverflowError, ValueError):
            raise _no_vector(place, plugin) from None
        length = len(floats) - before
        if not length or first_odd(memoryview(floats)[before:]) is not None:
            raise _no_vector(place, plugin)
        if length != (dimensions or length):
            raise PluginContractError(f"{plugin} returned embeddings of different lengths")
        dimensions = length
    return Vectors(floats, dimensions)


def _rows(given: Any) -> Sequence[Any] | None:
    """The rows of an array of numpy, torch or another library; None for anything else."""
    if getattr(given, "ndim", None) == 2 and hasattr(given, "__array_interface__"):
        return list(given)
    listed = _plain(given)
    return listed if isinstance(listed, list) else None


def _miscounted(texts: int, vectors: int) -> ResponseFormatError:
    return ResponseFormatError(f"{texts} texts were to be embedded and {vectors} vectors came")


def _no_vector(place: int, plugin: str) -> PluginContractError:
    return PluginContractError(
        f"{plugin} returned embeddings[{place}] as it should not be: the contract wants "
        "a list of finite numbers there"
    )


def _plain(value: Any) -> Any:
    """An array or a number of numpy, torch and their like as a list or a number of Python's."""
    return value.tolist() if hasattr(value, "tolist") else value


def _listing(returned: Any, request: Any, plugin: str) -> dict[str, Any]:
    """The models that a provider listed, checked, below ``models``."""
    if not isinstance(returned, Sequence) or isinstance(returned, (str, bytes)):
        raise _wrong(plugin, type(returned), 'a list of {"id": ...}')
    for place, card in enumerate(returned):
        if not isinstance(card, dict) or not isinstance(card.get("id"), str):
            raise PluginContractError(
                f'{plugin} returned models[{place}] without an "id" that is a string'
            )
    return {"models": [dict(card) for card in returned]}


def _wrong(plugin: str, returned: type, wanted: str) -> PluginContractError:
    return PluginContractError(
        f"{plugin} returned {returned.__name__} where the contract wants {wanted}"
    )


@dataclass(frozen=True, slots=True)
class _ModelsRequest:
    """The question which models there are; it has no input."""

    model: str
    params: Mapping[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    stream: ClassVar[bool] = False
    input: ClassVar[None] = None


def _without_vectors(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of embeddings beside the vectors: those are large, and nobody reads them."""
    others = {name: value for name, value in answer.items() if name != "embeddings"}
    vectors = answer["embeddings"]
    return {"embeddings": {**others, "vectors": len(vectors), "dimensions": len(vectors[0])}}


#: An answer to a prompt or to messages.
COMPLETE = Kind(
    "complete",
    "lmgateway_complete",
    _completion,
    Request,
    history_entry=lambda completion: {"completion": completion},
)

#: The same, piece by piece.
STREAM = replace(COMPLETE, hook="lmgateway_stream")

#: Vectors of texts. Those of another model lie in another space, where nothing compares to them.
#: They are shaped by what OpenAI, and by what vLLM, Cohere, Jina, NVIDIA and Voyage add to it.
EMBED = Kind(
    "embed",
    "lmgateway_embed",
    _embeddings,
    EmbedRequest,
    params=frozenset({
        "add_special_tokens", "dimensions", "embedding_type", "embedding_types",
        "encoding_format", "extra_body", "input_type", "late_chunking", "metadata", "normalized",
        "output_dimension", "output_dtype", "priority", "task", "truncate",
        "truncate_prompt_tokens", "truncation", "user",
    }),
    history_entry=_without_vectors,
    fallbacks="same model",
)  # fmt: skip

#: The models that a service offers; another service offers others.
MODELS = Kind(
    "models",
    "lmgateway_models",
    _listing,
    _ModelsRequest,
    params=None,
    fallbacks="none",
    takes_request=False,
)


# -- documents in order, and tokens counted ----------------------------------------------------


def _reranked(returned: Any, request: RerankRequest, plugin: str) -> dict[str, Any]:
    """The documents that a provider ordered, checked, the best first."""
    if not isinstance(returned, dict):
        raise _wrong(plugin, type(returned), 'a dict {"results": [{"index": 0, "score": 0.5}]}')
    results = returned.get("results")
    if not isinstance(results, (list, tuple)):
        raise PluginContractError(
            f'{plugin} returned {"wrong" if "results" in returned else "no"} "results": '
            'the contract wants a list of {"index": ..., "score": ...}'
        )
    asked = len(request.documents)
    wanted = min(asked, request.params.get("top_n") or asked)
    cut = bool(request.params.get("extra_body"))  # which may say how many, in a word of its own
    if len(results) > wanted or (len(results) < wanted and not cut):
        raise ResponseFormatError(
            f"{wanted} of {asked} documents were to be ordered and {len(results)} came"
        )
    ordered, seen = [], set[int]()
    for place, result in enumerate(results):
        index = _plain(result.get("index")) if isinstance(result, Mapping) else None
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < asked:
            raise PluginContractError(
                f'{plugin} returned results[{place}] without an "index" of one of the '
                f"{asked} documents"
            )
        if index in seen:
            raise PluginContractError(f"{plugin} returned the document {index} twice")
        score = _plain(result.get("score"))
        if not are_finite([score]):
            raise PluginContractError(
                f'{plugin} returned results[{place}] without a "score" that is a finite number'
            )
        seen.add(index)
        ordered.append({**result, "index": index, "score": score})
    ordered.sort(key=lambda result: -result["score"])
    return {**returned, "results": ordered}


def _counted(returned: Any, request: Request, plugin: str) -> dict[str, Any]:
    """The number of tokens that a provider counted, checked."""
    if not isinstance(returned, dict):
        raise _wrong(plugin, type(returned), 'a dict {"prompt_tokens": ...}')
    tokens = _plain(returned.get("prompt_tokens"))
    if isinstance(tokens, float) and tokens.is_integer():
        tokens = int(tokens)
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
        raise PluginContractError(
            f'{plugin} returned no "prompt_tokens" that is a whole number from 0'
        )
    return {**returned, "prompt_tokens": tokens}


#: Documents by how well they answer a query. Scores of two models do not compare.
#: Shaped by what Cohere, Jina, Voyage, vLLM and Text Embeddings Inference take.
RERANK = Kind(
    "rerank",
    "lmgateway_rerank",
    _reranked,
    RerankRequest,
    params=frozenset({
        "extra_body", "instruction", "max_chunks_per_doc", "max_tokens_per_doc", "priority",
        "rank_fields", "raw_scores", "return_documents", "top_n", "truncate",
        "truncate_prompt_tokens", "truncation", "user",
    }),
    history_entry=lambda answer: {"reranked": answer},
    fallbacks="same model",
)  # fmt: skip

#: How many tokens a completion would read. Another model counts in another way.
COUNT = Kind("count", "lmgateway_count", _counted, Request, fallbacks="same model")
