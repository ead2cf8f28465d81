"""Sights: what a check can see of a call; or why it cannot, as the reason of a skip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ...errors import ConfigError, InputError, UnsupportedError
from ..bench import Bench
from ..conversations import TOOLS
from ..sent import Sent

__all__ = ["REFUSALS", "needs", "needs_stream", "seen", "seen_if_taken", "tools_for"]

#: How a provider says that it does not take a call.
REFUSALS = (InputError, UnsupportedError, ConfigError)


def needs(bench: Bench, *capabilities: str) -> None:
    """Skip the check unless the provider has all of these."""
    for capability in capabilities:
        if capability not in bench.info.capabilities:
            pytest.skip(f"its Info.capabilities names no {capability}")


def needs_stream(bench: Bench) -> None:
    """Skip the check unless the provider streams."""
    if "lmgateway_stream" not in bench.plugin.hooks:
        pytest.skip("it does not stream")


def tools_for(bench: Bench) -> dict[str, Any]:
    """The parameter ``tools``, for calls that have turns with calls of tools in them."""
    return {"tools": TOOLS} if "tools" in bench.info.params else {}


def seen(bench: Bench, call: Mapping[str, Any], *, stream: bool = False) -> Sent:
    """What is sent for a call; skips the check where that cannot be seen.

    Raises InputError, UnsupportedError or ConfigError where the provider refuses the call.
    """
    sent = bench.sent(call, stream=stream)
    if not sent.exchanges:
        pytest.skip("it asks for nothing, so what it makes of a call cannot be seen")
    if sent.is_hidden:
        pytest.skip("its Blocking has no key that says what is asked")
    return sent


def seen_if_taken(
    bench: Bench, call: Mapping[str, Any], *capabilities: str, stream: bool = False
) -> Sent:
    """As ``seen``; skips the check also where the provider lacks these, or refuses the call."""
    needs(bench, *capabilities)
    try:
        return seen(bench, call, stream=stream)
    except REFUSALS as error:
        pytest.skip(f"it refuses such a call: {error}")
