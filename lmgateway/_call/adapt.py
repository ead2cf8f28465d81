"""``unsupported="adapt"``: a request is made to fit what a model takes, and each change is told.

The model's Info says beforehand what it does not take, and the plugin says the rest by itself: it
raises ``UnsupportedError(param=...)`` while it builds its first exchange. Then what it names is
said in another way, or left out if it is only a hint, and the plugin is asked once more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import LMGatewayError, UnsupportedError
from .twins import HINTS, LOSSLESS, TWINS, schema_of

if TYPE_CHECKING:
    from .._layers.context import Attempt, Call
    from ..types import CompletionWarning

__all__ = ["Fit", "fitted", "refitted"]

_PLACE = re.compile(r"messages\[(\d+)\]\.(role|name)")
_DETAIL = re.compile(r"messages\[\d+\]\.content\[\d+\](\.image_url)?\.detail")
_HAVE_DETAIL = ("image_url", "input_image", "file", "input_file")
_SYSTEM = ("system", "developer")


class Fit:
    """How a request differs from what the user asked, so that one model takes it.

    Attributes:
        warnings: What was changed, for the answer's ``warnings``.
    """

    __slots__ = ("_call", "_changes", "_refused", "warnings")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._changes: dict[str, Any] = {}
        self._refused: set[str] = set()
        self.warnings: list[CompletionWarning] = []

    def applied(self, request: Any) -> Any:
        """The request as the model is asked."""
        return replace(request, **self._changes) if self._changes else request

    def without(self, name: str, request: Any) -> bool:
        """Do without what the model does not take; return whether that can be done.

        Args:
            name: A parameter, or a place in the messages.
            request: What the user asked.
        """
        if name in self._refused:
            return False
        self._refused.add(name)
        asked = self.applied(request)
        if place := _PLACE.fullmatch(name):
            return self._adapts and self._respell(int(place[1]), place[2], asked)
        if _DETAIL.fullmatch(name):
            return self._adapts and self._without_details(asked)
        if asked.params.get(name) is None:
            return False
        if self._translate(name, asked):
            return True
        if not self._adapts or name not in HINTS:
            return False
        self._changes["params"] = _without(asked.params, name)
        self._tell("dropped", name, f"{name} was left out: the model does not take it")
        return True

    @property
    def _adapts(self) -> bool:
        return self._call.options.unsupported == "adapt"

    def _tell(self, kind: str, name: str, detail: str) -> None:
        self.warnings.append({"kind": kind, "name": name, "detail": detail})

    def _translate(self, name: str, asked: Any) -> bool:
        """Give a parameter's twin in its place, if the model takes one that can say the same."""
        if not (self._adapts or name in LOSSLESS):
            return False
        params, value = asked.params, asked.params[name]
        if name == "response_format":
            return self._as_schema(value, asked)
        taken = self._call.info.params
        if own := self._call.kind.params:  # what completions take, other kinds need not
            taken &= own
        for twin, convert in TWINS.get(name, ()):
            if twin in self._refused or twin not in taken:
                continue
            if params.get(twin) is not None and twin != "metadata":
                continue  # it was given as well
            other = convert(value, params)
            if other is None:
                continue
            self._changes["params"] = {**_without(params, name), twin: other}
            if name not in LOSSLESS:
                self._tell("adapted", name, f"{name} was sent as {twin}, which the model takes")
            return True
        return False

    def _as_schema(self, response_format: Any, asked: Any) -> bool:
        schema = schema_of(response_format)
        has = self._call.info.capabilities
        if schema is None or "schema" not in has or getattr(asked, "schema", schema) is not None:
            return False
        self._changes["schema"] = schema
        self._changes["params"] = _without(asked.params, "response_format")
        self._tell("adapted", "response_format", "response_format was sent as a JSON schema")
        return True

    def _respell(self, place: int, key: str, asked: Any) -> bool:
        """Write messages in another way: those like the one that the plugin named."""
        messages = list(getattr(asked, "messages", None) or ())
        if place >= len(messages):
            return False
        role = messages[place].get("role")
        alike = [
            number
            for number, each in enumerate(messages)
            if (key == "name" and each.get("role") == role and each.get("name"))
            or (key == "role" and number >= place and role in _SYSTEM and each["role"] in _SYSTEM)
        ]
        if place not in alike:
            return False
        for number in alike:
            where = f"messages[{number}].{key}"
            self._refused.add(where)
            respelt = _unnamed if key == "name" else _as_user
            messages[number], kind, detail = respelt(messages[number])
            self._tell(kind, where, detail)
        self._changes["messages"] = messages
        return True

    def _without_details(self, asked: Any) -> bool:
        """Leave out how closely images are to be looked at, which is only a hint."""
        messages = list(getattr(asked, "messages", None) or ())
        found = False
        for number, message in enumerate(messages):
            content = message.get("content")
            if not isinstance(content, list):
                continue
            parts = [*map(_undetailed, content)]
            for place, (part, before) in enumerate(zip(parts, content, strict=True)):
                if part is not before:
                    found = True
                    where = f"messages[{number}].content[{place}]"
                    detail = "the detail was left out: the model does not take it"
                    self._tell("dropped", where, detail)
            messages[number] = {**message, "content": parts}
        self._changes["messages"] = messages
        return found


