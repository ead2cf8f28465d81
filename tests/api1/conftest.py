"""The frozen plugins' own tests run in a process of their own: see test_frozen.py."""

from __future__ import annotations

import os

if os.environ.get("LMGATEWAY_TEST_FROZEN"):
    import sys

    # Where 0.1 had what one of their tests asks for: an internal of the core.
    from lmgateway._store import serialization

    sys.modules["lmgateway.store.exchange"] = serialization
else:
    collect_ignore = ["anthropic", "anyscale", "local"]
