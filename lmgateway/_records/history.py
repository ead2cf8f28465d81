"""History: the last calls of an LM, as copies, and as text to read."""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, overload

from .._base.forks import renew_lock
from .._base.values import copied, on_fresh_stack, shown
from ..errors import InputError, LMGatewayError
from ..types import JSON, Flow

if TYPE_CHECKING:
    from .._layers.context import Kind

__all__ = ["History", "remembered", "render", "show"]

#: Of a call that embeds more texts, the first are kept.
_MOST_TEXTS = 100


class History(Sequence[dict[str, Any]]):
    """The last calls, oldest first; bounded and safe to use from many threads.

    Each entry is a dict with these fields:

    - ``kind``: ``complete`` (streams too), ``embed`` or ``rerank``
    - ``prompt``: a text, a list of messages, or, of ``embed``, the texts (of more than 100, the
      first 100), and of ``rerank`` a dict of ``query`` and ``documents``
    - ``params``: the generation parameters, by name
    - ``completion``: the Completion, or what there was of one before an error; else None
    - ``error``: the error's text, or None
    - ``seconds``: how long the call took
    - ``time``: when it began, in seconds since the epoch
    - ``embeddings``: of an ``embed`` that was answered: how many ``vectors`` of how many
      ``dimensions`` came, and all else that the service said. The vectors are not kept.
    - ``reranked``: of a ``rerank`` that was answered: the answer
    """

    def __init__(self, limit: int) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=limit)
        self._lock = Lock()
        renew_lock(self)

    @property
    def limit(self) -> int:
        """How many entries are kept; 0 for none."""
        return self._entries.maxlen or 0

    def append(self, entry: dict[str, Any]) -> None:
        """Keep a copy of an entry, dropping the oldest if it is one too many."""
        if self.limit:
            entry = copied(entry)
            with self._lock:
                self._entries.append(entry)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()

    def _snapshot(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter([copied(entry) for entry in self._snapshot()])

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        found: dict[str, Any] | list[dict[str, Any]] = copied(self._snapshot()[place])
        return found

    def __repr__(self) -> str:
        return f"<History of {len(self)} calls>"


def remembered(flow: Flow[Any], kind: Kind, request: Any, history: History) -> Flow[Any]:
    """Keep what became of a call in the LM's history."""
    began, moment = time.monotonic(), time.time()
    answer, problem, left = None, None, None
    try:
        answer = yield from flow
        return answer
    except LMGatewayError as error:
        problem, left = str(error), error.completion
        raise
    finally:
        if answer is not None or problem is not None:
            entry = kind.history_entry
            answered = entry(answer) if answer is not None and entry is not None else {}
            history.append(
                {
                    "kind": kind.name,
                    "prompt": _bounded(request.input, kind),
                    "params": request.params,
                    "completion": left,
                    "error": problem,
                    "seconds": time.monotonic() - began,
                    "time": moment,
                    **answered,
                }
            )


def _bounded(asked: Any, kind: Kind) -> Any:
    """What was asked; of many texts to embed the first, since a million are not kept for this."""
    return asked[:_MOST_TEXTS] if kind.name == "embed" else asked


# -- as text -----------------------------------------------------------------------------------

_TEXTS = 10  # of a call that is given more, so many are shown
_encode = json.JSONEncoder(ensure_ascii=False, default=repr).encode
RULE = "─" * 72
# An answer may hold escape sequences that would repaint the reader's terminal.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def show(history: Sequence[Mapping[str, Any]], count: int = 1) -> None:
    """Print the last ``count`` calls, oldest first; raises InputError for what is no number."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise InputError(f"inspect_history takes a whole number of calls, not {shown(count)}")
    print(render(list(history)[-count:] if count > 0 else []))


def render(entries: Iterable[Mapping[str, Any]]) -> str:
    """Entries of ``lm.history`` as text: prompt, answers, and what is known of each call."""
    texts = [_render_entry(entry) for entry in entries]
    return f"\n{RULE}\n".join(texts) if texts else "no calls yet"


def _render_entry(entry: Mapping[str, Any]) -> str:
    lines = [_headline(entry), ""]
    for title, text in (*_asked(entry), *_answered(entry)):
        lines += [f"[{title}]", text, ""]
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", "\n".join(lines[:-1]))


def _headline(entry: Mapping[str, Any]) -> str:
    beside = entry.get("embeddings") or entry.get("reranked")
    answer = entry.get("completion") or beside or {}
    facts = [time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry["time"]))]
    if answer:
        names = (answer.get("provider"), answer.get("model"))
        facts.append("/".join(str(name) for name in names if name))
    facts += [f"{name}={value!r}" for name, value in entry.get("params", {}).items()]
    used = answer.get("usage")
    used = used if isinstance(used, dict) else {}
    tokens = [used[name] for name in ("prompt_tokens", "completion_tokens") if name in used]
    if len(tokens) == 2 or (tokens and beside):
        facts.append(f"{'+'.join(map(str, tokens))} tokens")
    facts.append("cached" if answer.get("cached") else f"{entry['seconds']:.2f} s")
    return "  ".join(facts)


def _asked(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the user gave, piece by piece, each below a title."""
    prompt = entry["prompt"]
    if isinstance(prompt, str):
        yield "prompt", prompt
    elif entry.get("kind") == "embed":
        yield from _listed("text", prompt)
    elif entry.get("kind") == "rerank":
        yield "query", prompt["query"]
        yield from _listed("document", prompt["documents"])
    else:
        for message in prompt:
            yield str(message.get("role", "?")), _content(message)


def _listed(title: str, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, text in enumerate(texts[:_TEXTS], 1):
        yield (f"{title} {number} of {len(texts)}" if len(texts) > 1 else title), text


def _answered(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What came of it, likewise."""
    completion, embeddings = entry.get("completion"), entry.get("embeddings")
    if completion is not None:
        choices = completion["choices"]
        for number, choice in enumerate(choices, 1):
            of = f" {number} of {len(choices)}" if len(choices) > 1 else ""
            yield f"answer{of}{_ending(choice)}", _answer(choice)
    elif embeddings is not None:
        yield "vectors", f"{embeddings['vectors']} of {embeddings['dimensions']} dimensions"
    elif entry.get("reranked") is not None:
        ranked = entry["reranked"]["results"]
        yield "order", ", ".join(str(each["index"] + 1) for each in ranked)
    if entry.get("error") is not None:
        yield "error", str(entry["error"])


def _content(message: Mapping[str, JSON]) -> str:
    """The text of a message; what is not text is named, not printed."""
    content = message.get("content")
    parts = [content] if isinstance(content, str) else list(content or ())
    return "\n".join([*map(_part, parts), *_calls(message)])


def _part(part: JSON) -> str:
    if not isinstance(part, Mapping):
        return str(part)
    return str(part.get("text", f"<{part.get('type', 'part')}>"))


def _answer(choice: Mapping[str, JSON]) -> str:
    texts = [choice["text"]] if choice["text"] else []
    if choice.get("refusal"):
        texts.append(f"refused: {choice['refusal']}")
    return "\n".join([*texts, *_calls(choice)])


def _calls(turn: Mapping[str, JSON]) -> list[str]:
    calls = turn.get("tool_calls")
    some = calls[:100] if isinstance(calls, (list, tuple)) else ()  # an odd one may have failed
    functions = [call.get("function") for call in some if isinstance(call, Mapping)]
    return [
        f"→ {function.get('name', '?')}({_arguments(function.get('arguments'))})"
        for function in functions
        if isinstance(function, Mapping)
    ]


def _arguments(arguments: JSON) -> str:
    if isinstance(arguments, str):
        return arguments
    try:
        return _encode(arguments)
    except RecursionError:
        return on_fresh_stack(_encode, arguments)


def _ending(choice: Mapping[str, JSON]) -> str:
    reason = choice.get("finish_reason")
    return f", {reason}" if reason not in (None, "stop", "tool_calls") else ""
