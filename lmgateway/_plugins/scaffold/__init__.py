"""The scaffold of a new provider plugin: a complete distribution, written from a template."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError
from ..registry import installed

__all__ = ["WIRES", "files_of", "write_plugin"]

WIRES = ("openai", "own")
"""The wire formats that there is a template for: OpenAI's, and one made up to be replaced."""

_TEMPLATES = Path(__file__).parent / "template"
_SHARED = "both"
_SUFFIX = ".txt"  # so that no tool takes the template for a part of this package
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write_plugin(name: str, folder: Path | None = None, *, wire: str = "openai") -> Path:
    """Write the distribution ``lmgateway-<name>``; returns its folder.

    Args:
        name: The provider's name: lower-case letters, digits and single hyphens.
        folder: Where to; ``lmgateway-<name>`` in the working directory by default. It may exist,
            if it is empty.
        wire: One of ``WIRES``.

    Raises:
        InputError: The name cannot be a provider's, or is taken; there is no template for the wire
            format; or the folder is not empty, or cannot be written.
    """
    if wire not in WIRES:
        raise InputError(f"wire must be one of {', '.join(WIRES)}, not {wire!r:.60}")
    if name.startswith("lmgateway"):
        rest = name.removeprefix("lmgateway").lstrip("-_") or "acme"
        raise InputError(
            f"{name!r:.60} is the name of a distribution: give the provider's alone, as in {rest!r}"
        )
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r:.60} is no provider's name: give lower-case letters, digits and single "
            "hyphens, and begin with a letter, as in 'acme'"
        )
    for row, _ in installed():
        if row.name == name or row.distribution == f"lmgateway-{name}":
            raise InputError(
                f"the provider name {name!r} is taken by {row.distribution}: choose another"
            )
    folder = folder or Path(f"lmgateway-{name}")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is there already and is not empty: name another folder")
        for path, text in files_of(name, wire):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}") from None
    return folder


def files_of(name: str, wire: str = "openai") -> Iterator[tuple[str, str]]:
    """The paths and texts of the distribution."""
    for template in (_TEMPLATES / _SHARED, _TEMPLATES / wire):
        for path in sorted(template.rglob(f"*{_SUFFIX}")):
            target = path.relative_to(template).as_posix().removesuffix(_SUFFIX)
            yield _filled(target, name), _filled(path.read_text(encoding="utf-8"), name)


def _filled(text: str, name: str) -> str:
    """The template's own name is Acme; a name of several words is spelt as each place wants it."""
    words = name.split("-")
    spellings = {
        "lmgateway_acme": f"lmgateway_{'_'.join(words)}",
        "ACME_": f"{'_'.join(words).upper()}_",
        "TestAcme": f"Test{''.join(word.capitalize() for word in words)}",
        "Acme": " ".join(word.capitalize() for word in words),
        "acme": name,
    }
    pattern = re.compile("|".join(map(re.escape, spellings)))
    return pattern.sub(lambda found: spellings[found[0]], text)
