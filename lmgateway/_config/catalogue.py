"""The catalogue: well-known hosts whose wire format is that of a plugin of ours."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..errors import ConfigError
from .provenance import Provenance

__all__ = ["WITH_OWN_ROW", "Host", "hosts", "needs_key"]

#: The keys without which a row is of no use; the file's first lines name the others.
#: Plugins whose own host has a row, of their name.
WITH_OWN_ROW = frozenset({"openai"})

_REQUIRED = ("title", "api_base", "needs_key", "page", "read")


class Host(NamedTuple):
    """One row of ``catalogue.toml``.

    Attributes:
        name: The provider's name.
        title: What it calls itself.
        api_base: Its base URL.
        needs_key: Whether it answers only with a key.
        key_variable: The variable that its own documents name, if it is not ``<NAME>_API_KEY``.
        note: What a user must know; "" for nothing.
        page: The page that was read for this row.
        read: The day it was read.
        plugin: The plugin that speaks its wire format.
        settings: The settings of that plugin for this host.
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
    settings: Mapping[str, Provenance]


@cache
def hosts() -> Mapping[str, Host]:
    """The rows by name. Where the file is missing, there are none, and a warning says so.

    Raises ConfigError for a row that lacks a required key.
    """
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
    if missing := [key for key in _REQUIRED if key not in row]:
        raise ConfigError(f"catalogue.toml: the row [{name}] lacks {', '.join(missing)}")
    api_base = row.pop("api_base")
    return Host(
        name,
        row.pop("title"),
        api_base,
        row.pop("needs_key"),
        row.pop("key_variable", None),
        row.pop("note", ""),
        row.pop("page"),
        row.pop("read").isoformat(),
        plugin := row.pop("plugin", "openai"),
        _settings(name, plugin, api_base, row),
    )


def _settings(
    name: str, plugin: str, api_base: str, further: dict[str, Any]
) -> Mapping[str, Provenance]:
    """The settings of a plugin for a host; of its own host the plugin knows the base URL."""
    values = further if name == plugin else {"api_base": api_base, **further}
    if "embeddings" in values:  # they are this host's: at another address they say nothing
        values["embeddings"] = {**values["embeddings"], "api_base": api_base}
    return {each: Provenance(value, "catalogue", name) for each, value in values.items()}


def needs_key(url: str) -> bool:
    """Whether the URL belongs to a host of the catalogue that answers only with a key."""
    return url.startswith("https://") and urlsplit(url).hostname in _locked()


@cache
def _locked() -> frozenset[str | None]:
    return frozenset(
        urlsplit(host.api_base).hostname for host in hosts().values() if host.needs_key
    )
