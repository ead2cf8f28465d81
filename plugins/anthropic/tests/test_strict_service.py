"""A service as strict as the real one: what it said comes back whole, and any turn can be sent."""

from __future__ import annotations

import asyncio
import copy
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import lmgateway_anthropic
from lmgateway import LM
from lmgateway.testing import lm_from

pytestmark = pytest.mark.loopback

KEYS: dict[str, tuple[set[str], set[str]]] = {  # what each block must and may hold
    "text": ({"type", "text"}, {"citations", "cache_control"}),
    "thinking": ({"type", "thinking", "signature"}, set()),
    "redacted_thinking": ({"type", "data"}, set()),
    "tool_use": ({"type", "id", "name", "input"}, {"cache_control", "caller"}),
    "server_tool_use": ({"type", "id", "name", "input"}, {"cache_control", "caller"}),
    "web_search_tool_result": ({"type", "tool_use_id", "content"}, {"cache_control", "caller"}),
    "tool_result": ({"type", "tool_use_id"}, {"content", "is_error", "cache_control"}),
    "image": ({"type", "source"}, {"cache_control"}),
    "document": ({"type", "source"}, {"title", "context", "citations", "cache_control"}),
}
THOUGHTS = ("thinking", "redacted_thinking")
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
THINKING = {"type": "enabled", "budget_tokens": 1024}


class RefusedError(Exception):
    """What the service does not take."""


def insist(fine: object, problem: str) -> None:
    if not fine:
        raise RefusedError(problem)


def joined(messages: list[Any]) -> list[tuple[str, list[Any]]]:
    """The turns, those that follow one another put together, as the API does."""
    turns: list[tuple[str, list[Any]]] = []
    for place, message in enumerate(messages):
        insist(set(message) == {"role", "content"}, f"messages.{place}: extra inputs")
        content = message["content"]
        insist(content, f"messages.{place}: must have non-empty content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks:
            must, may = KEYS[block["type"]]
            insist(must <= set(block) <= must | may, f"messages.{place}: keys of {block}")
            insist(block["type"] != "text" or block["text"].strip(), "text must be non-empty")
        if turns and turns[-1][0] == message["role"]:
            turns[-1][1].extend(blocks)
        else:
            turns.append((message["role"], list(blocks)))
    return turns


def check_calls(turns: list[tuple[str, list[Any]]]) -> None:
    seen: set[str] = set()
    asked: list[str] = []
    for role, blocks in turns:
        results = [block for block in blocks if block["type"] == "tool_result"]
        insist(blocks[: len(results)] == results, "tool_result blocks must come first")
        answered = [block["tool_use_id"] for block in results]
        insist(sorted(answered) == sorted(asked), "each tool_use must have its tool_result at once")
        asked = [block["id"] for block in blocks if block["type"] == "tool_use"]
        insist(role == "assistant" or not asked, "a tool_use of the user's")
        for each in asked:
            insist(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", each), f"the pattern of {each}")
            insist(each not in seen, f"tool_use ids must be unique: {each}")
            seen.add(each)
    insist(not asked, "tool_use ids were found without tool_result blocks")


def check_thoughts(turns: list[tuple[str, list[Any]]], made: list[Any], thinks: bool) -> None:
    signed = [[b for b in turn if b["type"] in THOUGHTS] for turn in made]
    for role, blocks in turns:
        thoughts = [block for block in blocks if block["type"] in THOUGHTS]
        insist(not thoughts or (role == "assistant" and thoughts in signed), "invalid signature")
    last = next((blocks for role, blocks in reversed(turns) if role == "assistant"), [])
    if thinks and turns[-1][1][0]["type"] == "tool_result":
        insist(last[0]["type"] in THOUGHTS, "expected thinking, but found something else")


class Service:
    """Says what it is told to, turn by turn, to whoever keeps the rules."""

    def __init__(self, *turns: list[Any]) -> None:
        self.turns = list(turns)
        self.made: list[Any] = []  # what it said already
        self.bodies: list[Any] = []

    def answer(self, body: Any) -> tuple[int, list[Any]]:
        """The status and the events of the answer."""
        self.bodies.append(body)
        try:
            turns = joined(body["messages"])
            check_calls(turns)
            check_thoughts(turns, self.made, body.get("thinking", {}).get("type") == "enabled")
        except (RefusedError, KeyError) as refused:
            error = {"type": "invalid_request_error", "message": str(refused)}
            return 400, [{"type": "error", "error": error}]
        blocks = self.turns.pop(0)
        self.made.append(blocks)
        calls = any(block["type"] == "tool_use" for block in blocks)
        message = {
            "id": f"msg_{len(self.made)}",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": blocks,
            "stop_reason": "tool_use" if calls else "end_turn",
            "usage": {"input_tokens": 1, "output_tokens": 2},
        }
        return 200, list(events(message)) if body.get("stream") else [message]


def events(message: dict[str, Any]) -> Iterator[Any]:
    yield {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}
    for place, block in enumerate(message["content"]):
        begun, deltas = opened(block)
        yield {"type": "content_block_start", "index": place, "content_block": begun}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": place, "delta": delta}
        yield {"type": "content_block_stop", "index": place}
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 2}}
    yield {"type": "message_stop"}


