"""Requests as the core hands them to a transport."""

from __future__ import annotations

from typing import Any

from lmgateway._call.outgoing import finished
from lmgateway.types import HTTPRequest

__all__ = ["final"]


def final(method: str, base_url: str, path: str, **fields: Any) -> HTTPRequest:
    """A request made final: all its headers, and its body as bytes."""
    return finished(HTTPRequest(method, base_url, path, **fields), base_url, {})
