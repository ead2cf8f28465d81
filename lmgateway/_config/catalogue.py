"""The catalogue: well-known hosts that speak the wire format of a plugin we have."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .provenance import Sourced

__all__ = ["Host", "hosts", "needs_key"]


class Host(NamedTuple):
    """One row of ``catalogue.toml``.

    Attributes:
        name: The provider's name.
        title: What it calls itself.
        api_base: Its base URL.
        needs_key: Whether no request is answered without a key.
        key_variable: The variable its own documents name, where that is not ``<NAME>_API_KEY``.
        note: What one must know to use it; "" for nothing.
        page: The page that was read for this row.
        read: The day it was read.
        plugin: The plugin that speaks its wire format.
        extra: Further settings of that plugin.
    """

    name: str
    title: str
    api_base: str
    needs_key: bool
    key_variable: str | None
    note: str
    page: str
    read: str
    plugin: str
    extra: Mapping[str, Any]

    @property
    def settings(self) -> Mapping[str, Sourced]:
        """The plugin's settings for this host."""
        values = {"api_base": self.api_base, **self.extra}
        return {name: Sourced(value, "catalogue", self.name) for name, value in values.items()}


@cache
def hosts() -> Mapping[str, Host]:
    """The rows by name; none, with a warning, where the file was left behind."""
    import tomllib

    path = os.path.join(os.path.dirname(__file__), "catalogue.toml")
    try:
        text: bytes = __loader__.get_data(path)  # type: ignore[name-defined]  # also out of a zip
    except OSError as error:
        warnings.warn(
            f"no host is known by its name: {path} cannot be read ({error.strerror}); a program "
            "that is bundled must bring its data along (PyInstaller: --collect-data lmgateway)",
            RuntimeWarning,
            stacklevel=2,
        )
        return {}
    return {name: _host(name, dict(row)) for name, row in tomllib.loads(text.decode()).items()}


def _host(name: str, row: dict[str, Any]) -> Host:
    return Host(
        name,
        row.pop("title"),
        row.pop("api_base"),
        row.pop("needs_key"),
        row.pop("key_variable", None),
        row.pop("note", ""),
        row.pop("page"),
        row.pop("read").isoformat(),
        row.pop("plugin", "openai"),
        row,
    )


def needs_key(url: str) -> bool:
    """Whether a URL is of a host in the catalogue that answers nobody without a key."""
    return url.startswith("https://") and urlsplit(url).hostname in _locked()


@cache
def _locked() -> frozenset[str | None]:
    return frozenset(
        urlsplit(host.api_base).hostname for host in hosts().values() if host.needs_key
    )
