"""Layers: what stands between the user and the provider, and between the provider and the wire.

*Step layers* see a Request and its Completion: observe > fallback > retry > the provider.
*Effect layers* see each exchange on its way out: the provider > cache > limit > the wire.
Both are plain functions that wrap the next one, written once as flows for both colours.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeAlias

from .._base.masking import Plain, words
from .._drive.cancel import Deadline
from .._store.exchange import is_secret_header
from ..errors import LMGatewayError
from ..types import (
    Completion,
    Exchange,
    Flow,
    Options,
    Request,
)

__all__ = ["Call", "EffectLayer", "Scope", "Send", "Step", "StepLayer"]


@dataclass(slots=True, eq=False)
class Call:
    """What is known of one call while it runs; every layer may read it.

    Attributes:
        provider: The provider's name.
        options: The core options, those of the call merged over those of the LM.
        deadline: Shared by all attempts, waits and fallbacks of the call.
        attempt: How many attempts have begun.
        emitted: How many pieces have been handed to the user.
        host: Where the last request went, without user information; None if none was sent.
        path: The path of the last request; None if none was sent.
        cached: Whether the answer came from the cache or a recording.
        started: ``time.monotonic()`` at the beginning.
        parse: Puts ``parsed`` into each choice; raises ResponseFormatError where it does not fit.
        first_piece: ``time.monotonic()`` of the first piece or of the whole answer.
        proofs: The headers by which its requests said who sends them, to be masked in errors.
        secrets: What is configured for the provider that is asked, and must be shown nowhere.
        scope: Of the attempt that is under way, until it has exited.
    """

    provider: str
    options: Options
    deadline: Deadline
    attempt: int = 0
    emitted: int = 0
    host: str | None = None
    path: str | None = None
    cached: bool = False
    started: float = field(default_factory=monotonic)
    first_piece: float | None = None
    parse: Callable[[Completion], None] | None = None
    proofs: tuple[Mapping[str, str], ...] = field(default=(), repr=False)
    secrets: Callable[[], Iterable[str]] = field(default=tuple, repr=False)
    scope: Scope | None = None

    def all_secrets(self) -> Iterator[str]:
        """What is configured, and what a plugin signed or fetched for the call."""
        yield from self.secrets()
        for proofs in self.proofs:
            for name, value in proofs.items():
                secret = is_secret_header(name)  # beside it there may be a time, or a media type
                yield from words(value) if secret else map(Plain, words(value))

    def leave(self) -> None:
        """Let go of whatever an attempt still holds whose own exit Ctrl-C has cut short."""
        if self.scope is not None:
            self.scope.exit()


class Scope:
    """The life of one attempt, for what a layer must do at its end.

    Clean-up is synchronous and yields no effect, so that it works in both colours and while a
    flow is being closed.
    """

    __slots__ = ("_commits", "_exits", "_failures", "asker", "base_url", "call", "request")

    def __init__(
        self,
        call: Call,
        request: Request,
        base_url: str | None,
        asker: Callable[[], Hashable] = lambda: None,
    ) -> None:
        self.call = call
        self.request = request
        #: The configured base URL of the provider, None if none is configured.
        self.base_url = base_url
        #: As whom, and within which limits, its exchanges are sent; equal where both are.
        self.asker = asker
        self._commits: list[Callable[[Completion], None]] = []
        self._exits: list[Callable[[], None]] = []
        self._failures: list[Callable[[LMGatewayError], bool]] = []
        call.scope = self

    def on_commit(self, action: Callable[[Completion], None]) -> None:
        """Run once the Completion has been validated, before the exits."""
        self._commits.append(action)

    def on_failure(self, action: Callable[[LMGatewayError], bool]) -> None:
        """Run when the attempt ends in an error, before the exits; not when it is abandoned.

        The action says whether it has put the cause away: then the same is tried again at once.
        """
        self._failures.append(action)

    def on_exit(self, action: Callable[[], None]) -> None:
        """Run on every path, the last registered first, perhaps twice; before what it undoes."""
        self._exits.append(action)

    def commit(self, completion: Completion) -> None:
        """Run what waits for a good answer."""
        for action in self._commits:
            action(completion)

    def fail(self, error: LMGatewayError) -> bool:
        """Run what waits for an error; whether any of it has put the cause away."""
        put_away = [action(error) for action in self._failures]
        return any(put_away)

    def exit(self) -> None:
        """Run the exits, each whatever becomes of the others.

        Cut short by Ctrl-C, it is run again (see Call.leave) and goes on with the exit that was
        cut short, which is therefore run twice.
        """
        self._commits.clear()  # they refer to the scope in turn: leave no cycle behind
        self._failures.clear()
        exits = self._exits
        while exits:
            try:
                exits[-1]()
            except Exception:
                exits.pop()
                self.exit()
                raise
            exits.pop()
        self.call.scope = None


Send: TypeAlias = Callable[[Exchange], Flow[Any]]
"""Sends an exchange: HTTPRequest -> HTTPResponse, Blocking -> what its function returned."""

EffectLayer: TypeAlias = Callable[[Send, Scope], Send]

Step: TypeAlias = Callable[[Request], Flow[Completion]]
"""Answers a request: one attempt, or all that a layer makes of one."""

StepLayer: TypeAlias = Callable[[Step, Call], Step]
