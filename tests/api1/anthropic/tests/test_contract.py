from __future__ import annotations

from lmgateway.testing import ProviderContract


class TestAnthropic(ProviderContract):
    provider = "anthropic"
    model = "smollm2-135m-instruct"
    recordings = "recordings"
