"""The how-tos about conversations do what they show, against services that answer in both forms."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
CITED = {"start_index": 0, "end_index": 4, "url": "https://rivers.example", "title": "Rivers"}


class Service(BaseHTTPRequestHandler):
    """Calls the tool once if there is one, then says what it was told."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[dict[str, Any]]] = []

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append(body)
        said = self.anthropic(body) if "/messages" in self.path else self.openai(body)
        kind = "text/event-stream" if body.get("stream") else "application/json"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def openai(self, body: dict[str, Any]) -> bytes:
        turns = body["messages"]
        if body.get("tools") and turns[-1]["role"] == "user":
            function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
            call = {"id": "call_a", "type": "function", "function": function}
            message: dict[str, Any] = {"content": None, "tool_calls": [call]}
            reason = "tool_calls"
        else:
            last = turns[-1]
            text = f"Yes: {last['content']}" if last["role"] == "tool" else "Into the Oslofjord."
            cited = [{"type": "url_citation", "url_citation": CITED}]
            message, reason = {"content": text, "annotations": cited}, "stop"
        if body.get("stream"):
            for place, call in enumerate(message.get("tool_calls", ())):
                call["index"] = place
            choice = {"index": 0, "delta": message, "finish_reason": reason}
            events = [{"choices": [choice]}, {"choices": [], "usage": {"prompt_tokens": 1}}]
            lines = [f"data: {json.dumps(event)}\n\n" for event in events]
            return "".join([*lines, "data: [DONE]\n\n"]).encode()
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode()

    def anthropic(self, body: dict[str, Any]) -> bytes:
        content = [{"type": "text", "text": "Some 620 km."}]
        usage = {"input_tokens": 1, "output_tokens": 1}
        message = {"id": "m", "model": "m", "role": "assistant", "content": content}
        return json.dumps({**message, "stop_reason": "end_turn", "usage": usage}).encode()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    Service.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("OPENAI_API_BASE", f"{base}/v1")
        monkeypatch.setenv("ANTHROPIC_API_BASE", base)
        for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
            monkeypatch.setenv(name, "sk-of-the-documentation")
        yield Service.seen
        server.shutdown()


def printed_by(page: str) -> str:
    """What the page's blocks print, run one after the other as one program."""
    blocks = BLOCK.findall((DOCS / page).read_text("utf-8"))
    assert blocks
    namespace: dict[str, Any] = {"__name__": "a_page"}
    with redirect_stdout(StringIO()) as out:
        for block in blocks:
            exec(compile(block, page, "exec"), namespace)
    return out.getvalue()


@pytest.mark.loopback
def test_a_tool_loop_goes_on_in_each_form(service: list[dict[str, Any]]) -> None:
    printed = printed_by("how-to/use-tools.md")
    assert printed.count("Yes: It is raining in Oslo.") == 5
    assert len(service) == 9


@pytest.mark.loopback
def test_a_conversation_moves(service: list[dict[str, Any]]) -> None:
    printed = printed_by("how-to/move-a-conversation.md")
    assert "Some 620 km." in printed
    assert "dropped top_p" in printed


@pytest.mark.loopback
def test_images_pdfs_and_citations(service: list[dict[str, Any]]) -> None:
    printed = printed_by("how-to/images-and-files.md")
    assert "from Rivers https://rivers.example" in printed
    assert "Some 620 km." in printed
