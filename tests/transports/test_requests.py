import copy
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import requests
import responses
from support.fault_server import FaultServer, chunk, head, receive, reply, reset, send, stall
from support.fault_server import signal as tell

from lmgateway._call.outgoing import finished
from lmgateway._drive.cancel import Deadline
from lmgateway._transports.protocols import Body, BodySource, TransportOptions
from lmgateway._transports.requests import RequestsTransport
from lmgateway.errors import ConnectionFailedError, InputError, RequestTimeoutError
from lmgateway.types import HTTPRequest, HTTPResponse
from transports.sending import final

pytestmark = pytest.mark.loopback

SSE = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}


def post(
    url: str, json: Any = None, headers: Mapping[str, str] | None = None, *, stream: bool = False
) -> HTTPRequest:
    return finished(asked(url, json, headers, stream=stream), url, {})


def asked(
    url: str, json: Any = None, headers: Mapping[str, str] | None = None, *, stream: bool = False
) -> HTTPRequest:
    sent = {} if json is None else json
    return HTTPRequest("POST", url, "/v1/x", json=sent, headers=headers or {}, stream=stream)


def body_of(response: HTTPResponse) -> Body:
    assert isinstance(response.source, BodySource)
    return cast(Body, response.source.body)


@pytest.fixture
def transport() -> Any:
    transport = RequestsTransport(TransportOptions())
    yield transport
    transport.close()


# -- what is sent --------------------------------------------------------------------------------


def test_body_is_compact_utf8_json(transport: RequestsTransport) -> None:
    with FaultServer([reply()]) as server:
        transport.send(post(server.url, {"prompt": "é 𝄞", "n": 1}), Deadline(10))
        assert server.requests[0].body == '{"prompt":"é 𝄞","n":1}'.encode()


def test_headers_are_ours_and_the_requests(transport: RequestsTransport) -> None:
    with FaultServer([reply()]) as server:
        transport.send(post(server.url, headers={"user-agent": "me/1", "X-A": "b"}), Deadline(10))
        headers = server.requests[0].headers
    assert headers.pop("host") == server.host
    assert headers.pop("accept-encoding").startswith("gzip, deflate")
    assert headers == {
        "user-agent": "me/1",
        "x-a": "b",
        "accept": "*/*",
        "connection": "keep-alive",
        "content-type": "application/json",
        "content-length": "2",
    }


def test_get_has_no_body(transport: RequestsTransport) -> None:
    with FaultServer([reply()]) as server:
        transport.send(final("GET", server.url + "/v1/", "/models"), Deadline(10))
        assert server.requests[0].line == "GET /v1/models HTTP/1.1"
        assert server.requests[0].body == b""


def test_path_is_quoted_once(transport: RequestsTransport) -> None:
    with FaultServer([reply()]) as server:
        request = final("GET", server.url, "/models/ä b%20c#d?e=f")
        transport.send(request, Deadline(10))
        assert server.requests[0].path == "/models/%C3%A4%20b%20c%23d?e=f"


