"""The one reading of the environment that every transport goes by."""

from __future__ import annotations

import pytest

from lmgateway._transports.trust import proxy_for

PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    "variable, url, proxied",
    [
        ("HTTP_PROXY", "http://api.example", True),
        ("HTTP_PROXY", "https://api.example", False),
        ("https_proxy", "https://api.example", True),
        ("ALL_PROXY", "http://api.example", True),
        ("ALL_PROXY", "https://api.example", True),
    ],
)
def test_the_proxy_of_a_scheme(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str, proxied: bool
) -> None:
    monkeypatch.setenv(variable, PROXY)
    assert proxy_for(url) == (PROXY if proxied else None)


def test_a_proxy_without_a_scheme_speaks_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    assert proxy_for("https://api.example") == PROXY


@pytest.mark.parametrize(
    "entries, host, direct",
    [
        ("*", "api.example", True),
        ("api.example", "api.example", True),
        ("api.example", "api.example:8000", True),
        ("api.example:8000", "api.example:8000", True),
        ("api.example:8000", "api.example:8001", False),
        ("other.example, example", "api.example", True),
        (".example", "api.example", True),
        ("API.example", "api.EXAMPLE", True),
        ("api.example", "notapi.example", False),
        ("10.0.0.0/8", "10.1.2.3:80", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("::1", "[::1]:80", True),
        ("fd00::/8", "[fd00::1]", True),
        ("", "api.example", False),
    ],
)
def test_what_no_proxy_holds(
    monkeypatch: pytest.MonkeyPatch, entries: str, host: str, direct: bool
) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", entries)
    assert (proxy_for(f"http://{host}/v1") is None) is direct
