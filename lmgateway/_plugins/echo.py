"""A provider that answers with the prompt itself: for tests, documentation and dry runs."""

from __future__ import annotations

import re
from typing import cast

from ..hookspecs import hookimpl
from ..types import Answer, AnswerChoice, Emit, Flow, Info, Message, Request

__all__ = ["lmgateway_complete", "lmgateway_info", "lmgateway_stream"]


@hookimpl
def lmgateway_info() -> Info:
    """Conversations, a system text and tools' results (which it ignores), n and max_tokens."""
    return Info(
        api=2,
        capabilities=frozenset({"messages", "system", "tools"}),
        params=frozenset({"n", "max_tokens", "temperature", "seed", "stop"}),
        default_model="echo",
    )


@hookimpl
def lmgateway_complete(request: Request) -> Answer:
    """Answer with the prompt, or with the last message, ``n`` times."""
    words = _words(request)
    limit = request.params.get("max_tokens")
    cut = limit is not None and limit < len(words)
    text = "".join(words[:limit])
    choice = AnswerChoice(text=text, index=0, finish_reason="length" if cut else "stop")
    count = request.params.get("n", 1)
    said = min(len(words), len(words[:limit])) * count
    return Answer(
        prompt=request.input,
        choices=[cast(AnswerChoice, {**choice, "index": index}) for index in range(count)],
        model=request.model,
        usage={
            "prompt_tokens": len(words),
            "completion_tokens": said,
            "total_tokens": len(words) + said,
        },
    )


@hookimpl
def lmgateway_stream(request: Request) -> Flow[Answer]:
    """Emit the answer word by word."""
    answer = lmgateway_complete(request)
    for word in re.findall(r"\s*\S+\s*", answer["choices"][0]["text"]):
        yield Emit(word)
    return answer


def _words(request: Request) -> list[str]:
    """The words of the text, each with the white space before it: its "tokens"."""
    text = request.prompt
    if text is None:
        text = _content((request.messages or ())[-1])
    return re.findall(r"\s*\S+|\s+$", text)


def _content(message: Message) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)
