"""Turns as they go to the service and come back: states, names, files, citations, media."""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any

import pytest

dspy = pytest.importorskip("dspy", reason="needs the extra [dspy]")


from dspy import lm15
from dspy._vendor.lm15 import result, serde

from lmgateway import hookimpl
from lmgateway.dspy import LM
from lmgateway.errors import InputError
from lmgateway.testing import lm_from
from lmgateway.types import Delta, Emit, Info

PARAMS = frozenset({"max_tokens", "metadata", "tools", "response_format", "temperature"})
CAPABILITIES = frozenset(
    {"messages", "system", "tools", "images", "audio", "files", "reasoning", "schema", "prefill"}
)
PDF = "data:application/pdf;base64,JVBERi0xLjQ="
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
PNG = "iVBORw0KGgo="
WAV = "UklGRg=="


messages_are_said = pytest.mark.filterwarnings("ignore:Passing OpenAI-style:DeprecationWarning")


class Acme:
    """A provider that keeps what it is asked, and answers with one choice."""

    def __init__(self, **choice: Any) -> None:
        self.choice = {"text": "ok", "index": 0, "finish_reason": "stop", **choice}
        self.more: dict[str, Any] = {}
        self.requests: list[Any] = []

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(2, CAPABILITIES, PARAMS, "m")

    @hookimpl
    def lmgateway_complete(self, request: Any) -> Any:
        self.requests.append(request)
        return {"prompt": request.input, "choices": [dict(self.choice)], **self.more}


class Streaming(Acme):
    @hookimpl
    def lmgateway_stream(self, request: Any) -> Any:
        answer = self.lmgateway_complete(request)
        yield Emit(Delta(self.choice["text"], reasoning=self.choice.get("reasoning", "")))
        return answer


class Watching(dspy.utils.callback.BaseCallback):  # type: ignore[misc]
    """A callback that is told of calls."""

    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.seen.append((inputs["messages"], inputs["kwargs"]))


def over(acme: Acme, **keywords: Any) -> LM:
    return LM(lm_from(acme), **{"cache": False, **keywords})


def ask(lm: LM, how: str, *messages: lm15.Message) -> lm15.Response:
    """One typed answer: plain, awaited, or put together from its events."""
    request = lm15.Request(lm.model, messages or (lm15.Message.user("Hi"),))
    if how == "sync":
        return lm(request)
    if how == "async":
        return asyncio.run(lm.acall(request))

    async def events() -> list[Any]:
        return [each async for each in lm._async_engine_spec.stream(request)]

    streamed = list(lm.engine.stream(request)) if how == "stream" else asyncio.run(events())
    accumulator = result.StreamAccumulator(request)
    for event in streamed:
        accumulator.push(event)
    return accumulator.response()


def kept_of(part: Any) -> Any:
    return next((state.data for state in part.continuation if state.provider == "lmgateway"), None)


WAYS = pytest.mark.parametrize("how", ["sync", "async", "stream", "astream"])
KINDS = pytest.mark.parametrize("kind", [Acme, Streaming])


# -- messages that DSPy's own types refuse -----------------------------------------------------


@messages_are_said
@pytest.mark.parametrize(
    "turn",
    [
        {"role": "user", "name": "bob", "content": "a"},
        {"role": "system", "name": "rules", "content": "a"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "a", "cache_control": {"ttl": "5m"}}],
        },
        {
            "role": "user",
            "content": [{"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}}],
        },
        {
            "role": "user",
            "content": [{"type": "file", "file": {"file_id": "file-1", "filename": "a.pdf"}}],
        },
        {"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": "x"}}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "content": None, "tool_calls": [{**CALL, "extra_content": {"g": 1}}]},
        {"role": "assistant", "content": "", "audio": {"id": "audio_1"}},
        {"role": "assistant", "content": "a", "reasoning": "hm"},
        {"role": "assistant", "content": "a", "reasoning_content": "hm"},
        {"role": "assistant", "content": None, "refusal": "no"},
        {"role": "assistant", "content": "a", "annotations": []},
        {"role": "assistant", "content": [{"type": "text", "text": c} for c in "ab"]},
        {"role": "tool", "tool_call_id": "c1", "content": "no", "is_error": True},
    ],
    ids=lambda turn: f"{turn['role']}: {', '.join(turn)}",
)
@pytest.mark.parametrize("before", [None, "Be brief."])
def test_a_turn_reaches_the_plugin_as_it_was_written(before: str | None, turn: Any) -> None:
    acme = Acme()
    lm = over(acme)
    messages = [{"role": "user", "content": "q"}, turn, {"role": "user", "content": "z"}]
    if before is not None:
        messages.insert(0, {"role": "system", "content": before})

    seen: list[Any] = []
    with dspy.context(callbacks=[Watching(seen)]):
        assert lm(messages=messages) == ["ok"]
        asyncio.run(lm.acall(messages=messages, metadata={"a": "b"}))

    assert [request.messages for request in acme.requests] == [messages] * 2
    assert [dict(request.params) for request in acme.requests] == [{}, {"metadata": {"a": "b"}}]
    assert [entry["messages"] for entry in lm.history] == [messages] * 2
    assert lm.history[0]["kwargs"] == {}
    assert seen == [(messages, {}), (messages, {"metadata": {"a": "b"}})]


