"""The wire format of OpenAI-compatible hosts: a provider on it is a few lines.

::

    @hookimpl
    def lmgateway_complete(request, settings):
        service = Service(settings.api_base, settings.api_key, dialect=VLLM)
        return (yield from complete(request, chat_request(request, service)))
"""

from .arguments import write
from .assembly import Assembly
from .build import (
    Embedding,
    Service,
    chat_request,
    completion_request,
    embed_request,
    models_request,
)
from .embeddings import parse_embeddings, parse_models
from .faults import check, error_in, load, request_id, retry_after
from .flows import complete, embed, models, read_stream, stream
from .limits import rate_limit
from .params import CAPABILITIES, CHAT, OPENAI, TEXT, VLLM, Dialect, Endpoint, body_params
from .parse import normalize, parse
from .turns import visible_messages

__all__ = [
    "CAPABILITIES",
    "CHAT",
    "OPENAI",
    "TEXT",
    "VLLM",
    "Assembly",
    "Dialect",
    "Embedding",
    "Endpoint",
    "Service",
    "body_params",
    "chat_request",
    "check",
    "complete",
    "completion_request",
    "embed",
    "embed_request",
    "error_in",
    "load",
    "models",
    "models_request",
    "normalize",
    "parse",
    "parse_embeddings",
    "parse_models",
    "rate_limit",
    "read_stream",
    "request_id",
    "retry_after",
    "stream",
    "visible_messages",
    "write",
]
