"""The page of the closed lists says what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_type_hints

import pytest

from lmgateway._call import answers
from lmgateway.testing import shape
from lmgateway.types import CompletionWarning, Info, Part, Usage
from lmgateway.wire.openai import CAPABILITIES
from lmgateway.wire.openai.endings import ENDINGS, ending
from lmgateway.wire.openai.logprobs import read_logprobs

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "closed-lists.md"


def words(section: str) -> list[str]:
    """The first column of a section's table."""
    _, _, rest = PAGE.read_text("utf-8").partition(f"\n## {section}\n")
    table = rest.partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def listed_in(docstring: str | None, words: list[str]) -> list[str]:
    return [word for word in words if f"``{word}``" not in (docstring or "")]


def test_finish_reasons() -> None:
    listed = set(words("Finish reasons"))
    assert listed == shape.REASONS == answers._REASONS == ENDINGS | {ending("unheard of")}


def test_tokens() -> None:
    assert words("Tokens") == list(get_type_hints(Usage))


def test_log_probabilities() -> None:
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    (read,) = read_logprobs({"content": [token]}, "logprobs") or []
    assert set(words("Log probabilities")) == read.keys()


def test_capabilities() -> None:
    assert set(words("Capabilities")) == CAPABILITIES
    assert not listed_in(Info.__doc__, words("Capabilities"))


@pytest.mark.parametrize(
    "section, documented", [("Parts", Part.__doc__), ("Warnings", CompletionWarning.__doc__)]
)
def test_what_a_docstring_lists(section: str, documented: str | None) -> None:
    assert words(section)
    assert not listed_in(documented, words(section))
    quoted = set(re.findall(r"^ +- ``(\w+)``:", documented or "", re.MULTILINE))
    assert not quoted - set(words(section)), "the docstring knows more than the page"
