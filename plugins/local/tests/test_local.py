"""The provider ``local`` answers as any other does, with a real model in this process."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.llama_server import INSTALL, is_installed

from lmgateway import get_lm
from lmgateway.errors import (
    ConfigError,
    ContextLengthError,
    InputError,
    InvalidRequestError,
    RequestTimeoutError,
    UnsupportedError,
)
from lmgateway.lm import LM
from lmgateway.wire.openai import CHAT
from lmgateway_local import engine, weights
from lmgateway_local.calls import Call
from lmgateway_local.texts import Texts

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not is_installed(), reason=f"needs a model: {INSTALL}"),
]

CAPITAL = "The capital of France is"
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string", "maxLength": 12}},
    "required": ["colour"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def chat() -> Iterator[LM]:
    with get_lm("local", temperature=0, max_tokens=8, cache=False) as lm:
        yield lm


@pytest.fixture(scope="module")
def text() -> Iterator[LM]:
    with get_lm("local", use_chat_api=False, temperature=0, max_tokens=8, cache=False) as lm:
        yield lm


@pytest.fixture(params=["chat", "text"])
def lm(request: pytest.FixtureRequest) -> LM:
    either: LM = request.getfixturevalue(request.param)
    return either


def streamed(lm: LM, prompt: str, **keywords: Any) -> tuple[list[str], Any]:
    with lm.stream(prompt, **keywords) as stream:
        return list(stream), stream.completion


def no_call_is_left() -> bool:
    with engine._calls.changed:
        return engine._calls.changed.wait_for(lambda: engine._calls.count == 0, timeout=30)


# -- what it answers ----------------------------------------------------------------------------


def test_a_text_is_continued_as_it_is(text: LM) -> None:
    completion = text.complete(CAPITAL)
    assert completion["choices"][0]["text"].startswith(" Paris")
    assert completion["endpoint"] == "completions"


def test_a_bare_prompt_goes_to_chat(chat: LM) -> None:
    assert chat.complete(CAPITAL)["endpoint"] == "chat/completions"


def test_a_conversation_is_answered_in_the_models_own_template(chat: LM) -> None:
    messages: Any = [{"role": "user", "content": "What is the capital of France?"}]
    completion = chat.complete(messages=messages, system="You are a helpful assistant.")
    assert completion["choices"][0]["text"] == "The capital of France is Paris."
    assert completion["choices"][0]["finish_reason"] == "stop"


def test_use_chat_api_can_be_changed_for_one_call(chat: LM) -> None:
    assert chat.complete(CAPITAL, use_chat_api=False)["endpoint"] == "completions"


def test_the_model_is_called_by_its_name(lm: LM) -> None:
    assert lm.complete(CAPITAL)["model"] == "smollm2-135m-instruct"


def test_max_tokens_cuts_the_answer(lm: LM) -> None:
    completion = lm.complete("Count to a hundred: 1, 2,", max_tokens=3)
    assert completion["choices"][0]["finish_reason"] == "length"
    assert completion["usage"]["completion_tokens"] == 3


def test_stop_ends_the_answer(text: LM) -> None:
    choice = text.complete(CAPITAL, stop=["ris"])["choices"][0]
    assert choice["text"] == " Pa"
    assert choice["finish_reason"] == "stop"


def test_a_seed_makes_an_answer_repeatable(lm: LM) -> None:
    first, again, other = (
        lm.complete("Once upon a time", temperature=1, seed=seed)["choices"][0]["text"]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_top_p_of_nothing_is_greedy(text: LM) -> None:
    greedy = text.complete("Once upon a time")["choices"][0]["text"]
    assert text.complete("Once upon a time", temperature=2, top_p=1e-9)["choices"][0]["text"] == (
        greedy
    )


def test_n_answers_come_in_order_and_their_tokens_are_summed(lm: LM) -> None:
    completion = lm.complete("Once upon a time", n=3, temperature=1, seed=1, max_tokens=4)
    assert [choice["index"] for choice in completion["choices"]] == [0, 1, 2]
    assert len({choice["text"] for choice in completion["choices"]}) == 3
    assert completion["usage"]["completion_tokens"] == 12


@pytest.mark.parametrize("keywords", [{"logprobs": True, "top_logprobs": 2}, {"logprobs": 2}])
def test_logprobs_have_one_shape(lm: LM, keywords: dict[str, Any]) -> None:
    choice = lm.complete(CAPITAL, max_tokens=2, **keywords)["choices"][0]
    tokens = choice["logprobs"]
    assert tokens is not None
    assert "".join(token["token"] for token in tokens) == choice["text"]
    assert [len(token["top_logprobs"]) for token in tokens] == [2, 2]


@pytest.mark.parametrize(
    "keywords",
    [
        {"schema": SCHEMA},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
    ],
    ids=["schema", "response_format"],
)
def test_an_answer_satisfies_its_schema(lm: LM, keywords: dict[str, Any]) -> None:
    completion = lm.complete("Name a colour as JSON:", max_tokens=60, **keywords)
    assert list(json.loads(completion["choices"][0]["text"])) == ["colour"]


def test_a_json_object_can_be_asked_for(text: LM) -> None:
    completion = text.complete(CAPITAL, response_format={"type": "json_object"})
    assert completion["choices"][0]["text"].startswith("{")


@pytest.mark.parametrize(
    "keywords",
    [{}, {"n": 2, "temperature": 1, "seed": 3}, {"logprobs": True, "top_logprobs": 1}],
    ids=["plain", "n", "logprobs"],
)
def test_a_streamed_answer_is_the_plain_one(lm: LM, keywords: dict[str, Any]) -> None:
    plain = lm.complete(CAPITAL, **keywords)
    pieces, completion = streamed(lm, CAPITAL, **keywords)
    assert "".join(pieces) == plain["choices"][0]["text"]
    assert len(pieces) > 2
    assert [choice["text"] for choice in completion["choices"]] == [
        choice["text"] for choice in plain["choices"]
    ]
    assert [choice.keys() for choice in completion["choices"]] == [
        choice.keys() for choice in plain["choices"]
    ]
    assert completion["usage"]["total_tokens"] == plain["usage"]["total_tokens"]


# -- what it refuses ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["complete", "stream"])
def test_a_prompt_too_long_is_a_context_length_error(lm: LM, way: str) -> None:
    with pytest.raises(ContextLengthError, match="2048"):
        lm.complete("x " * 4000) if way == "complete" else streamed(lm, "x " * 4000)


def test_more_answers_than_n_parallel_names_the_setting(lm: LM) -> None:
    with pytest.raises(InputError, match="n_parallel=5"):
        lm.complete(CAPITAL, n=5)


def test_a_system_text_has_no_place_in_a_bare_text(text: LM) -> None:
    with pytest.raises(InputError, match="use_chat_api=False"):
        text.complete(CAPITAL, system="Be brief.")


def test_a_parameter_it_would_not_heed_is_refused(lm: LM) -> None:
    with pytest.raises(UnsupportedError):
        lm.complete(CAPITAL, best_of=2)


def test_a_schema_that_is_none_is_an_error_and_not_ignored(chat: LM) -> None:
    with pytest.raises(InvalidRequestError, match="nonsense"):
        chat.complete(CAPITAL, schema={"type": "nonsense"})


def test_a_response_format_that_is_none_is_refused(text: LM) -> None:
    with pytest.raises(InputError, match="json_schema"):
        text.complete(CAPITAL, response_format={"type": "yaml"})


# -- many at once, and none too long ------------------------------------------------------------


def say(word: str) -> dict[str, Any]:
    """Whatever else is computed beside it, this can only be answered with that word."""
    return {"prompt": "Say a word", "schema": {"const": word}, "max_tokens": 20}


def test_eight_threads_all_get_their_answers(chat: LM) -> None:
    words = [f"word {number}" for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda word: chat.complete(**say(word)), words))
    assert [json.loads(answer["choices"][0]["text"]) for answer in answers] == words


def test_eight_tasks_all_get_their_answers(chat: LM) -> None:
    words = [f"word {number}" for number in range(8)]

    async def ask() -> list[Any]:
        answers = await asyncio.gather(*(chat.acomplete(**say(word)) for word in words))
        return list(answers)

    answers = asyncio.run(ask())
    assert [json.loads(answer["choices"][0]["text"]) for answer in answers] == words


def test_an_async_stream_gives_the_same_pieces(text: LM) -> None:
    async def read() -> list[str]:
        async with text.astream(CAPITAL) as stream:
            return [piece async for piece in stream]

    assert asyncio.run(read()) == streamed(text, CAPITAL)[0]


def test_a_stream_that_is_left_stops_the_computation(text: LM) -> None:
    with text.stream("Once upon a time", max_tokens=2000) as stream:
        next(iter(stream))
    assert no_call_is_left()


def test_a_call_out_of_time_stops_the_computation(text: LM) -> None:
    with pytest.raises(RequestTimeoutError):
        text.complete("Once upon a time", max_tokens=2000, timeout=0.3)
    assert no_call_is_left()


def test_a_call_that_nobody_waits_for_any_more_stops_the_computation() -> None:
    found = weights.find(weights.DEFAULT_MODEL)
    spec = engine.Spec(found.path, found.digest(), found.name, 2048, 4, 1)
    body = {"messages": [{"role": "user", "content": "Once upon a time"}], "max_tokens": 2000}
    call = Call(spec, lambda engine: None, CHAT, body, math.inf)
    call.left.set()
    with pytest.raises(RequestTimeoutError):
        call.answer()
    assert no_call_is_left()


# -- any file -----------------------------------------------------------------------------------


def test_a_path_names_a_model(tmp_path: Path) -> None:
    from support.llama_server import find_weights

    path = tmp_path / "tiny.Q4.gguf"
    path.symlink_to(find_weights())
    with get_lm("local", model=str(path), use_chat_api=False, temperature=0, cache=False) as lm:
        completion = lm.complete(CAPITAL, max_tokens=2)
    assert completion["choices"][0]["text"].startswith(" Paris")
    assert "/" not in completion["model"]


# -- what it embeds -----------------------------------------------------------------------------


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_texts_are_embedded_and_alike_ones_lie_close(chat: LM) -> None:
    texts = ["a cat", "a dog", "hello", "a cat", "Ä €", " "]
    answer = chat.embed(texts)
    cat, dog, hello, again, *_ = answer["embeddings"]
    assert [math.hypot(*vector) for vector in answer["embeddings"]] == pytest.approx([1] * 6)
    assert cat == again
    assert dot(cat, dog) > dot(cat, hello)
    assert answer["model"] == "smollm2-135m-instruct"
    assert answer["usage"]["prompt_tokens"] > 5
    assert asyncio.run(chat.aembed(texts))["embeddings"] == answer["embeddings"]
    assert chat.complete("Hi")["endpoint"] == "chat/completions"  # with the same LM


def test_a_vector_does_not_depend_on_the_texts_beside_it(chat: LM) -> None:
    texts = ["a cat", "word " * 20, "hello", "one two three " * 10, "Ä €"]
    together = chat.embed(texts)["embeddings"]
    for text, vector in zip(texts, together, strict=True):
        (alone,) = chat.embed([text])["embeddings"]
        assert dot(alone, vector) > 0.999, text[:20]


@pytest.mark.parametrize(
    "texts, keywords, error",
    [
        ([""], {}, InputError),
        (["a", 3], {}, InputError),
        (["word " * 3000], {}, InputError),
        (["x," * 1500], {}, ContextLengthError),
        (["a"], {"dimensions": 64}, UnsupportedError),
        (["a"], {"input_type": "query"}, UnsupportedError),
        (["a"], {"pooling": "sum"}, ConfigError),
        (["a"], {"timeout": 0.0001}, RequestTimeoutError),
    ],
)
def test_what_cannot_be_embedded(
    chat: LM, texts: Any, keywords: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        chat.embed(texts, **keywords)
    assert no_call_is_left()


def test_nobody_waits_so_nothing_more_is_embedded() -> None:
    spec = engine.Spec(Path("m.gguf"), "0", "m", 2048, 2, 1, "mean")
    work = Texts(spec, lambda engine: None, ["a", "b", "c"], math.inf)
    asked = []

    class Fake:
        def embed(self, texts: list[str]) -> dict[str, Any]:
            asked.append(texts)
            work.left.set()
            return {"data": [{"index": 0}, {"index": 1}], "usage": {"prompt_tokens": 2}}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lmgateway_local.texts.load", lambda spec: Fake())
        with pytest.raises(RequestTimeoutError):
            work.answer()
    assert asked == [["a", "b"]]


def test_the_models_are_listed(chat: LM) -> None:
    assert chat.models() == [{"id": "smollm2-135m-instruct", "context_length": 2048}]
