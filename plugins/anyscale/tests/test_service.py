"""The plugin against a real server: llama.cpp's stands in for a service of one's own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pydantic
import pytest
from support.llama_server import LlamaServer

from lmgateway import LM, errors, get_lm

pytestmark = pytest.mark.real

QUESTION = "What is the capital of France?"


@pytest.fixture
def dotenv(llama_server: LlamaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the two variables, in a .env."""
    for name in ("ANYSCALE_API_BASE", "ANYSCALE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LMGATEWAY_CACHE", "off")
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(
        f"ANYSCALE_API_BASE={llama_server.base_url}\nANYSCALE_API_KEY={llama_server.api_key}\n",
        encoding="utf-8",
    )


@pytest.fixture
def lm(dotenv: None) -> LM:
    return get_lm("anyscale", model="meta-llama/Llama-2-70b-chat-hf", max_tokens=16)


@pytest.mark.usefixtures("dotenv")
def test_the_pages_own_example() -> None:
    lm = get_lm("anyscale", model="meta-llama/Llama-2-70b-chat-hf")
    (text,) = lm(prompt=QUESTION)
    assert isinstance(text, str)
    assert lm.history[-1]["completion"]["endpoint"] == "completions"


def test_a_text_is_continued(lm: LM) -> None:
    completion = lm.complete("The capital of France is", template="none", temperature=0)
    assert completion["choices"][0]["text"].startswith(" Paris")
    assert completion["endpoint"] == "completions"


def test_chat_says_the_same_awaited(lm: LM) -> None:
    keywords = {"use_chat_api": True, "temperature": 0}
    completion = lm.complete(QUESTION, **keywords)
    assert completion["endpoint"] == "chat/completions"
    assert asyncio.run(lm.acall(QUESTION, **keywords)) == [completion["choices"][0]["text"]] != [""]


@pytest.mark.parametrize("use_chat_api", [True, False], ids=["chat", "text"])
def test_streams_equal_the_plain_answer(lm: LM, use_chat_api: bool) -> None:
    keywords = {"use_chat_api": use_chat_api, "template": "chatml", "temperature": 0}
    plain = lm.complete(QUESTION, **keywords)

    async def awaited() -> str:
        async with lm.astream(QUESTION, **keywords) as stream:
            return "".join([piece async for piece in stream])

    with lm.stream(QUESTION, **keywords) as stream:
        text = "".join(stream)
    assert text == asyncio.run(awaited()) == plain["choices"][0]["text"] != ""
    assert stream.completion is not None
    assert stream.completion["usage"]["completion_tokens"] == plain["usage"]["completion_tokens"]


def test_a_wrong_key_is_said_and_where_it_came_from(lm: LM) -> None:
    text = Path(".env").read_text(encoding="utf-8")
    Path(".env").write_text(text.replace("API_KEY=sk", "API_KEY=no"), encoding="utf-8")
    with pytest.raises(errors.AuthenticationError, match=r"\.env:2") as caught:
        lm.copy(retries=0)(QUESTION)
    assert caught.value.status == 401


def test_n_choices_come_from_one_request(lm: LM) -> None:
    completion = lm.complete("Name a colour.", n=3, use_chat_api=True, max_tokens=8)
    assert [choice["index"] for choice in completion["choices"]] == [0, 1, 2]


def test_stop_ends_the_answer(lm: LM) -> None:
    (text,) = lm("Count from 1 to 9.", stop=["3"], use_chat_api=True, temperature=0, max_tokens=40)
    assert "2" in text
    assert "3" not in text


def test_a_seed_repeats_an_answer(lm: LM) -> None:
    keywords = {"seed": 7, "temperature": 1.0, "use_chat_api": True}
    assert lm("Tell me a story.", **keywords) == lm("Tell me a story.", **keywords)


@pytest.mark.parametrize("use_chat_api", [True, False], ids=["chat", "text"])
def test_logprobs_have_one_shape(lm: LM, use_chat_api: bool) -> None:
    completion = lm.complete(
        QUESTION, use_chat_api=use_chat_api, template="chatml", logprobs=True, top_logprobs=2
    )
    logprobs = completion["choices"][0]["logprobs"]
    assert logprobs
    assert {"token", "logprob", "top_logprobs"} <= set(logprobs[0])
    assert len(logprobs[0]["top_logprobs"]) == 2


class Person(pydantic.BaseModel):
    name: str
    age: int


def test_a_schema_is_followed_and_parsed(lm: LM) -> None:
    # On chat alone: vLLM takes a schema on /completions too, llama.cpp does not.
    completion = lm.complete(
        "Make up a person.", schema=Person, use_chat_api=True, max_tokens=60, temperature=0
    )
    choice = completion["choices"][0]
    assert choice["parsed"] == Person(**json.loads(choice["text"]))


@pytest.mark.parametrize("count", [16, pytest.param(64, marks=pytest.mark.soak)])
def test_more_calls_at_once_than_the_server_answers(count: int, lm: LM) -> None:
    async def main() -> list[list[str]]:
        calls = (lm.acall(f"Say {i}.", max_tokens=2, use_chat_api=True) for i in range(count))
        return await asyncio.gather(*calls)

    answers = asyncio.run(main())
    assert len(answers) == count
    assert all(len(texts) == 1 for texts in answers)


def test_models_are_listed(lm: LM, llama_server: LlamaServer) -> None:
    assert [card["id"] for card in lm.models()] == [llama_server.model]
