"""What the core is about to offer."""

from __future__ import annotations

from lmgateway.types import Flow, HTTPResponse
from lmgateway.wire import sse

__all__ = ["opened"]


def opened(head: HTTPResponse) -> Flow[HTTPResponse]:
    """``sse.opened``, once it is there."""
    look = getattr(sse, "opened", None)
    return head if look is None else (yield from look(head))