def opened(block: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """A block as it begins in a stream, and what it grows by."""
    match block:
        case {"type": "text", "text": text, **rest}:
            halves = [
                {"type": "text_delta", "text": text[:3]},
                {"type": "text_delta", "text": text[3:]},
            ]
            cited = [{"type": "citations_delta", "citation": c} for c in rest.get("citations", ())]
            return {"type": "text", "text": ""}, cited + halves
        case {"type": "thinking", "thinking": text, "signature": signature}:
            thought = [{"type": "thinking_delta", "thinking": text}] if text else []
            signed = {"type": "signature_delta", "signature": signature}
            return {"type": "thinking", "thinking": "", "signature": ""}, [*thought, signed]
        case {"type": "tool_use" | "server_tool_use", "input": given}:
            text = json.dumps(given)
            pieces = ["", text[:2], text[2:]]
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
            return {**block, "input": {}}, deltas
    return block, []


@contextmanager
def serving(service: Service) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, said = service.answer(body)
            streamed = status == 200 and body.get("stream")
            if streamed:
                text = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in said)
            else:
                text = json.dumps(said[0])
            kind = "text/event-stream" if streamed else "application/json"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def asking(service: Service, **keywords: Any) -> Iterator[LM]:
    given = {"model": "m", "api_key": "a-key", "cache": False, "retries": 0, **keywords}
    with (
        serving(service) as url,
        lm_from(lmgateway_anthropic, "anthropic", api_base=url, **given) as lm,
    ):
        yield lm


# -- ways to ask, and to go on -------------------------------------------------------------------


def plain(lm: LM, messages: Any, **keywords: Any) -> Any:
    return lm.complete(messages=messages, **keywords)


def streamed(lm: LM, messages: Any, **keywords: Any) -> Any:
    with lm.stream(messages=messages, **keywords) as stream:
        text = "".join(stream)
    assert text == stream.completion["choices"][0]["text"]
    return stream.completion


def awaited(lm: LM, messages: Any, **keywords: Any) -> Any:
    return asyncio.run(lm.acomplete(messages=messages, **keywords))


def astreamed(lm: LM, messages: Any, **keywords: Any) -> Any:
    async def ask() -> Any:
        async with lm.astream(messages=messages, **keywords) as stream:
            _ = [piece async for piece in stream]
        return stream.completion

    return asyncio.run(ask())


def by_message(choice: Any) -> Any:
    return choice["message"]


def by_hand(choice: Any) -> Any:
    return {
        "role": "assistant",
        "content": choice["text"] or None,
        "tool_calls": choice["tool_calls"],
    }


def dumped(choice: Any) -> Any:
    return json.loads(json.dumps(choice["message"]))


def result(choice: Any, place: int = 0, text: str = "found", **keys: Any) -> dict[str, Any]:
    call_id = choice["tool_calls"][place]["id"]
    return {"role": "tool", "tool_call_id": call_id, "content": text, **keys}


def use(number: int, **keys: Any) -> dict[str, Any]:
    given = {"word": "ä", "n": number}
    return {"type": "tool_use", "id": f"toolu_{number}", "name": "look_up", "input": given, **keys}


CITED = {
    "type": "web_search_result_location",
    "url": "https://a.example/b",
    "title": "B",
    "encrypted_index": "I==",
    "cited_text": "so it is",
}
LOOP: list[list[Any]] = [
    [{"type": "thinking", "thinking": "Hm.", "signature": "s1"}, use(1)],
    [
        {"type": "redacted_thinking", "data": "R=="},
        {"type": "text", "text": "I look again."},
        use(2),
        use(20),
    ],
    [{"type": "thinking", "thinking": "", "signature": "s3"}, use(3)],
    [
        {"type": "thinking", "thinking": "Oh.", "signature": "s4"},
        {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "q"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srv_1",
            "content": [{"type": "web_search_result", "url": "https://a.example/b", "title": "B"}],
        },
        {"type": "text", "text": "It is so.", "citations": [CITED]},
        use(4),
    ],
    [{"type": "thinking", "thinking": "Done.", "signature": "s5"}, {"type": "text", "text": "So."}],
]


