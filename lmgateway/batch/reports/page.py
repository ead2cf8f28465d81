"""The page of a report: one file of HTML, with tables and plots, that loads and runs nothing."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from html import escape

from .figures import ErrorKind, Figures, Histogram
from .plots import Show, bars, dollars, histogram, seconds, whole
from .results import Results

__all__ = ["page"]

MOST_BARS = 12
_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --card: #f6f7f9; --ink: #1c2128; --pale: #57606a;
  --line: #d5dae0; --bar: #2f6db3; --bad: #b3412f; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --card: #1d232a; --ink: #e6eaef;
  --pale: #a3adb8; --line: #3a434d; --bar: #6ea8e8; --bad: #e58a76; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 20px 16px 48px; background: var(--paper);
  color: var(--ink); font: 16px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 6px; }
p { margin: 4px 0 8px; }
.pale { color: var(--pale); }
.tiles, .cards { display: grid; gap: 12px; margin: 16px 0; padding: 0; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.cards { grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr)); }
.tiles div, section { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px; min-width: 0; }
.tiles dt { color: var(--pale); font-size: .85rem; }
.tiles dd { margin: 0; font-size: 1.35rem; font-weight: 600; }
.tiles small { display: block; color: var(--pale); font-size: .8rem; font-weight: 400; }
svg { display: block; width: 100%; max-width: 440px; height: auto; }
svg .ink { fill: var(--ink); } svg .bar { fill: var(--bar); } svg .bad { fill: var(--bad); }
svg .line { stroke: var(--line); } svg .mark { stroke: var(--ink); }
.wide { margin: 12px 0; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: 5px 14px 5px 0;
  border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--pale); font-weight: 500; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 240px; }
@media (max-width: 640px) {
  .stack, .stack tbody, .stack tr, .stack td { display: block; }
  .stack thead { position: absolute; left: -9999px; }
  .stack td { border: 0; padding: 2px 0; } .stack td:empty { display: none; }
  .stack tr { border-top: 1px solid var(--line); padding: 6px 0; }
}
.name { overflow-wrap: anywhere; min-width: 130px; }
"""


def page(figures: Figures, results: Results) -> str:
    """The whole page; see ``lmgateway batch report``."""
    digest = b64encode(sha256(_STYLE.encode()).digest()).decode()
    name = escape(results.path.name)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        f"content=\"default-src 'none'; style-src 'sha256-{digest}'\">\n"
        f"<title>Batch report: {name}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>Batch report: {name}</h1>\n{_subject(results)}</header>\n<main>\n"
        f"{_tiles(figures, results)}"
        f'<div class="cards">\n{_latency(figures)}{_tokens(figures)}{_cost(figures)}'
        f"{_errors(figures)}{_finishes(figures)}</div>\n"
        f"{_examples(figures)}{_models(figures)}{_samples(figures)}</main>\n</body>\n</html>\n"
    )


def _subject(results: Results) -> str:
    job = results.job
    if not job:
        return '<p class="pale">The file that describes the job is not beside it.</p>\n'
    running = ", at work now" if job.get("running") else ""
    asked = escape(f"{job['provider']}/{job['model']}")
    return f'<p class="pale">asked {asked}{running}</p>\n'


def _tiles(figures: Figures, results: Results) -> str:
    total = results.job.get("total")
    done = figures.answered + figures.failed
    tiles = [
        ("Rows answered", f"{figures.answered:,}", f"{figures.cached:,} of them from the cache"),
        ("Rows failed", f"{figures.failed:,}", _share(figures.failed, done)),
        (
            "Rows to go",
            f"{max(0, total - done):,}" if isinstance(total, int) else "unknown",
            f"of {total:,}" if isinstance(total, int) else "the input told no number",
        ),
        ("Latency", *_middle(figures.seconds, seconds)),
        (
            "Tokens",
            whole(figures.prompt_tokens.total + figures.completion_tokens.total),
            f"{whole(figures.prompt_tokens.total)} read, "
            f"{whole(figures.completion_tokens.total)} written",
        ),
        ("Cost", *_sum(figures)),
    ]
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>\n"
        for name, value, note in tiles
    )
    return f'<dl class="tiles">\n{cells}</dl>\n'


def _share(part: int, whole_: int) -> str:
    return f"{part / whole_:.1%} of those done" if whole_ else "none is done yet"


def _middle(values: Histogram, show: Show) -> tuple[str, str]:
    if not values.count:
        return "unknown", "no call was timed"
    return show(values.percentile(0.5)), f"half of the calls; 95 %: {show(values.percentile(0.95))}"


def _sum(figures: Figures) -> tuple[str, str]:
    if figures.unpriced and not figures.cost.count:
        return "unknown", f"the price of {figures.unpriced:,} answers is not known"
    if figures.unpriced:
        return (
            f"over {dollars(figures.cost.total)}",
            f"and {figures.unpriced:,} answers at an unknown price",
        )
    if not figures.cost.count:
        return "$0", "nothing was paid for"
    return dollars(figures.cost.total), f"{dollars(figures.cost.mean)} an answer"


