"""The scaffold of a new provider plugin: a complete distribution, written from a template."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError
from ..registry import installed

__all__ = ["files_of", "write_plugin"]

_TEMPLATE = Path(__file__).parent / "template"
_SUFFIX = ".txt"  # so that no tool takes the template for a part of this package
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write_plugin(name: str, folder: Path | None = None) -> Path:
    """Write the distribution ``lmgateway-<name>``; returns its folder.

    Args:
        name: The provider's name: lower-case letters, digits and single hyphens.
        folder: Where to; ``lmgateway-<name>`` in the working directory by default. It may exist,
            if it is empty.

    Raises:
        InputError: The name cannot be a provider's, or is taken; the folder holds something
            already, or cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r:.60} is no provider's name: give lower-case letters, digits and single "
            "hyphens, and begin with a letter, as in 'acme'"
        )
    for row, _ in installed():
        if row.name == name:
            raise InputError(
                f"the provider name {name!r} is taken by {row.distribution}: choose another"
            )
    folder = folder or Path(f"lmgateway-{name}")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is there already and is not empty: name another folder")
        for path, text in files_of(name):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}") from None
    return folder


def files_of(name: str) -> Iterator[tuple[str, str]]:
    """The paths and texts of the distribution."""
    for path in sorted(_TEMPLATE.rglob(f"*{_SUFFIX}")):
        target = path.relative_to(_TEMPLATE).as_posix().removesuffix(_SUFFIX)
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