@pytest.mark.parametrize("go_on", [by_message, by_hand, dumped], ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    "ask", [plain, streamed, awaited, astreamed], ids=lambda each: each.__name__
)
def test_a_loop_of_five_turns_with_thinking_survives(ask: Any, go_on: Any) -> None:
    service = Service(*copy.deepcopy(LOOP))
    messages: list[Any] = [{"role": "user", "content": "Look up ä."}]
    with asking(service, thinking=THINKING, tools=TOOLS) as lm:
        for _ in LOOP:
            completion = ask(lm, messages)
            assert "warnings" not in completion
            (choice,) = completion["choices"]
            if calls := choice.get("tool_calls"):
                messages.append(go_on(choice))
                messages += [result(choice, place) for place in reversed(range(len(calls)))]
    assert choice["text"] == "So."
    sent = [
        each["content"] for each in service.bodies[-1]["messages"] if each["role"] == "assistant"
    ]
    assert sent == LOOP[:-1]
    assert service.bodies[-1]["thinking"] == THINKING


@pytest.mark.parametrize("ask", [plain, streamed], ids=lambda each: each.__name__)
def test_what_the_service_ran_and_cited_is_in_the_parts(ask: Any) -> None:
    with asking(Service(LOOP[3])) as lm:
        (choice,) = ask(lm, [{"role": "user", "content": "Hi"}], tools=TOOLS)["choices"]
    kinds = [(part["type"], part.get("by")) for part in choice["parts"]]
    assert kinds == [
        ("reasoning", None),
        ("tool_call", "service"),
        ("tool_result", "service"),
        ("text", None),
        ("tool_call", None),
    ]
    (citation,) = choice["parts"][3]["citations"]
    assert citation == {
        "url": "https://a.example/b", "title": "B", "text": "so it is", "extra": CITED,
    }  # fmt: skip
    assert [call["id"] for call in choice["tool_calls"]] == ["toolu_4"]


# -- turns from anywhere -------------------------------------------------------------------------


def call(call_id: str, name: str = "look_up") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": "{}"}}


def turn(*call_ids: str, content: Any = None, **keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": [*map(call, call_ids)], **keys}


def told(call_id: str, text: str = "r", **keys: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text, **keys}


USER = {"role": "user", "content": "Hi"}
PDF = "data:application/pdf;base64,JVBERi0="
PNG = "data:image/png;base64,iVBORw0KGgo="
HISTORIES: dict[str, list[Any]] = {
    "ids of another shape": [USER, turn("call:1/a", "call 2"), told("call:1/a"), told("call 2")],
    "ids that are alike when cleaned": [USER, turn("a:b", "a/b"), told("a/b"), told("a:b")],
    "a long id": [USER, turn("c" * 100), told("c" * 100)],
    "an empty id": [USER, turn(""), told("")],
    "one id in every turn": [
        USER, turn("call_0"), told("call_0"), turn("call_0"), told("call_0"), USER,
        turn("call_0", "call_0"), told("call_0"), told("call_0"),
    ],
    "a call of a custom tool": [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "a", "type": "custom", "custom": {"name": "look_up", "input": "all"}}]},
        told("a"),
    ],
    "results out of order": [USER, turn("a", "b"), told("b"), told("a")],
    "a late result": [USER, turn("a", "b"), told("a"), USER, told("b")],
    "a result after the next calls": [USER, turn("a"), turn("b"), told("b"), told("a")],
    "blocks of the API's own": [
        USER,
        {"role": "assistant", "content": [use(1)]},
        {"role": "user", "content": [
            {"type": "text", "text": "and?"},
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "r"},
        ]},
    ],
    "empty texts": [
        {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "Hi"}]},
        turn("a", content=""), told("a", ""),
        turn("b", content=[{"type": "text", "text": "\n"}]),
        told("b"),
    ],
    "an empty turn": [USER, {"role": "assistant", "content": ""}, USER],
    "a thought that is not signed": [
        USER, {"role": "assistant", "content": "a", "reasoning": "b"}, USER,
    ],
    "a refusal": [
        USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, USER,
    ],
    "a message of OpenAI's SDK": [
        USER, {"role": "assistant", "content": None, "refusal": "No.", "audio": None,
               "annotations": [], "function_call": None, "tool_calls": None}, USER,
    ],
    "an image in a result": [USER, turn("a"), {
        **told("a"), "content": [{"type": "image_url", "image_url": {"url": PNG}}]}],
    "files": [{"role": "user", "content": [
        {"type": "text", "text": "Look."},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}},
        {"type": "file", "media_type": "application/pdf", "data": "JVBERi0=", "name": "a.pdf"},
        {"type": "file", "media_type": "image/png", "data": "iVBORw0KGgo="},
        {"type": "file", "media_type": "application/pdf", "url": "https://a.example/a.pdf"},
        {"type": "input_image", "image_url": PNG},
    ]}],
}  # fmt: skip


