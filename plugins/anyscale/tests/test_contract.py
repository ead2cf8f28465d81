from __future__ import annotations

from typing import ClassVar

from lmgateway.testing import ProviderContract


class TestAnyscale(ProviderContract):
    provider = "anyscale"
    model = "smollm2-135m-instruct"
    settings: ClassVar = {"api_base": "https://my-service.example/v1"}
    recordings = "recordings"
