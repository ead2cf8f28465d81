"""The settings of the provider ``local``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field, PrivateAttr

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Holds", "Settings"]


class Holds:
    """The engines that one settings object keeps loaded; a copy or a pickle of it keeps none."""

    __slots__ = ("_engines",)

    def __init__(self) -> None:
        self._engines: set[Engine] = set()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Holds)  # what is loaded makes no two settings different

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[Holds], tuple[()]]:
        return Holds, ()

    def add(self, engine: Engine) -> None:
        """Keep an engine loaded."""
        self._engines.add(engine)

    def release(self) -> None:
        """Let go of all; an engine that nobody holds any more is freed."""
        self._engines.clear()


def half_the_cpus() -> int:
    """The default of ``threads``.

    llama.cpp's threads wait for each other by spinning: one more than there are idle cores makes
    it several times slower, one fewer costs little.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        count = os.cpu_count() or 1
    return max(1, count // 2)


class Settings(BaseModel):
    """How llama.cpp runs a model.

    LMs whose settings agree in all but ``use_chat_api`` share one loaded model. To embed, a model
    is loaded once more: llama.cpp does one of both with what it has loaded.
    """

    use_chat_api: bool = Field(
        default=True,
        description="True: a bare prompt is a chat's first message, in the model's own template. "
        "False: the model continues the text as it is.",
    )
    n_ctx: int = Field(
        default=2048, ge=64, description="Tokens that one answer may have, its prompt included."
    )
    n_parallel: int = Field(
        default=4, ge=1, le=256, description="Answers computed at once, and the most that n may be."
    )
    pooling: Literal["mean", "cls", "last"] | None = Field(
        default=None,
        description="How the vectors of a text's tokens become one, in embed(). None: as the "
        "model's file says, and their mean where it says nothing.",
    )
    threads: int = Field(
        default_factory=half_the_cpus, ge=1, le=512, description="Threads that compute."
    )

    _holds: Holds = PrivateAttr(default_factory=Holds)

    @property
    def holds(self) -> Holds:
        """What these settings keep loaded."""
        return self._holds
