"""Prices: what an answer cost, by what its service states or by the list of genai-prices."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from importlib import import_module
from typing import Any, TypeAlias

from ..types import Completion, Embeddings, Reranked

__all__ = ["Answered", "price", "stated_cost"]

Answered: TypeAlias = Completion | Embeddings | Reranked | Mapping[str, Any]

#: Names of the price list, and where services count it: a field of Usage, or a way within its
#: ``details``, which are the service's own object.
_PLACES: dict[str, tuple[tuple[str, ...], ...]] = {
    "cache_read_tokens": (("cached_tokens",),),
    "cache_write_tokens": (("cache_write_tokens",),),
    "cache_write_1h_tokens": (("details", "cache_creation", "ephemeral_1h_input_tokens"),),
    "output_reasoning_tokens": (("reasoning_tokens",),),
    "input_audio_tokens": (("details", "prompt_tokens_details", "audio_tokens"),),
    "output_audio_tokens": (("details", "completion_tokens_details", "audio_tokens"),),
    "input_image_tokens": (("details", "prompt_tokens_details", "image_tokens"),),
    "output_image_tokens": (("details", "completion_tokens_details", "image_tokens"),),
    "web_searches": (("details", "server_tool_use", "web_search_requests"),),
    "rerank_searches": (("details", "search_units"), ("details", "billed_units", "search_units")),
}
#: What costs something else than other tokens do: its price must be on the list.
_OWN_PRICE = {
    "input_tokens": "input_mtok",
    "output_tokens": "output_mtok",
    "cache_write_tokens": "cache_write_mtok",
    "cache_write_1h_tokens": "cache_write_1h_mtok",
    "input_audio_tokens": "input_audio_mtok",
    "output_audio_tokens": "output_audio_mtok",
    "output_image_tokens": "output_image_mtok",
    "web_searches": "web_searches_kcount",
    "rerank_searches": "rerank_searches_kcount",
}
#: What services call the tier whose prices are the usual ones.
_USUAL_TIER = frozenset({"", "default", "standard", "on_demand"})
_USUAL_PLACE = frozenset({"", "global", "not_available"})  # Claude: elsewhere costs more
_FREE_TOOLS = frozenset({"web_search_requests", "web_fetch_requests"})  # the first is counted
_MOST = 2**53  # more is no count of anything


def price(answer: Answered) -> Decimal | None:
    """US dollars that an answer cost; None where it is not known.

    It is what the service itself states as ``cost`` in ``usage``. Else it is known where the
    library genai-prices (the extra ``[prices]``) lists this model of this very provider, with a
    price for each kind of token that the service told, at the tier that it served. A model of the
    same name elsewhere says nothing; an ``api_base`` of your own is not looked at.

    A dict of ``provider``, ``model`` and ``usage`` is enough, so that a cost can be estimated.
    """
    used = answer.get("usage")
    if not isinstance(used, Mapping):
        return None
    if (stated := stated_cost(used)) is not None:
        return stated
    try:
        context = _context(answer, used)
        counted = _counted(answer, used)
        return None if counted is None or context is None else _listed(answer, counted, context)
    except (LookupError, ValueError, TypeError, AttributeError, ImportError, Warning):
        return None  # not listed, no list or one of another form, counts that make no sense


def stated_cost(used: Mapping[str, Any]) -> Decimal | None:
    """US dollars as the service states them; None if it does not, or they make no sense."""
    cost = _dollars(used.get("cost"))
    details = used.get("details")
    if cost is None or not isinstance(details, Mapping) or not details.get("is_byok"):
        return cost
    # OpenRouter with a key of the user's own: its fee, and what the provider behind it takes.
    beside = details.get("cost_details")
    behind = beside.get("upstream_inference_cost") if isinstance(beside, Mapping) else None
    other = _dollars(behind)
    return None if other is None else cost + other


def _dollars(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return Decimal(str(value)) if 0 <= value <= _MOST else None


def _counted(answer: Answered, used: Mapping[str, Any]) -> dict[str, int] | None:
    """What is paid for, by its name in the price list; None if that is not told in full.

    Raises:
        ValueError: A count makes no sense.
    """
    counts = {name: n for name, places in _PLACES.items() if (n := _told(used, places))}
    for kind in ("audio_tokens", "image_tokens"):  # heard and spoken, seen and drawn together
        both = counts.get(f"input_{kind}", 0) + counts.get(f"output_{kind}", 0)
        if rest := max(0, (_count(used.get(kind)) or 0) - both):
            if "details" in used:
                return None
            counts[f"input_{kind}"] = rest
    if not _adds_up(used, counts):
        return None
    read, written = _count(used.get("prompt_tokens")), _count(used.get("completion_tokens"))
    if "embeddings" in answer or "results" in answer:  # they write nothing
        written = written or 0
        read = 0 if read is None and "rerank_searches" in counts else read
    if read is None or written is None:
        return None
    hidden = (_count(used.get("total_tokens")) or 0) - read - written
    if hidden > 0:  # xAI and Gemini count what was thought beside what was written
        if hidden != counts.get("output_reasoning_tokens"):
            return None
        written += hidden
    if counts.get("output_reasoning_tokens", 0) > written:
        return None
    return {"input_tokens": read, "output_tokens": written, **counts}


def _adds_up(used: Mapping[str, Any], counts: Mapping[str, int]) -> bool:
    """Whether it is known what was written for how long, and which tools the service ran."""
    five_minutes = _told(used, (("details", "cache_creation", "ephemeral_5m_input_tokens"),)) or 0
    an_hour, written = counts.get("cache_write_1h_tokens", 0), counts.get("cache_write_tokens", 0)
    if five_minutes + an_hour > written:
        return False
    tools = _at(used, ("details", "server_tool_use"))
    return not isinstance(tools, Mapping) or not any(
        count for name, count in tools.items() if name not in _FREE_TOOLS
    )


def _context(answer: Answered, used: Mapping[str, Any]) -> dict[str, str] | None:
    """How the call was served, in the words of the price list; None if its price is unknown.

    Raises:
        ValueError: What is said of it makes no sense.
    """
    extra = answer.get("extra")
    tier = extra.get("service_tier") if isinstance(extra, Mapping) else None
    tier = _word(tier or _at(used, ("details", "service_tier")))
    speed = _word(_at(used, ("details", "speed")))
    if _word(_at(used, ("details", "inference_geo"))) not in _USUAL_PLACE:
        return None
    context = {"speed": speed} if speed not in _USUAL_TIER else {}
    if tier == "batch":
        context["processing"] = tier
    elif tier not in _USUAL_TIER:
        context["service_tier"] = tier
    return context


def _listed(
    answer: Answered, counted: Mapping[str, int], context: Mapping[str, str]
) -> Decimal | None:
    """The price by the list; None where it lists the model, but not all that is paid for.

    Raises:
        LookupError, ValueError, TypeError: It is not listed, or the counts make no sense.
        ImportError: There is no list.
    """
    prices: Any = import_module("genai_prices")
    model, provider = answer.get("model"), answer.get("provider")
    if not isinstance(model, str) or not isinstance(provider, str):
        return None
    given: dict[str, Any] = {"price_context": context} if context else {}
    found = prices.calc_price(
        prices.Usage(**counted), model_ref=model, provider_id=provider, **given
    )
    if found.provider.id != provider and found.provider.id in provider:
        return None  # a stranger, whose name has that of the service in it
    for name, key in _OWN_PRICE.items():
        if counted.get(name) and getattr(found.model_price, key, None) is None:
            return None
    if context and not _has_variant(found.model, context):
        return None  # the library then takes the usual price
    return Decimal(found.total_price)


def _has_variant(model: Any, context: Mapping[str, str]) -> bool:
    """Whether the list has prices for each of these circumstances today."""
    from datetime import UTC, datetime  # here alone, and not in what get_lm imports

    now = datetime.now(UTC)
    listed: set[tuple[str, str]] = set()
    for variant in model.price_variants or ():
        of_today = variant.constraint is None or variant.constraint.active(now)
        if of_today and variant.when.items() <= context.items():
            listed.update(variant.when.items())
    return listed == set(context.items())


def _told(used: Mapping[str, Any], places: tuple[tuple[str, ...], ...]) -> int | None:
    for way in places:
        if (count := _count(_at(used, way))) is not None:
            return count
    return None


def _at(value: Any, way: tuple[str, ...]) -> Any:
    for name in way:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _count(value: object) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError("no count")
    return value


def _word(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError("no word")
    return value.lower()
