"""The parameters of the OpenAI-compatible endpoints: who takes which, and of what type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ...errors import InputError, UnsupportedError
from ...types import JSON

__all__ = [
    "CAPABILITIES", "CHAT", "OPENAI", "TEXT", "VLLM", "Dialect", "Endpoint", "body_params",
    "reasons",
]  # fmt: skip

Endpoint: TypeAlias = Literal["chat/completions", "completions"]

CHAT: Endpoint = "chat/completions"
TEXT: Endpoint = "completions"

_NUMBER = "a number"
_INTEGER = "an integer"
_BOOLEAN = "True or False"
_STRING = "a string"
_STRINGS = "a string or a list of strings"
_LIST = "a list"
_OBJECT = "a dict"
_CHOICE = "a string or a dict"
_FLAG = "True, False or an integer"

_TYPES: dict[str, str] = {
    **dict.fromkeys(
        ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty",
         "repetition_penalty", "length_penalty"),
        _NUMBER,
    ),
    **dict.fromkeys(
        ("max_tokens", "max_completion_tokens", "min_tokens", "n", "best_of", "seed", "top_k",
         "top_logprobs", "prompt_logprobs", "priority", "truncate_prompt_tokens",
         "thinking_token_budget", "stream_interval"),
        _INTEGER,
    ),
    **dict.fromkeys(
        ("echo", "parallel_tool_calls", "store", "use_beam_search", "include_stop_str_in_output",
         "ignore_eos", "skip_special_tokens", "spaces_between_special_tokens",
         "include_reasoning", "add_generation_prompt", "continue_final_message",
         "add_special_tokens", "return_tokens_as_token_ids"),
        _BOOLEAN,
    ),
    **dict.fromkeys(
        ("suffix", "user", "reasoning_effort", "service_tier", "verbosity", "prompt_cache_key",
         "prompt_cache_retention", "safety_identifier", "truncation_side", "chat_template",
         "cache_salt", "request_id"),
        _STRING,
    ),
    **dict.fromkeys(
        ("tools", "stop_token_ids", "allowed_token_ids", "logprob_token_ids", "bad_words",
         "documents", "modalities"),
        _LIST,
    ),
    **dict.fromkeys(
        ("logit_bias", "response_format", "stream_options", "metadata", "prediction", "audio",
         "moderation", "prompt_cache_options", "web_search_options", "structured_outputs",
         "chat_template_kwargs", "mm_processor_kwargs", "media_io_kwargs", "kv_transfer_params",
         "ec_transfer_params", "vllm_xargs", "repetition_detection", "extra_body"),
        _OBJECT,
    ),
    "stop": _STRINGS,
    "tool_choice": _CHOICE,
    "logprobs": _FLAG,
}  # fmt: skip

_PYTHON: dict[str, tuple[type, ...]] = {
    _NUMBER: (int, float),
    _INTEGER: (int,),
    _BOOLEAN: (bool,),
    _STRING: (str,),
    _STRINGS: (str, list, tuple),
    _LIST: (list, tuple),
    _OBJECT: (Mapping,),
    _CHOICE: (str, Mapping),
    _FLAG: (bool, int),
}


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


# Both endpoints, by every host.
_SHARED = _names(
    "temperature top_p max_tokens n stop seed presence_penalty frequency_penalty logit_bias "
    "logprobs top_logprobs user stream_options extra_body"
)

# https://platform.openai.com/docs/api-reference/chat/create and .../completions/create
_OPENAI_CHAT = _SHARED | _names(
    "max_completion_tokens response_format tools tool_choice parallel_tool_calls "
    "reasoning_effort verbosity service_tier store metadata prediction audio modalities "
    "moderation safety_identifier prompt_cache_key prompt_cache_options "
    "prompt_cache_retention web_search_options"
)
_OPENAI_TEXT = _SHARED | frozenset({"best_of", "echo", "suffix"})

# ChatCompletionRequest and CompletionRequest in vLLM's vllm/entrypoints/openai: what it does not
# declare it answers with 200 and leaves out, so this list has to be right. Not here: what only
# its /render endpoints heed, and what changes the answer's shape (prompt_embeds, token ids).
_VLLM_BOTH = _SHARED | _names(
    "top_k min_p repetition_penalty length_penalty use_beam_search stop_token_ids "
    "include_stop_str_in_output ignore_eos min_tokens skip_special_tokens "
    "spaces_between_special_tokens truncate_prompt_tokens truncation_side prompt_logprobs "
    "logprob_token_ids allowed_token_ids bad_words add_special_tokens response_format "
    "structured_outputs priority request_id return_tokens_as_token_ids cache_salt "
    "kv_transfer_params ec_transfer_params vllm_xargs repetition_detection "
    "thinking_token_budget stream_interval echo"
)
_VLLM_CHAT = _VLLM_BOTH | _names(
    "max_completion_tokens tools tool_choice parallel_tool_calls reasoning_effort "
    "include_reasoning add_generation_prompt continue_final_message documents chat_template "
    "chat_template_kwargs mm_processor_kwargs media_io_kwargs"
)
_VLLM_TEXT = _VLLM_BOTH | {"suffix"}

# What somebody may have meant, most telling first; the first one the endpoint takes is offered.
_NEAREST: dict[str, tuple[str, ...]] = {
    "max_completion_tokens": ("max_tokens",),
    "max_new_tokens": ("max_tokens",),
    "max_output_tokens": ("max_tokens",),
    "best_of": ("n",),
    "num_return_sequences": ("n",),
    "stop_sequences": ("stop",),
    "repetition_penalty": ("frequency_penalty",),
    "top_k": ("top_p",),
    "min_p": ("top_p",),
    "response_format": ("structured_outputs",),
    "guided_json": ("structured_outputs", "response_format"),
    "guided_regex": ("structured_outputs",),
    "guided_choice": ("structured_outputs",),
    "guided_grammar": ("structured_outputs",),
    "structured_outputs": ("response_format",),
    "functions": ("tools",),
    "function_call": ("tool_choice",),
    "chat_template_kwargs": ("reasoning_effort",),
    "enable_thinking": ("chat_template_kwargs", "reasoning_effort"),
    "echo": ("continue_final_message",),
}

_RESERVED = {
    "stream": "call stream() or astream()",
    "model": "give it as model=",
    "messages": "give them as messages=",
    "prompt": "give it as the prompt",
}


CAPABILITIES = frozenset({
    "messages", "system", "schema", "tools", "images", "audio", "files", "reasoning", "prefill",
})  # fmt: skip
"""What the format of chat completions can say, for a plugin's Info; a model may take less."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a kind of host takes.

    Attributes:
        name: For messages, such as ``vLLM``.
        chat: Names of the parameters of ``/chat/completions``.
        text: Names of the parameters of ``/completions``; empty if there is no such endpoint.
        stream_usage: Whether a stream may be asked for its usage (``stream_options``).
        longest_id: Characters that the id of a tool call may have; None for any number.
    """

    name: str
    chat: frozenset[str]
    text: frozenset[str]
    stream_usage: bool = True
    longest_id: int | None = None

    @property
    def params(self) -> frozenset[str]:
        """All names, for a plugin's Info; the endpoint that is chosen decides then."""
        return self.chat | self.text

    def of(self, endpoint: Endpoint) -> frozenset[str]:
        """The names that one endpoint takes."""
        return self.chat if endpoint == CHAT else self.text


