"""What is said in a conversation of ten turns, whoever answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "SCRIPT",
    "TOOLS",
    "Place",
    "Step",
    "call_id",
    "place_of",
    "result_of",
    "said",
    "user_turn",
]

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5E"
    "rkJggg=="
)


@dataclass(frozen=True)
class Step:
    """One answer: the last of a turn has no calls.

    Attributes:
        text: What it says, "" for nothing.
        calls: Name and arguments, as a service of OpenAI's kind writes them.
    """

    text: str
    calls: tuple[tuple[str, str], ...] = ()


#: By the user's turn: the answers until the service waits for the user again.
SCRIPT: tuple[tuple[Step, ...], ...] = (
    (Step("Hello."),),
    (Step("", (("weather", '{"city": "Oslo"}'),)), Step("It is sunny in Oslo.")),
    (Step("A single pixel."),),
    (
        Step(
            "",
            (
                ("roll", '{"sides": 6}'),
                ("roll", '{"sides": 6}'),
                ("weather", '{"city":"Bergen","days":1.0}'),
            ),
        ),
        Step("Two rolls, and rain in Bergen."),
    ),
    (Step("", (("now", ""),)), Step("It is noon.")),
    (Step("I look at the clock and the weather.", (("now", "{}"), ("now", "{}"))), Step("Noon.")),
    (
        Step("First one.", (("weather", '{"city": "Trondheim"}'),)),
        Step("", (("weather", '{"city": "Tromsø"}'), ("now", ""))),
        Step("Both are cold."),
    ),
    (Step("", (("weather", '{"city": "Atlantis"}'),)), Step("There is no such place.")),
    (
        Step("🌍 «ü» \\u00e9", (("note", '{"text": "naïve ☕", "tags": [1, 2.5, null, true]}'),)),
        Step("Noted: 🌍."),
    ),
    (Step("Goodbye."),),
)

_TEXT = {"type": "string"}
_NAMES: dict[str, dict[str, Any]] = {
    "weather": {"city": _TEXT, "days": {"type": "number"}},
    "roll": {"sides": {"type": "integer"}},
    "now": {},
    "note": {"text": _TEXT, "tags": {"type": "array", "items": {}}},
}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"The tool {name}.",
            "parameters": {"type": "object", "properties": properties},
        },
    }
    for name, properties in _NAMES.items()
]


def user_turn(turn: int) -> dict[str, Any]:
    """What the user says; the third time with an image."""
    text = f"[turn {turn}] Go on."
    if turn != 2:
        return {"role": "user", "content": text}
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    return {"role": "user", "content": [{"type": "text", "text": text}, image]}


def result_of(turn: int, call: Mapping[str, Any]) -> dict[str, Any]:
    """What the user's program answers to a call."""
    name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"] or "{}")
    result = {
        "role": "tool",
        "tool_call_id": call["id"],
        "content": f"{name}({arguments}) gave {sum(map(ord, name))}",
    }
    return {**result, "is_error": True} if turn == 7 else result


@dataclass(frozen=True)
class Place:
    """Where in the script an answer stands: the user's turn, and the step in it."""

    turn: int
    step: int

    def __str__(self) -> str:
        return f"{self.turn}.{self.step}"


def said(label: str, place: Place) -> str:
    """The text of an answer, with who said it and where; "" where it says nothing."""
    text = SCRIPT[place.turn][place.step].text
    return f"{text} ({label} {place})" if text else ""


def call_id(label: str, place: Place, index: int) -> str:
    """An id that says who gave it and where, in the form that the service has."""
    number = f"{label}_{place.turn}_{place.step}_{index}"
    if label == "anyscale":  # as vLLM has it for some models; Anthropic takes none of these
        return f"functions.{SCRIPT[place.turn][place.step].calls[index][0]}:{number}"
    return f"toolu_{number}" if label == "anthropic" else f"call_{number}"


def place_of(label: str, text: str, ids: Iterable[str]) -> Place | None:
    """Where an assistant's turn was said by this service; None for one that another said."""
    found = re.search(rf"\({label} (\d)\.(\d)\)", text)
    for each in ids:
        found = found or re.search(rf"\b(?:\w+_)?{label}_(\d)_(\d)_", each)
    return Place(int(found[1]), int(found[2])) if found else None
