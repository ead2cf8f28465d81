"""The command as it was typed, which is told and kept so that a job can go on."""

from __future__ import annotations

import sys

import pytest

from lmgateway.cli.arguments import typed_command


@pytest.mark.parametrize("typed, told", [
    (["-p", "api_key=sk-1"], "-p api_key=..."),
    (["-papi_key=sk-1"], "-papi_key=..."),
    (["--param=auth_token=sk-1"], "--param=auth_token=..."),
    (["-p", 'headers={"x-key": "1"}'], "-p headers=..."),
    (["-p", "max_tokens=5", "-p", "prompt_cache_key=a"], "-p max_tokens=5 -p prompt_cache_key=a"),
    (["--retry-errors", "a b.jsonl"], "'a b.jsonl'"),
])  # fmt: skip
def test_a_command_is_told_without_its_secrets(
    typed: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["lmgateway", "batch", "run", *typed])
    assert typed_command("--retry-errors") == f"lmgateway batch run {told}"
