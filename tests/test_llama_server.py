"""The stand-in for a hosted service answers as one would, and goes when its owner goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support import llama_server as module
from support.llama_server import LlamaServer, serve_llama

from lmgateway import get_lm
from lmgateway.errors import InvalidRequestError, ResponseFormatError

pytestmark = pytest.mark.real


def post(server: LlamaServer, path: str, key: str | None = None, **body: object) -> bytes:
    request = urllib.request.Request(
        server.base_url + path,
        json.dumps({"model": server.model, "max_tokens": 4, **body}).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {key or server.api_key}"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return bytes(response.read())


def test_text_is_completed(llama_server: LlamaServer) -> None:
    body = post(llama_server, "/completions", prompt="The capital of France is", temperature=0)
    assert "Paris" in json.loads(body)["choices"][0]["text"]


def test_the_model_goes_by_its_alias(llama_server: LlamaServer) -> None:
    body = post(llama_server, "/completions", prompt="A")
    assert json.loads(body)["model"] == llama_server.model


def test_four_answers_can_be_asked_for(llama_server: LlamaServer) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    body = post(llama_server, "/chat/completions", messages=messages, n=4)
    assert len(json.loads(body)["choices"]) == 4


def test_a_stream_ends_with_its_mark(llama_server: LlamaServer) -> None:
    body = post(llama_server, "/completions", prompt="A", stream=True)
    assert body.startswith(b"data: ")
    assert body.endswith(b"data: [DONE]\n\n")


def test_another_key_is_refused(llama_server: LlamaServer) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(llama_server, "/completions", key="sk-other", prompt="A")
    with caught.value as error:
        assert error.code == 401


def test_it_embeds_as_the_model_in_the_process_does() -> None:
    texts = ["a cat", "a dog", "hello", "a cat", "Ä €"]
    with serve_llama(embeds=True, parallel=2, context=2048) as server:
        where = {"api_base": server.base_url, "api_key": server.api_key, "cache": False}
        with get_lm(f"openai/{server.model}", **where) as lm:
            packed = lm.embed(texts)  # in base64
            plain = lm.embed(texts, encoding_format="float")
            several = lm.embed([*texts, "and more", "b", "c"], concurrency=3)
            with pytest.raises(InvalidRequestError):
                lm.embed(["", "a"])
            with pytest.raises(ResponseFormatError, match="dimensions"):
                lm.embed(texts, dimensions=64)
    with get_lm("local", cache=False) as lm:
        here = lm.embed(texts)
    assert packed["usage"] == here["usage"]
    for one in (plain, several, here):
        for vector, other in zip(one["embeddings"], packed["embeddings"], strict=False):
            assert sum(a * b for a, b in zip(vector, other, strict=True)) > 0.999


def test_the_server_dies_with_the_process_that_started_it() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import llama_server\n"
        "with llama_server.serve_llama() as server:\n"
        "    print(server.base_url, flush=True); sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(module.__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    base_url = owner.stdout.readline().strip()
    assert base_url.startswith("http://127.0.0.1:")
    os.kill(owner.pid, signal.SIGKILL)
    owner.communicate(timeout=30)  # ends when the last holder of the inherited stderr has ended
