"""The choice between the two endpoints, and the request to the one chosen; no I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lmgateway.errors import ConfigError
from lmgateway.types import Answer, EmbedLimits, HTTPRequest, Request
from lmgateway.wire import openai as wire
from lmgateway.wire.chat_template import (
    FAMILIES,
    Template,
    check_control_tokens,
    family_for,
    find_control_tokens,
    holds_bos,
    merge_system,
    resolve,
)

from .settings import Settings

__all__ = ["DEFAULT_MAX_TOKENS", "build", "service", "told"]

#: vLLM stops a text completion after 16 tokens unless it is told otherwise.
DEFAULT_MAX_TOKENS = 512
#: vLLM writes vectors in base64, and embeds images in a message.
EMBEDDING = wire.Embedding(base64=True, limits=EmbedLimits(texts=2048, images=True))
#: How the templates of the common models begin, for one given as jinja that spells it out.
BOS_TOKENS = ("<s>", "<|begin_of_text|>", "<bos>", "<｜begin▁of▁sentence｜>")


def build(request: Request, settings: Settings) -> HTTPRequest:
    """The request to send.

    Raises:
        ConfigError: ``use_chat_api=False`` and no template is known.
        InputError, UnsupportedError: The endpoint or the template cannot carry the request.
    """
    where = service(settings, request.timeout)
    template = _text_template(request, settings)
    if template is None:
        if settings.merge_system:
            messages = merge_system(_messages(request))
            request = replace(request, prompt=None, messages=messages, system=None)
        return wire.chat_request(request, where)
    text = _rendered(request, settings, template)
    params = {"max_tokens": DEFAULT_MAX_TOKENS, **request.params}
    if _begins_with_bos(text, template):
        # vLLM would put a second BOS before it.
        params.setdefault("add_special_tokens", False)
    return wire.completion_request(replace(request, params=params), where, text=text)


def service(settings: Settings, timeout: float | None = None) -> wire.Service:
    """The service, and the time it may take: Anyscale stops work nobody waits for any more."""
    headers = {} if timeout is None else {"x-request-timeout-seconds": f"{timeout:.6g}"}
    return wire.Service(settings.api_base, settings.api_key, headers, wire.VLLM, EMBEDDING)


def told(answer: Answer, request: Request, http_request: HTTPRequest) -> Answer:
    """The answer, with a warning for each turn whose state had no place in a rendered text."""
    if http_request.path.endswith(wire.CHAT):
        return answer
    left = [
        place for place, turn in enumerate(request.messages or ()) if turn.get("state") is not None
    ]
    if left:
        answer["warnings"] = [
            {
                "kind": "state",
                "name": f"messages[{place}]",
                "detail": "the turn was rendered as text, and a text has no place for its state",
            }
            for place in left
        ]
    return answer


def _text_template(request: Request, settings: Settings) -> Template | None:
    """The template when the request goes to ``/completions``, None when it goes to chat."""
    if settings.use_chat_api is True:
        return None
    needs_chat = request.messages is not None or "tools" in request.params
    if settings.use_chat_api is None and needs_chat:
        return None
    if settings.template is not None:
        return resolve(settings.template)
    family = family_for(request.model)
    if family is not None:
        return resolve(family)
    if settings.use_chat_api is False:
        raise ConfigError(
            f"use_chat_api=False needs a chat template, and the model's name {request.model!r} "
            "does not say which: give template= the name of a family "
            f"({', '.join(each.name for each in FAMILIES)}), jinja source, a path, or 'none' for "
            "the prompt as it is; or let use_chat_api be True"
        )
    return None


def _rendered(request: Request, settings: Settings, template: Template) -> str:
    """The text to continue."""
    messages = wire.visible_messages(_messages(request))
    if settings.merge_system or template.source is None:
        messages = list(merge_system(messages))  # "none" has no roles to tell apart
    found = find_control_tokens(template, messages)
    if found:
        check_control_tokens(found, settings.control_tokens)
    return template.render(messages)


def _messages(request: Request) -> list[Any]:
    """The conversation, its system text before it."""
    messages: list[Any] = list(request.messages or ())
    if request.prompt is not None:
        messages = [{"role": "user", "content": request.prompt}]
    if request.system is not None:
        messages.insert(0, {"role": "system", "content": request.system})
    return messages


def _begins_with_bos(text: str, template: Template) -> bool:
    return any(holds_bos(text, token) for token in (template.bos_token, *BOS_TOKENS))
