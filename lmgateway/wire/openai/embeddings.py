"""Vectors, and the list of models: what hosts answer with beside completions."""

from __future__ import annotations

from ..._base.values import are_finite
from ...errors import APIError, ResponseFormatError
from ...types import JSON, Embeddings, EmbedRequest, HTTPResponse, ModelCard
from .faults import check, checked, load, locate
from .fields import beside, malformed, string
from .usage import MOST_TOKENS, read_usage

__all__ = ["parse_embeddings", "parse_models"]


def parse_embeddings(request: EmbedRequest, response: HTTPResponse) -> Embeddings:
    """One vector a text, in the order of the texts.

    Raises:
        APIError: the answer is an error.
        ResponseFormatError: a vector is missing, or is not all finite numbers.
    """
    check(response)
    try:
        fields = checked(load(response.body, strict=False), response.headers)
        answer: Embeddings = {"embeddings": _vectors(fields.get("data"), len(request.texts))}
        if model := beside(fields, "model"):
            answer["model"] = model
        if usage := read_usage(fields.get("usage")):
            answer["usage"] = usage
    except APIError as error:
        locate(error, response.headers)
        raise
    return answer


def _vectors(raw: JSON, expected: int) -> list[list[float]]:
    if type(raw) is not list:
        raise malformed("data", raw, "a list")
    vectors: dict[int, list[float]] = {}
    for position, item in enumerate(raw):
        if type(item) is not dict:
            raise malformed(f"data[{position}]", item, "an object")
        index = item.get("index", position)
        vector = item.get("embedding")
        if type(index) is not int or not 0 <= index < expected or index in vectors:
            raise malformed(f"data[{position}].index", index, f"each number below {expected} once")
        if type(vector) is not list or not vector or not are_finite(vector):
            raise malformed(f"data[{position}].embedding", vector, "a list of finite numbers")
        vectors[index] = vector
    if len(vectors) != expected or len(set(map(len, vectors.values()))) > 1:
        raise ResponseFormatError(
            f"data in the answer holds {len(vectors)} vectors for {expected} texts"
            if len(vectors) != expected
            else "data[].embedding in the answer holds vectors of different lengths"
        )
    return [vectors[index] for index in range(expected)]


def parse_models(response: HTTPResponse) -> list[ModelCard]:
    """The models that a service offers, LoRA adapters included, in its order.

    Raises:
        APIError: the answer is an error.
        ResponseFormatError: it is no list of models.
    """
    check(response)
    try:
        data = checked(load(response.body, strict=False), response.headers).get("data")
        if type(data) is not list:
            raise malformed("data", data, "a list")
        return [_model_card(item, position) for position, item in enumerate(data)]
    except APIError as error:
        locate(error, response.headers)
        raise


def _model_card(raw: JSON, position: int) -> ModelCard:
    if type(raw) is not dict:
        raise malformed(f"data[{position}]", raw, "an object")
    model_id = string(raw, "id", f"data[{position}].")
    if not model_id:
        raise malformed(f"data[{position}].id", raw.get("id"), "a name")
    card: ModelCard = {"id": model_id}
    if owner := beside(raw, "owned_by"):
        card["owned_by"] = owner
    for length in _context_lengths(raw):
        if type(length) is int and 0 < length <= MOST_TOKENS:
            card["context_length"] = length
            break
    return card


def _context_lengths(raw: dict[str, JSON]) -> tuple[JSON, ...]:
    """Where vLLM, Ray, llama.cpp and others put the length of the context, in tokens."""
    ray, llama = raw.get("metadata"), raw.get("meta")
    return (
        raw.get("max_model_len"),
        ray.get("max_request_context_length") if isinstance(ray, dict) else None,
        llama.get("n_ctx") if isinstance(llama, dict) else None,
        raw.get("context_length"),
        raw.get("context_window"),
    )
