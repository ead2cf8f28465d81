"""How much the model is to think: OpenAI's ``reasoning_effort`` and the API's own ``thinking``.

New models are told an effort, and decide themselves when to think; old ones are told how many
tokens they may think.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmgateway.errors import InputError, UnsupportedError
from lmgateway.types import JSON, CompletionWarning

from .models import Traits
from .thinking import is_on

__all__ = ["DEFAULT_MAX_TOKENS", "Reasoning", "clash", "may_think", "reasoning_of", "room"]

#: The API has no default of its own and wants a number.
DEFAULT_MAX_TOKENS = 4096

#: Tokens that a model may think, by OpenAI's word, where it is told tokens and no effort.
_BUDGETS = {
    "minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768,
}  # fmt: skip
_LEAST_BUDGET = 1024
_FORCED = ("any", "tool")
_NEVER_FORCED = "a model that thinks cannot be made to call a tool"


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What is sent of it.

    Attributes:
        thinking: The request's ``thinking``; None for none.
        effort: Of ``output_config``; None for none.
    """

    thinking: JSON = None
    effort: JSON = None


_NOTHING = Reasoning()


def may_think(params: Mapping[str, Any]) -> bool:
    """Whether a request asks for thinking, in any of the ways that there are."""
    if params.get("reasoning_effort") not in (None, "none"):
        return True
    extra = params.get("extra_body")
    return is_on(params.get("thinking")) or (
        isinstance(extra, Mapping) and is_on(extra.get("thinking"))
    )


def reasoning_of(params: Mapping[str, Any], extra: Mapping[str, JSON], model: Traits) -> Reasoning:
    """What a request says of it, in the model's own way.

    Args:
        params: The request's.
        extra: What ``extra_body`` holds, which is sent as it is.
        model: What the model takes.

    Raises:
        UnsupportedError: The model takes no such ``thinking`` or ``reasoning_effort``.
    """
    effort = params.get("reasoning_effort")
    if (thinking := extra.get("thinking")) is None:
        thinking = params.get("thinking")
        if thinking is None and effort is None:  # as nearly always
            return _NOTHING
        _check_thinking(thinking, params, model)
    if effort is None:
        return Reasoning(thinking)
    if not model.is_known:
        if effort in ("none", "minimal"):
            raise _lacks(effort, "give thinking, or another effort")
        return Reasoning(thinking, effort)
    if thinking is not None:
        if effort not in model.efforts:
            raise _lacks(effort, "thinking is given as well, which says it already")
        return Reasoning(thinking, effort)
    return _from_effort(effort, params, model)


def room(thinking: JSON, given: JSON, beta: str | None, warnings: list[CompletionWarning]) -> JSON:
    """``max_tokens``, which must be more than the model may think.

    Args:
        thinking: The request's, if the model may think.
        given: The user's ``max_tokens``, if there are any.
        beta: Names of beta features, of which one lifts the rule.
        warnings: Is told if more than the default is sent.

    Raises:
        InputError: The user's leave no room for an answer.
    """
    budget = thinking.get("budget_tokens") if isinstance(thinking, Mapping) else None
    if type(budget) is not int or "interleaved-thinking" in (beta or ""):
        return DEFAULT_MAX_TOKENS if given is None else given
    if given is None:
        if budget < DEFAULT_MAX_TOKENS:
            return DEFAULT_MAX_TOKENS
        limit = budget + DEFAULT_MAX_TOKENS
        detail = f"none were given, and the model may think {budget}: {limit} were sent"
        warnings.append({"kind": "defaulted", "name": "max_tokens", "detail": detail})
        return limit
    if isinstance(given, int) and given <= budget:
        raise InputError(
            f"the model may think {budget} tokens, and max_tokens is {given}: give more "
            "max_tokens, or less of thinking.budget_tokens"
        )
    return given


def _check_thinking(thinking: Any, params: Mapping[str, Any], model: Traits) -> None:
    if not model.is_known or not isinstance(thinking, Mapping):
        return
    kind, budget = thinking.get("type"), thinking.get("budget_tokens")
    if kind in ("adaptive", "disabled", "enabled") and kind not in model.thinking:
        takes = " or ".join(sorted(model.thinking))
        raise UnsupportedError(
            f"the model takes no thinking of the type {kind}, but {takes}", param="thinking"
        )
    if kind == "enabled" and _is_forced(params):
        raise UnsupportedError(_NEVER_FORCED, param="thinking")
    if kind == "enabled" and isinstance(budget, int) and budget < _LEAST_BUDGET:
        raise InputError(f"thinking.budget_tokens must be {_LEAST_BUDGET} at least, not {budget}")


def _from_effort(effort: JSON, params: Mapping[str, Any], model: Traits) -> Reasoning:
    if effort == "none":
        if "disabled" not in model.thinking:
            raise _lacks(effort, "the model always thinks; give another effort")
        return Reasoning({"type": "disabled"})
    if effort in model.efforts:
        thinks = "adaptive" in model.thinking and not _is_forced(params)
        return Reasoning({"type": "adaptive"} if thinks else None, effort)
    if "enabled" in model.thinking and not model.efforts:
        return Reasoning({"type": "enabled", "budget_tokens": _budget(effort, params)})
    raise _lacks(effort, f"give {', '.join(model.efforts)}" if model.efforts else "leave it out")


def _budget(effort: JSON, params: Mapping[str, Any]) -> int:
    """The tokens to think: at most three quarters of ``max_tokens``."""
    budget = _BUDGETS.get(effort) if isinstance(effort, str) else None
    if budget is None:
        raise _lacks(effort, f"give none, {', '.join(_BUDGETS)}")
    if _is_forced(params):
        raise _lacks(effort, _NEVER_FORCED)
    limit = params.get("max_tokens")
    if isinstance(limit, int):
        budget = min(budget, limit * 3 // 4)
    if budget < _LEAST_BUDGET:
        raise _lacks(effort, f"max_tokens leaves less than {_LEAST_BUDGET} tokens to think")
    return budget


def _is_forced(params: Mapping[str, Any]) -> bool:
    """Whether a tool must be called, which the API refuses while the model thinks."""
    choice = params.get("tool_choice")
    if isinstance(choice, Mapping):
        return choice.get("type") in (*_FORCED, "function")
    return bool(choice == "required")


def _lacks(effort: JSON, instead: str) -> UnsupportedError:
    return UnsupportedError(
        f"the model has no reasoning_effort {effort!r:.20}: {instead}", param="reasoning_effort"
    )


def clash(body: Mapping[str, JSON], model: Traits) -> str | None:
    """The sampling parameter that a model does not take while it thinks; None for none."""
    if not model.is_known or not is_on(body.get("thinking")):
        return None
    if body.get("temperature") not in (None, 1):
        return "temperature"
    if body.get("top_k") is not None:
        return "top_k"
    top_p = body.get("top_p")
    return "top_p" if isinstance(top_p, (int, float)) and not 0.95 <= top_p <= 1 else None
