"""The wire: in a test, it stands in place of the network and gives prepared answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .._layers.context import Attempt, Send, Stretch
from .._transports.leases import HasOptions, Leases
from .._transports.urls import target_of
from ..types import Blocking, Exchange, Flow, HTTPRequest, HTTPResponse, Kept, Signed

if TYPE_CHECKING:
    from .._drive.cancel import Deadline
    from .._transports.protocols import AsyncTransport, Transport

__all__ = ["NoAnswerError", "Pieces", "Wire"]

_A_TOKEN = b'{"access_token": "a-token-of-the-kit", "expires_in": 3600}'


class NoAnswerError(AssertionError):
    """The provider asked for more exchanges than there are answers."""


class Pieces:
    """The source of a response. It returns pieces, and raises those that are errors."""

    def __init__(self, pieces: Iterable[bytes | BaseException]) -> None:
        self.left = deque(pieces)
        self.closed = False

    def read(self) -> Flow[bytes]:
        """The next piece, b"" at the end."""
        yield from ()  # what makes it a flow; it has nothing to wait for
        piece = self.left.popleft() if self.left else b""
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def close(self) -> None:
        """Remember that the reader has left."""
        self.closed = True


class Wire(Leases):
    """Gives each exchange its answer: an HTTPResponse, what a Blocking returns, or an error.

    What is ``kept`` is one exchange, unless it is unfolded. A request by which an auth fetches a
    token is none: it is given a made-up one.

    Args:
        *answers: In turn.
        reply: Answers each exchange, in place of ``answers``.
        unfolds: Run what is kept, and answer each exchange in it.

    Attributes:
        asked: The exchanges as the provider yielded them, without credentials.
        sent: The requests as they would have been sent, with credentials.
        fetched: How many tokens an auth has asked for.
    """

    def __init__(
        self,
        *answers: Any,
        reply: Callable[[Exchange], Any] | None = None,
        unfolds: bool = False,
    ) -> None:
        super().__init__()
        self._answers = deque(answers)
        self._reply = reply
        self._unfolds = unfolds
        self.asked: list[Exchange] = []
        self.sent: list[HTTPRequest] = []
        self.fetched = 0

    def layer(self, send: Send, attempt: Attempt) -> Send:
        """The innermost effect layer: it keeps each exchange, and runs no Blocking and no Kept."""

        def answer(exchange: Exchange) -> Flow[Any]:
            self.asked.append(exchange)
            if self._unfolds and isinstance(exchange, Stretch):
                return (yield from exchange.run(answer))
            if not isinstance(exchange, Blocking | Kept):
                return (yield from send(exchange))
            returned = self._next()
            if isinstance(source := getattr(returned, "source", None), Pieces):
                attempt.on_exit(source.close)
            return returned

        answer.keeps = True  # type: ignore[attr-defined]  # it is handed what is kept as a whole
        return answer

    def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        """Give the next answer to a request, as Transport.send does."""
        if self.asked and _is_for_a_token(request, self.asked[-1]):
            self.fetched += 1
            return HTTPResponse(200, {"content-type": "application/json"}, _A_TOKEN)
        self.sent.append(request)
        answer: HTTPResponse = self._next()
        return answer

    def _next(self) -> Any:
        if self._reply is not None:
            return self._reply(self.asked[-1])
        if not self._answers:
            number = len(self.asked)
            raise NoAnswerError(
                f"the provider asked for exchange number {number}, and none is recorded for it"
            )
        answer = self._answers.popleft()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def peek(self) -> Any:
        """The next answer; None if there is none left."""
        return self._answers[0] if self._answers else None

    # -- in place of an LM's connections --------------------------------------------------------

    def blocking(self, call: HasOptions) -> Transport:
        """The wire itself, as a blocking transport."""
        return self

    def awaiting(self, call: HasOptions) -> AsyncTransport:
        """The wire as an awaited transport."""
        return _Awaited(self)

    def close(self) -> None:
        """Do nothing: no connection is open."""


def _is_for_a_token(request: HTTPRequest, asked: Exchange) -> bool:
    """Whether the auth of an exchange sends this, and not the exchange itself."""
    if not isinstance(asked, HTTPRequest) or not (
        callable(asked.auth) or isinstance(asked.auth, Signed)
    ):
        return False
    base = asked.base_url if asked.base_url is not None else request.base_url
    itself = asked.method, base, target_of(asked.path, asked.query).lstrip("/")
    return itself != (request.method, request.base_url, request.path.lstrip("/"))


class _Awaited:
    __slots__ = ("_wire",)

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        return self._wire.send(request, deadline)

    async def aclose(self) -> None:
        """Do nothing: no connection is open."""
