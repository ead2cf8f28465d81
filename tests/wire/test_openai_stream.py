"""Streams of OpenAI-compatible hosts, from the first byte to the end mark."""

from __future__ import annotations

import copy
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.exchanges import Pieces, run

from lmgateway import errors
from lmgateway.types import Delta, HTTPResponse, Request
from lmgateway.wire.openai import (
    CHAT,
    Assembly,
    Service,
    chat_request,
    complete,
    completion_request,
    parse,
    stream,
)

HERE = Service("http://service.example/v1")
DONE = b"data: [DONE]\n\n"


def event(chunk) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def piece(index=0, reason=None, usage=None, logprobs=None, **delta) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
    return event({"id": "1", "model": "m", "choices": [choice], "usage": usage})


def fragment(index=0, **function):
    given = {name: function.pop(name) for name in ("id", "type") if name in function}
    return {"index": index, **given, "function": function}


def play(*pieces, endpoint=CHAT, headers=None, needs_done=False, **params):
    request = Request("m", prompt="hi", params=params, stream=True)
    if endpoint == CHAT:
        http_request = chat_request(request, HERE)
    else:
        http_request = completion_request(request, HERE, text="hi")
    given = {"content-type": "text/event-stream", **(headers or {})}
    head = HTTPResponse(200, given, source=Pieces(pieces))
    return run(stream(request, http_request, needs_done=needs_done), head)


USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


@pytest.mark.parametrize("content", [None, ""])
def test_the_first_delta_that_says_nothing_is_not_emitted(content):
    completion, deltas = play(piece(role="assistant", content=content), piece(content="a"), DONE)
    assert deltas == [Delta("a")]
    assert completion["choices"] == [{"text": "a", "index": 0}]


def test_choices_that_come_mixed_are_put_in_order():
    completion, deltas = play(
        piece(1, content="b"), piece(0, content="a"), piece(1, content="B", reason="stop"),
        piece(0, reason="length"), DONE, n=2,
    )  # fmt: skip
    assert [(d.index, d.text, d.finish_reason) for d in deltas] == [
        (1, "b", None), (0, "a", None), (1, "B", "stop"), (0, "", "length"),
    ]  # fmt: skip
    assert completion["choices"] == [
        {"text": "a", "index": 0, "finish_reason": "length"},
        {"text": "bB", "index": 1, "finish_reason": "stop"},
    ]


def test_reasoning_is_apart_from_the_text():
    completion, deltas = play(
        piece(reasoning="h"), piece(reasoning_content="m"), piece(content="a"), DONE
    )
    assert [(d.reasoning, d.text) for d in deltas] == [("h", ""), ("m", ""), ("", "a")]
    [choice] = completion["choices"]
    assert (choice["text"], choice["reasoning"]) == ("a", "hm")


def test_a_refusal_is_put_together():
    completion, _ = play(piece(refusal="I "), piece(refusal="won't"), DONE)
    assert completion["choices"] == [{"text": "", "index": 0, "refusal": "I won't"}]


TOOL_STREAMS = {
    "fragments": [
        [fragment(id="c1", type="function", name="f", arguments="")],
        [fragment(arguments='{"a"')],
        [fragment(arguments=":1}")],
    ],
    "ids_that_change_with_each_fragment": [
        [fragment(id="c1", name="f", arguments='{"a":')],
        [fragment(id="c9", arguments="1}")],
    ],
    "name_repeated": [
        [fragment(id="c1", name="f", arguments='{"a":')],
        [fragment(id="c1", name="f", arguments="1}")],
    ],
    "no_index": [
        [{"id": "c1", "function": {"name": "f", "arguments": '{"a":'}}],
        [{"function": {"arguments": "1}"}}],
    ],
    "at_once": [[CALL]],
}


@pytest.mark.parametrize("name", TOOL_STREAMS)
def test_a_tool_call_is_put_together(name):
    fragments = TOOL_STREAMS[name]
    pieces = [piece(content=None, tool_calls=calls) for calls in fragments]
    completion, deltas = play(*pieces, piece(reason="tool_calls"), DONE)
    [choice] = completion["choices"]
    assert choice["tool_calls"] == [{**CALL, "parsed": {"a": 1}}]
    shown = [[{"index": 0, **one} for one in calls] for calls in fragments]
    assert [list(delta.tool_calls) for delta in deltas[:-1]] == shown


