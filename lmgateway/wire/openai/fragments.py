"""A tool call that comes in fragments."""

from __future__ import annotations

from collections.abc import Callable

from ...types import JSON
from ..pieces import Pieces, mend
from .arguments import write
from .fields import malformed, sound

__all__ = ["FragmentedCall"]

_WHERE = "choices[].delta.tool_calls[]"
_SHOWN = frozenset({"index", "id", "function"})
_SAID = frozenset({"name", "arguments"})
_READ = frozenset({"index", "id", "type", "function", "custom"})


class FragmentedCall:
    """Takes the fragments of one call; gives what is to be shown of each.

    The first one that is shown has id and name, whatever the host did; each has the call's place
    as its index.
    """

    __slots__ = (
        "_begun", "_fallback_id", "_id", "_kind", "_length", "_more", "_name", "_of_function",
        "arguments", "place",
    )  # fmt: skip

    def __init__(self, place: int, fallback_id: Callable[[], str]) -> None:
        """``fallback_id`` gives the id of a call to which the host gave none."""
        self.place = place
        self._fallback_id = fallback_id
        self._id = ""
        self._kind = "function"
        self._name: list[str] = []
        self._length = 0  # of the name
        self._begun = False  # whether any of it was shown
        self._more: dict[str, JSON] = {}  # what has no place of its own
        self._of_function: dict[str, JSON] = {}  # of that, what stood in the function
        self.arguments = Pieces()

    def is_other(self, call_id: JSON) -> bool:
        """Whether a fragment with this id and a name cannot belong to this call."""
        return bool(call_id) and bool(self._id) and call_id != self._id

    def add(self, fragment: dict[str, JSON]) -> dict[str, JSON] | None:
        """Take a fragment; what is to be shown of it, which is nearly always itself.

        None as long as the name of the call has not come.
        """
        if not self._id:
            self._id = _string(fragment, "id")
        function = fragment.get("function")
        if function is None:
            return self._add_other(fragment)
        if type(function) is not dict:
            raise malformed(f"{_WHERE}.function", function, "an object")
        if "name" in function:
            self._add_name(_string(function, "name"))
        arguments = said = function.get("arguments")
        if type(arguments) is dict:  # a whole call at once, as an object
            arguments = write(arguments, f"{_WHERE}.function.arguments")
        elif arguments is not None and type(arguments) is not str:
            raise malformed(f"{_WHERE}.function.arguments", arguments, "a string")
        if arguments:
            arguments = self.arguments.add(arguments)
        if (
            arguments is said
            and self._begun
            and _SHOWN.issuperset(fragment)
            and _SAID.issuperset(function)
            and fragment.get("index") == self.place
        ):
            return fragment
        self._of_function.update(_kept(function, _SAID))
        return self._shown(fragment, function, arguments)

    def _add_other(self, fragment: dict[str, JSON]) -> dict[str, JSON] | None:
        """A fragment without a function: of a custom tool, whose input is a free text, or none."""
        custom = fragment.get("custom")
        if type(custom) is not dict:
            return self._shown(fragment, {}, None)
        self._kind = "custom"
        self._add_name(_string(custom, "name"))
        piece = _string(custom, "input")
        return self._shown(fragment, custom, self.arguments.add(piece) if piece else piece)

    def _shown(
        self, fragment: dict[str, JSON], function: dict[str, JSON], arguments: str | None
    ) -> dict[str, JSON] | None:
        for name, value in _kept(fragment, _READ).items():
            known = self._more.get(name)
            if type(known) is dict and type(value) is dict:
                value = {**known, **value}
            self._more[name] = value
        kind = fragment.get("type")
        if type(kind) is str and kind not in ("function", "custom"):
            self._more["type"] = mend(kind)
        shown = {**_kept(fragment, ("function", "custom")), "index": self.place}
        body = _kept(function, _SAID)
        if not self._begun:
            if not self._name:
                return None
            self._begun = True
            self._id = self._id or self._fallback_id()
            shown["id"] = self._id
            body["name"] = "".join(self._name)
            arguments = str(self.arguments) if arguments is not None or self.arguments else None
        elif "name" in function:
            body["name"] = _string(function, "name")
        if arguments is not None:
            body["arguments" if self._kind == "function" else "input"] = arguments
        if body:
            shown[self._kind] = body
        return shown

    def _add_name(self, name: str) -> None:
        # Some hosts repeat it in every fragment.
        if name and (len(name) != self._length or name != "".join(self._name)):
            self._name.append(name)
            self._length += len(name)

    def plain(self) -> dict[str, JSON]:
        """The call as the plain answer has it."""
        text, name = str(self.arguments), "".join(self._name)
        if self._kind == "custom":
            said = {"custom": {"name": name, "input": text}}
        else:
            said = {"function": {**self._of_function, "name": name, "arguments": text}}
        return {"id": self._id, "type": self._kind, **self._more, **said}


def _kept(fields: dict[str, JSON], known: frozenset[str] | tuple[str, ...]) -> dict[str, JSON]:
    """The fields that are not known, as far as they can be shown."""
    kept = {name: sound(value) for name, value in fields.items() if name not in known}
    return {mend(name): value for name, value in kept.items() if value is not None}


def _string(raw: dict[str, JSON], name: str) -> str:
    value = raw.get(name)
    if value is None:
        return ""
    if type(value) is not str:
        raise malformed(f"{_WHERE}.{name}", value, "a string")
    return value if value.isascii() else mend(value)
