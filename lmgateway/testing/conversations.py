"""Conversations that the kit makes, each with words in it that stand nowhere else."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, TypeAlias

__all__ = [
    "AUDIO", "CALLS", "FILE", "IMAGES", "RESULTS", "TEXTS", "TOOLS", "content_with", "result_turn",
    "tool_turns", "turns",
]  # fmt: skip

Turn: TypeAlias = dict[str, Any]

TEXTS = ("The word is heliotrope.", "I shall remember quillwort.", "Which was it, samphire?")

#: Of two calls in one turn: id, name, arguments as JSON text, and words of the arguments.
CALLS = (
    ("call_kit_7a1f93c2", "look_up_word", '{"word": "tansy", "size": 86753}', ("tansy", "86753")),
    (
        "call_kit_b84e06d5",
        "measure_place",
        '{"place": {"of": ["borage", true]}, "unit": "catmint"}',
        ("borage", "catmint"),
    ),
)
RESULTS = ("It is a bellwort.", "It is a milkvetch.")

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"A tool of the {word} kind.",
            "parameters": {
                "type": "object",
                "properties": {
                    f"{word}_size": {"type": "integer", "description": f"Of a {word} leaf."},
                    f"{word}_form": {"type": "string", "enum": [f"{word} flat", f"{word} round"]},
                },
                "required": [f"{word}_size"],
            },
        },
    }
    for name, word in (("look_up_word", "foxglove"), ("measure_place", "hellebore"))
]


def turns(*roles: str, texts: tuple[str, ...] = TEXTS) -> list[Turn]:
    """Turns of these roles, with these texts."""
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]


def tool_turns(
    names: tuple[str, str] = (CALLS[0][1], CALLS[1][1]),
    content: str | None = TEXTS[1],
    *,
    failed: bool = False,
) -> list[Turn]:
    """A conversation in which the model calls two tools in one turn, and goes on with both."""
    calls = [
        {"id": call[0], "type": "function", "function": {"name": name, "arguments": call[2]}}
        for call, name in zip(CALLS, names, strict=True)
    ]
    return [
        {"role": "user", "content": TEXTS[0]},
        {"role": "assistant", "content": content, "tool_calls": calls},
        result_turn(0, failed=failed),
        result_turn(1),
        {"role": "assistant", "content": "They are a bistort."},
        {"role": "user", "content": TEXTS[2]},
    ]


def result_turn(place: int, *, failed: bool = False) -> Turn:
    """The result of one of the calls."""
    turn = {"role": "tool", "tool_call_id": CALLS[place][0], "content": RESULTS[place]}
    return {**turn, "is_error": True} if failed else turn


# -- what is no text -----------------------------------------------------------------------------


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5C"
_JPEG = _base64(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00 a picture of the kit's \xff\xd9")
_PDF = _base64(b"%PDF-1.4\n% a paper of the kit's, with nothing on it\n%%EOF\n")
_WAV = _base64(b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00 a sound of the kit's")

#: Of each: the part, its data, and words one of which names its type.
IMAGES = tuple(
    ({"type": "image_url", "image_url": {"url": f"data:{media};base64,{data}"}}, data, words)
    for media, data, words in (
        ("image/png", _PNG, frozenset({"png"})),
        ("image/jpeg", _JPEG, frozenset({"jpeg", "jpg"})),
    )
)
FILE = (
    {
        "type": "file",
        "file": {
            "filename": "paper-of-the-kit",
            "file_data": f"data:application/pdf;base64,{_PDF}",
        },
    },
    _PDF,
    frozenset({"pdf"}),
)
AUDIO = (
    {"type": "input_audio", "input_audio": {"data": _WAV, "format": "wav"}},
    _WAV,
    frozenset({"wav", "wave"}),
)


def content_with(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    """Content in which a text goes before each part, and one after the last."""
    content: list[dict[str, Any]] = []
    for place, part in enumerate(parts):
        content += [{"type": "text", "text": TEXTS[place]}, part]
    return [*content, {"type": "text", "text": TEXTS[2]}]