@pytest.mark.parametrize(
    "fragments",
    [
        [fragment(0, id="a", name="f"), fragment(1, id="b", name="g"), fragment(0, arguments="1"),
         fragment(1, arguments="2")],
        [fragment(0, id="a", name="f", arguments="1"), fragment(0, id="b", name="g"),
         fragment(0, arguments="2")],
        [{"id": "a", "function": {"name": "f", "arguments": "1"}},
         {"id": "b", "function": {"name": "g", "arguments": "2"}}],
        [fragment(1, id="b", name="g", arguments="2"),
         fragment(0, id="a", name="f", arguments="1")],
    ],
    ids=["mixed", "all_numbered_0", "not_numbered", "backwards"],
)  # fmt: skip
def test_several_tool_calls_stay_apart(fragments):
    completion, _ = play(*[piece(tool_calls=[one]) for one in fragments], DONE)
    calls = completion["choices"][0]["tool_calls"]
    assert [(call["id"], call["function"]["name"], call["parsed"]) for call in calls] == [
        ("a", "f", 1),
        ("b", "g", 2),
    ]


def test_logprobs_are_put_together():
    tokens = [{"token": t, "logprob": -1.0, "top_logprobs": []} for t in "ab"]
    pieces = [piece(content=t["token"], logprobs={"content": [t]}) for t in tokens]
    completion, _ = play(*pieces, DONE)
    assert completion["choices"][0]["logprobs"] == tokens


def test_legacy_logprobs_are_put_together():
    def chunk(token):
        lp = {"tokens": [token], "token_logprobs": [-1.0], "top_logprobs": [{token: -1.0}]}
        return event({"choices": [{"index": 0, "text": token, "logprobs": lp}]})

    completion, _ = play(chunk("a"), chunk("b"), DONE, endpoint="completions")
    assert completion["choices"][0]["logprobs"] == [
        {"token": t, "logprob": -1.0, "top_logprobs": [{"token": t, "logprob": -1.0}]} for t in "ab"
    ]


def test_usage_comes_last_and_the_last_one_counts():
    early = piece(content="a", usage={**USAGE, "total_tokens": 1})
    last = event({"choices": [], "usage": USAGE})
    completion, _ = play(early, last, DONE, headers={"x-request-id": "r"})
    assert completion["usage"] == USAGE
    assert (completion["id"], completion["model"], completion["request_id"]) == ("1", "m", "r")


@given(st.data())
def test_the_answer_equals_that_of_the_plain_endpoint(data):
    words = st.text(max_size=4)
    n = data.draw(st.integers(1, 3))
    choices, chunks = [], []
    for index in range(n):
        parts = data.draw(st.lists(words, max_size=5))
        thoughts = data.draw(st.lists(words, max_size=2))
        message = {"content": "".join(parts), "reasoning": "".join(thoughts), "tool_calls": []}
        pieces = [{"reasoning": t} for t in thoughts] + [{"content": p} for p in parts]
        if data.draw(st.booleans()):
            message["tool_calls"] = [CALL]
            pieces += [{"tool_calls": [fragment(id="c1", name="f", arguments="")]},
                       {"tool_calls": [fragment(arguments='{"a":1}')]}]  # fmt: skip
        choices.append({"index": index, "message": message, "finish_reason": "stop"})
        chunks += [piece(index, **delta) for delta in pieces] + [piece(index, reason="stop")]
    plain = {"id": "1", "model": "m", "choices": choices, "usage": USAGE}
    stream_of_it = b"".join([*chunks, event({"choices": [], "usage": USAGE}), DONE])
    cut = data.draw(st.integers(1, len(stream_of_it)))
    request = Request("m", prompt="hi", params={"n": n})
    whole = parse(request, HTTPResponse(200, {}, json.dumps(plain).encode()), CHAT)
    completion, deltas = play(stream_of_it[:cut], stream_of_it[cut:], n=n)
    assert completion == whole
    for choice in whole["choices"]:
        mine = [delta for delta in deltas if delta.index == choice["index"]]
        assert "".join(delta.text for delta in mine) == choice["text"]


