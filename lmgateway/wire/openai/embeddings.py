"""Vectors, and the list of models: what hosts answer with beside completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import APIError, ResponseFormatError
from ...types import JSON, Embeddings, EmbedRequest, HTTPResponse, ModelCard
from .faults import check, checked, load, locate
from .fields import beside, malformed, string
from .usage import MOST_TOKENS, read_usage
from .vectors import cut, read_vectors

__all__ = ["parse_embeddings", "parse_models"]


def parse_embeddings(request: EmbedRequest, response: HTTPResponse) -> Embeddings:
    """One vector a text, in the order of the texts.

    Raises:
        APIError: the answer is an error.
        ResponseFormatError: a vector is missing, or is not all finite numbers.
    """
    check(response)
    try:
        cut_out = cut(response.body)
        body = response.body if cut_out is None else cut_out.rest
        fields = checked(load(body, strict=False), response.headers)
        vectors = read_vectors(fields.get("data"), len(request.texts), cut_out)
        _check_dimensions(vectors.dimensions, request.params)
        answer: Embeddings = {"embeddings": vectors}
        if model := beside(fields, "model"):
            answer["model"] = model
        if usage := read_usage(fields.get("usage")):
            answer["usage"] = usage
    except APIError as error:
        locate(error, response.headers)
        raise
    return answer


#: With one of these a number may stand for several dimensions.
_PACKING = frozenset({"output_dtype", "embedding_type", "embedding_types", "extra_body"})


def _check_dimensions(came: int, params: Mapping[str, Any]) -> None:
    """Refuse vectors of another length than was asked for: they fit no index."""
    asked = params.get("dimensions") or params.get("output_dimension")
    if isinstance(asked, int) and asked != came and not _PACKING & params.keys():
        raise ResponseFormatError(
            f"vectors of {asked} dimensions were asked for, and some of {came} came: "
            "the host or the model does not heed dimensions"
        )


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
