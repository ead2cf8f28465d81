"""Requests: a ``dspy.lm15.Request`` as the messages and parameters of a call."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from mimetypes import guess_extension
from typing import Any

from dspy import lm15

from .parcels import with_turns
from .parts import FILE, TURN, kept

__all__ = ["CARRIED", "conversation", "one_text", "parameters"]

# The parameters that DSPy itself puts into a request, so that they are in its cache key and its
# history. Any other name it refuses: those the engine holds.
CARRIED = frozenset(
    (
        "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "stop", "seed", "n",
        "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs",
        "response_format", "tools", "tool_choice", "parallel_tool_calls", "reasoning_effort",
        "prompt_cache_key", "prompt_cache_retention", "user", "safety_identifier", "metadata",
        "service_tier", "store", "verbosity", "moderation", "prediction",
    )
)  # fmt: skip

# Spelt alike here and there.
_SAME = (
    "temperature", "top_p", "top_k", "max_tokens", "seed", "frequency_penalty",
    "presence_penalty", "service_tier", "store",
)  # fmt: skip


def conversation(request: lm15.Request, parcel: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages, system text first, in OpenAI's chat form.

    Args:
        request: As DSPy made it.
        parcel: Turns by their places, as they were given; see parcels.

    Raises:
        lm15.UnsupportedFeatureError: The form has no place for a part.
    """
    messages: list[dict[str, Any]] = []
    if request.system:
        system = request.system
        text = system if isinstance(system, str) else _content(system)
        messages.append({"role": "system", "content": text})
    for message in request.messages:
        messages.extend(_turns(message))
    return with_turns(messages, parcel) if parcel else messages


def one_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """The messages as one prompt, for a provider that takes no conversation."""
    contents = [message.get("content") for message in messages]
    if not all(isinstance(content, str) for content in contents):
        raise lm15.UnsupportedFeatureError("the provider takes text only, and one text at a time")
    return "\n\n".join(str(content) for content in contents)


def parameters(request: lm15.Request) -> dict[str, Any]:
    """The generation parameters that were given, in OpenAI's chat form."""
    config = request.config
    params = {name: value for name in _SAME if (value := getattr(config, name)) is not None}
    if config.stop:
        params["stop"] = list(config.stop)
    if config.logprobs is not None:
        params["logprobs"] = True
        if config.logprobs:
            params["top_logprobs"] = config.logprobs
    if config.user_id is not None:
        params["user"] = config.user_id
    if config.response_format is not None:
        params["response_format"] = _response_format(config.response_format)
    params.update(_reasoning(config), **_prompt_cache(config))
    if config.probabilities == "required":
        raise _unsupported("config.probabilities", "no provider measures them here")
    params.update(_tools(request))
    return {**params, **(config.extensions or {})}


def _turns(message: lm15.Message) -> Iterator[dict[str, Any]]:
    if message.role == "tool":
        for result in message.parts_of(lm15.ToolResultPart):
            content = _content(result.content)
            if result.is_error:  # the form has no other sign for it
                content = f"[error] {content}" if isinstance(content, str) else content
            yield {"role": "tool", "tool_call_id": result.id, "content": content}
    elif message.role == "assistant":
        yield _assistant(message)
    else:  # few chat templates know the role "developer"
        role = "system" if message.role == "developer" else message.role
        yield {"role": role, "content": _content(message.parts)}


def _assistant(message: lm15.Message) -> dict[str, Any]:
    """A turn of the model. What a service must see again of its reasoning is in its state."""
    texts = [p.text for p in message.parts if isinstance(p, (lm15.TextPart, lm15.RefusalPart))]
    texts += [json.dumps(p.value, ensure_ascii=False) for p in message.parts_of(lm15.DataPart)]
    turn: dict[str, Any] = {"role": "assistant", "content": "\n".join(texts) if texts else None}
    if state := kept(message, TURN):
        turn["state"] = state
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.input)},
        }
        for call in message.parts_of(lm15.ToolCallPart)
    ]
    if calls:
        turn["tool_calls"] = calls
    elif not texts:
        turn["content"] = ""
    return turn


def _content(parts: Sequence[Any]) -> str | list[dict[str, Any]]:
    blocks = [_block(part) for part in parts]
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        text: str = blocks[0]["text"]
        return text
    return blocks


