"""What a program may write: mypy --strict and pyright accept every line. Nothing here is run."""
# pyright: strict

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

from pydantic import BaseModel, SecretStr

import lmgateway
from lmgateway import (
    LM,
    UNSET,
    AStream,
    CallEvent,
    Completion,
    Delta,
    Embeddings,
    History,
    Installed,
    LMGatewayError,
    Message,
    ModelCard,
    RateLimitError,
    Stream,
    UsageTotals,
    get_lm,
    hookimpl,
)
from lmgateway.testing import ScriptedLM
from lmgateway.types import (
    Answer,
    AnswerChoice,
    Choice,
    Emit,
    Flow,
    HTTPRequest,
    Messages,
    Request,
    Unset,
    send,
)
from lmgateway.wire import openai as wire


class City(BaseModel):
    name: str
    people: int


# -- an LM --------------------------------------------------------------------------------------

lm = get_lm("openai", "gpt-4o-mini")
assert_type(lm, LM)
get_lm()
get_lm("fast", temperature=0, max_tokens=32, stop=["\n"], seed=None)
get_lm("openai", model="m", api_key=SecretStr("sk"), api_base=None, headers={"X-Team": "a"})
get_lm("openai/m", config=Path("lmgateway.toml"), verify="ca.pem", history=0, cache="only")
get_lm("anyscale", model="m", use_chat_api=True, chat_template="llama-2")  # a plugin's own
double: LM = ScriptedLM(["Paris."])
assert_type(lm.copy(temperature=1, model="gpt-4o"), LM)
assert_type(lm.history, History)

# -- one answer ---------------------------------------------------------------------------------

assert_type(lm("Hello"), list[str])
assert_type(lm.complete("Hello"), Completion[Any])
answer: Completion = lm.complete("Hello", timeout=None, retries=0, recordings=[Path("a.jsonl")])
text: str = answer["choices"][0]["text"]
lm.complete("Hello", temperature=None, top_p=UNSET, logprobs=5, logit_bias={50256: -100})
lm.complete("Hello", guided_regex="[a-z]+", use_chat_api=True)  # a plugin's own
lm.complete("Hello", tools=[{"type": "function", "function": {"name": "f"}}], tool_choice="auto")

plain: list[dict[str, str]] = [{"role": "user", "content": "Hello"}]
lm.complete(messages=plain)
lm.complete(messages=[{"role": "user", "content": [{"type": "text", "text": "Hello"}]}])
turn: Message = {"role": "user", "content": "Hello"}
lm.complete(messages=[turn, {"role": "assistant", "content": "Hi"}])
lm.complete(messages=answer["prompt"] if isinstance(answer["prompt"], list) else [turn])


def ask(prompt: str | None, messages: Messages | None, warmth: float | Unset = UNSET) -> Completion:
    """A wrapper hands on what it was given."""
    return lm.complete(prompt, messages=messages, temperature=warmth)


def ask_with(defaults: Mapping[str, Any]) -> list[str]:
    """So does one that knows no names."""
    return lm("Hello", **defaults)


# -- an answer that fits a schema ---------------------------------------------------------------

city = lm.complete("Paris?", schema=City)
assert_type(city, Completion[City])
assert_type(city["choices"][0], Choice[City])
assert_type(city["choices"][0]["parsed"], City)
assert_type(lm.complete("Paris?", schema=City)["choices"][0]["parsed"].people, int)
assert_type(lm.complete(messages=plain, schema=list[int]), Completion[list[int]])
lm.complete("Paris?", schema={"type": "object"})
lm.complete("Paris?", schema=City | None)
lm.complete("Paris?", schema=None)
anything: Completion = city

# -- piece by piece -----------------------------------------------------------------------------


def show(flag: bool) -> None:
    with lm.stream("Hello", max_tokens=5) as stream:
        assert_type(stream, Stream[str])
        for piece in stream:
            assert_type(piece, str)
    if stream.completion is not None:
        assert_type(stream.completion, Completion[Any])
    for delta in lm.stream(messages=plain, events=True, tools=[]):
        assert_type(delta, Delta)
    assert_type(lm.stream("Hello", events=flag), Stream[str] | Stream[Delta])
    cities = lm.stream("Paris?", schema=City)
    assert_type(cities.completion, Completion[City] | None)
    if cities.completion is not None:
        assert_type(cities.completion["choices"][0]["parsed"], City)


