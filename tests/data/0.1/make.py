"""Write the cache and the recordings of this folder, with lmgateway 0.1 and its plugins.

``python make.py``, where 0.1 (the last commit before the distribution was called
``lmgateway-core``), ``lmgateway-anthropic``, ``lmgateway-anyscale`` and ``lmgateway-local`` are
installed. Its services run on 127.0.0.1 and are reached as a proxy, so that what is kept has the
names of hosts that do not exist: whoever replays it can reach nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8"
    "z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
}
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is the weather in Oslo?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "Sunny, 20 °C."},
]
PICTURE = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": PIXEL}},
        ],
    }
]
SCHEMA = {"type": "object", "properties": {"echo": {"type": "string"}}, "required": ["echo"]}

#: Each is asked plain and streamed, unless it embeds. ``lm`` is given to get_lm.
OPENAI: dict[str, Any] = {"name": "openai", "model": "gpt-1", "api_base": "http://openai.test/v1"}
ANYSCALE: dict[str, Any] = {
    "name": "anyscale",
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "api_base": "http://anyscale.test/v1",
}
ANTHROPIC: dict[str, Any] = {
    "name": "anthropic",
    "model": "claude-1",
    "api_base": "http://anthropic.test",
    "api_key": "a-made-up-key",
}
PARAMS = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 40, "stop": ["END"], "seed": 7}
CASES: list[dict[str, Any]] = [
    {"id": "openai", "lm": OPENAI, "call": {"prompt": "Hello, naïve café ☕"}},
    {"id": "openai-params", "lm": OPENAI, "call": {"prompt": "Hi", **PARAMS, "user": "u1"}},
    {"id": "openai-n", "lm": OPENAI, "call": {"prompt": "Hi", "n": 2}},
    {"id": "openai-system", "lm": {**OPENAI, "system": "Be brief."}, "call": {"prompt": "Hi"}},
    {"id": "openai-turns", "lm": OPENAI, "call": {"messages": TURNS, "tools": [TOOL]}},
    {"id": "openai-image", "lm": OPENAI, "call": {"messages": PICTURE}},
    {"id": "openai-schema", "lm": OPENAI, "call": {"prompt": "as JSON", "schema": SCHEMA}},
    {"id": "openai-sample", "lm": OPENAI, "call": {"prompt": "Hi", "sample": 3}},
    {
        "id": "openai-extra-body",
        "lm": OPENAI,
        "call": {"prompt": "Hi", "extra_body": {"a": [1.0, None, "ü"]}},
    },
    {
        "id": "openai-completions",
        "lm": {**OPENAI, "use_chat_api": False},
        "call": {"prompt": "Once upon a time", "temperature": 0},
    },
    {
        "id": "openai-dialect",
        "lm": {**OPENAI, "dialect": "vllm"},
        "call": {"prompt": "Hi", "top_k": 3},
    },
    {"id": "anyscale-text", "lm": ANYSCALE, "call": {"prompt": "Hi", **PARAMS}},
    {"id": "anyscale-chat", "lm": ANYSCALE, "call": {"messages": TURNS, "tools": [TOOL]}},
    {
        "id": "anyscale-template",
        "lm": {**ANYSCALE, "template": "chatml", "use_chat_api": False, "system": "Be brief."},
        "call": {"messages": TURNS[:2]},
    },
    {
        "id": "anyscale-merged",
        "lm": {**ANYSCALE, "merge_system": True, "use_chat_api": True, "system": "Be brief."},
        "call": {"prompt": "Hi", "timeout": 20},
    },
    {"id": "anyscale-image", "lm": ANYSCALE, "call": {"messages": PICTURE}},
    {"id": "anthropic", "lm": ANTHROPIC, "call": {"prompt": "Hi"}},
    {"id": "anthropic-turns", "lm": ANTHROPIC, "call": {"messages": TURNS, "tools": [TOOL]}},
    {"id": "anthropic-image", "lm": ANTHROPIC, "call": {"messages": PICTURE, "system": "Look."}},
    {
        "id": "anthropic-params",
        "lm": ANTHROPIC,
        "call": {"prompt": "Hi", "temperature": 0.5, "top_k": 3, "stop": "END", "max_tokens": 9},
    },
    {"id": "anthropic-schema", "lm": ANTHROPIC, "call": {"prompt": "as JSON", "schema": SCHEMA}},
    {"id": "blocking", "lm": {"name": "blocky", "model": "m"}, "call": {"prompt": "Hi"}},
    {"id": "openai-embed", "lm": OPENAI, "embed": {"texts": ["one", "zwei ü"], "dimensions": 2}},
    {"id": "anyscale-embed", "lm": ANYSCALE, "embed": {"texts": ["one"]}},
]


class Service(BaseHTTPRequestHandler):
    """Answers each request with a digest of it, in the form that its path asks for."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = f"{len(json.dumps(body))} characters ☕"
        if "as JSON" in json.dumps(body):
            said = json.dumps({"echo": said}, ensure_ascii=False)
        path = self.path.split(".test", 1)[1]
        answer = {
            "/v1/chat/completions": chat,
            "/v1/completions": text,
            "/v1/messages": claude,
            "/v1/embeddings": embeddings,
        }[path](body, said)
        kind = "text/event-stream" if body.get("stream") else "application/json"
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("x-request-id", "req_1")
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_args: Any) -> None: ...


USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


def events(*payloads: Any, named: bool = False, done: bool = True) -> bytes:
    lines = [
        (f"event: {each['type']}\n" if named else "") + f"data: {json.dumps(each)}\n\n"
        for each in payloads
    ]
    return ("".join(lines) + ("data: [DONE]\n\n" if done else "")).encode()


def chat(body: dict[str, Any], said: str) -> Any:
    head = {"id": "c1", "created": 1, "model": body["model"]}
    calls = [CALL] if body["messages"] == PICTURE or "tools" in body else None
    choices = range(body.get("n", 1))
    if not body.get("stream"):
        message = {"role": "assistant", "content": said, "tool_calls": calls}
        made = [{"index": n, "message": message, "finish_reason": "stop"} for n in choices]
        return {**head, "object": "chat.completion", "choices": made, "usage": USAGE}
    head["object"] = "chat.completion.chunk"
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": said[:4]}]
    deltas.append({"content": said[4:]})
    if calls:
        deltas.append({"tool_calls": [{"index": 0, **CALL}]})
    chunks = [{**head, "choices": [{"index": n, "delta": d}]} for n in choices for d in deltas]
    ends = [{"index": n, "delta": {}, "finish_reason": "stop"} for n in choices]
    chunks += [{**head, "choices": [end]} for end in ends]
    return events(*chunks, {**head, "choices": [], "usage": USAGE})


def text(body: dict[str, Any], said: str) -> Any:
    head = {"id": "t1", "object": "text_completion", "created": 1, "model": body["model"]}
    end = {"index": 0, "finish_reason": "stop"}
    if not body.get("stream"):
        return {**head, "choices": [{"text": said, **end}], "usage": USAGE}
    pieces = [{"index": 0, "text": said[:4], "finish_reason": None}, {"text": said[4:], **end}]
    chunks = [{**head, "choices": [piece]} for piece in pieces]
    return events(*chunks, {**head, "choices": [], "usage": USAGE})


def claude(body: dict[str, Any], said: str) -> Any:
    head = {"id": "m1", "type": "message", "role": "assistant", "model": body["model"]}
    usage = {"input_tokens": 3, "output_tokens": 5}
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    if not body.get("stream"):
        return {**head, **end, "content": [{"type": "text", "text": said}], "usage": usage}
    begun = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    return events(
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": said},
        },
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
        named=True,
        done=False,
    )


def embeddings(body: dict[str, Any], _said: str) -> Any:
    vectors = [
        {"object": "embedding", "index": n, "embedding": [0.5, n + 0.25]}
        for n in range(len(body["input"]))
    ]
    return {"object": "list", "data": vectors, "model": body["model"], "usage": USAGE}


def main() -> None:
    """Ask everything, twice: into a cache, and into recordings."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["http_proxy"] = os.environ["HTTP_PROXY"] = f"http://127.0.0.1:{server.server_port}"
    os.environ["LMGATEWAY_CACHE_DIR"] = folder = tempfile.mkdtemp()

    import blocky

    import lmgateway

    answers = {}
    recorded = HERE / "recordings.jsonl"
    recorded.unlink(missing_ok=True)
    for case in CASES:
        keywords = dict(case["lm"])
        name = keywords.pop("name")
        lm = blocky.lm() if name == "blocky" else lmgateway.get_lm(name, **keywords)
        answers[case["id"]] = ask(lm, case, cache=True)
        with lmgateway.record(recorded):
            assert ask(lm, case, cache=False) == answers[case["id"]], case["id"]
    server.shutdown()
    calls = [{**case, "answers": answers[case["id"]]} for case in CASES]
    lines = [json.dumps(call, ensure_ascii=False) + "\n" for call in calls]
    (HERE / "calls.jsonl").write_text("".join(lines), encoding="utf-8")
    (kept,) = Path(folder).rglob("*.sqlite3")
    target = HERE / "answers.sqlite3"
    target.unlink(missing_ok=True)
    sqlite3.connect(kept).execute("VACUUM INTO ?", (str(target),))
    shutil.rmtree(folder)


def ask(lm: Any, case: dict[str, Any], *, cache: bool) -> dict[str, Any]:
    """The answers to one case: plain and streamed, or embeddings; alternately awaited."""
    if "embed" in case:
        return {"embed": without_cached(lm.embed(cache=cache, **case["embed"]))}
    with lm.stream(cache=cache, **case["call"]) as stream:
        pieces = list(stream)
    plain = asyncio.run(lm.acomplete(cache=cache, **case["call"]))
    return {
        "plain": without_cached(plain),
        "streamed": without_cached(stream.completion),
        "pieces": "".join(map(str, pieces)),
    }


def without_cached(answer: Any) -> dict[str, Any]:
    """The answer but for where it came from; ``parsed`` is JSON here, for the schema is."""
    return {key: value for key, value in answer.items() if key != "cached"}


if __name__ == "__main__":
    main()
