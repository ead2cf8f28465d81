"""A ``dspy.Embedder`` for any provider that embeds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import dspy

from .. import lm as gateway
from .._call import kinds
from .._config.settings import plain_settings
from .._guard.tracebacks import door
from ..errors import InputError

__all__ = ["Embedder"]

_SHAPING = kinds.EMBED.params or frozenset()


class Embedder(dspy.Embedder):  # type: ignore[misc]  # DSPy has no types
    """A ``dspy.Embedder`` that embeds through lmgateway: for retrievers, or to be called.

    ``dspy.retrievers.Embeddings(corpus, Embedder("local"))`` needs no key. Texts go out in requests
    that the host takes, several at once, also in ``acall``. It may stand wherever DSPy takes a
    function from texts to vectors, too.

    Args:
        name: A provider, ``provider/model``, a name from ``lmgateway.toml``, or an LM that get_lm
            made.
        batch_size: Texts that are embedded by one call of ``LM.embed``; None for all.
        caching: Whether vectors are cached, each text's by itself: by lmgateway, on this machine.
            DSPy's own cache, which knows whole batches only, is not asked.
        **keywords: As for get_lm (``model``, ``api_key``, ``timeout``, ...), and what shapes
            vectors (``dimensions``, ``input_type``, ...), as for ``LM.embed``.

    Raises:
        UnknownProviderError, InputError, ConfigError: As get_lm does; nothing is sent.
    """

    @door
    def __init__(
        self,
        name: str | gateway.LM | None = None,
        batch_size: int | None = None,
        caching: bool = True,
        **keywords: Any,
    ) -> None:
        shaping = {each: keywords.pop(each) for each in sorted(_SHAPING & keywords.keys())}
        if not isinstance(name, gateway.LM):
            self.gateway = gateway.get_lm(name, **keywords)
        else:
            self.gateway = name.copy(**keywords) if keywords else name
        model = f"{self.gateway.provider}/{self.gateway.model}"
        super().__init__(model, batch_size=batch_size or 0, caching=caching, **shaping)

    @property
    def __name__(self) -> str:
        """By which DSPy's cache tells one function from another: what the vectors depend on."""
        decisive = [plain_settings(self.gateway.settings), self.default_kwargs]
        decisive.append({"host": getattr(self.gateway.settings, "api_base", None)})
        text = json.dumps(decisive, sort_keys=True, default=repr)
        return f"{self.model} {sha256(text.encode()).hexdigest()}"

    @door
    def __call__(
        self,
        inputs: str | list[str],
        batch_size: int | None = None,
        caching: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Embed a text or some; an array of numpy, of one dimension or of two."""
        batches, keywords = self._asked(inputs, batch_size, caching, kwargs)
        found = [self.gateway.embed(each, **keywords)["embeddings"] for each in batches]
        return _array(found, alone=isinstance(inputs, str))

    @door
    async def acall(
        self,
        inputs: str | list[str],
        batch_size: int | None = None,
        caching: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """As a call, awaited."""
        batches, keywords = self._asked(inputs, batch_size, caching, kwargs)
        found = [(await self.gateway.aembed(each, **keywords))["embeddings"] for each in batches]
        return _array(found, alone=isinstance(inputs, str))

    def _asked(
        self,
        inputs: str | list[str],
        batch_size: int | None,
        caching: bool | None,
        given: Mapping[str, Any],
    ) -> tuple[list[list[str]], dict[str, Any]]:
        """The texts of each call of the LM, and its keywords."""
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        size = batch_size or self.batch_size or max(len(texts), 1)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InputError(f"batch_size must be a whole number of at least 1, not {size!r:.40}")
        keywords = {**self.default_kwargs, **given}
        if not (self.caching if caching is None else caching):
            keywords["cache"] = False
        elif not self.gateway.options.cache:
            keywords["cache"] = True
        return [texts[start : start + size] for start in range(0, len(texts), size)], keywords


def _array(found: list[Any], *, alone: bool) -> Any:
    import numpy as np

    if not found:
        return np.array([], dtype=np.float32)
    vectors = np.asarray(found[0]) if len(found) == 1 else np.concatenate([*map(np.asarray, found)])
    return vectors[0] if alone else vectors
