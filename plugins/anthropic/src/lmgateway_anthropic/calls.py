"""The calls of a conversation and their results: which belong together, and by which id."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

from lmgateway.types import JSON

__all__ = ["Call", "Calls", "Turn"]

_WANTED = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_UNWANTED = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(slots=True)
class Call:
    """One call of a tool.

    Attributes:
        id: As the conversation has it.
        sent: As the API is told.
        answered: Whether its result was found.
    """

    id: str
    sent: str
    answered: bool = False


@dataclass(slots=True)
class Turn:
    """A turn as it will be sent, and what follows it at once.

    Attributes:
        role: ``user`` or ``assistant``.
        content: A text or blocks.
        where: Its place in the user's messages.
        own: Whether its blocks are as the API gave them.
        calls: Those that it makes.
        results: Theirs, from messages of their own.
    """

    role: str
    content: str | list[dict[str, JSON]]
    where: str
    own: bool = False
    calls: list[Call] = field(default_factory=list)
    results: list[dict[str, JSON]] = field(default_factory=list)


class Calls:
    """Gives every call an id that the API takes and no other call has.

    An id stays as it is where it can. Else it is made of the id and of how often the id was there
    before: so a conversation that grows keeps the ids that it had, and the service's cache hits.
    """

    def __init__(self, own: Iterable[str]) -> None:
        """``own`` are the ids in turns that the API gave, which are theirs whoever comes first."""
        self._own = frozenset(own)
        self._sent: set[str] = set()
        self._times: dict[str, int] = {}
        self._waiting: dict[str, list[tuple[Turn, Call]]] = {}

    def add(self, turn: Turn, call_id: str) -> str:
        """Note that a turn makes a call; its id as it is sent."""
        times = self._times[call_id] = self._times.get(call_id, 0) + 1
        sent = call_id
        while (
            sent in self._sent
            or (sent in self._own and not (turn.own and sent == call_id))
            or not (turn.own or _WANTED.fullmatch(sent))
        ):
            digest = sha256(f"{times}:{call_id}".encode("utf-8", "surrogatepass")).hexdigest()
            sent = f"{_UNWANTED.sub('_', call_id)[:40]}_{digest[:16]}"
            times += 1
        self._sent.add(sent)
        call = Call(call_id, sent)
        turn.calls.append(call)
        self._waiting.setdefault(call_id, []).append((turn, call))
        return sent

    def answer(self, call_id: str) -> tuple[Turn, Call] | None:
        """The call that a result answers: of the nearest turn before, the first still open."""
        waiting = self._waiting.get(call_id)
        if not waiting:
            return None
        nearest = waiting[-1][0]
        place = next(n for n, (turn, _) in enumerate(waiting) if turn is nearest)
        turn, call = waiting.pop(place)
        call.answered = True
        return turn, call

    def is_known(self, call_id: str) -> bool:
        """Whether a turn made a call of that id."""
        return call_id in self._times
