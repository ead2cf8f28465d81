"""An editor completes the keywords of a call: pyright's language server is asked as editors ask."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyright", reason="needs pyright, which make installs")


class Editor:
    """A client of a language server, as small as it can be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked = 0
        self.server = subprocess.Popen(
            [sys.executable, "-m", "pyright.langserver", "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        capabilities = {"workspace": {"configuration": True}}
        root = folder.as_uri()
        self.ask("initialize", processId=None, rootUri=root, capabilities=capabilities)
        self.tell("initialized")

    def tell(self, method: str, **params: Any) -> None:
        self._send({"method": method, "params": params})

    def ask(self, method: str, **params: Any) -> Any:
        self.asked += 1
        self._send({"id": self.asked, "method": method, "params": params})
        while True:
            message = self._receive()
            if "method" not in message:
                return message["result"]
            if "id" in message:  # it asks, too: where Python is, and nothing else that counts
                items = message.get("params", {}).get("items", [])
                answer = [{"pythonPath": sys.executable} for _ in items] or None
                self._send({"id": message["id"], "result": answer})

    def keywords(self, program: str) -> list[str]:
        """The keywords that are offered at the end of a program."""
        uri = (self.folder / f"program{self.asked}.py").as_uri()
        document = {"uri": uri, "languageId": "python", "version": 1, "text": program}
        self.tell("textDocument/didOpen", textDocument=document)
        lines = program.split("\n")
        place = {"line": len(lines) - 1, "character": len(lines[-1])}
        found = self.ask("textDocument/completion", textDocument={"uri": uri}, position=place)
        return [item["label"] for item in found["items"] if item["label"].endswith("=")]

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.server.stdin is not None
        self.server.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self.server.stdin.flush()

    def _receive(self) -> Any:
        assert self.server.stdout is not None
        length = 0
        while header := self.server.stdout.readline().strip():
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length, "the language server has ended"
        return json.loads(self.server.stdout.read(length))


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    opened = Editor(tmp_path_factory.mktemp("program"))
    yield opened
    opened.server.kill()
    opened.server.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    "call, keyword",
    [
        ("lm.complete('Hi', te", "temperature="),
        ("lm('Hi', max_t", "max_tokens="),
        ("lm.stream('Hi', ev", "events="),
        ("lm.batch(['Hi'], conc", "concurrency="),
        ("lm.copy(api_b", "api_base="),
        ("get_lm('openai', 'm', reas", "reasoning_effort="),
        ("lm.embed('Hi', dim", "dimensions="),
    ],
)
def test_an_editor_completes_a_keyword(editor: Editor, call: str, keyword: str) -> None:
    before = "from lmgateway import get_lm\n\nlm = get_lm('echo')\n"
    assert keyword in editor.keywords(before + call)
