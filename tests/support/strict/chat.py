"""Services of OpenAI's kind, each with what it alone gives and wants back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from .script import SCRIPT, Place, call_id, place_of, said
from .server import RefusalError, Reply

__all__ = ["KINDS", "Chat"]

#: The keys that OpenAI knows, by role.
KEYS = {
    "system": {"role", "content", "name"},
    "developer": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "refusal", "audio", "tool_calls"},
    "tool": {"role", "content", "tool_call_id"},
}
PARTS = {
    "text": {"type", "text"},
    "image_url": {"type", "image_url"},
    "input_audio": {"type", "input_audio"},
    "file": {"type", "file"},
    "refusal": {"type", "refusal"},
}
#: What each of these services adds to an assistant's turn, and wants to see again.
KINDS = {
    "openai": None,
    "anyscale": None,
    "gemini": "extra_content",
    "openrouter": "reasoning_details",
    "deepseek": "reasoning_content",
    "mistral": "content",
}


class Chat:
    """One service.

    Attributes:
        label: One of KINDS.
        lenient: Whether a turn of its own may come back without what it added: for a test that
            edits one.
        idless: Whether it gives its calls no ids.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.down = False
        self.lenient = False
        self.idless = False
        self.asked: list[dict[str, Any]] = []

    def refusal(self, error: RefusalError) -> Reply:
        fault = {"message": str(error), "type": "invalid_request_error", "param": None}
        return Reply({"error": {**fault, "code": None}}, error.status)

    def answer(self, path: str, body: dict[str, Any]) -> Reply:
        if path == "/completions":
            return self._continue(body)
        if path != "/chat/completions":
            raise RefusalError(f"no such path: {path}", 404)
        messages = body["messages"]
        self._check(messages)
        place = _next_place(messages)
        if SCRIPT[place.turn][place.step].calls and not body.get("tools"):
            raise RefusalError("This conversation needs tools")
        if body.get("stream"):
            return Reply(b"".join(self._events(place)))
        return Reply(self._whole(place))

    def _continue(self, body: dict[str, Any]) -> Reply:
        unknown = {"state", "reasoning", "parsed", "signature", "thinking"}
        if found := [name for name in unknown if f'"{name}"' in body["prompt"]]:
            raise RefusalError(f"The prompt holds {found}")
        choice = {"index": 0, "text": "And so on.", "finish_reason": "stop", "logprobs": None}
        return Reply({"id": "t", "object": "text_completion", "model": "m", "choices": [choice]})

    # -- what it refuses -------------------------------------------------------------------------

    def _check(self, messages: list[dict[str, Any]]) -> None:
        due: list[str] = []  # ids of calls that wait for their results
        known: set[str] = set()
        for number, message in enumerate(messages):
            where = f"messages[{number}]"
            role = message.get("role")
            if role not in KEYS:
                raise RefusalError(f"Invalid value: {role!r}. ({where}.role)")
            if role == "tool":
                if message.get("tool_call_id") not in due:
                    raise RefusalError(f"{where}: no preceding call has this tool_call_id")
                due.remove(message["tool_call_id"])
            elif due:
                raise RefusalError(f"{where}: tool messages are missing for {due}")
            self._check_content(message, where)
            if role == "assistant":
                due = self._check_assistant(message, where, messages[number + 1 :])
                if repeated := known.intersection(due) or len(set(due)) != len(due):
                    raise RefusalError(f"{where}.tool_calls: duplicate id {repeated or due}")
                known.update(due)
            self._check_keys(message, KEYS[role] | self._more(role), where)
        if due:
            raise RefusalError(f"tool messages are missing for {due}")

    def _more(self, role: str) -> set[str]:
        extra = KINDS[self.label]
        if role != "assistant" or extra in (None, "content", "extra_content"):
            return set()
        return {str(extra), "reasoning"} if extra == "reasoning_details" else {str(extra)}

    def _check_keys(self, value: dict[str, Any], known: set[str], where: str) -> None:
        for key in value:
            if key not in known:
                raise RefusalError(f"Unknown parameter: '{where}.{key}'.")

    def _check_content(self, message: dict[str, Any], where: str) -> None:
        content = message.get("content")
        if content is None:
            if message["role"] != "assistant" or not message.get("tool_calls"):
                raise RefusalError(
                    f"Invalid value for 'content': expected a string, got null. {where}"
                )
        elif isinstance(content, list):
            if not content:
                raise RefusalError(f"{where}.content: an empty array")
            for part in content:
                if self.label == "mistral" and part.get("type") == "thinking":
                    continue
                if part.get("type") not in PARTS:
                    raise RefusalError(f"{where}.content: unknown type {part.get('type')!r}")
                self._check_keys(part, PARTS[part["type"]], f"{where}.content")
                if part["type"] == "image_url" and message["role"] != "user":
                    raise RefusalError(f"{where}: images are for users")
        elif not isinstance(content, str):
            raise RefusalError(f"{where}.content: a string or an array")

    def _check_assistant(
        self, message: dict[str, Any], where: str, after: Sequence[dict[str, Any]]
    ) -> list[str]:
        if "tool_calls" in message and not message["tool_calls"]:
            raise RefusalError(f"Invalid '{where}.tool_calls': empty array or null")
        calls = message.get("tool_calls") or []
        for number, call in enumerate(calls):
            place = f"{where}.tool_calls[{number}]"
            more = {"extra_content"} if self.label == "gemini" else set()
            self._check_keys(call, {"id", "type", "function"} | more, place)
            self._check_keys(call["function"], {"name", "arguments"}, place)
            if call.get("type") != "function" or not isinstance(call["id"], str) or not call["id"]:
                raise RefusalError(f"{place}: no type or id")
            if self.label == "openai" and len(call["id"]) > 40:
                raise RefusalError(f"Invalid '{place}.id': string too long (40 at most).")
            if not isinstance(call["function"]["arguments"], str):
                raise RefusalError(f"{place}.function.arguments: expected a string")
            json.loads(call["function"]["arguments"] or "{}")
        content = message.get("content")
        ids = [call["id"] for call in calls]
        place_ = place_of(self.label, _text(content), ids)
        self._check_added(message, place_, where, in_loop=_in_loop(after))
        return ids

    def _check_added(
        self, message: dict[str, Any], place: Place | None, where: str, *, in_loop: bool
    ) -> None:
        """What this service adds comes back unaltered, and only where it added it."""
        if place is None:
            if self.label == "mistral" and any(map(_is_thinking, _parts(message))):
                raise RefusalError(f"{where}: thinking that is not mine")
            found = any("extra_content" in call for call in message.get("tool_calls") or ())
            if found or any(key in message for key in self._more("assistant") - {"reasoning"}):
                raise RefusalError(f"{where}: {KINDS[self.label]} that is not mine")
            return
        calls = message.get("tool_calls") or []
        mine = self._message(place)
        due = bool(calls) and not self.lenient
        match self.label:
            case "gemini":
                for call, given in zip(calls, mine.get("tool_calls", ()), strict=False):
                    if (due or "extra_content" in call) and call.get("extra_content") != given[
                        "extra_content"
                    ]:
                        raise RefusalError(
                            f"Function call is missing a thought_signature. ({where})"
                        )
            case "openrouter" | "deepseek":
                key = str(KINDS[self.label])
                due = due and (in_loop or self.label == "openrouter")
                if (due or key in message) and _merged(message.get(key)) != mine[key]:
                    raise RefusalError(f"{where}.{key} must be passed back to the API")
            case "mistral":
                if due and _thoughts(message["content"]) != _thoughts(mine["content"]):
                    raise RefusalError(f"{where}.content: the thinking must be passed back")

    # -- what it says ----------------------------------------------------------------------------

    def _message(self, place: Place) -> dict[str, Any]:
        step = SCRIPT[place.turn][place.step]
        thought, text = f"I think of {place} 💭.", said(self.label, place)
        message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
        message["annotations"] = []
        if step.calls:
            message["tool_calls"] = [
                {
                    "id": call_id(self.label, place, number),
                    "type": "function",
                    "function": {"name": name, "arguments": arguments},
                }
                for number, (name, arguments) in enumerate(step.calls)
            ]
            for call in message["tool_calls"] if self.idless else ():
                del call["id"]
        match self.label:
            case "gemini":
                for number, call in enumerate(message.get("tool_calls", ())):
                    signature = _signed(f"{place} {number}")
                    call["extra_content"] = {"google": {"thought_signature": signature}}
            case "openrouter":
                message["reasoning"] = thought
                signature = _signed(thought)
                message["reasoning_details"] = [
                    {
                        "type": "reasoning.text",
                        "text": thought,
                        "signature": signature,
                        "format": "anthropic-claude-v1",
                        "index": 0,
                    },
                    {"type": "reasoning.encrypted", "data": signature[::-1], "index": 1},
                ]
            case "deepseek":
                message["reasoning_content"] = thought
            case "mistral":
                chunks: list[dict[str, Any]] = [
                    {"type": "thinking", "thinking": [{"type": "text", "text": thought}]}
                ]
                message["content"] = chunks + ([{"type": "text", "text": text}] if text else [])
        return message

    def _whole(self, place: Place) -> dict[str, Any]:
        message = self._message(place)
        reason = "tool_calls" if "tool_calls" in message else "stop"
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        usage = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
        head = {"id": f"c{place}", "object": "chat.completion", "created": 1, "model": "m"}
        return {**head, "choices": [choice], "usage": usage}

    def _events(self, place: Place) -> Iterator[bytes]:
        whole = self._whole(place)
        choice = whole.pop("choices")[0]
        usage = whole.pop("usage")
        head = {**whole, "object": "chat.completion.chunk"}
        for delta in self._deltas(choice["message"]):
            yield _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        end = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
        yield _event({**head, "choices": [end]})
        yield _event({**head, "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"

    def _deltas(self, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"role": "assistant", "content": "" if message["content"] else None}
        for name in ("reasoning", "reasoning_content"):
            for piece in _cut(message.get(name) or ""):
                yield {name: piece}
        for detail in message.get("reasoning_details", ()):
            if detail["type"] == "reasoning.text":
                start, end = _cut(detail["text"])
                yield {"reasoning_details": [{"type": detail["type"], "text": start, "index": 0}]}
                yield {"reasoning_details": [{**detail, "text": end}]}
            else:
                yield {"reasoning_details": [detail]}
        content = message["content"]
        if isinstance(content, list):
            for chunk in content:
                yield {"content": [chunk] if chunk["type"] == "thinking" else chunk["text"]}
        else:
            for piece in _cut(content or ""):
                yield {"content": piece}
        for number, call in enumerate(message.get("tool_calls", ())):
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            yield {
                "tool_calls": [
                    {"index": number, **call, "function": {"name": name, "arguments": ""}}
                ]
            }
            for piece in _cut(arguments):
                yield {"tool_calls": [{"index": number, "function": {"arguments": piece}}]}


def _next_place(messages: Sequence[dict[str, Any]]) -> Place:
    """Which answer is due: after the last turn of the user's, one step for each of ours."""
    step = 0
    for message in reversed(messages):
        if message["role"] == "user":
            return Place(int(_text(message["content"]).split("[turn ")[1][0]), step)
        step += message["role"] == "assistant"
    raise RefusalError("messages hold no turn of the user's")


def _in_loop(after: Sequence[dict[str, Any]]) -> bool:
    return not any(message["role"] == "user" for message in after)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content or () if part.get("type") == "text")


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _is_thinking(part: dict[str, Any]) -> bool:
    return part.get("type") == "thinking"


def _thoughts(content: Any) -> str:
    """The thinking of Mistral's chunks, however they were cut."""
    chunks = filter(_is_thinking, content if isinstance(content, list) else ())
    return "".join(piece["text"] for chunk in chunks for piece in chunk["thinking"])


def _merged(details: Any) -> Any:
    """What came in pieces, as a whole: a text is joined with the one before it of its index."""
    if not isinstance(details, list):
        return details
    whole: list[dict[str, Any]] = []
    for detail in details:
        last = whole[-1] if whole else {}
        if "text" in detail and (last.get("type"), last.get("index")) == (
            detail.get("type"),
            detail.get("index"),
        ):
            whole[-1] = {**last, **detail, "text": last["text"] + detail["text"]}
        else:
            whole.append(detail)
    return whole


def _cut(text: str) -> list[str]:
    return [text[: len(text) // 2], text[len(text) // 2 :]] if text else []


def _event(payload: Any) -> bytes:
    return f"data: {json.dumps(payload)}\n\n".encode()


def _signed(text: str) -> str:
    return hashlib.sha256(f"chat {text}".encode()).hexdigest()
