"""The choice between the two endpoints, and the request to the one chosen; no I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lmgateway.errors import ConfigError
from lmgateway.types import HTTPRequest, Request
from lmgateway.wire import chat_template
from lmgateway.wire import openai as wire

from .settings import Settings

__all__ = ["DEFAULT_MAX_TOKENS", "build", "service"]

#: vLLM stops a text completion after 16 tokens unless it is told otherwise.
DEFAULT_MAX_TOKENS = 1024


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
            request = _merged(request)
        return wire.chat_request(request, where)
    text, begins_with_bos = _rendered(request, settings, template)
    params: dict[str, Any] = dict(request.params)
    if "max_tokens" not in params:
        params["max_tokens"] = DEFAULT_MAX_TOKENS
    if begins_with_bos:
        # vLLM would put a second BOS before it.
        params.setdefault("add_special_tokens", False)
    return wire.completion_request(replace(request, params=params), where, text=text)


def service(settings: Settings, timeout: float | None = None) -> wire.Service:
    """The service, and the time it may take: Anyscale stops work nobody waits for any more."""
    headers = {} if timeout is None else {"x-request-timeout-seconds": f"{timeout:.6g}"}
    return wire.Service(settings.api_base, settings.api_key, headers, wire.VLLM)


def _text_template(request: Request, settings: Settings) -> str | None:
    """The template when the request goes to ``/completions``, None when it goes to chat."""
    if settings.use_chat_api is True:
        return None
    needs_chat = request.messages is not None or "tools" in request.params
    if settings.use_chat_api is None and needs_chat:
        return None
    template = settings.template
    if template is None:
        family = chat_template.family_for(request.model)
        template = None if family is None else family.name
    if template is None and settings.use_chat_api is False:
        raise ConfigError(
            f"use_chat_api=False needs a chat template, and the model's name {request.model!r} "
            "does not say which: give template= a family's name "
            f"({', '.join(chat_template.FAMILIES)}), jinja source, a path, or 'none' for the "
            "prompt as it is; or let use_chat_api be True"
        )
    return template


def _messages(request: Request) -> list[Any]:
    """The conversation to render, its system text before it."""
    messages: list[Any] = list(request.messages or ())
    if request.prompt is not None:
        messages = [{"role": "user", "content": request.prompt}]
    if request.system is not None:
        messages.insert(0, {"role": "system", "content": request.system})
    return messages


def _merged(request: Request) -> Request:
    messages = chat_template.merge_system(_messages(request))
    return replace(request, prompt=None, messages=messages, system=None)


def _rendered(request: Request, settings: Settings, template: str) -> tuple[str, bool]:
    """The text to continue, and whether it begins with the template's BOS."""
    ...
