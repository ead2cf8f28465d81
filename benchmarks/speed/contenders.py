"""Who takes part: lmgateway, the bare HTTP clients under it, and other gateways.

Each sends the same chat request and gives the text of the answer. What a class needs is imported
when it is made, because each runs in an environment that may lack the others' packages.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

KEY = "sk-benchmark"
HEADERS = {"Authorization": f"Bearer {KEY}"}


def body_for(prompt: str, *, stream: bool = False) -> dict[str, Any]:
    """What the bare clients send."""
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "temperature": 0.5}
    return {**body, "stream": True} if stream else body


def text_of(answer: Any) -> str:
    """The text in an answer as it comes over the wire."""
    text: str = answer["choices"][0]["message"]["content"]
    return text


class Contender:
    """A client of one base URL.

    Attributes:
        environment: Which environment it runs in.
        package: The distribution whose version the report names; None for Python's own.
        imports: What ``import`` its users write.
    """

    environment: ClassVar[str]
    package: ClassVar[str | None]
    imports: ClassVar[str]

    def __init__(self, base: str) -> None:
        self.base = base

    def call(self, prompt: str) -> str:
        """One answer."""
        raise NotImplementedError

    def stream(self, prompt: str) -> Iterator[Any]:
        """One answer, piece by piece."""
        raise NotImplementedError

    async def acall(self, prompt: str) -> str:
        """One answer, awaited."""
        raise NotImplementedError

    def astream(self, prompt: str) -> AsyncIterator[Any]:
        """One answer, piece by piece, awaited."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        """Open what belongs to the running loop."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""

    def batch(self, prompts: Sequence[str], in_flight: int) -> None:
        """Answer all, in so many threads."""
        with ThreadPoolExecutor(in_flight) as pool:
            for _ in pool.map(self.call, prompts):
                pass

    async def abatch(self, prompts: Sequence[str], in_flight: int) -> None:
        """Answer all, so many at a time."""
        gate = asyncio.Semaphore(in_flight)

        async def one(prompt: str) -> str:
            async with gate:
                return await self.acall(prompt)

        await asyncio.gather(*map(one, prompts))


class LMGateway(Contender):
    """This project: whole calls, with retries, observation and history; nothing is cached."""

    environment, package, imports = "lmgateway", "lmgateway-core", "lmgateway"

    def __init__(self, base: str) -> None:
        super().__init__(base)
        self._open()

    def _open(self) -> None:
        from lmgateway import get_lm

        options = {"model": "m", "api_key": KEY, "temperature": 0.5}
        self.lm = get_lm("openai", api_base=self.base, **options)

    async def __aenter__(self) -> Self:
        """Begin without connections, as the others do."""
        self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close them."""
        await self.lm.aclose()

    def call(self, prompt: str) -> str:  # noqa: D102 - as Contender says, here and below
        return self.lm(prompt)[0]

    def stream(self, prompt: str) -> Iterator[Any]:  # noqa: D102
        return self.lm.stream(prompt)

    async def acall(self, prompt: str) -> str:  # noqa: D102
        return (await self.lm.acall(prompt))[0]

    def astream(self, prompt: str) -> AsyncIterator[Any]:  # noqa: D102
        return self.lm.astream(prompt)

    def batch(self, prompts: Sequence[str], in_flight: int) -> None:  # noqa: D102
        self.lm.batch(prompts, concurrency=in_flight)

    async def abatch(self, prompts: Sequence[str], in_flight: int) -> None:  # noqa: D102
        await self.lm.abatch(prompts, concurrency=in_flight)


# -- floors ------------------------------------------------------------------------------------


class HTTPClient(Contender):
    """Python's own http.client, one connection a thread."""

    environment, package, imports = "lmgateway", None, "http.client"

    def __init__(self, base: str) -> None:
        super().__init__(base)
        parts = urlsplit(base)
        self._place, self._path = parts.netloc, f"{parts.path}/chat/completions"
        self._local = threading.local()

    def call(self, prompt: str) -> str:  # noqa: D102
        from http.client import HTTPConnection

        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = HTTPConnection(self._place)
        body = json.dumps(body_for(prompt)).encode()
        headers = {**HEADERS, "Content-Type": "application/json"}
        connection.request("POST", self._path, body, headers)
        return text_of(json.loads(connection.getresponse().read()))


