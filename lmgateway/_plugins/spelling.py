"""Spelling: what somebody may have meant by a name that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable

from .._base.values import shown

__all__ = ["HANDFUL", "handful", "nearest", "with_slash"]

#: No message lists more names of a kind.
HANDFUL = 5


def nearest(name: str, names: Iterable[str]) -> str:
    """A clause that offers the nearest of some names, in upper or lower case, or ""."""
    from difflib import get_close_matches

    if len(name) > 100:
        return ""
    spelt = {each.lower(): each for each in sorted(set(names), reverse=True)}
    found = get_close_matches(name.lower(), sorted(spelt), n=2, cutoff=0.6)
    return f"did you mean {' or '.join(repr(spelt[each]) for each in found)}?" if found else ""


def handful(name: str, names: Iterable[str]) -> str:
    """Some names as a list, the nearest to another name first, and how many more there are."""
    from difflib import SequenceMatcher

    matcher = SequenceMatcher(b=name[:100].lower())

    def distance(each: str) -> tuple[float, str]:
        matcher.set_seq1(each.lower())
        return -matcher.ratio(), each

    ordered = sorted(set(names), key=distance)
    more = len(ordered) - HANDFUL
    return ", ".join(ordered[:HANDFUL]) + (f" and {more} more" if more > 0 else "")


def with_slash(name: str, providers: Iterable[str]) -> str:
    """A clause for a name such as ``openai:gpt-4o``, or ""."""
    for each in sorted(providers, key=len, reverse=True):
        mark, model = name[len(each) : len(each) + 1], name[len(each) + 1 :]
        if name.lower().startswith(each.lower()) and mark and not mark.isalnum() and model.strip():
            return f"write a slash before the model: {shown(f'{each}/{model.strip()}')}"
    return ""
