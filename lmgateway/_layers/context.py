"""What the layers of one call share: the call, one attempt of it, the kinds' type, the layer types.

*Step layers* see a request and its answer: observe > fallback > retry > the attempt.
*Effect layers* see each exchange on its way out: the attempt > cache > limit > the wire.
Both are plain functions that wrap the next one. They are flows, and so are written once for sync
and async.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .._base.masking import Plain, words
from .._drive.cancel import Deadline
from .._store.serialization import is_secret_header
from ..errors import LMGatewayError
from ..types import Completion, CompletionWarning, Exchange, Flow, Info, Kept, Options

if TYPE_CHECKING:
    from .._call.adapt import Fit
    from .._call.endpoint import Endpoint
    from .texts import TextStore

__all__ = ["Attempt", "Call", "EffectLayer", "Kind", "Send", "Step", "Stretch"]


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of call differs from the others; ``_call.kinds`` has the table.

    A request of any kind has ``model``, ``params``, ``timeout``, ``stream`` and ``input``; an
    answer is a dict, in which the core sets ``model``, ``provider`` and ``cached``.

    Attributes:
        name: What events and the history call it.
        hook: The plugin's hook that answers it.
        normalize: Is given what the hook returned, the request, and the name of the plugin for
            messages. Returns a new dict, or raises PluginContractError or ResponseFormatError.
        request: Makes the request: of the model, what the user gave, parameters and timeout.
        params: Parameters that it has beside those of the plugin's Info; None if it has none.
        history_entry: What the history keeps of an answer, by name; None if it is no answer of a
            model: then neither the history nor ``usage()`` know it.
        fallbacks: Which of the LM's fallbacks may answer in its place: ``any``, those with the
            ``same model``, or ``none``. Those that are given to the call itself always may.
        takes_request: Whether the hook is given the request, and not the settings alone.
    """

    name: str
    hook: str
    normalize: Callable[[Any, Any, str], Any]
    request: Callable[..., Any]
    params: frozenset[str] | None = frozenset()
    history_entry: Callable[[Any], Mapping[str, Any]] | None = None
    fallbacks: Literal["any", "same model", "none"] = "any"
    takes_request: bool = True


@dataclass(slots=True, eq=False)
class Call:
    """What is known of one call while it runs; every layer may read it.

    A fallback sets anew who is asked, and what: ``provider``, ``options``, ``endpoint``, ``info``
    and ``fit``.

    Attributes:
        kind: What kind of call it is.
        provider: The provider's name.
        options: The core options, those of the call merged over those of the LM.
        endpoint: Where its requests go and as whom.
        info: What the model can do.
        fit: What is asked in another way, so that the model takes it; None if nothing is.
        deadline: Shared by all attempts, waits and fallbacks of the call.
        attempts: How many attempts have begun.
        emitted: How many pieces have been handed to the user.
        started: ``time.monotonic()`` at the beginning.
        first_piece: ``time.monotonic()`` of the first piece.
        parse: Puts ``parsed`` into each choice; raises ResponseFormatError where it does not fit.
        proofs: The headers by which its requests said who sends them, and what was sent and got to
            have them, under names that say so: all that is to be masked beside the settings' own.
        host: Of the last attempt: where its request went, without user information; None if
            none was sent.
        path: The path of that request.
        cached: Whether the last attempt was answered by the cache or a recording.
        current_attempt: The attempt that is under way, until it has exited.
        max_body: Bytes that an answer may have, where the option's default is too few.
        texts: Where vectors are stored text by text, in place of the whole exchange; None if they
            are not.
    """

    kind: Kind
    provider: str
    options: Options
    endpoint: Endpoint = field(repr=False)
    deadline: Deadline
    info: Info = field(default_factory=Info, repr=False)
    fit: Fit | None = field(default=None, repr=False)
    attempts: int = 0
    emitted: int = 0
    started: float = field(default_factory=monotonic)
    first_piece: float | None = None
    parse: Callable[[Completion], None] | None = None
    proofs: tuple[Mapping[str, str], ...] = field(default=(), repr=False)
    host: str | None = None
    path: str | None = None
    cached: bool = False
    current_attempt: Attempt | None = None
    max_body: int | None = None
    texts: TextStore | None = None

    def all_secrets(self) -> Iterator[str]:
        """All that must be shown nowhere: configured secrets, and tokens made for this call."""
        yield from self.endpoint.secrets()
        for proofs in self.proofs:
            for name, value in proofs.items():
                secret = is_secret_header(name)  # beside it there may be a time, or a media type
                yield from words(value) if secret else map(Plain, words(value))

    def leave(self) -> None:
        """Release what an attempt still holds because Ctrl-C cut its own exit short."""
        if self.current_attempt is not None:
            self.current_attempt.exit()