def fitted(request: Any, call: Call) -> Fit | None:
    """How to ask one model what its Info does not name; None if nothing is to change.

    Raises:
        UnsupportedError: It cannot be done without one of the parameters.
    """
    lacking = [name for name in request.params if not takes(call, name)]
    if not lacking:
        return None
    fit = Fit(call)
    for name in lacking:
        if not fit.without(name, request):
            twin = next((each for each, _ in TWINS.get(name, ()) if each in request.params), None)
            raise UnsupportedError(
                f"{call.provider} does not take {name}, and "
                + (f"{twin} is given as well" if twin else "nothing that it takes means the same"),
                param=name,
            )
    return fit


def refitted(error: LMGatewayError, attempt: Attempt, request: Any) -> bool:
    """Whether a plugin that refuses something is to be asked again, without it.

    Args:
        error: What the plugin raised.
        attempt: The attempt that ended so.
        request: What the user asked.
    """
    name = getattr(error, "param", None)
    call = attempt.call
    if not isinstance(error, UnsupportedError) or not isinstance(name, str):
        return False
    if attempt.has_sent or call.emitted:  # it did not refuse at once: it may have done something
        return False
    fit = call.fit or Fit(call)
    if not fit.without(name, request):
        return False
    call.fit = fit
    return True


def takes(call: Call, name: str) -> bool:
    """Whether the model that a call asks takes a parameter."""
    return name in call.info.params or name in (call.kind.params or ())


def _without(params: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {each: value for each, value in params.items() if each != name}


def _as_user(message: Mapping[str, Any]) -> tuple[dict[str, Any], str, str]:
    """A system turn in the middle of a conversation as a turn of the user that says what it is."""
    respelt = {**message, "role": "user", "content": _begun(message, "System message: ")}
    return respelt, "adapted", "a later system turn was sent as the user's, and says what it is"


def _unnamed(message: Mapping[str, Any]) -> tuple[dict[str, Any], str, str]:
    """A turn without the speaker's name, which its text says if the text may change."""
    named = {**message}
    name = named.pop("name")
    if message.get("role") in ("tool", "function") or not message.get("content"):
        return named, "dropped", "the name was left out: the model does not take it"
    if "state" in message or any("state" in call for call in message.get("tool_calls") or ()):
        return named, "dropped", "the name was left out: the text goes with its state, unchanged"
    named["content"] = _begun(message, f"{name}: ")
    return named, "adapted", "the name was sent before the text"


def _begun(message: Mapping[str, Any], text: str) -> Any:
    """A message's content with a text before it."""
    content = message.get("content")
    if isinstance(content, list):
        return [{"type": "text", "text": text.rstrip()}, *content]
    return f"{text}{content or ''}"


def _undetailed(part: Any) -> Any:
    """A part without the ``detail`` of an image or a file; the part itself if it has none."""
    if not isinstance(part, Mapping) or part.get("type") not in _HAVE_DETAIL:
        return part
    for name in ("image_url", "file"):
        inner = part.get(name)
        if isinstance(inner, Mapping) and "detail" in inner:
            return {**part, name: _without(inner, "detail")}
    return _without(part, "detail") if "detail" in part else part
