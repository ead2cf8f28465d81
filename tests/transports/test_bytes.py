"""The same request leaves byte for byte the same over each transport, as the plugin meant it."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator, Mapping
from email import message_from_bytes
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from pydantic import BaseModel, SecretStr
from support.fault_server import FaultServer, reply

from lmgateway import hookimpl
from lmgateway._call.outgoing import finished
from lmgateway._transports.urls import place_of, target_of
from lmgateway.errors import InputError, LMGatewayError, PluginContractError
from lmgateway.lm import LM
from lmgateway.testing import lm_from
from lmgateway.types import Flow, HTTPRequest, Info, Request, send

KEY = "sk-bytes-0123456789"


class Settings(BaseModel):
    api_base: str | None = None
    api_key: SecretStr = SecretStr(KEY)


class Plugin:
    """Sends whatever it is told to."""

    def __init__(self) -> None:
        self.asked: Any = None

    @hookimpl
    def lmgateway_settings(self) -> type[BaseModel]:
        return Settings

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(api=2, default_model="m")

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Flow[Any]:
        yield from send(self.asked)
        return {"choices": [{"text": "x"}]}


def lms(plugin: Plugin, url: str, **options: Any) -> dict[str, LM]:
    shared = {"api_base": url, "retries": 0, **options}
    return {
        "requests": lm_from(plugin, **shared),
        "aiohttp": lm_from(plugin, transport="aiohttp", **shared),
        "threads": lm_from(plugin, transport="threads", **shared),
    }


def sent_over_each(asked: HTTPRequest, server: FaultServer, **options: Any) -> list[bytes]:
    """What arrives of one request over each transport."""
    plugin = Plugin()
    plugin.asked = asked

    async def over_both(lms: Mapping[str, LM]) -> None:
        await lms["aiohttp"].acall("q")
        await lms["threads"].acall("q")

    before = len(server.requests)
    over = lms(plugin, server.url, **options)
    over["requests"]("q")
    asyncio.run(over_both(over))
    return [each.raw for each in server.requests[before:]]


# -- generated requests ----------------------------------------------------------------------------

PATHS = [
    "/v1", "/a:b", "/arn%3Aaws%3abedrock", "/x%2Fy", "/x%2fy", "/m%40latest", "/m@latest", "/..",
    "/.", "/%2e%2e", "/", "//", "/a+b", "/a%2Bb", "/a b", "/a%20b", "/é", "/%C3%A9", "/%", "/%zz",
    "/~x", "/%7Ex", "/a,b;c=d", "/#f", '/"<>', "/[1]", "/{x}|^`\\", "/a%25b", "/*!$&'()", "/𝄞",
]  # fmt: skip
QUERIES = ["", "", "?a=b", "?q=a%3Ab&s=a+b", "?k", "?k=&l", "?x=é ?/#", "?", "?a=1&"]
TEXTS = ["", "a", "a b", "a+b", "a&b=c", "é", "%20", "ü/ö?", "#", "\r\nX: y", "𝄞", '"q"', "a;b"]
NAMES = ["X-A", "x-a", "X-Long-Name", "accept", "User-Agent", "ACCEPT-ENCODING", "Idempotency-Key"]
VALUES = ["b", "a, b", 'W/"x"', "", "tab\there", "Grüße", "identity"]


def generated(number: int) -> HTTPRequest:
    chance = random.Random(number)
    method = chance.choice(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
    path = "".join(chance.choices(PATHS, k=chance.randint(1, 4))) + chance.choice(QUERIES)
    query: dict[str, Any] = {
        chance.choice(TEXTS): chance.choice([*TEXTS, 3, 2.5, True, None, ["a b", 1, None]])
        for _ in range(chance.randint(0, 3))
    }
    headers = {chance.choice(NAMES): chance.choice(VALUES) for _ in range(chance.randint(0, 4))}
    fields: dict[str, Any] = {text: chance.choice([*TEXTS, 7, False]) for text in TEXTS[1:4]}
    files = {"f": ('ü ".txt', bytes(chance.choices(range(256), k=50)), "text/plain"), "b": b"\0"}
    body = chance.choice([
        {},
        {"json": {"é": [1, 2.5, None, "𝄞"], "n": number}},
        {"json": []},
        {"content": bytes(chance.choices(range(256), k=100))},
        {"content": b""},
        {"form": fields},
        {"form": {**fields, **files}},
    ])  # fmt: skip
    auth = chance.choice([None, SecretStr("token-of-a-plugin"), lambda: {"x-a": "of the auth"}])
    return HTTPRequest(method, None, path, query=query, headers=headers, auth=auth, **body)


@pytest.mark.loopback
@pytest.mark.parametrize("block", range(10))
def test_generated_requests_leave_alike_over_each_transport(block: int) -> None:
    with FaultServer([reply(b"")] * 500) as server:
        for number in range(block * 20, block * 20 + 20):
            own = {"X-Own": "1", "user-agent": "me/1"} if number % 2 else {}
            asked = generated(number)
            first, *others = sent_over_each(asked, server, headers=own)
            assert others == [first, first], asked
            head, _, body = first.partition(b"\r\n\r\n")
            names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
            assert len(set(names)) == len(names)
            length = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            assert int(length.get(b"Content-Length", 0)) == len(body)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer([reply(b"")] * 50) as server:
        yield server


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.loopback
@pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")
def test_a_host_of_ipv6_is_named_in_brackets_with_its_port() -> None:
    with FaultServer([reply(b"")] * 3, address="::1") as server:
        raws = sent_over_each(HTTPRequest("GET", None, "/x"), server)
        assert len(set(raws)) == 1
        assert f"\r\nHost: [::1]:{server.port}\r\n".encode() in raws[0]


# -- the path and the query ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path, target",
    [
        ("/model/arn%3Aaws%3Abedrock/converse", None),
        ("/x%2Fy", None),
        ("/x%2fy", None),
        ("/m%40latest", None),
        ("/a/../b", None),
        ("/x%2e%2E/./y", None),
        ("/p//q", None),
        ("//p", None),
        ("/a+b", None),
        ("/x%7Ey~", None),
        ("/x?q=a%3Ab&r=a%2Bb&s=a+b", None),
        ("/x?q=%2F%3F", None),
        ("/x?empty=&k", None),
        ("/x?a='", None),
        ("/a b", "/a%20b"),
        ("/é", "/%C3%A9"),
        ("/a%25b", None),
        ("/50%", "/50%25"),
        ("/50%zz%41", "/50%25zz%41"),
        ("/a#b?c", "/a%23b?c"),
        ('/"<>[]{}|\\^`', "/%22%3C%3E%5B%5D%7B%7D%7C%5C%5E%60"),
        ("", ""),
    ],
)
def test_a_path_is_sent_as_it_is_and_only_what_no_url_can_hold_is_encoded(
    path: str, target: str | None
) -> None:
    assert target_of(path, {}) == (path if target is None else target)


@pytest.mark.parametrize("path", ["/a\r\nX: y", "/a\n", "/\x00", "/\x7f", "/\t", "/\ud800"])
def test_a_path_that_cannot_be_sent_is_refused(path: str) -> None:
    with pytest.raises(InputError):
        target_of(path, {})


@pytest.mark.parametrize(
    "path, query, target",
    [
        ("/x", {"a": "b"}, "/x?a=b"),
        ("/x?k=v", {"a": "b"}, "/x?k=v&a=b"),
        ("/x?", {"a": "b"}, "/x?a=b"),
        ("/x?k&", {"a": "b"}, "/x?k&a=b"),
        ("/x", {"a": None}, "/x"),
        ("/x", {"a": []}, "/x"),
        ("/x", {"a": [1, None, "b c"]}, "/x?a=1&a=b%20c"),
        ("/x", {"t": True, "f": False, "i": -1, "d": 2.5}, "/x?t=true&f=false&i=-1&d=2.5"),
        ("/x", {"a": ""}, "/x?a="),
        ("/x", {"a b&c=d": "e&f=g#h"}, "/x?a%20b%26c%3Dd=e%26f%3Dg%23h"),
        ("/x", {"a": "/+;%41\r\n?"}, "/x?a=%2F%2B%3B%2541%0D%0A%3F"),
        ("", {"a": "é"}, "?a=%C3%A9"),
    ],
)  # fmt: skip
def test_a_query_is_encoded_so_that_no_value_reads_as_a_name(
    path: str, query: dict[str, Any], target: str
) -> None:
    assert target_of(path, query) == target
    given = {name: value for name, value in query.items() if isinstance(value, str)}
    read = dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
    assert {name: read[name] for name in given} == given


@pytest.mark.parametrize(
    "url, host, whole",
    [
        ("http://h.test", "h.test", "http://h.test"),
        ("HTTP://H.Test:80/v1/", "h.test", "http://h.test/v1"),
        ("https://h.test:443/v1", "h.test", "https://h.test/v1"),
        ("https://h.test:80", "h.test:80", "https://h.test:80"),
        ("http://[::1]:8080/v1", "[::1]:8080", "http://[::1]:8080/v1"),
        ("http://[2001:DB8::1]", "[2001:db8::1]", "http://[2001:db8::1]"),
        ("http://bücher.test/é b/%2e//", "xn--bcher-kva.test",
         "http://xn--bcher-kva.test/%C3%A9%20b/%2e"),
    ],
)  # fmt: skip
def test_a_base_url_says_the_host_header(url: str, host: str, whole: str) -> None:
    place = place_of(url)
    assert (place.host, place.url) == (host, whole)


@pytest.mark.parametrize(
    "url", ["http://h.test\r\nX: y", "http://h\n.test", "http://h .test", " https://h.test", "h"]
)
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InputError):
        place_of(url)


@pytest.mark.parametrize("base, path, line", [
    ("http://h.test", "", "/"),
    ("http://h.test", "?a=b", "/?a=b"),
    ("http://h.test/v1/", "", ""),
])  # fmt: skip
def test_a_request_line_is_never_empty(base: str, path: str, line: str) -> None:
    assert finished(HTTPRequest("GET", base, path), base, {}).path == line


# -- headers ---------------------------------------------------------------------------------------


def lines_of(raw: bytes) -> list[str]:
    return raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]


@pytest.mark.loopback
def test_the_plugins_header_beats_the_transports_the_users_both_and_auth_all(
    server: FaultServer,
) -> None:
    asked = HTTPRequest(
        "POST",
        None,
        "/",
        json={},
        headers={"accept": "plugin", "x-b": "plugin", "X-C": "plugin", "content-type": "a/b"},
        auth=lambda: {
            "x-c": "auth",
            "X-Signature": "auth",
            "content-length": "9",
            "Transfer-Encoding": "x",
        },
    )
    own = {"X-B": "user", "x-C": "user", "Content-Type": "user/type", "X-D": "user"}
    for raw in sent_over_each(asked, server, headers=own):
        lines = lines_of(raw)
        assert lines[0].startswith("Host: 127.0.0.1:")
        for line in ("accept: plugin", "X-B: user", "x-c: auth", "X-Signature: auth", "X-D: user",
                     "Content-Type: a/b", "Connection: keep-alive"):  # fmt: skip
            assert line in lines
        assert "Content-Length: 2" in lines
        assert "transfer-encoding" not in {line.partition(":")[0].lower() for line in lines}
        assert len({line.partition(":")[0].lower() for line in lines}) == len(lines)


@pytest.mark.loopback
@pytest.mark.parametrize("name", ["authorization", "Api-Key", "X-API-KEY", "x-goog-api-key"])
def test_a_credential_of_the_users_switches_auth_off(server: FaultServer, name: str) -> None:
    def never() -> Mapping[str, str]:
        raise AssertionError("nobody needs it")

    for auth in (SecretStr(KEY), never):
        asked = HTTPRequest("POST", None, "/", json={}, auth=auth)
        for raw in sent_over_each(asked, server, headers={name: "Bearer mine"}):
            assert f"{name}: Bearer mine" in lines_of(raw)
            assert KEY.encode() not in raw


@pytest.mark.loopback
@pytest.mark.parametrize("method, length", [("GET", None), ("DELETE", None), ("PUT", "0")])
def test_who_sends_no_body_where_one_is_expected_says_so(
    server: FaultServer, method: str, length: str | None
) -> None:
    for raw in sent_over_each(HTTPRequest(method, None, "/"), server):
        lines = [line for line in lines_of(raw) if line.lower().startswith("content-")]
        assert lines == ([] if length is None else [f"Content-Length: {length}"])


# -- where they go ---------------------------------------------------------------------------------


@pytest.mark.loopback
@pytest.mark.parametrize("auth, header", [
    (None, None),
    (SecretStr(KEY), None),
    (SecretStr("fetched"), "Bearer fetched"),
    (lambda: {"Authorization": "of the plugin"}, "of the plugin"),
])  # fmt: skip
def test_another_origin_gets_only_what_the_plugin_put_there(
    server: FaultServer, auth: Any, header: str | None
) -> None:
    with FaultServer([reply(b"")] * 5) as elsewhere:
        asked = HTTPRequest("POST", elsewhere.url, "/token", headers={"X-Plugin": "1"}, auth=auth)
        own = {"X-Own": "mine", "User-Agent": "me/1", "Api-Key": "mine"}
        sent_over_each(asked, server, headers=own)
        assert len(elsewhere.requests) == 3
        for request in elsewhere.requests:
            assert request.headers["x-plugin"] == "1"
            assert request.headers["user-agent"].startswith("lmgateway/")
            assert request.headers.get("authorization") == header
            assert b"mine" not in request.raw
            assert KEY.encode() not in request.raw


@pytest.mark.loopback
def test_the_same_origin_written_in_another_way_is_at_home(server: FaultServer) -> None:
    asked = HTTPRequest("POST", server.url.upper() + "/other", "/x", auth=SecretStr(KEY))
    for raw in sent_over_each(asked, server, headers={"X-Own": "1"}):
        assert {"X-Own: 1", f"Authorization: Bearer {KEY}"} <= set(lines_of(raw))


# -- bodies ----------------------------------------------------------------------------------------


def body_of(**fields: Any) -> tuple[str | None, bytes | None]:
    request = finished(HTTPRequest("POST", "http://h", "/", **fields), "http://h", {})
    return request.headers.get("Content-Type"), request.content


@pytest.mark.parametrize(
    "fields, content_type, body",
    [
        ({"json": {"é": 1}}, "application/json", '{"é":1}'.encode()),
        ({"json": 0}, "application/json", b"0"),
        ({"json": {}, "headers": {"content-type": "a/b"}}, "a/b", b"{}"),
        ({"content": b"\0\xff"}, None, b"\0\xff"),
        ({"content": b"", "headers": {"Content-Type": "a/b"}}, "a/b", b""),
        ({}, None, None),
        (
            {"form": {"a b": "c&d=é", "n": 1, "t": True, "x": None, "l": ["1", 2]}},
            "application/x-www-form-urlencoded",
            b"a+b=c%26d%3D%C3%A9&n=1&t=true&l=1&l=2",
        ),
        ({"form": {}}, "application/x-www-form-urlencoded", b""),
        ({"form": {"a": "b"}, "headers": {"Content-Type": "x/form"}}, "x/form", b"a=b"),
        (
            {
                "form": {"a": "b"},
                "headers": {"content-type": 'multipart/form-data; boundary="x y"'},
            },
            'multipart/form-data; boundary="x y"',
            b'--x y\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x y--\r\n',
        ),
    ],
)
def test_a_body_is_final_and_keeps_the_type_that_the_plugin_gave(
    fields: dict[str, Any], content_type: str | None, body: bytes | None
) -> None:
    assert body_of(**fields) == (content_type, body)


FILES = {
    "model": "whisper-1",
    "raw": b"\0\r\n--x\r\n",
    "file": ('ü"\r\n.wav', b"RIFF\xff", "audio/wav"),
    "plain": ("a.bin", b""),
}


@pytest.mark.parametrize("headers", [{}, {"content-type": "multipart/form-data"}])
def test_a_multipart_form_can_be_read_back_and_is_the_same_each_time(
    headers: dict[str, str],
) -> None:
    content_type, body = body_of(form=FILES, headers=headers)
    assert body_of(form=FILES, headers=headers) == (content_type, body)
    assert content_type is not None
    assert body is not None
    assert body_of(form={**FILES, "model": "other"})[0] != content_type
    message = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    parts: Any = message.get_payload()
    read = {part.get_param("name", header="content-disposition"): part for part in parts}
    assert list(read) == list(FILES)
    assert read["model"].get_payload() == "whisper-1"
    assert b"\r\n\r\n\0\r\n--x\r\n\r\n--" in body
    assert read["file"].get_content_type() == "audio/wav"
    assert read["plain"].get_content_type() == "application/octet-stream"
    assert 'filename="ü%22%0D%0A.wav"'.encode() in body


class Unwritable:
    """Nothing that a form or a query can hold."""


@pytest.mark.parametrize(
    "fields",
    [
        {"json": {}, "content": b""},
        {"json": {}, "form": {}},
        {"content": b"", "form": {}},
        {"content": "text"},
        {"content": bytearray(b"x")},
        {"form": [("a", "b")]},
        {"form": {"a": Unwritable()}},
        {"form": {"a": {"b": 1}}},
        {"form": {1: "a"}},
        {"form": {"a": ("name.txt", "text")}},
        {"form": {"a": ("name.txt", b"", "a/b\r\nX: y")}},
        {"form": {"a": (b"x",)}},
        {"form": {"a": b"x"}, "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {"form": {"a": "--x"}, "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"query": {"a": Unwritable()}},
        {"query": {"a": {"b": 1}}},
        {"query": {"a": float("nan")}},
        {"query": {"a": [["nested"]]}},
        {"query": {"a": b"bytes"}},
        pytest.param({"query": {"a": 10**5000}}, id="a number of 5,000 digits"),
        {"query": {1: "a"}},
        {"query": "a=b"},
        {"headers": {"X": 1}},
        {"headers": {"X": ["a"]}},
        {"headers": {"Content-Type": 3}, "form": {}},
        {"path": "v1"},
        {"path": "@elsewhere.test/"},
    ],
    ids=lambda fields: f"{fields!a:.60}",
)
def test_what_the_contract_forbids_is_told_before_anything_is_sent(fields: dict[str, Any]) -> None:
    plugin = Plugin()
    plugin.asked = HTTPRequest("POST", "http://127.0.0.1:1", **{"path": "/", **fields})
    with pytest.raises(PluginContractError, match="acme"):
        lm_from(plugin, retries=0)("q")


@pytest.mark.parametrize(
    "fields",
    [
        {"json": {"p": "\ud800"}},
        {"form": {"a": "\ud800"}},
        {"form": {"\ud800": b""}},
        {"query": {"a": "\ud800"}},
        {"headers": {"X": "a\r\nY: b"}},
        {"headers": {"X:": "a"}},
        {"headers": {"X": "ключ"}},
        {"headers": {"Content-Type": "a\nb"}, "json": {}},
        {"path": "/a\r\nX: y"},
    ],
    ids=lambda fields: f"{fields!a:.60}",
)
def test_what_cannot_be_sent_is_told_before_anything_is_sent(fields: dict[str, Any]) -> None:
    plugin = Plugin()
    plugin.asked = HTTPRequest("POST", "http://127.0.0.1:1", **{"path": "/", **fields})
    with pytest.raises(LMGatewayError) as caught:
        lm_from(plugin, retries=0)("q")
    assert isinstance(caught.value, (InputError, PluginContractError))


def test_a_preview_shows_query_and_form_and_of_bytes_their_number() -> None:
    plugin = Plugin()
    plugin.asked = HTTPRequest(
        "POST", None, "/é", query={"a": "b c"}, form={"f": ("a.wav", b"12345"), "n": 1},
        headers={"x-own": "plugin"},
    )  # fmt: skip
    lm = lm_from(plugin, api_base="http://h.test/v1", headers={"X-Own": "user"})
    shown = lm.preview("q")
    assert shown["url"] == "http://h.test/v1/%C3%A9?a=b%20c"
    assert shown["form"] == {"f": ["a.wav", "<5 bytes>"], "n": 1}
    assert "x-own" not in shown["headers"]
    assert shown["headers"]["X-Own"] == "user"
