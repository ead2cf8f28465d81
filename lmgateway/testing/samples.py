"""Sample values for generation parameters, of the types that services take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["BESIDE", "sample_values"]

_TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look something up.",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}},
    },
}
_OTHER = {"type": "function", "function": {**_TOOL["function"], "name": "look_around"}}  # type: ignore[dict-item]
_NUMBERS = (0.25, 0.75)
_COUNTS = (2, 3)

_KNOWN: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("temperature", "top_p", "min_p"), _NUMBERS),
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "repetition_penalty"), _NUMBERS),
    **dict.fromkeys(("n", "best_of", "top_k", "seed", "max_tokens", "min_tokens"), _COUNTS),
    **dict.fromkeys(("max_completion_tokens", "top_logprobs"), _COUNTS),
    "logprobs": (True, 2),
    "stop": (["END"], "END", ["OVER"]),
    "stop_sequences": (["END"], "END", ["OVER"]),
    "tools": ([_TOOL], [_OTHER]),
    "parallel_tool_calls": (False, True),
    "tool_choice": ("required", "auto", {"type": "function", "function": {"name": "look_up"}}),
    "response_format": ({"type": "json_object"}, {"type": "text"}),
    "logit_bias": ({"50256": -1}, {"50256": 1}),
    "user": ("someone", "someone-else"),
    "metadata": ({"user_id": "someone"}, {"user_id": "someone-else"}),
    "extra_body": ({"an_option_of_the_host": 1}, {"an_option_of_the_host": 2}),
    "stream_options": tuple({"include_usage": True, "an_option": n} for n in (1, 2)),
    "reasoning_effort": ("low", "high"),
}

#: Values of every JSON type, for a name that is not in the table.
_ANY: tuple[Any, ...] = (
    *(True, False, 2, 3, 0.25, 0.75, "a text", "a word", ["a text"], ["a word"]),
    *({"a": "text"}, {"a": "word"}, [2], [3], [{}], [{"a": "word"}]),
)

#: Parameters that mean nothing alone, and what must be given with them.
BESIDE: dict[str, Mapping[str, Any]] = {
    "tool_choice": {"tools": [_TOOL]},
    "parallel_tool_calls": {"tools": [_TOOL]},
    "top_logprobs": {"logprobs": True},
}


def sample_values(name: str, own: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sample values for a parameter; ``own`` are those that the author of the plugin gave."""
    if name in own:
        return tuple(own[name])
    return _KNOWN.get(name, _ANY)
