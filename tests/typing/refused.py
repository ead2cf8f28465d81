"""What a program must not write: mypy --strict and pyright refuse the marked lines alone."""

from __future__ import annotations

import lmgateway
import lmgateway.testing
from lmgateway import LM, Completion, Message, Stream, get_lm
from lmgateway.types import Answer, AnswerChoice, Delta

lmgateway.get_ml("echo")  # error
print(lmgateway.RateLimitErorr)  # error
lmgateway.batch.rnu("prompts.jsonl", "answers.jsonl")  # error
lmgateway.testing.lm_form(object())  # error

lm = get_lm("echo")

get_lm(model=3)  # error
get_lm("echo", temperature="hot")  # error
get_lm("echo", api_key=7)  # error
get_lm("echo", transport="httpx")  # error
get_lm("echo", "m", "m")  # error

lm()  # error
lm.complete()  # error
lm.complete(None)  # error
lm.complete(3)  # error
lm.complete(["a", "b"])  # error
lm.complete(messages="Hello")  # error
lm.complete("Hello", temperature="hot")  # error
lm.complete("Hello", timeout="soon")  # error
lm.complete("Hello", cache="always")  # error
lm.complete("Hello", max_tokens=1.5)  # error
lm.complete("Hello", stop=3)  # error
lm.complete("Hello", schema="City")  # error
lm.complete("Hello", retries=None)  # error
lm("Hello", seed="1")  # error
lm("Hello")[0]["text"]  # error
lm.complete("Hello")["choice"]  # error

turn: Message = {"role": "user", "contents": "Hello"}  # error
lm.complete(messages=[3])  # error

lm.copy(timeout="x")  # error
lm.copy(model=3)  # error
lm.preview()  # error
lm.embed(3)  # error
lm.embed("Hello", dimensions="8")  # error
lm.batch(["a"], concurrency="2")  # error
lm.batch(3)  # error
lm.batch(["a"], n="2")  # error
lm.models(timeout="soon")  # error
deltas: Stream[Delta] = lm.stream("Hello")  # error
lm.stream()  # error
lm.stream("Hello", events="yes")  # error
number: Completion[int] = lm.complete("Hello", schema=str)  # error
lm.model = "other"  # error

good: AnswerChoice = {"text": "Hello"}
misspelt: Answer = {"prompt": "Hello", "choises": [good]}  # error
silent: Answer = {"prompt": "Hello", "choices": [{"txt": "Hello"}]}  # error
parsed: AnswerChoice = {"text": "3", "parsed": 3}  # error
hasty: Answer = {"prompt": "Hello", "choices": [good], "cached": True}  # error


async def ask(model: LM) -> None:
    await model.acomplete()  # error
    await model.acomplete("Hello", temperature="hot")  # error
    await model.acall("Hello", timeout="soon")  # error
    await model.abatch(["a"], seed=1.5)  # error
    async for piece in model.astream("Hello", top_p="all"):  # error
        print(piece)
