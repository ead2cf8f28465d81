"""How an answer ended: the words of services for it, and the errors that some of them are."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import APIError, ContentFilteredError, ServerError
from ...types import Answer, Request
from .faults import error_in

__all__ = ["ENDINGS", "FAILED", "ending", "failure"]

#: OpenAI's words, which are the library's too; nearly all services say no other.
ENDINGS = frozenset({"stop", "length", "tool_calls", "content_filter", "pause", "error"})
#: Of them, those of a choice that is no answer.
FAILED = frozenset({"content_filter", "error"})

_WORDS = {
    **dict.fromkeys(
        ("stop", "eos", "eos_token", "stop_sequence", "stop_token", "end_turn", "end", "complete",
         "completed", "finish_reason_stop"),
        "stop",
    ),
    **dict.fromkeys(("length", "max_tokens", "model_length", "max_output_tokens"), "length"),
    **dict.fromkeys(("tool_calls", "tool_call", "tool_use", "function_call"), "tool_calls"),
    **dict.fromkeys(
        ("content_filter", "content_filtered", "safety", "sensitive", "recitation", "blocklist",
         "prohibited_content", "spii", "guardrail_intervened"),
        "content_filter",
    ),
    **dict.fromkeys(("error", "network_error", "insufficient_system_resource"), "error"),
    **dict.fromkeys(("pause", "pause_turn"), "pause"),
}  # fmt: skip


def ending(word: str) -> str:
    """The library's word for a service's ``finish_reason``."""
    return _WORDS.get(word.lower(), "other")


def failure(answer: Answer, headers: Mapping[str, str], request: Request) -> APIError:
    """The error for an answer none of whose choices is good; what there was of it is on it."""
    first = answer["choices"][0]
    error: APIError
    if first["finish_reason"] == "content_filter":
        error = ContentFilteredError(
            "the service cut the answer off for reasons of content (finish_reason "
            f"{first.get('finish_reason_raw', 'content_filter')})",
            status=200,
            code="content_filter",
        )
        error.retryable = False
    elif told := first.get("extra", {}).get("error"):
        error = error_in({"error": told}, headers, request)
    else:
        error = ServerError(
            "the service failed while it wrote the answer (finish_reason "
            f"{first.get('finish_reason_raw', 'error')})",
            status=200,
            code="error",
        )
        error.retryable = True
    error.partial = first["text"] or None
    error.completion = {**answer}
    if usage := answer.get("usage"):
        error.usage = {**usage}
    return error
