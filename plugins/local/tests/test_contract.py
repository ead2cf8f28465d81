from __future__ import annotations

from lmgateway.testing import ProviderContract


class TestLocal(ProviderContract):
    provider = "local"
    recordings = "recordings"