class URLLib3(Contender):
    """urllib3, one pool for all threads."""

    environment, package, imports = "lmgateway", "urllib3", "urllib3"

    def __init__(self, base: str) -> None:
        super().__init__(base)
        from urllib3 import PoolManager

        self._pool = PoolManager(maxsize=100)

    def call(self, prompt: str) -> str:  # noqa: D102
        url = f"{self.base}/chat/completions"
        response = self._pool.request("POST", url, json=body_for(prompt), headers=HEADERS)
        return text_of(response.json())


class Requests(Contender):
    """requests, one session a thread."""

    environment, package, imports = "lmgateway", "requests", "requests"

    def __init__(self, base: str) -> None:
        super().__init__(base)
        self._url = f"{base}/chat/completions"
        self._local = threading.local()

    def _session(self) -> Any:
        import requests

        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
        return session

    def call(self, prompt: str) -> str:  # noqa: D102
        response = self._session().post(self._url, json=body_for(prompt), headers=HEADERS)
        return text_of(response.json())

    def stream(self, prompt: str) -> Iterator[Any]:
        """The lines; what is in them is not looked at."""
        response = self._session().post(
            self._url, json=body_for(prompt, stream=True), headers=HEADERS, stream=True
        )
        for line in response.iter_lines():
            if line:
                yield line


class Aiohttp(Contender):
    """aiohttp, without its limit of 100 connections."""

    environment, package, imports = "lmgateway", "aiohttp", "aiohttp"

    async def __aenter__(self) -> Self:
        """Open a session."""
        import aiohttp

        self._url = f"{self.base}/chat/completions"
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(connector=connector, headers=HEADERS)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session."""
        await self._session.close()

    async def acall(self, prompt: str) -> str:  # noqa: D102
        async with self._session.post(self._url, json=body_for(prompt)) as response:
            return text_of(await response.json())

    async def astream(self, prompt: str) -> AsyncIterator[Any]:
        """The lines; what is in them is not looked at."""
        body = body_for(prompt, stream=True)
        async with self._session.post(self._url, json=body) as response:
            async for line in response.content:
                if line != b"\n":
                    yield line


# -- peers -------------------------------------------------------------------------------------


class OpenAI(Contender):
    """OpenAI's own client."""

    environment, package, imports = "openai", "openai", "openai"

    def __init__(self, base: str) -> None:
        super().__init__(base)
        from openai import OpenAI as Client

        self._client = Client(base_url=base, api_key=KEY)

    async def __aenter__(self) -> Self:
        """Open an async client."""
        from openai import AsyncOpenAI

        self._async = AsyncOpenAI(base_url=self.base, api_key=KEY)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self._async.close()

    def call(self, prompt: str) -> str:  # noqa: D102
        answer: Any = self._client.chat.completions.create(**body_for(prompt))
        text: str = answer.choices[0].message.content
        return text

    def stream(self, prompt: str) -> Iterator[Any]:  # noqa: D102
        chunks: Any = self._client.chat.completions.create(**body_for(prompt, stream=True))
        for chunk in chunks:
            if piece := chunk.choices[0].delta.content:
                yield piece

    async def acall(self, prompt: str) -> str:  # noqa: D102
        answer: Any = await self._async.chat.completions.create(**body_for(prompt))
        text: str = answer.choices[0].message.content
        return text

    async def astream(self, prompt: str) -> AsyncIterator[Any]:  # noqa: D102
        chunks: Any = await self._async.chat.completions.create(**body_for(prompt, stream=True))
        async for chunk in chunks:
            if piece := chunk.choices[0].delta.content:
                yield piece