A = piece(content="a")
END = piece(reason="stop")
TOTAL = event({"choices": [], "usage": USAGE})


@pytest.mark.parametrize(
    "pieces",
    [(), (A,), (A, TOTAL), (A, END), (A, END, TOTAL[:-9]), (A[:-1],), (b": ping\n\n",)],
    ids=["nothing", "text", "no_finish", "no_usage", "cut_usage", "cut_event", "comment"],
)
def test_a_stream_that_ends_early_is_interrupted(pieces):
    with pytest.raises(errors.StreamInterruptedError) as caught:
        play(*pieces)
    partial = "a" if A in pieces else None
    assert caught.value.partial == partial
    assert caught.value.retryable is (partial is None)


def test_a_clean_end_with_all_that_was_asked_for_needs_no_mark():
    completion, _ = play(A, END, TOTAL)
    assert completion["choices"][0]["text"] == "a"


def test_a_choice_that_never_came_is_missed():
    with pytest.raises(errors.StreamInterruptedError):
        play(A, END, TOTAL, n=2)


def test_a_host_that_sends_the_mark_is_held_to_it():
    with pytest.raises(errors.StreamInterruptedError):
        play(A, END, TOTAL, needs_done=True)


def test_fewer_choices_than_asked_for_are_missed_at_the_mark_too():
    with pytest.raises(errors.ResponseFormatError, match="1 of the 2"):
        play(A, END, DONE, n=2)


def test_a_mark_without_any_choice_is_no_answer():
    with pytest.raises(errors.ResponseFormatError, match="choices"):
        play(DONE)


def test_what_comes_after_the_mark_is_not_read():
    completion, deltas = play(A, DONE + A, A, b"data: {", AssertionError("read on"))
    assert (completion["choices"][0]["text"], len(deltas)) == ("a", 1)


def test_a_connection_that_breaks_is_an_interruption_with_its_cause():
    broken = errors.ConnectionFailedError("reset by peer")
    with pytest.raises(errors.StreamInterruptedError, match="reset by peer") as caught:
        play(A, broken)
    assert caught.value.__cause__ is broken
    assert (caught.value.partial, caught.value.retryable) == ("a", False)


def test_a_stream_that_stalls_is_a_timeout_and_an_interruption():
    with pytest.raises(errors.RequestTimeoutError, match="too slow") as caught:
        play(A, errors.RequestTimeoutError("too slow"))
    assert type(caught.value) is errors.StreamStalledError
    assert isinstance(caught.value, errors.StreamInterruptedError)
    assert (caught.value.partial, caught.value.retryable) == ("a", False)


FAULTS = {
    "object": (event({"error": {"message": "no", "code": 429}}), errors.RateLimitError),
    "text": (event({"error": "no"}), errors.ServerError),
    "at_the_top": (event({"object": "error", "message": "no", "code": 400}),
                   errors.InvalidRequestError),
    "event": (b'event: error\ndata: {"message": "no", "type": "overloaded_error"}\n\n',
              errors.ServerError),
    "event_of_text": (b"event: error\ndata: no\n\n", errors.ServerError),
    "overflow": (event({"error": {"message": "no", "type": "exceed_context_size_error"}}),
                 errors.ContextLengthError),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_an_error_inside_the_stream_is_raised_as_its_kind(name):
    chunk, kind = FAULTS[name]
    with pytest.raises(errors.APIError) as caught:
        play(A, chunk, DONE, headers={"x-request-id": "r1"})
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.request_id) == ("no", "r1")


def test_a_filtered_choice_is_an_error():
    with pytest.raises(errors.ContentFilteredError):
        play(A, piece(reason="content_filter"), DONE)


