"""Answers that headers shape are kept apart; all others are found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.web import CALLING, Asked, Reply, Web, ask

from lmgateway import get_lm
from lmgateway._store.sqlite import close_all

pytestmark = pytest.mark.loopback


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """Anthropic's service, which says under which headers it was asked."""
    monkeypatch.setenv("LMGATEWAY_CACHE_DIR", str(tmp_path / "cache"))

    def answer(asked: Asked) -> Reply:
        said = asked.headers.get("anthropic-version", ""), asked.headers.get("anthropic-beta", "")
        body = {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [{"type": "text", "text": "/".join(said)}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
        return Reply(json.dumps(body).encode())

    with Web(answer) as web:
        yield web
    close_all()


ASKED: list[tuple[dict[str, Any], str]] = [
    ({}, "{version}/"),
    ({"beta": "x-2026"}, "{version}/x-2026"),
    ({"beta": "y-2026"}, "{version}/y-2026"),
    ({"api_version": "2027-01-01"}, "2027-01-01/"),
    ({"headers": {"anthropic-beta": "z-2026"}}, "{version}/z-2026"),
    ({"headers": {"Anthropic-Version": "2099-01-01"}}, "2099-01-01/"),
]


@pytest.mark.parametrize("how", CALLING)
def test_each_is_asked_once_and_found_again(web: Web, how: str) -> None:
    common = {"model": "m", "api_base": web.url, "api_key": "k-0000000000", "cache": True}
    plain = ask(get_lm("anthropic", **common), how, "q", cache=False)["choices"][0]["text"]
    version = plain.split("/")[0]
    web.asked.clear()
    for found in (False, True):
        for keywords, said in ASKED:
            with get_lm("anthropic", **common, **keywords) as lm:
                completion = ask(lm, how, "q")
            text = completion["choices"][0]["text"]
            assert (text, completion["cached"]) == (said.format(version=version), found)
    assert len(web.asked) == len(ASKED)


@pytest.mark.parametrize("how", CALLING)
def test_another_key_finds_the_same(web: Web, how: str) -> None:
    common = {"model": "m", "api_base": web.url, "cache": True}
    for key, headers in (("one-0000", {}), ("two-0000", {}), ("two-0000", {"x-api-key": "3"})):
        with get_lm("anthropic", **common, api_key=key, headers=headers) as lm:
            ask(lm, how, "q")
    assert len(web.asked) == 1