def test_a_version_of_dspy_without_its_mark_of_adapters_does(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "dspy.clients._deprecation", None)
    monkeypatch.delitem(sys.modules, "lmgateway.dspy.parcels")
    parcels = importlib.import_module("lmgateway.dspy.parcels")

    with parcels.standing_for(None, ["given"], ["sent"]):
        assert parcels.is_adapters(None, ["given"])


@messages_are_said
def test_a_turn_that_is_no_json_is_refused_at_once() -> None:
    acme = Acme()
    for odd in (object(), float("nan"), {1}):
        with pytest.raises(InputError, match=r"messages\[0\] cannot be sent as JSON"):
            over(acme)(messages=[{"role": "user", "content": "a", "name": odd}])
    assert not acme.requests


@messages_are_said
def test_a_turn_that_dspy_refuses_is_known_to_its_cache() -> None:
    acme = Acme()
    lm = over(acme, cache=True)
    for name in ("bob", "eve", "bob"):
        lm(messages=[{"role": "user", "name": name, "content": "a"}])

    assert [request.messages[0]["name"] for request in acme.requests] == ["bob", "eve"]


@pytest.mark.parametrize("name, sent", [("a.pdf", "a.pdf"), (None, "my_file.pdf")])
def test_a_file_has_a_name(name: str | None, sent: str) -> None:
    acme = Acme(text="[[ ## answer ## ]]\nok\n\n[[ ## completed ## ]]")
    document = dspy.File(file_data=PDF, filename=name)

    dspy.Predict("document: dspy.File -> answer")(document=document, lm=over(acme))

    parts = acme.requests[0].messages[-1]["content"]
    assert [part["file"] for part in parts if part["type"] == "file"] == [
        {"file_data": PDF, "filename": sent}
    ]


# -- the state of a turn -----------------------------------------------------------------------

STATE = {"format": "acme.chat", "turn": [{"signature": "s"}]}


@KINDS
@WAYS
def test_a_turn_goes_back_with_its_state(how: str, kind: type[Acme]) -> None:
    acme = kind(text="", tool_calls=[CALL], state=STATE, reasoning="hm", finish_reason="tool_calls")
    lm = over(acme)

    answer = ask(lm, how)
    said = answer.message
    stored = serde.message_from_dict(serde.message_to_dict(said))
    ask(lm, how, lm15.Message.user("Hi"), stored, lm15.Message.tool({"c1": "54"}))

    turn = acme.requests[1].messages[1]
    assert (turn["state"]["turn"], turn["state"]["provider"]) == (STATE["turn"], "acme")
    assert "signature" not in repr(answer)


def test_a_turn_that_was_edited_goes_without() -> None:
    acme = Acme(state=STATE)
    lm = over(acme)
    said = ask(lm, "sync").message
    edited = lm15.Message("assistant", (lm15.TextPart("No."),), said.continuation)

    told = ask(lm, "sync", lm15.Message.user("Hi"), edited, lm15.Message.user("Why?"))

    assert "state" not in acme.requests[1].messages[1]
    assert [each["kind"] for each in told.provider_data["warnings"]] == ["state"]


@messages_are_said
def test_a_message_of_lmgateways_own_goes_back_whole() -> None:
    acme = Acme(state=STATE)
    lm = over(acme)
    message = lm.gateway.complete("Hi")["choices"][0]["message"]

    lm(messages=[{"role": "user", "content": "Hi"}, message, {"role": "user", "content": "z"}])

    assert acme.requests[1].messages[1] == message


# -- answers -----------------------------------------------------------------------------------

CITATION = {"url": "https://one.example", "title": "One", "text": "cited", "start": 0, "end": 2}
PARTS = [
    {"type": "text", "text": "ok", "citations": [CITATION, {"text": "more"}]},
    {"type": "file", "media_type": "image/png", "data": PNG, "name": "a.png"},
    {"type": "file", "media_type": "audio/mpeg", "data": WAV, "transcript": "hello"},
    {"type": "custom", "kind": "acme.odd", "value": 1},
    {"type": "file", "media_type": "image/png", "data": "no base64!"},
    {"type": "tool_call", "id": "s1", "name": "search", "input": {}, "by": "service"},
]


@KINDS
@WAYS
def test_citations_and_media_are_parts_of_the_answer(how: str, kind: type[Acme]) -> None:
    answer = ask(over(kind(parts=PARTS)), how)

    kinds = [part.type for part in answer.message.parts]
    assert kinds == ["text", "citation", "citation", "image", "audio"]
    cited = [(part.url, part.title, part.text) for part in answer.citations]
    assert cited == [("https://one.example", "One", "cited"), (None, None, "more")]
    image, audio = answer.message.parts[3:]
    assert (image.data, audio.data, audio.media_type) == (PNG, WAV, "audio/mpeg")
    kept = [kept_of(part) for part in (image, audio)]
    assert kept == [{"name": "a.png"}, {"transcript": "hello"}]
    assert answer.provider_data["parts"] == PARTS[3:]


