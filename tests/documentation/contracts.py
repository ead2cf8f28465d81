"""The kit for every plugin that the how-tos show; run where those are installed."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from lmgateway.testing import ProviderContract, RecordedCall

__all__: list[str] = []

PROMPT = "Say hello."
CALL: dict[str, Any] = {"prompt": PROMPT}
TYPES = {
    "json": {"content-type": "application/json"},
    "sse": {"content-type": "text/event-stream"},
    "ndjson": {"content-type": "application/x-ndjson"},
    "binary": {"content-type": "application/octet-stream"},
}


def whole(body: Any) -> dict[str, Any]:
    return {"status": 200, "headers": TYPES["json"], "json": body}


def pieces(kind: str, *chunks: str) -> dict[str, Any]:
    return {"status": 200, "headers": TYPES[kind], "chunks": list(chunks)}


def asked(request: dict[str, Any], *, stream: bool = False, path: str = "/say") -> Any:
    return ({"method": "POST", "path": path, "stream": stream, **request},)


def plain(answer: Any, request: Any = None, **call: Any) -> RecordedCall:
    """A call that is answered whole."""
    requests = () if request is None else asked(request)
    return RecordedCall("plain", {**CALL, **call}, (whole(answer),), requests)


def streamed(response: dict[str, Any], request: dict[str, Any], **call: Any) -> RecordedCall:
    return RecordedCall(
        "stream", {**CALL, **call}, (response,), asked(request, stream=True), stream=True
    )


class TestSigned(ProviderContract):
    provider, model = "signed", "m"
    settings: ClassVar = {"api_base": "https://acme.example"}
    recordings: ClassVar = [plain({"said": "Hello"})]


class TestToken(TestSigned):
    provider = "token"


class TestBoth(ProviderContract):
    provider, model = "both", "m"
    recordings: ClassVar = [plain({"said": "Hello"})]


class TestJobs(TestSigned):
    provider = "jobs"


class TestStreaming(ProviderContract):
    provider, model = "streaming", "m"
    recordings: ClassVar = [
        plain({"said": "Hello"}, {"body": {"model": "m", "text": PROMPT}}),
        streamed(
            pieces("sse", 'data: {"word": "Hel"}\n\n', 'data: {"word": "lo"}\n\ndata: END\n\n'),
            {"body": {"model": "m", "text": PROMPT, "stream": True}},
        ),
    ]


class TestLines(ProviderContract):
    provider, model = "lines", "m"
    recordings: ClassVar = [
        plain(
            {"said": "Hello", "done": True},
            {"body": {"model": "m", "text": PROMPT, "stream": False}},
        ),
        streamed(
            pieces("ndjson", '{"said": "Hel"}\n', '{"said": "lo"}\n{"said": "", "done": true}\n'),
            {"body": {"model": "m", "text": PROMPT, "stream": True}},
        ),
    ]


def frames(*texts: str) -> str:
    packed = b"".join(len(each).to_bytes(4, "big") + each for each in map(str.encode, texts))
    return packed.decode()


class TestFrames(ProviderContract):
    provider, model = "frames", "m"
    recordings: ClassVar = [
        plain({"said": "Hello"}, {"body": {"model": "m", "text": PROMPT, "stream": False}}),
        streamed(
            pieces("binary", frames("Hel", "lo"), frames("")),
            {"body": {"model": "m", "text": PROMPT, "stream": True}},
        ),
    ]


class TestForms(ProviderContract):
    provider, model = "forms", "m"
    recordings: ClassVar = [plain({"said": "Hello"})]


class TestBytes(ProviderContract):
    provider, model = "bytes", "m"
    recordings: ClassVar = [plain({"said": "Hello"})]


class TestCounted(ProviderContract):
    provider, model = "counted", "m"
    recordings: ClassVar = [
        plain({"said": "Hello", "tokens": {"new": 5, "from_cache": 20, "answer": 7}})
    ]


def choice(text: str, **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop", **fields}]}


class TestModelsDiffer(ProviderContract):
    provider, model = "models_differ", "talker"
    recordings: ClassVar = [plain(choice("Hello"))]


class TestThinkers(TestModelsDiffer):
    model = "thinker-mini"


def events(*deltas: Any) -> list[str]:
    return [*(f"data: {json.dumps(each)}\n\n" for each in deltas), "data: [DONE]\n\n"]


class TestTwoWays(ProviderContract):
    provider, model = "two_ways", "m"
    settings: ClassVar = {"api_base": "https://acme.example/v1"}
    recordings: ClassVar = [
        RecordedCall(
            "plain",
            {**CALL, "max_tokens": 8},
            (whole({"choices": [{"index": 0, "text": "Hello", "finish_reason": "stop"}]}),),
            asked({"body": {"model": "m", "prompt": PROMPT, "max_tokens": 8}}, path="/completions"),
        ),
        RecordedCall(
            "stream",
            {**CALL, "max_tokens": 8},
            (
                pieces(
                    "sse",
                    *events(
                        {"choices": [{"index": 0, "text": "Hel", "finish_reason": None}]},
                        {"choices": [{"index": 0, "text": "lo", "finish_reason": "stop"}]},
                    ),
                ),
            ),
            asked(
                {
                    "body": {
                        **{"model": "m", "prompt": PROMPT, "max_tokens": 8, "stream": True},
                        "stream_options": {"include_usage": True},
                    }
                },
                stream=True,
                path="/completions",
            ),
            stream=True,
        ),
    ]


class InProcess(ProviderContract):
    """Work in this process; its answers are stored by their keys."""

    key: ClassVar[dict[str, Any]]
    said: ClassVar[str]
    lines: ClassVar[list[str]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        keys = ({**cls.key, "prompt": PROMPT, "stream": stream} for stream in (False, True))
        plain, stream = ({"stream": key["stream"], "blocking": key} for key in keys)
        streamed = {"status": 200, "headers": {}, "chunks": cls.lines}
        cls.recordings = [
            RecordedCall("plain", CALL, ({"value": cls.said},), (plain,)),
            RecordedCall("stream", CALL, (streamed,), (stream,), stream=True),
        ]


class TestBackwards(InProcess):
    provider, key = "backwards", {"model": "backwards", "version": 1}
    said, lines = "lo", ['"l"\n', '"o"\nnull\n']


class TestWrapped(InProcess):
    provider, key = "wrapped", {"sdk": 1, "model": "small"}
    said, lines = "Hello all", ['{"word": "Hello "}\n', '{"word": "all"}\n{"end": true}\n']