def _block(part: Any) -> dict[str, Any]:
    match part.type:
        case "text":
            return {"type": "text", "text": part.text}
        case "data":
            return {"type": "text", "text": json.dumps(part.value, ensure_ascii=False)}
        case "image" if part.file_id is None:
            image = {"url": part.url or _data_url(part)}
            return {"type": "image_url", "image_url": image | _detail(part)}
        case "audio" if part.url is None and part.file_id is None:
            kind = {"audio/mpeg": "mp3"}.get(part.media_type, part.media_type.rpartition("/")[2])
            audio = {"data": b64encode(part.bytes).decode(), "format": kind}
            return {"type": "input_audio", "input_audio": audio}
        case "document" if part.file_id is not None:
            return {"type": "file", "file": {"file_id": part.file_id}}
        case "document" | "binary" if part.url is None and part.file_id is None:
            file = {"file_data": _data_url(part), "filename": _filename(part)}
            return {"type": "file", "file": file}
        case "image" | "document" | "binary":
            at = {"url": part.url} if part.file_id is None else {"id": part.file_id}
            return {"type": "file", "media_type": part.media_type, **at}
    raise _unsupported(f"messages[*].parts[{part.type}]", "chat messages have no place for it")


def _data_url(part: Any) -> str:
    return f"data:{part.media_type};base64,{b64encode(part.bytes).decode()}"


def _filename(part: Any) -> str:
    """The name of a file. OpenAI refuses one without, so it gets the name that dspy.LM gives."""
    name = kept(part, FILE).get("name")
    return name or f"my_file{guess_extension(part.media_type) or '.pdf'}"


def _detail(image: Any) -> dict[str, str]:
    return {} if image.detail is None else {"detail": image.detail}


def _response_format(wanted: Mapping[str, Any]) -> dict[str, Any]:
    if wanted["type"] != "json_schema":
        return dict(wanted)
    inner = {"name": "response", **{k: v for k, v in wanted.items() if k != "type"}}
    return {"type": "json_schema", "json_schema": inner}


def _reasoning(config: lm15.Config) -> dict[str, Any]:
    reasoning = config.reasoning
    if reasoning is None:
        return {}
    if reasoning.thinking_budget is not None or reasoning.summary is not None:
        raise _unsupported("config.reasoning", "of reasoning only the effort can be set")
    return {"reasoning_effort": "none" if reasoning.is_off else reasoning.effort}


def _prompt_cache(config: lm15.Config) -> dict[str, Any]:
    cache = config.cache
    if cache is None or cache.mode == "off":
        return {}
    if cache.prefix is not None or cache.prefix_until_index is not None or cache.resource:
        raise _unsupported("config.cache", "of a service's prompt cache only the key can be set")
    wanted = {"prompt_cache_key": cache.key} if cache.key else {}
    return wanted | ({"prompt_cache_retention": "24h"} if cache.retention == "long" else {})


def _tools(request: lm15.Request) -> dict[str, Any]:
    params: dict[str, Any] = {}
    if request.tools:
        params["tools"] = [_tool(tool) for tool in request.tools]
    choice = request.config.tool_choice
    if choice is None:
        return params
    if choice.parallel is not None:
        params["parallel_tool_calls"] = choice.parallel
    named = [{"type": "function", "function": {"name": name}} for name in choice.allowed]
    if len(named) == 1 and choice.mode == "required":
        params["tool_choice"] = named[0]
    elif named:
        allowed = {"mode": choice.mode, "tools": named}
        params["tool_choice"] = {"type": "allowed_tools", "allowed_tools": allowed}
    elif choice.mode != "auto" or choice.parallel is None:
        params["tool_choice"] = choice.mode
    return params


def _tool(tool: Any) -> dict[str, Any]:
    if not isinstance(tool, lm15.FunctionTool):
        raise _unsupported(f"tools[{tool.name}]", "a service's own tools cannot be asked for here")
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": {k: v for k, v in function.items() if v is not None}}


def _unsupported(feature: str, why: str) -> lm15.UnsupportedFeatureError:
    return lm15.UnsupportedFeatureError(f"{feature} cannot be sent: {why}", feature=feature)
