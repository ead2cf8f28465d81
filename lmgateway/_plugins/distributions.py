"""Distributions: what the installed ones offer, in whatever state their metadata are.

Anybody's metadata lie beside ours, and so does what an interrupted pip, a copy or an editor left of
them. Here nothing of that raises: what cannot be used is set aside, and named when it is asked for.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from importlib.metadata import Distribution

__all__ = ["OWN", "Offer", "Offers", "own_version", "scan"]

#: The name under which pip knows this project.
OWN = "lmgateway-core"

_VALUE = re.compile(r"[^\W\d]\w*(\.\w+)*\s*(:\s*\w+(\.\w+)*\s*)?(\[.*\]\s*)?")


class Offer(NamedTuple):
    """One line of a distribution's entry points; "?" for what its metadata do not say."""

    name: str
    value: str
    distribution: str
    version: str


class Offers(NamedTuple):
    """What all distributions offer in one group of entry points.

    Attributes:
        sound: What can be used.
        damaged: Why a name that stands somewhere cannot be used.
        silent: The distributions, by normalized name, that offer nothing.
    """

    sound: list[Offer]
    damaged: dict[str, str]
    silent: set[str]


def scan(group: str) -> Offers:
    """Look through the metadata of every distribution on ``sys.path``.

    Of a distribution that is there twice the first counts, as it does when a module is imported.
    What offers nothing hides nobody: it may be the empty folder of an upgrade that was cut short.
    """
    offers = Offers([], {}, set())
    seen: set[str] = set()
    for distribution in _distributions():
        folder = _folder(distribution)
        known_as = _normalized(folder)
        lines = dict.fromkeys(_lines(_read(distribution, "entry_points.txt"), group))
        if not lines:
            offers.silent.add(known_as)
        elif folder.startswith(("~", "-")):  # to pip too it is no distribution
            why = f"{folder} in {_place(distribution)} is what an interrupted pip left behind"
            offers.damaged.update({_halves(line)[0]: f"{why}: reinstall it" for line in lines})
        elif not known_as or known_as not in seen:
            seen.add(known_as)
            _sort(lines, distribution, offers)
    return offers


def _sort(lines: dict[str, None], distribution: Distribution, offers: Offers) -> None:
    name, version = _describe(distribution)
    for line in lines:
        key, value = _halves(line)
        if key and _VALUE.fullmatch(value):
            offers.sound.append(Offer(key, value, name, version))
        else:
            where = f"{_folder(distribution)} in {_place(distribution)}"
            offers.damaged[key] = f"the entry point {line!r:.80} of {where} names no module"


def own_version() -> str | None:
    """This project's version; None without metadata, as in a program bundled by PyInstaller."""
    for distribution in _distributions(OWN):
        version = _describe(distribution)[1]
        if version != "?" and not _folder(distribution).startswith(("~", "-")):
            return version
    return None


def _distributions(name: str | None = None) -> Iterator[Distribution]:
    """All, or those of one name; one folder at a time, so that a bad one costs no other."""
    from importlib.metadata import distributions

    wanted: dict[str, Any] = {} if name is None else {"name": name}
    for entry in sys.path:
        if isinstance(entry, str):  # Python's own import passes over all else
            try:
                yield from distributions(path=[entry], **wanted)
            except Exception:
                continue


def _read(distribution: Distribution, file: str) -> str:
    """A file of the metadata, "" without one; what is not UTF-8 in it becomes U+FFFD."""
    try:
        return distribution.read_text(file) or ""
    except UnicodeDecodeError as error:
        return error.object.decode("utf-8", "replace")
    except Exception:  # a folder in its place, a disk that fails: it has none
        return ""


def _describe(distribution: Distribution) -> tuple[str, str]:
    """Its name and version, "?" for what it does not say.

    ``Distribution.metadata`` would parse the whole description, and raise where it is damaged.
    """
    head = _read(distribution, "METADATA") or _read(distribution, "PKG-INFO")
    found = []
    for field in ("Name", "Version"):
        match = re.search(rf"^{field}:[ \t]*([\w.+!-]+)[ \t\r]*$", head, re.A | re.I | re.M)
        found.append(match[1] if match else "?")
    return found[0], found[1]


def _folder(distribution: Distribution) -> str:
    """The name of the folder with the metadata; only its private attribute tells it."""
    return os.path.basename(str(getattr(distribution, "_path", "")).rstrip("/\\"))


def _place(distribution: Distribution) -> str:
    return os.path.dirname(str(getattr(distribution, "_path", "")).rstrip("/\\"))


def _normalized(folder: str) -> str:
    name = os.path.splitext(folder)[0].partition("-")[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def _lines(text: str, group: str) -> Iterator[str]:
    """The lines of a group, wherever in the file they stand."""
    if group not in text:  # nearly always
        return
    inside = False
    for line in map(str.strip, text.removeprefix("\ufeff").splitlines()):
        if line.startswith("["):
            inside = line.strip("[] \t") == group
        elif inside and line and not line.startswith("#"):
            yield line


def _halves(line: str) -> tuple[str, str]:
    name, _, value = line.partition("=")
    return name.strip(), value.strip()
