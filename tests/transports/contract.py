"""What every transport must do, as a table of cases that runs over any of them.

A transport's test gives a function that opens a client on it; that of an async one may wrap a
running event loop::

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_contract(case: Case, authority: Authority) -> None:
        check(case, open_client, authority)
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import replace

from support.fault_server import (
    Script,
    Step,
    chunk,
    close,
    drip,
    head,
    receive,
    reply,
    reset,
    send,
    stall,
)

from lmgateway._transports.protocols import TransportOptions
from lmgateway.errors import (
    APIError,
    ConnectionFailedError,
    RequestTimeoutError,
    ResponseFormatError,
)
from transports.checking import Answer, Authority, Case, Client, Failure, OpenClient, check

__all__ = ["CASES", "Answer", "Authority", "Case", "Client", "OpenClient", "check"]

SLACK = 2.0  # seconds that a loaded machine may add to a deadline
OK = Answer(200, b'{"ok":1}')
BODY = OK.body
JSON = {"Content-Type": "application/json"}
SSE = {"Content-Type": "text/event-stream"}
CHUNKED = {"Transfer-Encoding": "chunked"}
EVENTS = (b"data: one\n\n", b"data: two\n\n", b"data: [DONE]\n\n")

BROKE = "the connection broke before the response was complete"
LOST = Failure(ConnectionFailedError, retryable=True, mentions=(BROKE,), within=SLACK)
REFUSED = Failure(ConnectionFailedError, retryable=False, within=SLACK)
LATE = Failure(
    RequestTimeoutError,
    retryable=False,
    mentions=("the timeout of 0.6 s ran out before the response was complete",),
    within=0.6 + SLACK,
)
TOO_LARGE = Failure(ResponseFormatError, retryable=False, mentions=("max_body",))
UNREADABLE = Failure(ResponseFormatError, retryable=False, mentions=("decompress",))

SMALL = TransportOptions(max_body=100_000)
IDLE = TransportOptions(idle_timeout=0.4)


def _bomb(pack: Callable[[bytes], bytes]) -> bytes:
    return pack(b"\0" * 50_000_000)


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def _encoded(coding: str, body: bytes, headers: dict[str, str] = JSON) -> Script:
    return [reply(body, headers={**headers, "Content-Encoding": coding})]


def _whole() -> list[Case]:
    return [
        Case("length", [[reply(BODY)]], OK, requests=1),
        Case("empty body", [[reply(b"")]], Answer(200, b"")),
        Case("204", [[receive(), send(head(204)), stall()]], Answer(204, b"")),
        Case(
            "chunks split anywhere",
            [
                [
                    receive(),
                    drip(
                        head(200, CHUNKED) + chunk(BODY[:3]) + chunk(BODY[3:]) + chunk(b""), 0.001
                    ),
                ]
            ],
            OK,
        ),
        Case("until close", [[receive(), send(head(200, {"Connection": "close"}), BODY)]], OK),
        Case("until close, HTTP/1.0", [[receive(), send(b"HTTP/1.0 200 OK\r\n\r\n", BODY)]], OK),
        Case(
            "interim responses",
            [[receive(), send(head(100), head(103, {"Link": "</x>"}), head(200, length=8), BODY)]],
            OK,
        ),
        Case("an error status is an answer", [[reply(b"no", 503)]], Answer(503, b"no")),
        Case("two on one connection", [[reply(BODY), reply(BODY)], [reset()]], OK, exchanges=2),
        Case("large body", [[reply(b"x" * 3_000_000)]], Answer(200, b"x" * 3_000_000)),
        Case(
            "an event stream not asked for comes whole",
            [[reply(EVENTS[0], headers=SSE)]],
            Answer(200, EVENTS[0]),
        ),
        Case("gzip", [_encoded("gzip", gzip.compress(BODY))], OK),
        Case("x-gzip", [_encoded("x-gzip", gzip.compress(BODY))], OK),
        Case("deflate", [_encoded("deflate", zlib.compress(BODY))], OK),
        Case("deflate without zlib's header", [_encoded("deflate", _raw_deflate(BODY))], OK),
    ]


def _broken_connections() -> list[Case]:
    start = receive()
    return [
        Case("reset before the head", [[start, reset()]], LOST, requests=1),
        Case("closed before the head", [[start, close()]], LOST, requests=1),
        Case("closed in the status line", [[start, send(b"HTTP/1.1 2")]], LOST, requests=1),
        Case("closed in the headers", [[start, send(b"HTTP/1.1 200 OK\r\nDate: x\r\n")]], LOST),
        Case("closed in a header", [[start, send(b"HTTP/1.1 200 OK\r\nContent-Le")]], LOST),
        Case("reset in the headers", [[start, send(b"HTTP/1.1 200 OK\r\nDa"), reset()]], LOST),
        Case("short body", [[start, send(head(length=10), b"five!")]], LOST, requests=1),
        Case("reset in the body", [[start, send(head(length=10), b"five!"), reset()]], LOST),
        Case("cut in a chunk", [[start, send(head(200, CHUNKED), b"a\r\nfive!")]], LOST),
        Case("no last chunk", [[start, send(head(200, CHUNKED), chunk(BODY))]], LOST),
        Case("a chunk of garbage", [[start, send(head(200, CHUNKED), b"zz\r\n{}\r\n")]], LOST),
        Case(
            "a negative chunk", [[start, send(head(200, CHUNKED), b"-5\r\n{}\r\n"), stall()]], LOST
        ),
    ]


def _reconnects() -> list[Case]:
    return [
        Case(
            "idle connection closed",
            [[reply(BODY), close()], [reply(BODY)]],
            OK,
            exchanges=2,
            requests=2,
        ),
        Case(
            "idle connection reset when used",
            [[reply(BODY), receive(), reset()], [reply(BODY)]],
            OK,
            exchanges=2,
            requests=3,
        ),
        Case(
            "idle connection closed when used",
            [[reply(BODY), receive(), close()], [reply(BODY)]],
            OK,
            exchanges=2,
            requests=3,
        ),
        Case(
            "lost again on the new connection",
            [[reply(BODY), receive(), reset()], [receive(), reset()]],
            LOST,
            exchanges=2,
            requests=3,
        ),
        Case(
            "lost after a byte of the answer is not sent again",
            [[reply(BODY), receive(), send(b"H"), reset()], [reply(BODY)]],
            LOST,
            exchanges=2,
            requests=2,
        ),
    ]


def _not_http() -> list[Case]:
    start = receive()
    return [
        Case("garbage", [[start, send(b"\x00\x01\x02\xff garbage\r\n\r\n"), close()]], REFUSED),
        Case("another protocol", [[start, send(b"SSH-2.0-OpenSSH_9.6\r\n"), close()]], REFUSED),
        Case(
            "a length that is no number",
            [[start, send(b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n{}"), close()]],
            REFUSED,
        ),
        Case(
            "two lengths",
            [[start, send(head(200, [("Content-Length", "1"), ("Content-Length", "2")])), stall()]],
            REFUSED,
        ),
        Case(
            "a hundred and one headers",
            [[start, send(head(200, {f"X-{n}": "x" for n in range(101)}, length=0)), stall()]],
            REFUSED,
        ),
        Case(
            "a header without a colon",
            [[start, send(b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 2\r\n\r\n{}"), stall()]],
            REFUSED,
        ),
        Case(
            "an unknown transfer coding",
            [[start, send(head(200, {"Transfer-Encoding": "gzip"})), stall()]],
            REFUSED,
        ),
        Case(
            "a negative length",
            [[start, send(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}"), close()]],
            REFUSED,
        ),
        Case(
            "endless header",
            [[start, send(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2_000_000), stall()]],
            REFUSED,
        ),
    ]


def _deadlines() -> list[Case]:
    start = receive()
    slow = b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000
    endless = head(length=999)

    def late(id: str, *steps: Step) -> Case:
        return Case(id, [[start, *steps]], LATE, timeout=0.6, requests=1)

    return [
        late("stalls before the head", stall()),
        late("drips the head", drip(slow, 0.1)),
        late("stalls in the head", send(slow), stall()),
        late("stalls in the body", send(head(length=9), b"x"), stall()),
        late("drips the body", send(endless), drip(b"x" * 999, 0.1)),
        late("drips chunks", send(head(200, CHUNKED)), drip(chunk(b"x") * 200, 0.05)),
        late("drips until close", send(head(200)), drip(b"x" * 999, 0.1)),
        replace(
            late("drips a stream", send(head(200, SSE)), drip(b"data: x\n\n" * 200, 0.05)),
            stream=True
        ),
        Case("TLS, drips the body", [[start, send(endless), drip(b"x" * 999, 0.1)]], LATE,
             timeout=0.6, certificate="good"),
        Case("TLS, drips the handshake", [[drip(b"\x16\x03\x03\x40\x00" + b"x" * 999, 0.1)]], LATE,
             timeout=0.6, certificate="plain"),
    ]  # fmt: skip


def _other_limits() -> list[Case]:
    start, one = receive(), send(head(length=9), b"x")
    idle_for = "nothing arrived for 0.4 s (idle_timeout)"
    idle = Failure(RequestTimeoutError, True, (idle_for,), 0.4 + SLACK)
    slow = "no connection within 0.4 s; check the network, or raise connect_timeout"
    unconnected = Failure(ConnectionFailedError, True, (slow,), 0.4 + SLACK)
    short = TransportOptions(connect_timeout=0.4)
    return [
        Case("slow, but never idle", [[start, send(head(length=8)), drip(BODY, 0.1)]], OK,
             options=IDLE),
        Case("idle in the body", [[start, one, stall()]], idle, options=IDLE),
        Case("idle in a stream", [[start, send(head(200, SSE), EVENTS[0]), stall()]], idle,
             options=IDLE, stream=True),
        Case("stalls in the TLS handshake", [[stall()]], unconnected, options=short,
             certificate="plain"),
    ]  # fmt: skip


def _streams() -> list[Case]:
    start = receive()
    events = b"".join(EVENTS)
    chunks = [chunk(event) for event in (*EVENTS, b"")]
    packed = gzip.compress(events)
    cases = [
        Case(
            "stream in chunks",
            [[start, send(head(200, SSE | CHUNKED), *chunks), reply(BODY)]],
            Answer(200, events, streamed=True),
        ),
        Case(
            "stream until close",
            [[start, send(head(200, SSE), events)]],
            Answer(200, events, streamed=True),
        ),
        Case(
            "stream, compressed and dripped",
            [[start, send(head(200, SSE | {"Content-Encoding": "gzip"})), drip(packed, 0.001)]],
            Answer(200, events, streamed=True),
        ),
        Case(
            "a connection that carried a stream is used again",
            [[start, send(head(200, SSE | CHUNKED), *chunks)] * 2, [reset()]],
            Answer(200, events, streamed=True),
            exchanges=2,
        ),
        Case(
            "asked for a stream, got JSON",
            [[reply(BODY, headers=JSON)]],
            replace(OK, streamed=True),
        ),
        Case(
            "asked for a stream, got lines",
            [[reply(BODY + b"\n")]],
            Answer(200, BODY + b"\n", True),
        ),
        Case(
            "asked for a stream, got 204",
            [[receive(), send(head(204)), stall()]],
            Answer(204, b"", streamed=True),
        ),
        Case(
            "asked for a stream, got an error",
            [[reply(b"data: x\n\n", 500, SSE)]],
            Answer(500, b"data: x\n\n"),
        ),
        Case("stream, no last chunk", [[start, send(head(200, SSE | CHUNKED), chunks[0])]], LOST),
        Case("stream, reset", [[start, send(head(200, SSE | CHUNKED), chunks[0]), reset()]], LOST),
        Case("stream, compressed and cut", [_encoded("gzip", packed[:-9], SSE)], UNREADABLE),
    ]
    return [replace(case, stream=True) for case in cases]


def _sizes_and_codings() -> list[Case]:
    start, large = receive(), b"x" * 100_001
    cases = [
        Case("just under the cap", [[reply(large[1:])]], Answer(200, large[1:])),
        Case("over the cap by length", [[start, send(head(length=100_001)), stall()]], TOO_LARGE),
        Case(
            "over the cap in chunks",
            [[start, send(head(200, CHUNKED), chunk(large)), stall()]],
            TOO_LARGE,
        ),
        Case("over the cap until close", [[start, send(head(200), large), stall()]], TOO_LARGE),
        Case("gzip bomb", [_encoded("gzip", _bomb(gzip.compress))], TOO_LARGE),
        Case("deflate bomb", [_encoded("deflate", _bomb(zlib.compress))], TOO_LARGE),
        Case("gzip that is not", [_encoded("gzip", BODY)], UNREADABLE),
        Case("deflate that is not", [_encoded("deflate", BODY)], UNREADABLE),
        Case("gzip cut short", [_encoded("gzip", gzip.compress(BODY)[:-9])], UNREADABLE),
        Case("a coding not asked for", [_encoded("compress", b"\x1f\x9d\x90")], UNREADABLE),
    ]
    return [replace(case, options=SMALL) for case in cases]


def _redirects() -> list[Case]:
    def case(status: int, location: str, *mentions: str) -> Case:
        failure = Failure(APIError, retryable=False, mentions=mentions)
        return Case(
            f"{status} to {location}",
            [[reply(b"", status, {"Location": location})]],
            failure,
            requests=1,
        )

    return [
        *(
            case(status, "https://elsewhere.example/x?q=1", "elsewhere.example")
            for status in (301, 302, 303, 307, 308)
        ),
        case(307, "https://me:pw@elsewhere.example:8443/", "redirects to elsewhere.example:8443"),
        case(302, "/other", "127.0.0.1"),
        case(302, "http://[bad", "redirect"),
        case(300, "", "redirect"),
    ]


def _tls() -> list[Case]:
    def bad(certificate: str, *mentions: str) -> Case:
        return Case(
            f"certificate, {certificate}",
            [[reply(BODY)]],
            replace(REFUSED, mentions=mentions),
            certificate=certificate,
            requests=0,
        )

    return [
        Case("TLS", [[reply(BODY), reply(BODY)]], OK, certificate="good", exchanges=2, requests=2),
        bad("untrusted", "certificate"),
        bad("wrong host", "certificate"),
        bad("expired", "certificate", "expired"),
        Case(
            "plain HTTP on a TLS port",
            [[send(head(400, length=0)), close()]],
            replace(REFUSED, mentions=("TLS",)),
            certificate="plain",
        ),
        Case("closed in the handshake", [[close()]], LOST, certificate="plain"),
        Case(
            "TLS, closed in the body",
            [[receive(), send(head(length=9), b"x")]],
            LOST,
            certificate="good",
        ),
        Case(
            "TLS on a plain port",
            [[send(b"\x15\x03\x03\x00\x02\x02\x46"), receive(), close()]],
            REFUSED,
        ),
    ]


def _proxies() -> list[Case]:
    def refuses(scheme: str, status: int, *, retryable: bool, says: str) -> Case:
        return Case(
            f"a proxy refuses {scheme} with {status}",
            [[reply(b"", status)]],
            Failure(ConnectionFailedError, retryable, (f"the proxy {{server}} {says}",), SLACK),
            requests=1,
            proxied=scheme,
        )

    password = "wants a user name and a password (407): put them into HTTPS_PROXY or HTTP_PROXY"
    unconnected = "did not connect to the service: status"
    return [
        refuses("http", 407, retryable=False, says=password),
        refuses("https", 407, retryable=False, says=password),
        refuses("https", 403, retryable=False, says=f"{unconnected} 403"),
        refuses("https", 503, retryable=True, says=f"{unconnected} 503"),
        Case("a proxy resets", [[receive(), reset()]], LOST, proxied="https"),
        Case("a proxy answers", [[reply(BODY)]], OK, requests=1, proxied="http"),
    ]


CASES: list[Case] = [
    *_whole(),
    *_broken_connections(),
    *_reconnects(),
    *_not_http(),
    *_deadlines(),
    *_other_limits(),
    *_streams(),
    *_sizes_and_codings(),
    *_redirects(),
    *_tls(),
    *_proxies(),
]
