"""Citations in DSPy's outputs, as an output field of the type ``dspy.Citations`` reads them.

It reads Anthropic's form alone and raises at any other. DSPy makes outputs of a response by itself,
with a text, a title and a URL of each citation; the rest is in the response.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .parts import CITATION, kept

__all__ = ["cites", "readable", "written_out"]

_FORM = frozenset({"cited_text", "document_index", "start_char_index", "end_char_index"})


def cites(outputs: Any) -> bool:
    """Whether there are citations in the outputs of a call."""
    if type(outputs) is list:  # else it is one typed response
        for output in outputs:
            if isinstance(output, dict) and "citations" in output:
                return True
    return False


def written_out(entry: Mapping[str, Any]) -> None:
    """Write citations that are in Anthropic's form out in a call's outputs, in place.

    Args:
        entry: Of the history. Its outputs are those that the call returns.
    """
    answers = entry["response"]
    answers = answers if isinstance(answers, tuple) else (answers,)
    for output, answer in zip(entry["outputs"], answers, strict=False):
        if isinstance(output, dict) and "citations" in output:
            shown = zip(answer.citations, output["citations"], strict=True)
            output["citations"] = [{**each, **_in_form(part)} for part, each in shown]


def readable(outputs: list[Any]) -> list[Any]:
    """Outputs for an adapter, without the citations that its types cannot read."""
    return [_readable(output) if isinstance(output, dict) else output for output in outputs]


def _readable(output: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in output.items() if name != "citations"}
    cited = [each for each in output.get("citations", ()) if each.keys() >= _FORM]
    return {**rest, "citations": cited} if cited else rest


def _in_form(part: Any) -> dict[str, Any]:
    """A citation in Anthropic's form, with the text that it supports; empty if it has another."""
    more = kept(part, CITATION)
    form = more.get("extra")
    if not isinstance(form, dict) or not form.keys() >= _FORM:
        return {}
    return {**form, "supported_text": more.get("supported_text")}
