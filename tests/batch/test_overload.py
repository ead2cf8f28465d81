"""A service that refuses what is too much for it answers every row, and is left in peace."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.chat_server import serve_chat

from lmgateway.batch import run

pytestmark = pytest.mark.loopback


@pytest.mark.parametrize(
    "options, rows",
    [
        # 60 calls at once would have a third refused, or more.
        pytest.param(("--delay", "0.05", "--in-flight", "40"), 1200, id="so many at once"),
        pytest.param(("--delay", "0.05", "--rate", "400"), 800, id="so many a second"),
    ],
)
def test_refusals_are_few(tmp_path: Path, options: tuple[str, ...], rows: int) -> None:
    prompts = [f"p{number}" for number in range(rows)]
    with serve_chat(*options) as server:
        summary = run(
            prompts,
            tmp_path / "answers.jsonl",
            "openai",
            model="m",
            api_base=server.url,
            concurrency=60,
        )
        stats = server.stats()
    assert (summary.answered, summary.failed) == (rows, 0)
    assert summary.rejections == stats["refused"]
    assert summary.attempts == stats["calls"]
    assert stats["refused"] / summary.answered < 0.1
