"""The site's navigation: every page there is, by folder, in the order a reader needs them.

And the ``::`` that announces a block of code in a docstring is shown as a colon, or not at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

SECTIONS = {
    "Tutorial": "tutorial",
    "How to": "how-to",
    "Reference": "reference",
    "Explanation": "explanation",
    "Decisions": "adr",
}


def on_config(config: Any) -> Any:
    """Called by mkdocs, which then builds from what this returns."""
    docs = Path(config["docs_dir"])
    nav: list[Any] = [{"Home": "index.md"}]
    for title, folder in SECTIONS.items():
        pages = sorted((docs / folder).glob("*.md"), key=lambda page: (page.stem != "README", page))
        paths = [f"{folder}/{page.name}" for page in pages if page.name != "template.md"]
        if paths:
            nav.append({title: paths})
    config["nav"] = nav
    return config


def on_page_content(html: str, **_: Any) -> str:
    """Called by mkdocs with each page's HTML."""
    return html.replace("<p>::</p>", "").replace("::</p>", ":</p>")