# -- plots, or a sentence where there is nothing to plot -------------------------------------------


def _card(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>\n{body}</section>\n"


def _nothing(sentence: str) -> str:
    return f'<p class="pale">{escape(sentence)}</p>\n'


def _latency(figures: Figures) -> str:
    title = "How long a call took"
    if figures.seconds.count:
        plot = histogram(title, figures.seconds, "seconds a call, its retries included", seconds)
        return _card(title, plot)
    if figures.answered and figures.cached == figures.answered:
        return _card(title, _nothing("All answers came from the cache: no call was made."))
    if figures.answered:
        return _card(title, _nothing("The rows do not say how long their calls took."))
    return _card(title, _nothing("No row was answered, so there is nothing to show."))


def _tokens(figures: Figures) -> str:
    cards = ""
    for title, values, unit in (
        ("Tokens read", figures.prompt_tokens, "tokens of a prompt"),
        ("Tokens written", figures.completion_tokens, "tokens of an answer"),
    ):
        if values.count:
            cards += _card(title, histogram(title, values, unit, whole))
        elif figures.answered:
            cards += _card(title, _nothing("The service told no tokens."))
        else:
            cards += _card(title, _nothing("No row was answered, so there is nothing to show."))
    return cards


def _cost(figures: Figures) -> str:
    title = "What an answer cost"
    note = ""
    if figures.unpriced:
        note = _nothing(
            f"The price of {figures.unpriced:,} answers is not known: their model is not listed, "
            "the service told no tokens, or the extra [prices] is not installed."
        )
    if figures.cost.count and figures.cost.total:
        plot = histogram(title, figures.cost, "US dollars an answer", dollars)
        return _card(title, plot + note)
    if figures.cost.count and not note:
        return _card(title, _nothing("The answers cost nothing."))
    return _card(title, note or _nothing("No answer was paid for, so there is nothing to show."))


def _errors(figures: Figures) -> str:
    title = "Rows that failed, by kind"
    if not figures.errors:
        return _card(title, _nothing("No row failed."))
    kinds = _sorted(figures.errors)
    told = "; ".join(f"{kind.count:,} {name}" for name, kind in kinds[:MOST_BARS])
    plot = bars(title, [(name, kind.count) for name, kind in kinds[:MOST_BARS]], told)
    more = len(kinds) - MOST_BARS
    return _card(title, plot + (_nothing(f"{more} more kinds are below.") if more > 0 else ""))


def _finishes(figures: Figures) -> str:
    title = "Why answers ended"
    if not figures.finishes:
        return _card(title, _nothing("No row was answered, so there is nothing to show."))
    rows = ((name, f"{count:,}") for name, count in figures.finishes.most_common())
    return _card(title, _table(("Reason", "Answers"), rows))


# -- tables ---------------------------------------------------------------------------------------


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]], texts: int = 1) -> str:
    """A table whose first columns are texts, and the others numbers."""
    names = "".join(
        f'<th scope="col"{_class(place, texts)}>{escape(name)}</th>'
        for place, name in enumerate(head)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{_class(place, texts)}>{escape(cell)}</td>" for place, cell in enumerate(row)
        )
        + "</tr>\n"
        for row in rows
    )
    kind = ' class="stack"' if texts > 1 else ""
    return f"<table{kind}>\n<thead><tr>{names}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"


def _class(place: int, texts: int) -> str:
    if place >= texts:
        return ' class="number"'
    return ' class="text"' if place == 2 or (texts == 2 and place) else ' class="name"'


def _wide(title: str, table: str) -> str:
    return f'<section class="wide" tabindex="0"><h2>{title}</h2>\n{table}</section>\n'


def _sorted(errors: dict[str, ErrorKind]) -> list[tuple[str, ErrorKind]]:
    return sorted(errors.items(), key=lambda item: -item[1].count)


def _examples(figures: Figures) -> str:
    if not figures.errors:
        return ""
    rows = (
        ("" if place else f"{name}: {kind.count:,} row{'s' * (kind.count > 1)}", *example)
        for name, kind in _sorted(figures.errors)
        for place, example in enumerate(kind.examples or [("", "")])
    )
    return _wide("Examples of errors", _table(("Kind", "custom_id", "Message"), rows, texts=3))


def _models(figures: Figures) -> str:
    if not figures.models:
        return ""
    head = ("Model", "Answers", "Tokens read", "Tokens written", "US dollars")
    rows = (
        (
            name,
            f"{each.rows:,}",
            f"{each.prompt_tokens:,}",
            f"{each.completion_tokens:,}",
            _paid(each.cost, each.unpriced),
        )
        for name, each in sorted(figures.models.items(), key=lambda item: -item[1].rows)
    )
    return _wide("Models", _table(head, rows))


def _paid(cost: float, unpriced: int) -> str:
    if not unpriced:
        return dollars(cost)
    return f"over {dollars(cost)}" if cost else "unknown"


def _samples(figures: Figures) -> str:
    if not figures.samples:
        return ""
    table = _table(("custom_id", "Answer"), figures.samples, texts=2)
    return _wide("Some answers, chosen by chance", table)