@WAYS
def test_a_document_is_never_lost(how: str) -> None:
    part = {"type": "file", "media_type": "application/pdf", "data": "JVBE", "name": "a.pdf"}

    answer = ask(over(Streaming(parts=[{"type": "text", "text": "ok"}, part])), how)

    documents = answer.message.parts_of(lm15.DocumentPart)
    if "stream" in how:  # lm15 has no event for one
        assert answer.provider_data["parts"] == [part]
    else:
        assert [each.data for each in documents] == ["JVBE"]
        assert kept_of(documents[0]) == {"name": "a.pdf"}


def test_citations_stand_in_the_outputs() -> None:
    (output,) = over(Acme(parts=PARTS[:1]))("Hi")

    assert output["text"] == "ok"
    assert output["citations"][0] == {
        "text": "cited", "title": "One", "url": "https://one.example",
    }  # fmt: skip


CLAUDES = {"type": "char_location", "cited_text": "cited", "document_index": 0,
           "document_title": "D", "start_char_index": 0, "end_char_index": 5}  # fmt: skip
PAGE = {"type": "page_location", "cited_text": "cited", "document_index": 0, "start_page_number": 1}
SAID = "[[ ## answer ## ]]\nok\n\n[[ ## citations ## ]]\n[]"


@pytest.mark.parametrize(
    "provider, text, cited, found",
    [
        ("anthropic", SAID[:22], [CLAUDES], [{**CLAUDES, "supported_text": SAID[:22]}]),
        ("anthropic", SAID[:22], [CLAUDES, PAGE], [{**CLAUDES, "supported_text": SAID[:22]}]),
        ("anthropic", SAID[:22], [PAGE], None),
        ("acme", SAID, [{"url": "https://one.example", "title": "One"}], []),
    ],
    ids=["Claude's", "some of a form that DSPy lacks", "none that DSPy can read", "a URL"],
)
@pytest.mark.parametrize("kind", [Acme, Streaming])
def test_a_field_of_citations_reads_what_it_can(
    kind: Any, provider: str, text: str, cited: Any, found: Any
) -> None:
    part = {"type": "text", "text": text, "citations": [{"text": "c", "extra": c} for c in cited]}
    lm = LM(lm_from(kind(text=text, parts=[part]), name=provider), cache=False)
    from dspy.experimental import Citations as cites  # noqa: N813

    signature = dspy.Signature("q -> answer").append("citations", dspy.OutputField(), cites)
    adapter = dspy.ChatAdapter(native_response_types=[cites])

    async def read() -> list[Any]:
        predict = dspy.Predict(signature)
        return [predict(q="?").citations, (await predict.acall(q="?")).citations]

    with dspy.context(lm=lm, adapter=adapter):
        both = asyncio.run(read())
    said = [None if one is None else [cited.model_dump() for cited in one] for one in both]
    assert said == [found] * 2
    assert all(len(entry["outputs"][0]["citations"]) == len(cited) for entry in lm.history)


def test_citations_of_claude_are_kept_in_dspys_cache() -> None:
    part = {"type": "text", "text": "ok", "citations": [{"text": "c", "extra": CLAUDES}]}
    lm = over(Acme(parts=[part]), cache=True)

    for _ in range(2):
        (output,) = lm("Cite.")
        assert output["citations"] == [{"text": "c", **CLAUDES, "supported_text": "ok"}]


@WAYS
def test_all_counts_of_tokens_are_told(how: str) -> None:
    acme = Streaming()
    acme.more["usage"] = {
        "prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35, "cached_tokens": 4,
        "cache_write_tokens": 20, "reasoning_tokens": 2, "audio_tokens": 9,
        "details": {"prompt_tokens_details": {"audio_tokens": 6},
                    "completion_tokens_details": {"audio_tokens": 3}},
    }  # fmt: skip
    usage = ask(over(acme), how).usage

    assert usage == lm15.Usage(30, 5, 35, 4, 20, 2, 6, 3)


@pytest.mark.parametrize(
    "part, block",
    [
        (lm15.ImagePart(file_id="f1"), {"type": "file", "media_type": "image/png", "id": "f1"}),
        (
            lm15.DocumentPart(url="https://one.example/a.pdf"),
            {"type": "file", "media_type": "application/pdf", "url": "https://one.example/a.pdf"},
        ),
        (
            lm15.DocumentPart("text/plain", data="aGk="),
            {"type": "file", "file": {"file_data": "data:text/plain;base64,aGk=",
                                      "filename": "my_file.txt"}},
        ),
    ],
    ids=["image by its id", "document by its URL", "text"],
)  # fmt: skip
def test_media_of_a_typed_request_reach_the_plugin(part: Any, block: dict[str, Any]) -> None:
    acme = Acme()

    ask(over(acme), "sync", lm15.Message.user(part))

    assert acme.requests[0].messages[0]["content"] == [block]
