"""What a provider sends for a call, as plain values in which a check can look for texts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..types import JSON, Blocking, Exchange, HTTPRequest, Kept

__all__ = ["Path", "Sent", "dumped", "leaves_of", "share_of", "tree_of", "words_of"]

Path: TypeAlias = tuple[str, ...]
"""Names of fields from the outside in; an item of a list is ``[]``."""

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Sent:
    """All exchanges of one call, as far as it came.

    Attributes:
        exchanges: A tree of plain values for each; None for a Blocking without a key, which says
            nothing of what is asked.
    """

    exchanges: tuple[JSON, ...]

    @property
    def is_hidden(self) -> bool:
        """Whether nothing can be seen of it: its exchanges are Blocking, and have no key."""
        return all(each is None for each in self.exchanges)

    @property
    def text(self) -> str:
        """All of it as one text."""
        return dumped(self.exchanges)

    def holds(self, text: str) -> bool:
        """Whether a text stands in it, as it is or as JSON writes it within a string."""
        return any(form in self.text for form in _forms(text))

    def main(self, text: str) -> JSON:
        """The first exchange that holds a text; None if there is none."""
        return next((each for each in self.exchanges if text in dumped(each)), None)


def _forms(text: str) -> Iterator[str]:
    form = text
    for _ in range(3):  # JSON, in a string of JSON, in a string of JSON
        form = json.dumps(form, ensure_ascii=False)[1:-1]
        yield form
    form = text
    for _ in range(3):
        form = json.dumps(form)[1:-1]
        yield form


def tree_of(exchange: Exchange) -> JSON:
    """An exchange as plain values, without credentials; what is kept as the first in it."""
    if isinstance(exchange, HTTPRequest):
        return {
            "method": exchange.method,
            "url": exchange.url,
            "query": _plain(exchange.query),
            "headers": {name.lower(): value for name, value in exchange.headers.items()},
            "body": _body(exchange),
        }
    if isinstance(exchange, Kept):
        return _kept(exchange)
    return None if exchange.key is None else {"blocking": _plain(exchange.key)}


def _kept(exchange: Kept) -> JSON:
    """What is sent for a stretch: its key names it, its own first exchange says it in full."""
    try:
        for effect in exchange.flow:
            if isinstance(effect, (HTTPRequest, Blocking)):
                return tree_of(effect)
    except Exception:
        pass  # it was run already, or fails: its key is all there is
    finally:
        exchange.flow.close()
    return {"kept": _plain(exchange.key)}


def _body(request: HTTPRequest) -> JSON:
    if request.content is not None:
        try:
            return json.loads(request.content)
        except ValueError:
            return _plain(request.content)
    return _plain(request.json if request.form is None else request.form)


def _plain(value: Any) -> JSON:
    if isinstance(value, (bytes, bytearray)):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.decode("latin-1")
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    return repr(value)


def dumped(tree: JSON) -> str:
    """A tree as one text, with the characters as they are."""
    return json.dumps(tree, ensure_ascii=False, default=repr)


def leaves_of(tree: JSON, path: Path = ()) -> Iterator[tuple[Path, JSON]]:
    """Each scalar of a tree, and where it stands."""
    if isinstance(tree, Mapping):
        for name, each in tree.items():
            yield from leaves_of(each, (*path, str(name)))
    elif isinstance(tree, (list, tuple)):
        for each in tree:
            yield from leaves_of(each, (*path, "[]"))
    else:
        yield path, tree


def share_of(tree: JSON, text: str, others: Sequence[str]) -> JSON:
    """The largest piece of a tree that holds a text and none of the others; None if none does."""
    whole = dumped(tree)
    if text not in whole:
        return None
    if not any(other in whole for other in others):
        return tree
    inside = tree.values() if isinstance(tree, Mapping) else tree
    if isinstance(inside, str) or not hasattr(inside, "__iter__"):
        return None
    found = (share_of(each, text, others) for each in inside)
    return next((each for each in found if each is not None), None)


def words_of(tree: JSON) -> set[str]:
    """The words of a tree's scalars and of its fields' names, in lower case."""
    texts = [dumped(leaf) for path, leaf in leaves_of(tree)]
    texts += [name for path, _ in leaves_of(tree) for name in path]
    return {word.lower() for text in texts for word in _WORD.findall(text)}