MALFORMED = {
    "no_json": (b"data: {\n\n", "no|not JSON"),
    "nan": (b'data: {"choices": NaN}\n\n', "NaN"),
    "list": (event([]), "an event of the stream"),
    "no_choices": (event({}), "choices"),
    "choice": (event({"choices": [5]}), r"choices\[\]"),
    "index": (event({"choices": [{"index": "0"}]}), r"choices\[\]\.index"),
    "delta": (event({"choices": [{"delta": "a"}]}), r"choices\[\]\.delta"),
    "content": (piece(content=5), r"delta\.content"),
    "content_that_is_falsy": (piece(content={}), r"delta\.content"),
    "content_of_texts": (piece(content=["a"]), r"delta\.content\[0\]"),
    "reasoning": (piece(reasoning=5), r"delta\.reasoning"),
    "refusal": (piece(refusal=5), r"delta\.refusal"),
    "reason": (piece(reason=5), "finish_reason"),
    "calls": (piece(tool_calls=5), "tool_calls"),
    "call": (piece(tool_calls=[5]), "tool_calls"),
    "call_index": (piece(tool_calls=[{"index": "0"}]), "tool_calls.*index"),
    "call_name": (piece(tool_calls=[fragment(name=5)]), "tool_calls.*name"),
    "call_arguments": (piece(tool_calls=[fragment(arguments=5)]), "tool_calls.*arguments"),
    "call_without_name": (piece(tool_calls=[fragment(arguments="1")]) + DONE, "name"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_chunk_that_is_not_as_it_must_be_is_refused_by_its_field(name):
    chunk, field = MALFORMED[name]
    with pytest.raises(errors.ResponseFormatError, match=field):
        play(chunk)


def test_a_host_that_does_not_stream_is_read_whole():
    body = {"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}
    request = Request("m", prompt="hi", stream=True)
    response = HTTPResponse(200, {}, json.dumps(body).encode())
    completion, deltas = run(stream(request, chat_request(request, HERE)), response)
    assert deltas == [Delta("a", finish_reason="stop")]
    assert completion == run(complete(request, chat_request(request, HERE)), response)[0]


def test_a_stream_that_is_refused_is_an_error():
    request = Request("m", prompt="hi", stream=True)
    with pytest.raises(errors.RateLimitError):
        run(stream(request, chat_request(request, HERE)), HTTPResponse(429))


@pytest.mark.parametrize("last", [DONE, errors.RequestTimeoutError("slow")], ids=["done", "error"])
def test_the_connection_is_let_go_on_every_path(last):
    request = Request("m", prompt="hi", stream=True)
    source = Pieces([A, last])
    flow = stream(request, chat_request(request, HERE))
    try:
        run(flow, HTTPResponse(200, source=source))
    except errors.RequestTimeoutError:
        assert last is not DONE
    assert source.closed


def test_an_abandoned_stream_lets_the_connection_go():
    request = Request("m", prompt="hi", stream=True)
    source = Pieces([A, A])
    flow = stream(request, chat_request(request, HERE))
    flow.send(None)
    flow.send(HTTPResponse(200, source=source))
    flow.close()
    assert source.closed


VALUES = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.none(), max_size=1)


@given(st.lists(st.dictionaries(
    st.sampled_from(["choices", "usage", "id", "model", "error"]),
    VALUES | st.lists(st.dictionaries(
        st.sampled_from(["index", "delta", "finish_reason", "logprobs"]),
        VALUES | st.dictionaries(
            st.sampled_from(["content", "reasoning", "tool_calls"]),
            VALUES | st.lists(st.dictionaries(
                st.sampled_from(["index", "id", "function"]),
                VALUES | st.dictionaries(st.sampled_from(["name", "arguments"]), VALUES))))))),
    max_size=4))  # fmt: skip
def test_any_chunks_are_an_answer_or_a_typed_error(chunks):
    try:
        completion, _ = play(*map(event, chunks), DONE)
    except errors.LMGatewayError as error:
        assert error.message  # noqa: PT017
    else:
        json.dumps(completion, allow_nan=False).encode()


def test_text_of_many_pieces_stays_in_order():
    completion, deltas = play(*[piece(content=f"{n} ") for n in range(5000)], END, DONE)
    assert completion["choices"][0]["text"] == "".join(f"{n} " for n in range(5000))
    assert "".join(delta.text for delta in deltas) == completion["choices"][0]["text"]


def test_100_000_chunks_are_read_in_linear_time():
    completion, deltas = play(*[A] * 100_000, END, DONE)
    assert completion["choices"][0]["text"] == "a" * 100_000
    assert len(deltas) == 100_001


HALVES = {
    "in two pieces": (["a\ud83d", "\ude42b"], "a🙂b"),
    "in three": (["\ud83d", "", "\ude42"], "🙂"),
    "the second never comes": (["a\ud83d", "b"], "a\ufffdb"),
    "the end comes first": (["a\ud83d"], "a\ufffd"),
    "the second alone": (["a\ude42b"], "a\ufffdb"),
    "two firsts": (["\ud83d", "\ud83d", "\ude42"], "\ufffd🙂"),
}


def call_of(arguments):
    return [fragment(id="c1", name="f", arguments=arguments)]


@pytest.mark.parametrize("reason", [None, "stop"])
@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("where", ["content", "reasoning", "arguments"])
def test_half_a_character_waits_for_its_other_half(name, where, reason):
    parts, expected = HALVES[name]
    if where == "arguments":
        pieces = [piece(tool_calls=call_of(part)) for part in parts]
    else:
        pieces = [piece(**{where: part}) for part in parts]
    completion, deltas = play(*pieces, piece(reason=reason), DONE)
    [choice] = completion["choices"]
    if where == "arguments":
        said = choice["tool_calls"][0]["function"]["arguments"]
        calls = [call for delta in deltas for call in delta.tool_calls]
        shown = "".join(call["function"].get("arguments") or "" for call in calls)
    else:
        said = choice["text" if where == "content" else "reasoning"]
        shown = "".join(d.text if where == "content" else d.reasoning for d in deltas)
    assert (said, shown) == (expected, expected)


def test_half_a_character_of_a_stream_that_breaks_off_is_no_part_of_what_came():
    with pytest.raises(errors.StreamInterruptedError) as caught:
        play(piece(content="a\ud83d"))
    assert caught.value.partial == "a"


NESTED = json.loads('{"a":' * 300 + "1" + "}" * 300)


def test_arguments_as_an_object_nested_too_deep_are_refused_by_their_field():
    with pytest.raises(errors.ResponseFormatError, match=r"arguments.*100 deep"):
        play(piece(tool_calls=[fragment(name="f", arguments=NESTED)]), DONE)


def test_what_is_shown_of_a_fragment_holds_nothing_deep():
    odd = {**fragment(id="c1", name="f", arguments="{}"), "extra": NESTED}
    odd["function"]["more"] = NESTED
    completion, deltas = play(
        piece(tool_calls=[odd]), piece(tool_calls=[{"index": 0, "x": NESTED}]), DONE
    )
    assert completion["choices"][0]["tool_calls"][0]["parsed"] == {}
    copy.deepcopy(deltas)


def delta(**fields):
    return {"choices": [{"index": 0, "delta": fields}]}


def unnumbered(number):
    return delta(tool_calls=[{"function": {"name": "f", "arguments": "{}"}}])


ENDLESS = {
    "unnumbered calls": unnumbered,
    "calls all numbered 0": lambda n: delta(tool_calls=[fragment(0, id=f"c{n}", name="f")]),
    "calls numbered backwards": lambda n: delta(tool_calls=[fragment(10**9 - n, name="f")]),
    "fragments of one call": lambda n: delta(tool_calls=[fragment(0, arguments="x" * 50)]),
    "pieces of one name": lambda n: delta(tool_calls=[fragment(0, name=f"n{n}")]),
    "choices": lambda n: {"choices": [{"index": n, "delta": {"content": "a"}}]},
    "refusals": lambda n: delta(refusal="x" * 50),
    "halves": lambda n: delta(content="\ud83d"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_20_000_pieces_are_put_together_in_linear_time(name):
    assembly, began = Assembly(CHAT), time.thread_time()
    for number in range(20_000):
        assembly.add(ENDLESS[name](number))
    json.dumps(assembly.answer())
    assert assembly.partial is None or assembly.partial
    assert time.thread_time() - began < 8