OPENAI = Dialect("OpenAI", _OPENAI_CHAT, _OPENAI_TEXT, longest_id=40)
"""What OpenAI documents: the least that a compatible host should take."""

VLLM = Dialect("vLLM", _VLLM_CHAT, _VLLM_TEXT)
"""vLLM 0.32, and Ray Serve LLM on it."""

# o1, o3-mini, o4-mini-deep-research, gpt-5, gpt-5.1-codex, and what is tuned from them; the chat
# variants (gpt-5-chat-latest) do not reason.
_REASONING = re.compile(r"(?:ft:)?(?:o[1-9]|gpt-[5-9](?:\.\d+)*(?!-chat))(?:[-:].*)?")


def reasons(model: str) -> bool:
    """Whether OpenAI has a model of that name that reasons before it answers.

    Such a model takes ``max_completion_tokens`` and refuses ``max_tokens``.

    Args:
        model: Its name, also behind the name of who offers it: ``openai/o3-mini``.
    """
    return _REASONING.fullmatch(model.rpartition("/")[2].lower()) is not None


def body_params(params: Mapping[str, Any], dialect: Dialect, endpoint: Endpoint) -> dict[str, JSON]:
    """The parameters as one endpoint spells them; None means that one was not given.

    ``logprobs`` (True, or a number of alternatives) and ``top_logprobs`` (that number) mean the
    same on both endpoints. ``extra_body`` is left out here: it is merged last.

    Raises:
        UnsupportedError: the endpoint has no such parameter.
        InputError: a value is of the wrong type.
    """
    known = dialect.of(endpoint)
    body: dict[str, JSON] = {}
    for name, value in params.items():
        if value is None:
            continue
        if name not in known:
            raise _unsupported(name, dialect, endpoint)
        check_type(name, value)
        body[name] = value
    body.pop("extra_body", None)
    if "logit_bias" in body:
        body["logit_bias"] = {str(token): bias for token, bias in body["logit_bias"].items()}
    if "logprobs" in body or "top_logprobs" in body:
        wanted, count = _logprobs(body.pop("logprobs", None), body.pop("top_logprobs", None))
        body.update(_spell_logprobs(endpoint, wanted=wanted, count=count))
    return body


