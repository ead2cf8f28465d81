"""How one case of the transports' contract is played and judged."""

from __future__ import annotations

import ssl
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Protocol, TypeAlias

import pytest
import trustme
from support.fault_server import FaultServer, Script, start_tls

from lmgateway._transports.errors import host_and_port
from lmgateway._transports.protocols import TransportOptions
from lmgateway.errors import LMGatewayError
from lmgateway.types import HTTPRequest
from transports.sending import final

__all__ = [
    "KEY",
    "PROMPT",
    "Answer",
    "Authority",
    "Case",
    "Client",
    "Failure",
    "OpenClient",
    "check",
]

KEY = "sk-contract-5ecret"
PROMPT = "a prompt that no message may quote"


# -- what a transport's test supplies ------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a client made of one exchange.

    Attributes:
        status: Of the response.
        body: All of it, or all pieces of a stream joined.
        streamed: Whether it came through a source.
    """

    status: int
    body: bytes
    streamed: bool = False


class Client(Protocol):
    """One transport that stays open over several exchanges."""

    def exchange(self, request: HTTPRequest, timeout: float) -> Answer:
        """Send a request and read the answer to its end, a source piece by piece."""


OpenClient: TypeAlias = Callable[[TransportOptions], AbstractContextManager[Client]]


class Authority:
    """Certificates for the TLS cases: make one for a whole test session."""

    def __init__(self, folder: Path) -> None:
        ours, other = trustme.CA(), trustme.CA()
        self.bundle = str(folder / "authority.pem")
        ours.cert_pem.write_to_path(self.bundle)
        expired = datetime(2020, 1, 1, tzinfo=UTC)
        self._certificates = {
            "good": ours.issue_cert("localhost"),
            "untrusted": other.issue_cert("localhost"),
            "wrong host": ours.issue_cert("elsewhere.example"),
            "expired": ours.issue_cert("localhost", not_after=expired),
        }

    def context(self, certificate: str) -> ssl.SSLContext:
        """A server's context: "good", "untrusted", "wrong host" or "expired"."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._certificates[certificate].configure_cert(context)
        return context


# -- a case --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failure:
    """An error that is right.

    Attributes:
        kind: Its class, exactly.
        retryable: As the error should say.
        mentions: Parts of its message; "{server}" stands for the server's ``host:port``.
        within: Seconds after which it must have come, at most; None does not look.
    """

    kind: type[LMGatewayError]
    retryable: bool
    mentions: Sequence[str] = ()
    within: float | None = None


@dataclass(frozen=True)
class Case:
    """One misbehaviour of a server, or of the network, and what is right.

    Attributes:
        id: Readable.
        scripts: For the server; the n-th connection plays the n-th, later ones the last.
        expect: The outcome of the last exchange; those before it must succeed.
        exchanges: How many are made on one client.
        requests: How many requests the server must have seen; None does not look.
        stream: Ask for a stream.
        options: Of the transport.
        timeout: Seconds each exchange may take.
        certificate: Talk TLS, and shake hands with this certificate; "plain" does not shake.
        proxied: The scheme of a service that is asked through the server, which is a proxy then.
    """

    id: str
    scripts: Sequence[Script]
    expect: Answer | Failure
    exchanges: int = 1
    requests: int | None = None
    stream: bool = False
    options: TransportOptions = field(default_factory=TransportOptions)
    timeout: float = 20.0
    certificate: str | None = None
    proxied: str | None = None

    def __str__(self) -> str:
        return self.id


# -- running a case ------------------------------------------------------------------------------


def check(case: Case, open_client: OpenClient, authority: Authority) -> None:
    """Play a case and compare; raises AssertionError."""
    scripts, options = case.scripts, case.options
    if case.certificate is not None:
        options = replace(options, verify=authority.bundle)
        if case.certificate != "plain":
            shake = start_tls(authority.context(case.certificate))
            scripts = [[shake, *script] for script in scripts]
    with (
        FaultServer(*scripts) as server,
        pytest.MonkeyPatch.context() as environment,
        open_client(options) as client,
    ):
        url = server.url if case.certificate is None else server.tls_url
        if case.proxied is not None:
            url = f"{case.proxied}://service.invalid"
            for name in ("no_proxy", "NO_PROXY"):
                environment.delenv(name, raising=False)
            environment.setenv(f"{case.proxied}_proxy", f"http://me:pw@{server.host}")
        request = final(
            "POST",
            url,
            "/v1/completions?secret=query",
            json={"prompt": PROMPT},
            headers={"Authorization": f"Bearer {KEY}"},
            stream=case.stream,
        )
        for _ in range(case.exchanges - 1):
            assert client.exchange(request, case.timeout).status == 200
        if isinstance(case.expect, Answer):
            assert client.exchange(request, case.timeout) == case.expect
        else:
            _check_failure(case.expect, lambda: client.exchange(request, case.timeout), server, url)
        if case.requests is not None:
            assert len(server.requests) == case.requests


def _check_failure(
    failure: Failure, act: Callable[[], Answer], server: FaultServer, url: str
) -> None:
    began = monotonic()
    with pytest.raises(LMGatewayError) as caught:
        act()
    took, error = monotonic() - began, caught.value
    assert type(error) is failure.kind
    assert error.retryable is failure.retryable
    assert error.host == host_and_port(url)
    message = str(error)
    for mention in failure.mentions:
        assert mention.replace("{server}", server.host) in message
    for secret in (KEY, PROMPT, "secret=query", "me:pw"):
        assert secret not in _printed(error)
    if failure.within is not None:
        assert took < failure.within


def _printed(error: BaseException) -> str:
    """Everything a traceback would print of an error and of those it came from."""
    return "".join(traceback.format_exception(error))
