"""The permits of all limiters of this process."""

from __future__ import annotations

from lmgateway._layers.limit import limiters
from lmgateway._layers.permits import Permit, Semaphore

__all__ = ["held", "queued", "semaphores"]


def semaphores() -> list[Semaphore]:
    """Of each provider whose exchanges in flight are limited."""
    return [each.in_flight for each in list(limiters.values()) if each.in_flight is not None]


def held() -> list[Permit]:
    """What is in flight."""
    return [permit for semaphore in semaphores() for permit in semaphore.held]


def queued() -> list[Permit]:
    """What waits for a permit."""
    return [permit for semaphore in semaphores() for permit in semaphore.queued]
