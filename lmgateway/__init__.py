"""lmgateway: one call, any language-model provider, through plugins.

Importing this package is light: what a name needs is imported when the name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    APIError,
    AuthenticationError,
    CacheMissError,
    ConfigError,
    ConnectionFailedError,
    ContentFilteredError,
    ContextLengthError,
    DuplicateProviderError,
    InputError,
    InvalidRequestError,
    InvalidSettingError,
    LMGatewayError,
    MissingCredentialError,
    NotFoundError,
    PermissionDeniedError,
    PluginContractError,
    PluginError,
    PluginLoadError,
    PluginVersionError,
    QuotaExceededError,
    RateLimitError,
    RequestTimeoutError,
    ResponseFormatError,
    ServerError,
    StreamInterruptedError,
    StreamStalledError,
    TransportError,
    UnknownParameterError,
    UnknownProviderError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from . import batch as batch
    from ._drive.streams import AStream, Stream
    from ._layers.observe import CallEvent, Subscription, on_call
    from ._plugins.registry import Installed, providers
    from ._records.history import History
    from ._records.usage import UsageTotals, usage
    from ._store.recorder import record, replay
    from .hookspecs import hookimpl
    from .lm import LM, get_lm
    from .types import (
        UNSET,
        Completion,
        Count,
        Delta,
        Embeddings,
        Message,
        ModelCard,
        Part,
        Reranked,
        State,
    )

__all__ = [
    "LM",
    "UNSET",
    "APIError",
    "AStream",
    "AuthenticationError",
    "CacheMissError",
    "CallEvent",
    "Completion",
    "ConfigError",
    "ConnectionFailedError",
    "ContentFilteredError",
    "ContextLengthError",
    "Count",
    "Delta",
    "DuplicateProviderError",
    "Embeddings",
    "History",
    "InputError",
    "Installed",
    "InvalidRequestError",
    "InvalidSettingError",
    "LMGatewayError",
    "Message",
    "MissingCredentialError",
    "ModelCard",
    "NotFoundError",
    "Part",
    "PermissionDeniedError",
    "PluginContractError",
    "PluginError",
    "PluginLoadError",
    "PluginVersionError",
    "QuotaExceededError",
    "RateLimitError",
    "RequestTimeoutError",
    "Reranked",
    "ResponseFormatError",
    "ServerError",
    "State",
    "Stream",
    "StreamInterruptedError",
    "StreamStalledError",
    "Subscription",
    "TransportError",
    "UnknownParameterError",
    "UnknownProviderError",
    "UnsupportedError",
    "UsageTotals",
    "get_lm",
    "hookimpl",
    "on_call",
    "providers",
    "record",
    "replay",
    "usage",
]

__version__ = "0.2.0"

_LAZY = {
    "LM": "lm",
    "UNSET": "types",
    "AStream": "_drive.streams",
    "CallEvent": "_layers.observe",
    "Completion": "types",
    "Count": "types",
    "Delta": "types",
    "Embeddings": "types",
    "History": "_records.history",
    "Installed": "_plugins.registry",
    "Message": "types",
    "ModelCard": "types",
    "Part": "types",
    "Reranked": "types",
    "State": "types",
    "Stream": "_drive.streams",
    "Subscription": "_layers.observe",
    "UsageTotals": "_records.usage",
    "get_lm": "lm",
    "hookimpl": "hookspecs",
    "on_call": "_layers.observe",
    "providers": "_plugins.registry",
    "record": "_store.recorder",
    "replay": "_store.recorder",
    "usage": "_records.usage",
}


if not TYPE_CHECKING:  # a checker that saw it would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name == "batch":
            return import_module("lmgateway.batch")
        if name not in _LAZY:
            raise AttributeError(f"module 'lmgateway' has no attribute {name!r}")
        value = getattr(import_module(f"lmgateway.{_LAZY[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
