"""Answers that the kit makes up for embeddings, listings, rankings and counts, in known forms."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from ..types import JSON, Exchange, HTTPRequest, HTTPResponse
from .sent import dumped, tree_of

__all__ = [
    "COUNTS", "DOCUMENTS", "EMBEDDINGS", "IDS", "LISTINGS", "RANKINGS", "SCORES", "TEXTS",
    "Reply", "counting", "embedding", "further_in", "ids_in", "listing", "pages", "ranking",
    "vector_of",
]  # fmt: skip

Reply: TypeAlias = Callable[[Exchange], Any]
"""Answers an exchange."""

TEXTS = ("a heliotrope", "a quillwort", "a samphire", "a tansy", "a borage")
DOCUMENTS = ("of bellworts", "of milkvetches", "of catmints", "of bistorts")

Vectors: TypeAlias = Sequence[tuple[int, list[float]]]
"""Each vector, with the place of its text."""


def _body(exchange: Exchange, body: JSON) -> Any:
    if isinstance(exchange, HTTPRequest):
        headers = {"content-type": "application/json"}
        return HTTPResponse(200, headers, json.dumps(body).encode())
    return body


# -- embeddings ------------------------------------------------------------------------------------


def vector_of(place: int) -> list[float]:
    """The made-up vector of a text; no other text has it."""
    return [place + 0.25, 0.5, -0.125]


def _data(vectors: Vectors) -> JSON:
    rows = [{"object": "embedding", "index": n, "embedding": v} for n, (_, v) in enumerate(vectors)]
    return {"object": "list", "data": rows, "model": "m", "usage": {"prompt_tokens": 5}}


#: Of each known form: what it is called, and how vectors are written in it.
EMBEDDINGS: Mapping[str, Callable[[Vectors], JSON]] = {
    "data": _data,
    "embeddings": lambda v: {"embeddings": [each for _, each in v], "prompt_eval_count": 5},
    "embeddings of values": lambda v: {"embeddings": [{"values": each} for _, each in v]},
    "embedding of values": lambda v: {"embedding": {"values": v[0][1] if v else []}},
    "embeddings by type": lambda v: {"embeddings": {"float": [each for _, each in v]}},
    "embedding": lambda v: {"embedding": v[0][1] if v else []},
    "predictions": lambda v: {"predictions": [{"embeddings": {"values": e}} for _, e in v]},
    "results": lambda v: {"results": [{"embedding": each} for _, each in v]},
    "bare": lambda v: [each for _, each in v],
}


def embedding(form: str, texts: Sequence[str] = TEXTS) -> Reply:
    """A reply with a vector for each of the texts that the exchange holds."""

    def reply(exchange: Exchange) -> Any:
        asked = dumped(tree_of(exchange))
        places = sorted((asked.index(text), n) for n, text in enumerate(texts) if text in asked)
        return _body(exchange, EMBEDDINGS[form]([(n, vector_of(n)) for _, n in places]))

    return reply


# -- listings --------------------------------------------------------------------------------------

_METHODS = ["generateContent", "embedContent"]
IDS = ("kit-model-heliotrope", "kit-model-quillwort", "kit-model-samphire")

#: Of each known form: how the ids of one page are written.
LISTINGS: Mapping[str, Callable[[Sequence[str]], dict[str, JSON]]] = {
    "data": lambda ids: {"object": "list", "data": [{"id": i, "object": "model"} for i in ids]},
    "models by name": lambda ids: {
        "models": [
            {"name": f"models/{i}", "model": i, "id": i, "supportedGenerationMethods": _METHODS}
            for i in ids
        ]
    },
    "models": lambda ids: {"models": [{"name": i, "model": i, "id": i} for i in ids]},
    "summaries": lambda ids: {"modelSummaries": [{"modelId": i} for i in ids]},
    "items": lambda ids: {"items": [{"id": i, "name": i} for i in ids]},
    "results": lambda ids: {"results": [{"id": i, "name": i} for i in ids]},
}
_NEXT = "kit-page-bellwort"
#: Of each known way to page: words of the plugin's source that tell of it, and what a page says.
_PAGES: Sequence[tuple[tuple[str, ...], Mapping[str, JSON]]] = (
    (("nextPageToken", "pageToken"), {"nextPageToken": _NEXT}),
    (("next_page_token", "page_token"), {"next_page_token": _NEXT}),
    (("nextToken",), {"nextToken": _NEXT}),
    (("has_more", "after_id", "last_id"), {"has_more": True, "last_id": _NEXT}),
    (("next_cursor",), {"next_cursor": _NEXT}),
)


def pages(source: str) -> Mapping[str, JSON] | None:
    """What says that there is a further page, if a plugin's source knows of pages."""
    for words, told in _PAGES:
        if any(re.search(rf"\b{word}\b", source) for word in words):
            return told
    return None


def further_in(document: JSON) -> str | None:
    """What a listing says of a further page; None if it says nothing."""
    if not isinstance(document, Mapping):
        return None
    for _, told in _PAGES:
        for name, value in told.items():
            if value == _NEXT and document.get(name) and document.get("has_more", True):
                return str(document[name])
    return None


def listing(form: str, further: Mapping[str, JSON] | None = None) -> Reply:
    """A reply with all ids; with ``further``, one id a page."""
    asked = 0

    def reply(exchange: Exchange) -> Any:
        nonlocal asked
        if further is None:
            return _body(exchange, LISTINGS[form](IDS))
        page, asked = IDS[asked : asked + 1], asked + 1
        more = {name: _numbered(told, asked) for name, told in further.items()}
        more = more if asked < len(IDS) else {}
        if "has_more" in further and not more:
            more = {"has_more": False, "last_id": _NEXT}
        return _body(exchange, {**LISTINGS[form](page), **more})

    return reply


def _numbered(told: JSON, page: int) -> JSON:
    return f"{told}-{page}" if isinstance(told, str) else told


def ids_in(cards: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which of the made-up ids a listing holds, in its order."""
    return [each for card in cards for each in IDS if str(card.get("id", "")).endswith(each)]


# -- rankings and counts ---------------------------------------------------------------------------

SCORES = {2: 0.9375, 0: 0.5, 3: 0.25, 1: 0.125}  # by the document's place, the best first

RANKINGS: Mapping[str, Callable[[Mapping[int, float]], JSON]] = {
    "results": lambda s: {
        "results": [{"index": n, "relevance_score": x, "score": x} for n, x in s.items()]
    },
    "data": lambda s: {"data": [{"index": n, "relevance_score": x} for n, x in s.items()]},
    "rankings": lambda s: {"rankings": [{"index": n, "logit": x} for n, x in s.items()]},
    "bare": lambda s: [{"index": n, "score": x} for n, x in s.items()],
}


def ranking(form: str) -> Reply:
    """A reply that orders the documents."""
    return lambda exchange: _body(exchange, RANKINGS[form](SCORES))


COUNTS: Mapping[str, JSON] = {
    "one of many": {
        "input_tokens": 613, "totalTokens": 613, "total_tokens": 613, "prompt_tokens": 613,
        "count": 613, "token_count": 613, "usage": {"prompt_tokens": 613, "input_tokens": 613},
    },
    "tokens": {"tokens": [1] * 613, "count": 613},
    "number": {"tokens": 613},
}  # fmt: skip


def counting(form: str) -> Reply:
    """A reply that says how many tokens there are: 613."""
    return lambda exchange: _body(exchange, COUNTS[form])
