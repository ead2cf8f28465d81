"""DSPy as each test finds it: no settings, an empty cache, no look at the network."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Iterator

import pytest

# Before DSPy is imported: it opens its cache then, and fetches a list of prices at its first call.
os.environ.setdefault("DSPY_CACHEDIR", tempfile.mkdtemp(prefix="dspy-cache-"))
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")


@pytest.fixture(autouse=True)
def _fresh_dspy() -> Iterator[None]:
    dspy = pytest.importorskip("dspy", reason="needs the extra [dspy]")
    from dspy.dsp.utils.settings import DEFAULT_CONFIG

    shared = dspy.cache
    dspy.configure_cache(enable_disk_cache=False)
    try:
        yield
    finally:
        dspy.configure(**copy.deepcopy(DEFAULT_CONFIG), inherit_config=False)
        dspy.cache = shared
