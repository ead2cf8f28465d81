"""A plot of ratios, as SVG: a row of dots for each measure, on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

__all__ = ["Bars", "draw"]

COLOURS = {
    "lmgateway": "#d1495b",
    "openai": "#00798c",
    "litellm": "#edae49",
    "dspy": "#66a182",
    "langchain": "#2e4057",
    "any-llm": "#8d6a9f",
}
LEFT, RIGHT, ROW, TOP = 390, 30, 30, 60
WIDTH = 960


@dataclass(frozen=True, slots=True)
class Bars:
    """One measure: ratios to its floor, by contender."""

    floor: str
    ratios: Mapping[str, float]


def draw(measures: Mapping[str, Bars]) -> str:
    """The SVG."""
    shown = {
        title: {name: ratio for name, ratio in bars.ratios.items() if name in COLOURS and ratio > 0}
        for title, bars in measures.items()
    }
    every = [ratio for ratios in shown.values() for ratio in ratios.values()] or [1.0]
    low, high = floor(log10(min(*every, 0.5))), ceil(log10(max(*every, 10.0)))

    def x(ratio: float) -> float:
        return LEFT + (log10(ratio) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    bottom = TOP + ROW * len(shown)
    parts = [
        _legend(),
        *(_tick(x(10.0**power), 10.0**power, bottom) for power in range(low, high + 1)),
    ]
    for number, (title, ratios) in enumerate(shown.items()):
        y = TOP + ROW * number + ROW / 2
        label = escape(f"{title.replace('`', '')} / {measures[title].floor}")
        parts.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{label}</text>')
        parts.append(f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="#eee"/>')
        for name, ratio in sorted(ratios.items(), key=lambda pair: pair[0] == "lmgateway"):
            radius = 7 if name == "lmgateway" else 5
            tip = escape(f"{name}: {ratio:.2f}")
            parts.append(
                f'<circle cx="{x(ratio):.1f}" cy="{y}" r="{radius}" fill="{COLOURS[name]}">'
                f"<title>{tip}</title></circle>"
            )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 30}" '
        f'font-family="sans-serif" font-size="12" fill="#333">\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
    )


def _legend() -> str:
    parts = []
    for number, (name, colour) in enumerate(COLOURS.items()):
        x = LEFT + number * 95
        parts.append(f'<circle cx="{x}" cy="20" r="6" fill="{colour}"/>')
        parts.append(f'<text x="{x + 11}" y="24">{name}</text>')
    return "\n".join(parts)


def _tick(x: float, ratio: float, bottom: float) -> str:
    weight = 'stroke="#999"' if ratio == 1 else 'stroke="#ddd"'
    return (
        f'<path d="M{x:.1f} {TOP - 14}V{bottom}" {weight}/>'
        f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{ratio:g} x</text>'
    )