async def ashow(flag: bool) -> None:
    assert_type(await lm.acall("Hello"), list[str])
    assert_type(await lm.acomplete("Paris?", schema=City), Completion[City])
    assert_type((await lm.acomplete("Paris?", schema=City))["choices"][0]["parsed"], City)
    async with lm.astream("Hello") as stream:
        assert_type(stream, AStream[str])
        async for piece in stream:
            assert_type(piece, str)
    assert_type(lm.astream("Hello", events=flag), AStream[str] | AStream[Delta])
    cities = lm.astream("Paris?", schema=City)
    if cities.completion is not None:
        assert_type(cities.completion["choices"][0]["parsed"], City)
    assert_type(await lm.abatch(["a"]), list[Completion[Any]])
    for each in await lm.abatch(["a"], schema=City):
        assert_type(each["choices"][0]["parsed"], City)
    assert_type(await lm.aembed("Hello", dimensions=8), Embeddings)
    assert_type(await lm.amodels(), list[ModelCard])


# -- many at once, and beside answers -----------------------------------------------------------


def many(flag: bool) -> None:
    assert_type(lm.batch(["a", "b"], concurrency=2, temperature=0), list[Completion[Any]])
    assert_type(lm.batch(["a"], schema=City), list[Completion[City]])
    assert_type(lm.batch(["a"], schema=City)[0]["choices"][0]["parsed"], City)
    lm.batch([(turn, turn), tuple(plain)])
    either = lm.batch(["a", plain, {"prompt": "c", "seed": 1}], return_exceptions=True)
    assert_type(either, list[Completion[Any] | LMGatewayError])
    assert_type(lm.batch(["a"], return_exceptions=flag), list[Completion[Any] | LMGatewayError])
    assert_type(lm.embed(["a", "b"], input_type="query", late_chunking=True), Embeddings)
    assert_type(lm.models(timeout=5), list[ModelCard])
    assert_type(lm.preview("Hello", stream=True), dict[str, Any])


# -- a plugin -----------------------------------------------------------------------------------


@hookimpl
def lmgateway_complete(request: Request) -> Answer:
    """A hook that answers at once."""
    answer = Answer(prompt=request.input, choices=[{"text": "Paris.", "finish_reason": "stop"}])
    answer["usage"] = {"completion_tokens": 1}
    return answer


@hookimpl
def lmgateway_stream(request: Request) -> Flow[Answer]:
    """A hook that asks a service, and answers with choices that it made one by one."""
    response = yield from send(HTTPRequest("POST", None, "/say", json={"text": request.prompt}))
    choice: AnswerChoice = {"text": response.body.decode(), "index": 0}
    yield Emit(choice["text"])
    return {"prompt": request.input, "choices": [choice], "model": request.model}


@hookimpl
def lmgateway_models() -> list[ModelCard]:
    """A hook that lists what it knows."""
    return [{"id": "m"}]


class Wired:
    """A provider that speaks OpenAI's format."""

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Flow[Answer]:
        service = wire.Service("https://api.example/v1", None)
        return (yield from wire.complete(request, wire.chat_request(request, service)))


# -- the package --------------------------------------------------------------------------------


def tell(event: CallEvent) -> None:
    print(event.model, event.duration)


def account() -> UsageTotals:
    with lmgateway.on_call(tell), lmgateway.usage() as used:
        try:
            lm("Hello")
        except RateLimitError as error:
            print(error.status, error.retry_after)
    return used


rows: list[Installed] = lmgateway.providers()
version: str = lmgateway.__version__
with lmgateway.record("calls.jsonl"), lmgateway.replay(Path("calls.jsonl")):
    summary = lmgateway.batch.run("prompts.jsonl", "answers.jsonl", "echo")
    print(summary.answered)


class Mine(LM):
    pass


def a_copy_is_of_the_same_class(mine: Mine) -> None:
    assert_type(mine.copy(timeout=3), Mine)