@pytest.mark.parametrize("thinking", [None, THINKING], ids=["plain", "thinking"])
@pytest.mark.parametrize("name", HISTORIES)
def test_any_turn_can_be_sent(name: str, thinking: Any) -> None:
    service = Service([{"type": "text", "text": "Yes."}])
    before = copy.deepcopy(HISTORIES[name])
    keywords = {"thinking": thinking} if thinking else {}
    with asking(service, tools=TOOLS, **keywords) as lm:
        completion = lm.complete(messages=HISTORIES[name])
    assert completion["choices"][0]["text"] == "Yes."
    assert HISTORIES[name] == before
    gone_on = HISTORIES[name][-1]["role"] == "tool" or "blocks" in name or "late" in name
    warned = {warning["name"] for warning in completion.get("warnings", ())}
    assert ("thinking" in warned) == bool(thinking and gone_on)
    assert ("thinking" in service.bodies[0]) == bool(thinking and not gone_on)
    assert ("messages[1]" in warned) == (name == "an empty turn")


def test_a_conversation_that_grows_keeps_the_ids_that_it_had() -> None:
    service = Service(*([{"type": "text", "text": "Yes."}] for _ in range(2)))
    messages = [USER, turn("a:1"), told("a:1"), turn("a:1"), told("a:1")]
    with asking(service, tools=TOOLS) as lm:
        lm.complete(messages=messages)
        lm.complete(messages=[*messages, turn("a:1"), told("a:1")])
    first, second = (body["messages"] for body in service.bodies)
    assert second[: len(first)] == first


def test_an_id_of_the_services_own_is_its_own_whoever_comes_first() -> None:
    service = Service(LOOP[0], [{"type": "text", "text": "Yes."}])
    with asking(service, tools=TOOLS) as lm:
        choice = lm.complete(messages=[USER])["choices"][0]
        earlier: list[Any] = [USER, turn("toolu_1"), told("toolu_1", "early")]
        lm.complete(messages=[*earlier, USER, choice["message"], result(choice)])
    sent = service.bodies[-1]["messages"]
    assert sent[4]["content"] == LOOP[0]
    assert sent[5]["content"][0]["tool_use_id"] == "toolu_1"
    assert sent[1]["content"][0]["id"] == sent[2]["content"][0]["tool_use_id"] != "toolu_1"


def test_a_failed_tool_is_told_as_one() -> None:
    service = Service([{"type": "text", "text": "Oh."}])
    with asking(service, tools=TOOLS) as lm:
        lm.complete(
            messages=[USER, turn("a", "b"), told("a", is_error=True), told("b", is_error=False)]
        )
    failed, fine = service.bodies[0]["messages"][-1]["content"]
    assert failed["is_error"] is True
    assert not fine.get("is_error")


def test_an_edited_turn_goes_out_as_it_was_edited_and_without_thinking() -> None:
    service = Service(LOOP[1], [{"type": "text", "text": "Yes."}])
    with asking(service, thinking=THINKING, tools=TOOLS) as lm:
        choice = lm.complete(messages=[USER])["choices"][0]
        edited = {**choice["message"], "content": "I was edited."}
        answers = [result(choice), result(choice, 1)]
        completion = lm.complete(messages=[USER, edited, *answers])
    body = service.bodies[-1]
    assert body["messages"][1]["content"][0] == {"type": "text", "text": "I was edited."}
    assert "thinking" not in body
    assert [(each["kind"], each["name"]) for each in completion["warnings"]] == [
        ("state", "messages[1]"),
        ("adapted", "thinking"),
    ]


def test_a_turn_that_another_began_is_gone_on_with_without_thinking() -> None:
    service = Service([use(2)], [{"type": "text", "text": "Yes."}], [use(3)])
    with asking(service, thinking=THINKING, tools=TOOLS) as lm:
        messages = [USER, turn("call_1"), told("call_1")]
        choice = lm.complete(messages=messages)["choices"][0]
        messages += [choice["message"], result(choice)]
        choice = lm.complete(messages=messages)["choices"][0]
        messages += [choice["message"], USER]
        lm.complete(messages=messages)
    assert ["thinking" in body for body in service.bodies] == [False, False, True]


def test_a_turn_of_its_own_without_a_thought_is_gone_on_with_thinking() -> None:
    adaptive = {"type": "adaptive"}
    service = Service([use(1)], [{"type": "text", "text": "Yes."}])
    with asking(service, thinking=adaptive, tools=TOOLS) as lm:
        choice = lm.complete(messages=[USER])["choices"][0]
        completion = lm.complete(messages=[USER, choice["message"], result(choice)])
    assert service.bodies[-1]["thinking"] == adaptive
    assert "warnings" not in completion
