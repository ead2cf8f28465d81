"""A service of Anthropic's kind, which knows its own thinking again."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from .script import SCRIPT, Place, call_id, place_of, said
from .server import RefusalError, Reply

__all__ = ["Claude"]

BODY = {
    "model", "messages", "max_tokens", "system", "tools", "tool_choice", "thinking", "stream",
    "metadata", "stop_sequences", "service_tier", "output_config", "temperature", "top_p", "top_k",
    "cache_control", "container", "inference_geo", "speed",
}  # fmt: skip
#: The keys of each block; those that must be there are in the other table.
BLOCKS = {
    "text": {"type", "text", "cache_control", "citations"},
    "image": {"type", "source", "cache_control"},
    "document": {"type", "source", "title", "context", "citations", "cache_control"},
    "thinking": {"type", "thinking", "signature"},
    "redacted_thinking": {"type", "data"},
    "tool_use": {"type", "id", "name", "input", "cache_control"},
    "tool_result": {"type", "tool_use_id", "content", "is_error", "cache_control"},
}
NEEDED = {
    "text": {"text"},
    "image": {"source"},
    "document": {"source"},
    "thinking": {"thinking", "signature"},
    "redacted_thinking": {"data"},
    "tool_use": {"id", "name", "input"},
    "tool_result": {"tool_use_id"},
}
OF_USERS = {"text", "image", "document", "tool_result"}
OF_ASSISTANTS = {"text", "thinking", "redacted_thinking", "tool_use"}
ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Claude:
    """The service.

    Attributes:
        thinks: Whether it thinks when nothing is said about it.
    """

    label = "anthropic"

    def __init__(self) -> None:
        self.down = False
        self.thinks = False
        self.asked: list[dict[str, Any]] = []

    def refusal(self, error: RefusalError) -> Reply:
        fault = {"type": "invalid_request_error", "message": str(error)}
        return Reply({"type": "error", "error": fault, "request_id": "req_1"}, error.status)

    def answer(self, path: str, body: dict[str, Any]) -> Reply:
        if path != "/v1/messages":
            raise RefusalError(f"no such path: {path}", 404)
        if unknown := set(body) - BODY:
            raise RefusalError(f"{unknown}: Extra inputs are not permitted")
        thinking = (body.get("thinking") or {}).get("type", "") in ("enabled", "adaptive")
        self._check(body["messages"], thinking=thinking)
        place = _next_place(body["messages"])
        step = SCRIPT[place.turn][place.step]
        held = any(b["type"] == "tool_use" for m in body["messages"] for b in _blocks(m))
        if (step.calls or held) and not body.get("tools"):
            raise RefusalError("Requests which include tool_use blocks must define tools")
        blocks = self._content(place, thinking=thinking or self.thinks)
        if body.get("stream"):
            return Reply(b"".join(self._events(place, blocks)))
        return Reply(self._message(place, blocks))

    # -- what it refuses -------------------------------------------------------------------------

    def _check(self, messages: list[dict[str, Any]], *, thinking: bool) -> None:
        due: list[str] = []
        known: set[str] = set()
        for number, message in enumerate(messages):
            where = f"messages.{number}"
            if set(message) != {"role", "content"}:
                raise RefusalError(f"{where}: Extra inputs are not permitted: {set(message)}")
            if message["role"] not in ("user", "assistant"):
                raise RefusalError(f"{where}.role: {message['role']}")
            if not message["content"]:
                raise RefusalError(f"{where}: content must be non-empty")
            blocks = _blocks(message)
            for place, block in enumerate(blocks):
                self._check_block(block, message["role"], f"{where}.content.{place}")
            results = [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"]
            if sorted(results) != sorted(due):
                raise RefusalError(f"{where}: results {results} for the calls {due}")
            if any(b["type"] != "tool_result" for b in blocks[: len(results)]):
                raise RefusalError(f"{where}: tool_result blocks must come first")
            due = [block["id"] for block in blocks if block["type"] == "tool_use"]
            if known.intersection(due) or len(set(due)) != len(due):
                raise RefusalError(f"{where}: `tool_use` ids must be unique: {due}")
            known.update(due)
            if message["role"] == "assistant":
                self._check_thinking(messages, number, blocks, thinking=thinking)
        if due:
            raise RefusalError(f"tool_use ids were found without tool_result blocks: {due}")
        if messages[-1]["role"] == "assistant":
            raise RefusalError("This model does not support assistant message prefill")

    def _check_block(self, block: dict[str, Any], role: str, where: str) -> None:
        kind = block.get("type")
        if kind not in (OF_USERS if role == "user" else OF_ASSISTANTS):
            raise RefusalError(f"{where}: Input tag {kind!r} does not match ({role})")
        if unknown := set(block) - BLOCKS[kind]:
            raise RefusalError(f"{where}.{kind}.{unknown}: Extra inputs are not permitted")
        if missing := NEEDED[kind] - set(block):
            raise RefusalError(f"{where}.{kind}.{missing}: Field required")
        match kind:
            case "text" if not isinstance(block["text"], str) or not block["text"].strip():
                raise RefusalError(f"{where}: text content blocks must be non-empty")
            case "image":
                self._check_source(block["source"], where)
            case "thinking" if block["signature"] != signed(block["thinking"]):
                raise RefusalError(f"{where}: Invalid `signature` in `thinking` block")
            case "redacted_thinking" if not _is_sealed(block["data"]):
                raise RefusalError(f"{where}: Invalid `data` in `redacted_thinking` block")
            case "tool_use" if not ID.fullmatch(block["id"]):
                raise RefusalError(f"{where}.tool_use.id: String should match pattern {ID.pattern}")
            case "tool_use" if not isinstance(block["input"], dict):
                raise RefusalError(f"{where}.tool_use.input: Input should be a valid dictionary")
            case "tool_result":
                content = block.get("content")
                if not isinstance(content, (str, type(None))):
                    for part in content:
                        self._check_block(part, "user", f"{where}.content")

    def _check_source(self, source: dict[str, Any], where: str) -> None:
        keys = {"base64": {"type", "media_type", "data"}, "url": {"type", "url"}}
        if set(source) != keys.get(source.get("type", "")):
            raise RefusalError(f"{where}.source: not permitted: {set(source)}")

    def _check_thinking(
        self,
        messages: Sequence[dict[str, Any]],
        number: int,
        blocks: list[dict[str, Any]],
        *,
        thinking: bool,
    ) -> None:
        """What was thought stands where it stood, at the latest turn and wherever it came back."""
        where = f"messages.{number}.content.0"
        in_loop = not any(map(_is_user_turn, messages[number + 1 :]))
        calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if thinking and in_loop and calls and blocks[0]["type"] not in _THOUGHTS:
            raise RefusalError(
                f"{where}.type: Expected `thinking` or `redacted_thinking`, but found "
                f"`{blocks[0]['type']}`. To avoid this requirement, disable `thinking`."
            )
        thoughts = [block for block in blocks if block["type"] in _THOUGHTS]
        text = "".join(block["text"] for block in blocks if block["type"] == "text")
        place = place_of(self.label, text, calls)
        if place is None:
            if thoughts:
                raise RefusalError(f"{where}: thinking of somebody else")
        elif thoughts or (thinking and in_loop and calls):
            given = [b for b in self._content(place, thinking=True) if b["type"] in _THOUGHTS]
            if thoughts != given:
                raise RefusalError(f"{where}: `thinking` blocks cannot be modified")

    # -- what it says ----------------------------------------------------------------------------

    def _content(self, place: Place, *, thinking: bool) -> list[dict[str, Any]]:
        step = SCRIPT[place.turn][place.step]
        blocks: list[dict[str, Any]] = []
        if thinking:
            thought = "" if place.turn == 1 else f"I think of {place} 💭."  # may be left out
            blocks.append({"type": "thinking", "thinking": thought, "signature": signed(thought)})
            if place.turn % 3 == 0:
                blocks.append({"type": "redacted_thinking", "data": _sealed(str(place))})
        if text := said(self.label, place):
            blocks.append({"type": "text", "text": text})
        for number, (name, arguments) in enumerate(step.calls):
            id_ = call_id(self.label, place, number)
            value = json.loads(arguments or "{}")
            blocks.append({"type": "tool_use", "id": id_, "name": name, "input": value})
        return blocks

    def _message(self, place: Place, blocks: list[dict[str, Any]]) -> dict[str, Any]:
        calls = any(block["type"] == "tool_use" for block in blocks)
        return {
            "id": f"msg_{place}",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": blocks,
            "stop_reason": "tool_use" if calls else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 9, "output_tokens": 7},
        }

    def _events(self, place: Place, blocks: list[dict[str, Any]]) -> Iterator[bytes]:
        whole = self._message(place, blocks)
        end = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        begun = {**whole, "content": [], "stop_reason": None}
        yield _event({"type": "message_start", "message": begun})
        for index, block in enumerate(blocks):
            start, deltas = _pieces(block)
            at = {"index": index}
            yield _event({"type": "content_block_start", **at, "content_block": start})
            for delta in deltas:
                yield _event({"type": "content_block_delta", **at, "delta": delta})
            yield _event({"type": "content_block_stop", **at})
        yield _event({"type": "message_delta", "delta": end, "usage": {"output_tokens": 7}})
        yield _event({"type": "message_stop"})


_THOUGHTS = ("thinking", "redacted_thinking")


def signed(thought: str) -> str:
    """The signature of a thought."""
    return hmac.digest(b"of the service", thought.encode(), "sha256").hex()


def _sealed(text: str) -> str:
    return f"{text}:{signed(f'sealed {text}')}"


def _is_sealed(data: str) -> bool:
    return data == _sealed(data.split(":")[0])


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _is_user_turn(message: dict[str, Any]) -> bool:
    """Whether the user says something, beside results of tools."""
    if message["role"] != "user":
        return False
    return any(block["type"] == "text" for block in _blocks(message))


def _next_place(messages: Sequence[dict[str, Any]]) -> Place:
    step = 0
    for message in reversed(messages):
        if _is_user_turn(message):
            texts = "".join(block.get("text", "") for block in _blocks(message))
            return Place(int(texts.split("[turn ")[-1][0]), step)
        step += message["role"] == "assistant"
    raise RefusalError("messages hold no turn of the user's")


def _pieces(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How a block begins in a stream, and what is added to it."""
    match block["type"]:
        case "text":
            text = block["text"]
            pieces = [text[: len(text) // 2], text[len(text) // 2 :]]
            return {"type": "text", "text": ""}, [
                {"type": "text_delta", "text": piece} for piece in pieces
            ]
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}]
            signature = {"type": "signature_delta", "signature": block["signature"]}
            return {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signature]
        case "tool_use":
            text = json.dumps(block["input"]) if block["input"] else ""
            pieces = ["", text[: len(text) // 2], text[len(text) // 2 :]]
            return {**block, "input": {}}, [
                {"type": "input_json_delta", "partial_json": piece} for piece in pieces
            ]
    return block, []


def _event(payload: dict[str, Any]) -> bytes:
    return f"event: {payload['type']}\ndata: {json.dumps(payload)}\n\n".encode()