class Attempt:
    """One attempt to get an answer, and what the layers must do at its end.

    What they do is synchronous and yields no effect. So it works in sync and async calls, and
    while a flow is being closed.

    Attributes:
        call: The call that it belongs to.
        request: What is asked, as the user asked it; its timeout is what is left.
        given: The same as the plugin is given it: its own, without what is not meant for it.
        warnings: What the core has to tell of it, for the completion.
        pieces: The texts of choice 0 that it has handed to the user.
        has_sent: Whether the plugin has asked for an exchange.
        origin: What answered its latest exchange: "store" or "wire"; "" before the first.
        owes: Whether a service may bill it: one has taken a request, or was being asked.
    """

    __slots__ = (
        "_commits", "_exits", "_failures", "call", "given", "has_sent", "origin", "owes", "pieces",
        "request", "warnings",
    )  # fmt: skip

    def __init__(self, call: Call, request: Any) -> None:
        self.call = call
        self.request = request
        self.given = request
        self.warnings: list[CompletionWarning] = []
        self.pieces: list[str] = []
        self.has_sent = False
        self.origin = ""
        self.owes = False
        self._commits: list[Callable[[Any], object]] = []
        self._exits: list[Callable[[], None]] = []
        self._failures: list[Callable[[LMGatewayError], bool]] = []
        call.current_attempt = self

    def on_commit(self, action: Callable[[Any], object]) -> None:
        """Run with the answer once that has been validated, before the exits."""
        self._commits.append(action)

    def on_failure(self, action: Callable[[LMGatewayError], bool]) -> None:
        """Run when the attempt ends in an error, before the exits; not when it is abandoned.

        The action returns whether it has removed the cause. Then the same is tried again at once.
        """
        self._failures.append(action)

    def on_exit(self, action: Callable[[], None]) -> None:
        """Run at the end on every path, the last registered first, and perhaps twice.

        Register it before the step that it undoes: Ctrl-C may come in between.
        """
        self._exits.append(action)

    def commit(self, answer: Any) -> None:
        """Run the actions that wait for a good answer."""
        for action in self._commits:
            action(answer)

    def fail(self, error: LMGatewayError) -> bool:
        """Run the actions that wait for an error; return whether one has removed its cause."""
        removed = [action(error) for action in self._failures]
        return any(removed)

    def exit(self) -> None:
        """Run the exits; each runs, even if another one fails.

        If Ctrl-C cuts this short, it is run again (see Call.leave). It then goes on with the exit
        that was cut short, so that one runs twice.
        """
        self._commits.clear()  # they refer to the attempt in turn: leave no cycle behind
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
        self.call.current_attempt = None


Send: TypeAlias = Callable[[Exchange], Flow[Any]]
"""Sends an exchange: HTTPRequest -> HTTPResponse, Blocking -> what its function returned."""


@dataclass(frozen=True, slots=True)
class Stretch(Kept):
    """A flow that is kept as one exchange, on its way through the layers.

    Attributes:
        run: Runs the flow; its exchanges go out by the ``Send`` that it is given.
    """

    run: Callable[[Send], Flow[Any]] = field(repr=False)


EffectLayer: TypeAlias = Callable[[Send, Attempt], Send]
"""Wraps the next send. One that gives a send with a true attribute ``keeps`` is handed a Stretch as
a whole; any other sees the exchanges in it."""

Step: TypeAlias = Callable[[Any], Flow[Any]]
"""Answers a request of any kind: one attempt, or all that a layer makes of one."""