def test_netrc_adds_no_credentials(
    transport: RequestsTransport, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with FaultServer([reply()]) as server:
        transport.send(post(server.url), Deadline(10))
        assert "authorization" not in server.requests[0].headers


def test_cookies_are_not_kept(transport: RequestsTransport) -> None:
    with FaultServer([reply(headers={"Set-Cookie": "a=b"}), reply()]) as server:
        for _ in range(2):
            transport.send(post(server.url), Deadline(10))
        assert "cookie" not in server.requests[1].headers


# -- what is refused before a socket opens ---------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        asked("ftp://127.0.0.1"),
        asked("127.0.0.1:80"),
        asked("http://"),
        asked("http://me:sk-5ecret@127.0.0.1"),
        asked("http://127.0.0.1?sk-5ecret"),
        asked("http://127.0.0.1:99999"),
        asked("http://[::1"),
        asked("http://a b.test"),
        asked("http://" + "x" * 300 + ".test"),
        asked("http://127.0.0.1", headers={"X-Key": "sk-5ecret\r\nX-Other: 1"}),
        asked("http://127.0.0.1", headers={"X-Key": "sk-5ecret€"}),
        asked("http://127.0.0.1", headers={"X Key": "sk-5ecret"}),
        HTTPRequest("GET /", "http://127.0.0.1", "/x"),
        asked("http://127.0.0.1", {"temperature": float("nan")}),
        asked("http://127.0.0.1", {"prompt": "sk-5ecret \ud800"}),
        asked("http://127.0.0.1", {"prompt": b"bytes"}),
    ],
    ids=lambda request: (
        f"{request.base_url[:30]} {dict(request.headers)!a:.40} {request.json!a:.30}"
    ),
)
def test_bad_request_is_refused(transport: RequestsTransport, request_: HTTPRequest) -> None:
    with pytest.raises(InputError) as caught:
        transport.send(finished(request_, request_.base_url or "", {}), Deadline(10))
    assert "sk-5ecret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_spent_deadline_opens_no_socket(transport: RequestsTransport) -> None:
    with FaultServer() as server:
        with pytest.raises(RequestTimeoutError):
            transport.send(post(server.url), Deadline(0))
        assert not server.peers


# -- connections ---------------------------------------------------------------------------------


def test_threads_share_a_transport(transport: RequestsTransport) -> None:
    def echo(peer: Any) -> None:
        while True:
            receive()(peer)
            mine = [r for r in peer.server.requests if r.connection == peer.number]
            body = mine[-1].body
            peer.send(head(200, length=len(body)) + body)

    def call(number: int) -> bool:
        sent = post(server.url, {"n": number, "pad": "x" * (number % 7 * 1000)})
        return f'{{"n":{number},'.encode() in transport.send(sent, Deadline(30)).body

    with FaultServer([echo]) as server:
        with ThreadPoolExecutor(32) as pool:
            assert all(pool.map(call, range(640)))
        assert len(server.peers) <= 32
        transport.close()


def test_second_try_does_not_take_another_stale_connection(transport: RequestsTransport) -> None:
    stream = {"Content-Type": "text/event-stream"}
    stale = [receive(), reset()]
    with FaultServer([reply(headers=stream), *stale], [reply(), *stale], [reply()]) as server:
        deadline = Deadline(10)
        response = transport.send(post(server.url, stream=True), deadline)
        transport.send(post(server.url), deadline)  # the first connection is still in use
        while body_of(response).read(deadline):
            pass
        assert transport.send(post(server.url), deadline).status == 200
        assert [r.connection for r in server.requests] == [0, 1, 0, 2]


def test_spent_deadline_sends_nothing_on_an_open_connection(transport: RequestsTransport) -> None:
    with FaultServer([reply(), receive(), stall()]) as server:
        transport.send(post(server.url), Deadline(10))
        with pytest.raises(RequestTimeoutError):
            transport.send(post(server.url), Deadline(0))
        transport.close()
        server.await_hang_up()
        assert len(server.requests) == 1


def test_interrupted_call_hangs_up(transport: RequestsTransport) -> None:
    arrived = threading.Event()
    with FaultServer([receive(), tell(arrived), stall()]) as server:

        def interrupt() -> None:
            arrived.wait(10)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            transport.send(post(server.url), Deadline(30))
        thread.join()
        server.await_hang_up()


def test_close_hangs_up_idle_connections_and_refuses_more(transport: RequestsTransport) -> None:
    with FaultServer([reply(), stall()]) as server:
        transport.send(post(server.url), Deadline(10))
        transport.close()
        server.await_hang_up()
        with pytest.raises(ConnectionFailedError, match="closed"):
            transport.send(post(server.url), Deadline(10))