def extra_body(params: Mapping[str, Any]) -> Mapping[str, JSON]:
    """What is merged into the body last, as it is.

    Raises:
        InputError: it is no dict, or it holds what has a place of its own.
    """
    extra = params.get("extra_body")
    if extra is None:
        return {}
    check_type("extra_body", extra)
    for name, instead in _RESERVED.items():
        if name in extra:
            raise InputError(f"extra_body cannot hold {name}: {instead}")
    checked: Mapping[str, JSON] = extra
    return checked


def check_type(name: str, value: object) -> None:
    """Raise InputError unless the value is of the parameter's type."""
    expected = _TYPES.get(name)
    if expected is None:
        return
    fits = isinstance(value, _PYTHON[expected])
    if isinstance(value, bool) and bool not in _PYTHON[expected]:
        fits = False  # True is an int to Python, and never what was meant
    if expected is _STRINGS and fits and not isinstance(value, str):
        fits = all(isinstance(item, str) for item in value)  # type: ignore[attr-defined]
    if not fits:
        raise InputError(f"{name} must be {expected}, not {type(value).__name__}")


def _logprobs(flag: bool | int | None, count: int | None) -> tuple[bool, int | None]:
    """Whether logprobs are wanted, and of how many alternatives if that was said."""
    if flag is None:
        flag = True
    if not isinstance(flag, bool):
        if count is not None and count != flag:
            raise InputError(f"logprobs={flag} and top_logprobs={count} disagree: give one of them")
        flag, count = True, flag
    if not flag and count:
        raise InputError(f"top_logprobs={count} needs logprobs=True")
    if count is not None and count < -1:  # -1 is vLLM's word for the whole vocabulary
        raise InputError(f"top_logprobs must not be {count}")
    return flag, count


def _spell_logprobs(endpoint: Endpoint, *, wanted: bool, count: int | None) -> dict[str, JSON]:
    if endpoint == CHAT:
        if not wanted:
            return {"logprobs": False}
        return {"logprobs": True} if count is None else {"logprobs": True, "top_logprobs": count}
    # One number says both here. llama.cpp takes 0 for "none", so at least one is asked for.
    return {"logprobs": count or 1} if wanted else {}


def _unsupported(name: str, dialect: Dialect, endpoint: Endpoint) -> UnsupportedError:
    known = dialect.of(endpoint)
    if not known:
        return UnsupportedError(f"{dialect.name} has no /{endpoint} endpoint here", param=name)
    other = TEXT if endpoint == CHAT else CHAT
    offers = []
    near = next((n for n in _NEAREST.get(name, ()) if n in known), None) or _spelt_alike(
        name, known
    )
    if near:
        offers.append(f"the nearest is {near}")
    if name in dialect.of(other):
        offers.append(f"/{other} takes it")
    if name in _RESERVED:
        offers = [_RESERVED[name]]
    else:
        offers.append(f"extra_body={{'{name}': ...}} sends it as it is")
    return UnsupportedError(
        f"/{endpoint} of {dialect.name} takes no parameter {name}; {'; '.join(offers)}", param=name
    )


def _spelt_alike(name: str, known: frozenset[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, sorted(known), n=1, cutoff=0.7)), None)
