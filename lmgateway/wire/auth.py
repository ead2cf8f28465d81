"""Tokens that must be fetched before a request can be sent, each kept until it runs out.

::

    def lmgateway_complete(request, settings):
        def fetch():
            form = {"grant_type": "client_credentials", "client_id": settings.client_id,
                    "client_secret": settings.client_secret.get_secret_value()}
            asked = HTTPRequest("POST", settings.token_host, "/oauth/token", form=form, keep=False)
            response = yield from send(asked)
            check(response)
            return load(response.body)

        token = Token((settings.token_host, settings.client_id), fetch)
        response = yield from send(HTTPRequest("POST", settings.api_base, "/say", auth=token, ...))
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping
from inspect import isgeneratorfunction
from math import isfinite
from time import monotonic
from typing import Any, NamedTuple

from ..errors import AuthenticationError, ResponseFormatError, excerpt
from ..types import Blocking, Flow

__all__ = ["Token"]

#: Seconds that a token is kept whose host did not say how long it holds.
UNTOLD = 3600.0
#: Seconds before its end from which a token is renewed, or a tenth of its life if that is less.
AHEAD = 60.0


class _Current(NamedTuple):
    """A token, and until when it holds, on the clock of ``time.monotonic()``."""

    text: str
    renew_at: float
    ends_at: float

    def __repr__(self) -> str:
        return "<a token>"


_current: dict[Hashable, _Current] = {}


class Token:
    """An ``auth`` that fetches a token when there is none, and keeps it until it runs out.

    All calls of the process share it, by ``key``. Of those that need it at the same time one
    fetches; the others wait for it, each within its own deadline, and share an error of the
    token's host. A token is renewed a minute before its end (or a tenth of its life, if that is
    less), and while one call does so the others go on with the old one. When the service refuses
    it with a 401 it is dropped, and the request is sent once more with a new one.

    Make one wherever you need it, also anew for each request.

    Args:
        key: Names the account, such as ``(url, client_id)``: whoever gives an equal key is given
            the same token. It never holds a secret; where the secret may change while the
            process runs, let a digest of it be part of the key.
        fetch: A flow (a generator function) of no argument, whose requests have ``keep=False``;
            or a plain function, which may block: it runs in a worker thread. It returns the
            OAuth answer as a dict (``access_token``, and ``expires_in`` in seconds), or
            ``(token, seconds)``, or a token. A token without a time is kept for an hour.
        header: The header that the token is put into.
        scheme: The word before it; "" for none.

    Raises:
        TypeError: ``key`` is not hashable, or ``fetch`` is no function.
    """

    __slots__ = ("_fetch", "_scheme", "header", "key")

    def __init__(
        self,
        key: Hashable,
        fetch: Callable[[], Any],
        *,
        header: str = "Authorization",
        scheme: str = "Bearer",
    ) -> None:
        try:
            hash(key)
        except TypeError:
            raise TypeError(f"a Token's key must be hashable, not a {type(key).__name__}") from None
        if not callable(fetch):
            raise TypeError(
                f"a Token's fetch must be a function of no argument, not a {type(fetch).__name__}"
            )
        self.key = key
        self.header = header
        self._fetch = fetch
        self._scheme = scheme

    def __repr__(self) -> str:
        return "<Token>"

    def __call__(self) -> Mapping[str, str] | Flow[Mapping[str, str]]:
        """The header; or the flow that fetches it, where there is no good token."""
        text = self.current()
        return self._fetched_header() if text is None else self._as_header(text)

    def get(self) -> Flow[str]:
        """The token itself, for the flow of another ``auth``: ``yield from token.get()``."""
        text: str = yield self  # type: ignore[misc]  # the core knows it, in an auth's flow
        return text

    def refused(self, headers: Mapping[str, str]) -> None:
        """Drop the token, if it is the one that was sent; the core calls this after a 401.

        Args:
            headers: What ``auth`` gave for the request that was refused.
        """
        current = _current.get(self.key)
        if current is not None and any(current.text in value for value in headers.values()):
            _current.pop(self.key, None)

    def _as_header(self, text: str) -> dict[str, str]:
        return {self.header: f"{self._scheme} {text}" if self._scheme else text}

    def _fetched_header(self) -> Flow[Mapping[str, str]]:
        return self._as_header((yield from self.get()))

    # -- for the core --------------------------------------------------------------------------

    def current(self, *, renewing: bool = False) -> str | None:
        """The token that is kept; None if it must be fetched.

        Args:
            renewing: Whether another call renews it, so that the old one does until its end.
        """
        current = _current.get(self.key)
        if current is None:
            return None
        good = monotonic() < (current.ends_at if renewing else current.renew_at)
        return current.text if good else None

    def fetched(self) -> Flow[str]:
        """Fetch a token, and keep it."""
        began = monotonic()  # the host counts from some moment after it
        fetch = self._fetch
        answer = fetch() if isgeneratorfunction(fetch) else (yield Blocking(fetch))
        if isinstance(answer, Generator):
            answer = yield from answer
        text, life = _read(answer)
        _sweep()
        if life > 0:
            _current[self.key] = _Current(text, began + life - min(AHEAD, life / 10), began + life)
        else:
            _current.pop(self.key, None)
        return text

    def put_off(self) -> None:
        """Renew it later: its host cannot be had now, and the old token still holds."""
        current = _current.get(self.key)
        if current is not None:
            later = (monotonic() + current.ends_at) / 2
            _current[self.key] = current._replace(renew_at=later)


def _sweep() -> None:
    """Forget what has run out: a process may serve many accounts."""
    now = monotonic()
    for key, current in _current.copy().items():
        if current.ends_at <= now:
            _current.pop(key, None)


# -- what fetch returned -----------------------------------------------------------------------


def _read(answer: Any) -> tuple[str, float]:
    """The token, and the seconds that it holds.

    Raises:
        AuthenticationError: It is an OAuth error, which some hosts say with a 200.
        ResponseFormatError: There is no token in it that could be sent.
        TypeError: ``fetch`` returned something else.
    """
    text, seconds = answer, None
    if isinstance(answer, Mapping):
        if "access_token" not in answer and isinstance(answer.get("error"), str):
            raise _refusal(answer)
        text, seconds = answer.get("access_token"), answer.get("expires_in")
        if text is None:
            raise _unreadable("has no access_token")
    elif isinstance(answer, tuple) and len(answer) == 2:
        text, seconds = answer
    if hasattr(text, "get_secret_value"):
        text = text.get_secret_value()
    if not isinstance(text, str):
        if isinstance(answer, Mapping):
            raise _unreadable(f"has an access_token that is no text but a {type(text).__name__}")
        if hasattr(answer, "close"):
            answer.close()  # a coroutine, which else warns that it was never awaited
        raise TypeError(
            f"the fetch of a Token returned a {type(answer).__name__}: it must be a dict with "
            "access_token, (token, seconds), or a token"
        )
    text = text.strip()
    if not text or not text.isascii() or not text.isprintable():
        what = "in which a character cannot stand in a header" if text else "that is empty"
        raise _unreadable(f"has a token {what}")
    return text, _life(seconds)


def _life(seconds: Any) -> float:
    """The seconds that a token holds, however its host wrote them; an hour if it said nothing."""
    try:
        life = UNTOLD if isinstance(seconds, bool) else float(seconds)
    except (TypeError, ValueError, OverflowError):
        return UNTOLD
    return life if isfinite(life) else UNTOLD


def _refusal(answer: Mapping[str, Any]) -> AuthenticationError:
    code, said = answer["error"], answer.get("error_description")
    message = f"{code}: {said}" if isinstance(said, str) and said else code
    return AuthenticationError(excerpt(message), code=excerpt(code, 60))


def _unreadable(what: str) -> ResponseFormatError:
    return ResponseFormatError(f"the answer to the request for a token {what}")
