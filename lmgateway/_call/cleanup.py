"""What a flow that is left early has sent: the request by which a job at the service is cancelled.

A flow may be left in the midst of anything: by Ctrl-C, by an event loop that ends, by the garbage
collector. Nothing can be begun there. So a thread is started when the flow says what is to be
sent, and waits for one word: that the flow has returned, or that it was left.
"""

from __future__ import annotations

import atexit
import logging
import os
from dataclasses import replace
from functools import cache
from queue import SimpleQueue
from threading import Thread
from time import monotonic

from .._drive.cancel import Deadline
from .._drive.futures import start
from .._drive.loops import run
from .._layers.context import Attempt, Call
from .._store.recorder import replayer
from .._transports.leases import Leases
from ..types import HTTPRequest
from .outgoing import final, send_to_wire

__all__ = ["Armed", "arm"]

logger = logging.getLogger("lmgateway")

SEND_SECONDS = 5.0
EXIT_SECONDS = 2.0  # the longest that all of them together delay the end of the interpreter


def arm(request: HTTPRequest | None, armed: Armed | None, attempt: Attempt) -> Armed | None:
    """Have a request sent if the flow is left, in place of what was armed before.

    Nothing is armed for what came from the cache or a recording: there is no job to cancel.

    Raises:
        LMGatewayError: It is no request that could ever be sent; see ``final``.
    """
    if request is None or attempt.origin == "store" or replayer() is not None:
        if armed is not None:
            armed.disarm()
        return None
    final(request, attempt.call)
    if armed is None:
        armed = Armed(attempt, request)
        attempt.on_exit(armed.leave)  # before the thread: Ctrl-C may come in between
        armed.start()
    else:
        armed.replace(request)
    return armed


class Armed:
    """What one flow has armed; its end is said without a lock, and only the first word counts."""

    __slots__ = ("_attempt", "_began", "_job")

    def __init__(self, attempt: Attempt, request: HTTPRequest) -> None:
        self._attempt = attempt
        self._began = attempt.origin == "wire"
        self._job = _Job(_own_call(attempt.call), request)

    def start(self) -> None:
        """Start the thread that waits for the end of the flow."""
        self._job.start()

    def replace(self, request: HTTPRequest) -> None:
        """Have this request sent instead."""
        self._job.request = request

    def disarm(self) -> None:
        """The flow has returned, or does not need it any more: nothing is sent."""
        self._job.said.put(False)

    def leave(self) -> None:
        """The flow was left, if it did not return before: have the request sent."""
        # A flow that armed before its first exchange has begun nothing unless that was sent.
        self._job.said.put(self._began or self._attempt.origin == "wire")


class _Job:
    """The thread of one flow, and what it will send. It holds nothing of the flow itself."""

    def __init__(self, call: Call, request: HTTPRequest) -> None:
        self.call = call
        self.request = request
        self.said: SimpleQueue[bool] = SimpleQueue()
        self.thread = Thread(target=self._work, name="lmgateway-cleanup", daemon=True)

    def start(self) -> None:
        _watch_exit()
        try:
            _waiting.add(self)
            start(self.thread)
        except BaseException as error:  # Ctrl-C: if the thread begins all the same, it waits
            _waiting.discard(self)
            if not isinstance(error, RuntimeError):
                raise
            # The system gives no thread; the answer is worth more than the end of a job.
            logger.warning(
                "%s: no thread can be started to clean up: %s", self.call.provider, error
            )

    def _work(self) -> None:
        _waiting.add(self)
        try:
            if self.said.get():
                self._send()
        finally:
            _waiting.discard(self)

    def _send(self) -> None:
        call = self.call
        call.deadline = Deadline(SEND_SECONDS)
        attempt, leases = Attempt(call, self.request), Leases()
        try:
            try:
                flow = send_to_wire(attempt, self.request)
                response = run(flow, leases.blocking(call), call.deadline)
            finally:
                attempt.exit()
                leases.close()
        except BaseException as error:
            logger.info("%s: a clean-up failed with %s", call.provider, type(error).__name__)
        else:
            logger.info("%s: a clean-up was answered with %d", call.provider, response.status)


def _own_call(call: Call) -> Call:
    """A call of the same account, for what is sent after the call itself has ended."""
    return replace(
        call, deadline=Deadline(None), parse=None, proofs=(), host=None, path=None,
        current_attempt=None, fit=None,
    )  # fmt: skip


# -- the end of the interpreter ----------------------------------------------------------------

_waiting: set[_Job] = set()


@cache
def _watch_exit() -> None:
    atexit.register(_finish)


def _finish() -> None:
    """Leave all flows that nobody will run any more, and wait a little for what they send."""
    jobs, end = tuple(_waiting), monotonic() + EXIT_SECONDS
    for job in jobs:
        job.said.put(True)
    for job in jobs:
        if job.thread.is_alive():
            job.thread.join(max(0.0, end - monotonic()))


# The threads stay with the parent, and so does the job.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_waiting.clear)
