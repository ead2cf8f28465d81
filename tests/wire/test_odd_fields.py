"""Every field of recorded answers and streams with values that it should not have.

What comes out is an answer that can be kept and shown, or one typed error; and no answer is lost
over a field beside its heart.
"""

from __future__ import annotations

import copy
import json

import pytest
from support.exchanges import Pieces, exchanges, run
from support.odd import ODD, assert_sound, each_field_odd, outcome, spell

from lmgateway.types import HTTPResponse
from lmgateway.wire.openai import CHAT, TEXT, parse, read_stream

ANSWERS = ["vllm/chat_n2", "rayserve/chat_tools_required", "llamacpp/chat_logprobs",
           "vllm/completion_logprobs"]  # fmt: skip
STREAMS = ["vllm/chat_stream_usage", "llamacpp/chat_stream_usage", "vllm/completion_stream"]
HEART = {"choices", "error", "object"}  # the last two turn an answer into an error


def recorded(name):
    [found] = [each for each in exchanges() if each.name == name]
    return found


def endpoint_of(exchange):
    return CHAT if exchange.path.endswith(CHAT) else TEXT


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_answer_with_an_odd_field_is_right_or_typed(name, odd):
    exchange = recorded(name)
    request, endpoint = exchange.request(), endpoint_of(exchange)
    good = parse(request, HTTPResponse(200, {}, exchange.body), endpoint)
    for path, document in each_field_odd(json.loads(exchange.body), odd):
        response = HTTPResponse(200, {}, spell(document))
        completion, error = outcome(lambda told=response: parse(request, told, endpoint))
        assert error is None or path[0] in HEART, f"the answer was lost over {path}: {error}"
        if error is None:
            assert_sound(completion)
            assert path[0] in HEART or completion["choices"] == good["choices"]


def play(exchange, events):
    body = b"".join(b"data: " + spell(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    head = HTTPResponse(200, {}, source=Pieces([body]))
    return run(read_stream(exchange.request(), exchange.http_request(), head))


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_a_stream_with_an_odd_field_is_right_or_typed(name, odd):
    exchange = recorded(name)
    lines = exchange.body.decode().split("\n")
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    events = [*events[:2], *events[-2:]]
    good, _ = play(exchange, events)
    for path, changed in each_field_odd(events, odd):
        if len(path) == 1:
            continue
        played, error = outcome(lambda told=changed: play(exchange, told))
        assert error is None or path[1] in HEART, f"the answer was lost over {path}: {error}"
        if error is None:
            completion, deltas = played
            assert_sound(completion)
            copy.deepcopy(deltas)
            for choice in completion["choices"]:
                mine = [delta for delta in deltas if delta.index == choice["index"]]
                assert "".join(delta.text for delta in mine) == choice["text"]
            assert path[1] in HEART or completion["choices"] == good["choices"]


@pytest.mark.parametrize("odd", [{}, [], "x", 5, {"content": "x"}], ids=repr)
def test_log_probabilities_that_nobody_asked_for_cost_no_answer(odd):
    exchange = recorded("vllm/chat")
    document = json.loads(exchange.body)
    document["choices"][0]["logprobs"] = odd
    completion = parse(exchange.request(), HTTPResponse(200, {}, spell(document)), CHAT)
    assert "logprobs" not in completion["choices"][0]


def test_a_number_of_5000_digits_beside_an_answer_costs_nothing():
    body = b'{"choices": [{"text": "a"}], "created": ' + b"7" * 5000 + b"}"
    completion = parse(recorded("vllm/completion").request(), HTTPResponse(200, {}, body), TEXT)
    assert completion["choices"][0]["text"] == "a"