class _OpenAIShaped(Contender):
    """A gateway whose functions take and give what OpenAI's client does."""

    def _create(self, prompt: str, *, stream: bool = False) -> Any:
        raise NotImplementedError

    def _acreate(self, prompt: str, *, stream: bool = False) -> Any:
        raise NotImplementedError

    def call(self, prompt: str) -> str:
        text: str = self._create(prompt).choices[0].message.content
        return text

    def stream(self, prompt: str) -> Iterator[Any]:
        for chunk in self._create(prompt, stream=True):
            if piece := chunk.choices[0].delta.content:
                yield piece

    async def acall(self, prompt: str) -> str:
        text: str = (await self._acreate(prompt)).choices[0].message.content
        return text

    async def astream(self, prompt: str) -> AsyncIterator[Any]:
        async for chunk in await self._acreate(prompt, stream=True):
            if piece := chunk.choices[0].delta.content:
                yield piece


class LiteLLM(_OpenAIShaped):
    """litellm."""

    environment, package, imports = "litellm", "litellm", "litellm"

    def __init__(self, base: str) -> None:
        super().__init__(base)
        import litellm

        self._litellm = litellm

    def _arguments(self, prompt: str, stream: bool) -> dict[str, Any]:
        body = {**body_for(prompt, stream=stream), "model": "openai/m"}
        return {**body, "api_base": self.base, "api_key": KEY}

    def _create(self, prompt: str, *, stream: bool = False) -> Any:
        return self._litellm.completion(**self._arguments(prompt, stream))

    def _acreate(self, prompt: str, *, stream: bool = False) -> Any:
        return self._litellm.acompletion(**self._arguments(prompt, stream))


class AnyLLM(_OpenAIShaped):
    """any-llm, by its object, which is faster than its functions."""

    environment, package, imports = "any-llm-sdk", "any-llm-sdk", "any_llm"

    def __init__(self, base: str) -> None:
        super().__init__(base)
        from any_llm import AnyLLM as Client

        self._client = Client.create("openai", api_key=KEY, api_base=base)

    def _create(self, prompt: str, *, stream: bool = False) -> Any:
        return self._client.completion(**body_for(prompt, stream=stream))

    def _acreate(self, prompt: str, *, stream: bool = False) -> Any:
        return self._client.acompletion(**body_for(prompt, stream=stream))


class DSPy(Contender):
    """DSPy's LM, its cache off."""

    environment, package, imports = "dspy", "dspy", "dspy"

    def __init__(self, base: str) -> None:
        super().__init__(base)
        import dspy

        options = {"api_base": base, "api_key": KEY, "temperature": 0.5, "cache": False}
        self._lm: Any = dspy.LM("openai/m", **options)

    def call(self, prompt: str) -> str:  # noqa: D102
        text: str = self._lm(prompt)[0]
        return text

    async def acall(self, prompt: str) -> str:  # noqa: D102
        text: str = (await self._lm.acall(prompt))[0]
        return text


class LangChain(Contender):
    """langchain-openai."""

    environment, package, imports = "langchain-openai", "langchain-openai", "langchain_openai"

    def __init__(self, base: str) -> None:
        super().__init__(base)
        from langchain_openai import ChatOpenAI

        options: dict[str, Any] = {"base_url": base, "api_key": KEY, "temperature": 0.5}
        self._model = ChatOpenAI(model="m", **options)

    def call(self, prompt: str) -> str:  # noqa: D102
        return str(self._model.invoke(prompt).content)

    def stream(self, prompt: str) -> Iterator[Any]:  # noqa: D102
        for chunk in self._model.stream(prompt):
            if chunk.content:
                yield chunk.content

    async def acall(self, prompt: str) -> str:  # noqa: D102
        return str((await self._model.ainvoke(prompt)).content)

    async def astream(self, prompt: str) -> AsyncIterator[Any]:  # noqa: D102
        async for chunk in self._model.astream(prompt):
            if chunk.content:
                yield chunk.content


FLOORS = {
    "http.client": HTTPClient,
    "urllib3": URLLib3,
    "requests": Requests,
    "aiohttp": Aiohttp,
}
PEERS = {
    "openai": OpenAI,
    "litellm": LiteLLM,
    "dspy": DSPy,
    "langchain": LangChain,
    "any-llm": AnyLLM,
}
CONTENDERS: dict[str, type[Contender]] = {"lmgateway": LMGateway, **FLOORS, **PEERS}