def test_services_asked_long_ago_are_let_go(
    transport: RequestsTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmgateway._transports.requests.TARGETS", 2)
    with FaultServer([reply(), stall()]) as server, FaultServer([reply()] * 2) as other:
        transport.send(post(server.url), Deadline(20))
        for path in ("", "/a"):
            transport.send(post(other.url + path), Deadline(20))
        gc.collect()
        server.await_hang_up()


def test_stream_outlives_the_close_of_its_transport(transport: RequestsTransport) -> None:
    script = [receive(), send(head(200, SSE), chunk(b"one"), chunk(b"")), stall()]
    with FaultServer(script) as server:
        body = body_of(transport.send(post(server.url, stream=True), Deadline(10)))
        transport.close()
        assert body.read(Deadline(10)) == b"one"
        assert body.read(Deadline(10)) == b""
        server.await_hang_up()


FORK = """
import os, sys
from lmgateway._drive.cancel import Deadline
from lmgateway.errors import RequestTimeoutError
from lmgateway._transports.protocols import TransportOptions
from lmgateway._transports.requests import RequestsTransport
from lmgateway._call.outgoing import finished
from lmgateway.types import HTTPRequest

transport = RequestsTransport(TransportOptions())

def get(path, timeout=10):
    request = finished(HTTPRequest("GET", sys.argv[1], path), sys.argv[1], {})
    return transport.send(request, Deadline(timeout))

get("/parent")
child = os.fork()
if child == 0:
    get("/child")
    try:
        get("/child/slow", 0.3)
    except RequestTimeoutError:
        print("cut")
    sys.exit()
status = os.waitpid(child, 0)[1]
get("/parent")
sys.exit(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_has_connections_and_a_watchdog_of_its_own() -> None:
    slow = [receive(), stall()]
    with FaultServer([reply(), reply(), *slow], [reply(), *slow]) as server:
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", FORK, server.url],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "cut\n", "")
        assert [(r.path, r.connection) for r in server.requests] == [
            ("/parent", 0),
            ("/child", 1),
            ("/child/slow", 1),
            ("/parent", 0),
        ]


# -- errors --------------------------------------------------------------------------------------


def test_errors_survive_pickle_and_copy(transport: RequestsTransport) -> None:
    with FaultServer([receive()]) as server, pytest.raises(ConnectionFailedError) as caught:
        transport.send(post(server.url), Deadline(10))
    for twin in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
        assert str(twin) == str(caught.value)
        assert twin.retryable is True


# -- the package responses -------------------------------------------------------------------------


@responses.activate
def test_responses_intercepts_a_call(transport: RequestsTransport) -> None:
    answer = responses.post("https://api.example/v1/x", json={"a": 1}, status=418)
    response = transport.send(
        post("https://api.example", {"b": 2}, {"Authorization": "k"}), Deadline(10)
    )
    assert (response.status, response.body) == (418, b'{"a": 1}')
    assert answer.calls[0].request.body == b'{"b":2}'
    assert answer.calls[0].request.headers["authorization"] == "k"


@responses.activate
def test_responses_intercepts_a_stream(transport: RequestsTransport) -> None:
    responses.post("https://api.example/v1/x", body="data: 1\n\n", content_type="text/event-stream")
    deadline = Deadline(10)
    body = body_of(transport.send(post("https://api.example", stream=True), deadline))
    assert body.read(deadline) == b"data: 1\n\n"
    assert body.read(deadline) == b""


@responses.activate
@pytest.mark.parametrize(
    "raised, expected",
    [
        (requests.ConnectionError("x"), ConnectionFailedError),
        (requests.Timeout("x"), RequestTimeoutError),
        (None, ConnectionFailedError),
    ],
    ids=["connection error", "timeout", "not registered"],
)
def test_what_responses_raises_is_ours(
    transport: RequestsTransport, raised: Any, expected: type[Exception]
) -> None:
    if raised is not None:
        responses.post("https://api.example/v1/x", body=raised)
    with pytest.raises(expected):
        transport.send(post("https://api.example"), Deadline(10))
