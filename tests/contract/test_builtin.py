"""The built-in providers hold to the contract that everybody's plugins are held to."""

from __future__ import annotations

from typing import ClassVar

from lmgateway.testing import ProviderContract

IGNORED = "echo takes it so that a program can be tried with it, and has nothing to apply it to"


class TestEcho(ProviderContract):
    provider = "echo"
    xfails: ClassVar = {
        **{
            f"test_a_parameter_is_sent_or_refused[{name}-{way}]": IGNORED
            for name in ("temperature", "seed", "stop")
            for way in ("plain", "stream")
        },
        "test_a_capability_works_or_is_refused[system]": "echo repeats the prompt alone",
        "test_a_capability_works_or_is_refused[messages]": "echo repeats the last message alone",
    }


class TestOpenAI(ProviderContract):
    provider = "openai"
    model = "smollm2-135m-instruct"
    recordings = "recordings/openai.jsonl"
