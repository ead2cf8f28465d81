"""A user's program that holds a conversation of ten turns, each with whom it is told to ask."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import lmgateway._plugins.openai
from lmgateway import LM, get_lm
from lmgateway.testing import lm_from

from .chat import KINDS, Chat
from .claude import Claude
from .script import SCRIPT, TOOLS, result_of, user_turn
from .server import Server

__all__ = [
    "ASKING", "BETWEEN", "GIVING", "STATEFUL", "Ask", "Services", "Transcript", "converse",
    "serve", "state_left",
]  # fmt: skip

Ask: TypeAlias = Callable[[LM, list[Any]], Any]

#: The services whose turns hold more than can be seen: all of them, or those with calls.
STATEFUL = {
    "gemini": "calls",
    "openrouter": "all",
    "deepseek": "all",
    "mistral": "all",
    "anthropic": "all",
}


@dataclass
class Services:
    """All strict services, and an LM of each."""

    server: Server
    claude: Claude
    chats: dict[str, Chat]

    @property
    def requests(self) -> int:
        """How many requests have come, to all."""
        return sum(len(each.asked) for each in self.server.services.values())

    def lm(self, label: str, **keywords: Any) -> LM:
        """An LM of a service; Claude thinks."""
        common = {"api_base": self.server.base(label), "api_key": "a-made-up-key", "retries": 0}
        keywords = {"timeout": 20, "cache": False, **common, **keywords}
        if label == "anthropic":
            thinking = {"type": "enabled", "budget_tokens": 1024}
            keywords = {"thinking": thinking, "max_tokens": 2048, **keywords}
        if label == "gemini":  # whose endpoint of OpenAI's kind has no name of its own
            return lm_from(lmgateway._plugins.openai, label, model="m", **keywords)
        if label == "anyscale":
            keywords = {"use_chat_api": True, **keywords}
        return get_lm(label, model="m", **keywords)

    def reset(self) -> None:
        """As it was at first."""
        self.claude.thinks = False
        for service in self.server.services.values():
            service.down = False
            service.asked.clear()
        for chat in self.chats.values():
            chat.lenient = chat.idless = False


@contextmanager
def serve() -> Iterator[Services]:
    """All services, on one port."""
    claude, chats = Claude(), {label: Chat(label) for label in KINDS}
    with Server(claude, *chats.values()) as server:
        yield Services(server, claude, chats)


# -- the ways to ask ---------------------------------------------------------------------------


def _plain(lm: LM, messages: list[Any]) -> Any:
    return lm.complete(messages=messages, tools=TOOLS)


def _streamed(lm: LM, messages: list[Any]) -> Any:
    with lm.stream(messages=messages, tools=TOOLS) as stream:
        text = "".join(str(piece) for piece in stream)
    assert text == stream.completion["choices"][0]["text"]
    return stream.completion


def _awaited(lm: LM, messages: list[Any]) -> Any:
    return asyncio.run(lm.acomplete(messages=messages, tools=TOOLS))


def _astreamed(lm: LM, messages: list[Any]) -> Any:
    async def ask() -> Any:
        async with lm.astream(messages=messages, tools=TOOLS) as stream:
            text = "".join([str(piece) async for piece in stream])
        assert text == stream.completion["choices"][0]["text"]
        return stream.completion

    return asyncio.run(ask())


ASKING: dict[str, Ask] = {
    "plain": _plain,
    "streamed": _streamed,
    "awaited": _awaited,
    "astreamed": _astreamed,
}


# -- the ways to give a turn back --------------------------------------------------------------


def _by_message(choice: Any) -> dict[str, Any]:
    message: dict[str, Any] = choice["message"]
    return message


def _by_hand(choice: Any) -> dict[str, Any]:
    """As a program has it that was written for another library."""
    if calls := choice.get("tool_calls"):
        return {"role": "assistant", "content": choice["text"] or None, "tool_calls": calls}
    return {"role": "assistant", "content": choice["text"]}


GIVING = {"by message": _by_message, "by hand": _by_hand}


# -- what may happen to messages between two turns ---------------------------------------------


def _as_json(messages: list[Any]) -> list[Any]:
    return list(json.loads(json.dumps(messages)))


def _by_sdk(messages: list[Any], **options: Any) -> list[Any]:
    """As the types of OpenAI's own SDK write an assistant's turns."""
    from openai.types.chat import ChatCompletionMessage

    return [
        ChatCompletionMessage.model_validate(message).model_dump(**options)
        if message["role"] == "assistant"
        else message
        for message in messages
    ]


BETWEEN: dict[str, Callable[[list[Any]], list[Any]]] = {
    "kept": lambda messages: messages,
    "json": _as_json,
    "sdk": _by_sdk,
    "sdk without None": lambda messages: _by_sdk(messages, exclude_none=True),
    "sdk as json": lambda messages: _as_json(_by_sdk(messages, mode="json", exclude_unset=True)),
}


# -- the conversation --------------------------------------------------------------------------


@dataclass
class Transcript:
    """What was said.

    Attributes:
        messages: At the end.
        completions: In their order.
        speakers: By the place of an assistant's message: who said it, and whether it has calls.
        warned: For each completion: what it warned of, as kind and name, and what it should.
    """

    messages: list[Any] = field(default_factory=list)
    completions: list[Any] = field(default_factory=list)
    speakers: dict[int, tuple[str, bool]] = field(default_factory=dict)
    warned: list[tuple[list[tuple[str, str]], list[tuple[str, str]]]] = field(default_factory=list)


def converse(
    lms: Sequence[tuple[str, LM]],
    ask: Ask = _plain,
    *,
    give: Callable[[Any], dict[str, Any]] = _by_message,
    between: Callable[[list[Any]], list[Any]] = _as_json,
) -> Transcript:
    """Ten turns, each with the service and the LM that stand at its place."""
    told = Transcript()
    by_hand = give is _by_hand
    for turn, (label, lm) in enumerate(lms):
        told.messages.append(user_turn(turn))
        for step in SCRIPT[turn]:
            told.messages = between(told.messages)
            before = copy.deepcopy(told.messages)
            completion = ask(lm, told.messages)
            assert told.messages == before, "the user's own messages were changed"
            told.completions.append(completion)
            told.warned.append(
                (warnings_of(completion), state_left(told.speakers, label, by_hand=by_hand))
            )
            choice = completion["choices"][0]
            assert choice["text"].startswith(step.text), choice
            calls = choice.get("tool_calls") or []
            assert [call["function"]["name"] for call in calls] == [n for n, _ in step.calls]
            assert [call["parsed"] for call in calls] == [
                json.loads(arguments or "{}") for _, arguments in step.calls
            ]
            told.speakers[len(told.messages)] = (label, bool(calls))
            told.messages.append(give(choice))
            told.messages += [result_of(turn, call) for call in calls]
    return told


def state_left(
    speakers: dict[int, tuple[str, bool]], label: str, *, by_hand: bool = False
) -> list[tuple[str, str]]:
    """The warnings that are due: one for each turn of another service's that held a state.

    A turn that was written by hand carries its state with its first call.
    """
    left = [
        place
        for place, (speaker, calls) in speakers.items()
        if speaker != label
        and (calls or (STATEFUL.get(speaker) == "all" and not by_hand))
        and speaker in STATEFUL
    ]
    return [("state", f"messages[{place}]") for place in left]


def warnings_of(completion: Any) -> list[tuple[str, str]]:
    """Kind and name of each warning, but for whether a tool failed, which few formats can say."""
    warnings: Iterable[Any] = completion.get("warnings", ())
    for each in warnings:
        assert each.keys() == {"kind", "name", "detail"}, each
        assert each["detail"].strip(), each
    told = [(each["kind"], each["name"]) for each in warnings]
    return [each for each in told if not each[1].endswith("is_error")]
