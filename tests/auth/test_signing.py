"""A signature is made over the very bytes that arrive, whichever transport carries them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from pydantic import BaseModel, SecretStr
from support.fault_server import FaultServer, ReceivedRequest, answer, whole

from lmgateway import LM, hookimpl
from lmgateway.errors import AuthenticationError
from lmgateway.testing import lm_from
from lmgateway.types import (
    Emit,
    Flow,
    HTTPRequest,
    Info,
    Outgoing,
    Request,
    Signed,
    Sleep,
    read,
    send,
)
from lmgateway.wire.openai import check

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEY_ID = "AKIDEXAMPLE"
REGION = "us-east-1"


# -- AWS Signature Version 4 -------------------------------------------------------------------
# https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html


def sigv4(outgoing: Outgoing, when: str, service: str) -> dict[str, str]:
    """The headers that AWS wants; Host and the date are signed, and a media type if there is one.

    Args:
        outgoing: What will be sent.
        when: As ``20150830T123600Z``.
        service: As AWS calls it, such as ``bedrock``.
    """
    given = {name.lower(): " ".join(value.split()) for name, value in outgoing.headers.items()}
    headers: dict[str, str] = {}
    headers |= {name: given[name] for name in ("content-type", "host") if name in given}
    headers["x-amz-date"] = when
    names = ";".join(sorted(headers))
    url = urlsplit(outgoing.url)
    canonical = "\n".join([
        outgoing.method,
        quote(url.path or "/", safe="/-_.~"),  # once more than it is sent: the rule, but for S3
        "&".join(sorted(_pair(each) for each in url.query.split("&") if each)),
        *(f"{name}:{headers[name]}" for name in sorted(headers)),
        "",
        names,
        hashlib.sha256(outgoing.body).hexdigest(),
    ])  # fmt: skip
    scope = f"{when[:8]}/{REGION}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{when}\n{scope}\n{digest}"
    key = f"AWS4{SECRET}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    proof = f"Credential={KEY_ID}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    return {"X-Amz-Date": when, "Authorization": f"AWS4-HMAC-SHA256 {proof}"}


def _pair(text: str) -> str:
    name, _, value = text.partition("=")
    return "=".join(quote(unquote(each), safe="-_.~") for each in (name, value))


VECTORS = {
    # "get-vanilla" and others of AWS's own test suite, and the example of its guide
    "get-vanilla": (
        Outgoing("GET", "https://example.amazonaws.com/", {"Host": "example.amazonaws.com"}),
        "service",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-vanilla-query-order-key-case": (
        Outgoing(
            "GET",
            "https://example.amazonaws.com/?Param2=value2&Param1=value1",
            {"Host": "example.amazonaws.com"},
        ),
        "service",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "post-x-www-form-urlencoded": (
        Outgoing(
            "POST",
            "https://example.amazonaws.com/",
            {
                "Host": "example.amazonaws.com",
                "Content-Type": "application/x-www-form-urlencoded",
            },
            b"Param1=value1",
        ),
        "service",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
    "iam": (
        Outgoing(
            "GET",
            "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
            {
                "Host": "iam.amazonaws.com",
                "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
            },
        ),
        "iam",
        "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
    ),
}


@pytest.mark.parametrize("vector", VECTORS)
def test_the_signature_is_the_one_that_aws_publishes(vector: str) -> None:
    outgoing, service, signature = VECTORS[vector]
    made = sigv4(outgoing, "20150830T123600Z", service)
    assert made["Authorization"].endswith(f"Signature={signature}")


# -- what arrives ------------------------------------------------------------------------------


class Settings(BaseModel):
    api_base: str
    signing_secret: SecretStr = SecretStr(SECRET)


def bedrock(outgoing: Outgoing) -> dict[str, str]:
    return sigv4(outgoing, "20261127T120000Z", "bedrock")


def by_hmac(outgoing: Outgoing) -> dict[str, str]:
    """A signature over all that is sent: method, URL, every header and the body."""
    url = urlsplit(outgoing.url)
    target = f"{url.path}?{url.query}" if url.query else url.path
    lines = [f"{name.lower()}: {value}" for name, value in sorted(outgoing.headers.items())]
    text = "\n".join([outgoing.method, target, *lines]).encode() + outgoing.body
    return {"X-Signature": hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()}


def by_flow(outgoing: Outgoing) -> Flow[Any]:
    """The same as a flow."""
    yield Sleep(0.0)
    return by_hmac(outgoing)


SIGNERS: dict[str, Callable[[Outgoing], Any]] = {
    "sigv4": bedrock,
    "hmac": by_hmac,
    "a flow": by_flow,
}
ASKED: dict[str, Mapping[str, Any]] = {
    "json": {"path": "/say", "json": {"text": "gr\u00fc\u00dfe", "n": 1.0}},
    "a path of Bedrock's": {"path": "/model/anthropic.claude-3%3A0/invoke", "json": {}},
    "a path that is not encoded": {"path": "/m/a b\u00fc:x@y+z", "json": {}},
    "dots and slashes": {"path": "/a/../b//c%2Fd", "json": {}},
    "a query": {"path": "/say", "query": {"b": [2, "x y"], "a": "\u00e4&="}, "json": {}},
    "bytes": {"path": "/say", "content": b"\x00\xff raw"},
    "a form": {"path": "/say", "form": {"a": "1", "b": "x y"}},
    "files": {"path": "/say", "form": {"f": ("a.txt", b"hello"), "n": "1"}},
    "no body": {"path": "/say", "method": "GET"},
    "headers of its own": {"path": "/s", "json": {}, "headers": {"X-Own": "1", "accept": "a/b"}},
}


class Signing:
    """A plugin that signs what a test asks."""

    def __init__(self, sign: Callable[[Outgoing], Any], asked: Mapping[str, Any]) -> None:
        self.sign = sign
        self.asked = dict(asked)

    @hookimpl
    def lmgateway_settings(self) -> type[Settings]:
        return Settings

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(api=2, default_model="m")

    @hookimpl
    def lmgateway_complete(self, request: Request, settings: Any) -> Flow[Any]:
        asked = dict(self.asked)
        method, path = asked.pop("method", "POST"), asked.pop("path")
        response = yield from send(
            HTTPRequest(
                method, settings.api_base, path, auth=Signed(self.sign), stream=request.stream,
                **asked,
            )
        )  # fmt: skip
        check(response)
        text = response.body.decode()
        while request.stream and (piece := (yield from read(response))):
            yield Emit(piece.decode())
            text += piece.decode()
        return {"prompt": request.input, "choices": [{"text": text}]}

    lmgateway_stream = lmgateway_complete


def arrived(request: ReceivedRequest, added: set[str], base: str) -> Outgoing:
    """What a server sees of a request, without the headers that the signature added."""
    top, _, body = request.raw.partition(b"\r\n\r\n")
    line, *lines = top.decode("latin-1").split("\r\n")
    headers = dict(each.split(": ", 1) for each in lines)
    method, target, _ = line.split(" ")
    kept = {name: value for name, value in headers.items() if name.lower() not in added}
    return Outgoing(method, base + target, kept, body)


def judge(sign: Callable[[Outgoing], Any]) -> Callable[[ReceivedRequest], bytes]:
    """A service that signs what has arrived itself, and answers only where both agree."""

    def respond(request: ReceivedRequest) -> bytes:
        added = {"x-signature", "x-amz-date", "authorization"}
        seen = arrived(request, added, f"http://{request.headers['host']}")
        wanted = (bedrock if sign is bedrock else by_hmac)(seen)
        if any(request.headers.get(name.lower()) != value for name, value in wanted.items()):
            return whole(b"the signature does not match", 401)
        return whole(json.dumps("signed").encode(), 200)

    return respond


@pytest.mark.loopback
@pytest.mark.parametrize("how", ["requests", "threads", "aiohttp", "stream", "astream"])
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("signer", SIGNERS)
def test_what_arrives_is_what_was_signed(signer: str, asked: str, how: str) -> None:
    sign = SIGNERS[signer]
    with FaultServer([answer(judge(sign))]) as server:
        lm = lm_from(
            Signing(sign, ASKED[asked]), api_base=server.url, retries=0,
            headers={"X-Team": "blue"},
        )  # fmt: skip
        assert _asked(lm, how) == '"signed"'


def _asked(lm: LM, how: str) -> str:
    if how == "requests":
        return lm("hi")[0]
    if how == "stream":
        return "".join(lm.stream("hi"))
    if how == "threads":
        return asyncio.run(lm.copy(transport="threads").acall("hi"))[0]

    async def main() -> str:
        async with lm:
            if how == "aiohttp":
                return (await lm.acall("hi"))[0]
            return "".join([piece async for piece in lm.astream("hi")])

    return asyncio.run(main())


@pytest.mark.loopback
def test_each_attempt_is_signed_anew() -> None:
    signed: list[Outgoing] = []

    def sign(outgoing: Outgoing) -> dict[str, str]:
        signed.append(outgoing)
        return {"X-Signature": str(len(signed))}

    down = iter([True, False])

    def respond(request: ReceivedRequest) -> bytes:
        headers = {"retry-after": "0"}
        return whole(b"down", 503, headers) if next(down) else whole(b"fine")

    with FaultServer([answer(respond)]) as server:
        plugin = Signing(sign, {"path": "/s", "json": {}})
        assert lm_from(plugin, api_base=server.url, retries=1)("hi") == ["fine"]
        assert [each.headers["x-signature"] for each in server.requests] == ["1", "2"]
    assert len(signed) == 2
    assert "X-Signature" not in signed[1].headers


@pytest.mark.loopback
def test_what_a_signer_does_to_the_headers_that_it_is_shown_changes_nothing() -> None:
    def sign(outgoing: Outgoing) -> dict[str, str]:
        outgoing.headers.clear()  # type: ignore[attr-defined]
        return {"X-Signature": "s"}

    with FaultServer([answer(lambda request: whole(b"fine"))]) as server:
        plugin = Signing(sign, {"path": "/s", "json": {}, "headers": {"X-Own": "1"}})
        assert lm_from(plugin, api_base=server.url)("hi") == ["fine"]
        assert server.requests[0].headers["x-own"] == "1"


@pytest.mark.loopback
def test_no_look_at_a_signature_shows_the_secret() -> None:
    def sign(outgoing: Outgoing) -> dict[str, str]:
        return {"Authorization": f"Bearer {SECRET}"}

    with FaultServer([answer(lambda request: whole(request.raw, 401))]) as server:
        lm = lm_from(Signing(sign, {"path": "/s", "json": {}}), api_base=server.url, retries=0)
        with pytest.raises(AuthenticationError) as caught:
            lm("hi")
        assert SECRET not in str(caught.value)
        assert SECRET not in repr(Outgoing("GET", "http://x/", {"Authorization": SECRET}))
