"""What the core is about to offer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

try:
    from lmgateway.wire.sse import opened
except ImportError:

    def opened(head: Any) -> Any:
        return head
        yield


try:
    from lmgateway.wire.openai import rate_limit
except ImportError:

    def rate_limit(headers: Mapping[str, str]) -> Any:
        return None
