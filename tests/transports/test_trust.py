"""The one reading of the environment that every transport goes by."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from lmgateway._transports.trust import proxy_for, tls_context
from lmgateway.errors import ConfigError
from transports.checking import Authority

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


@pytest.mark.parametrize("own", [False, True], ids=["the usual", "a bundle of one's own"])
def test_a_context_verifies_the_certificate_and_the_name_that_it_is_made_out_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: bool
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    context = tls_context(verify=Authority(tmp_path).bundle if own else True)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.hostname_checks_common_name
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_bundle_is_trusted_and_nothing_beside_it(tmp_path: Path) -> None:
    context = tls_context(verify=Authority(tmp_path).bundle)
    assert len(context.get_ca_certs()) == 1


def test_both_variables_of_openssl_are_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", Authority(tmp_path).bundle)
    assert len(tls_context(verify=True).get_ca_certs()) == 1
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match=r"none\.pem \(SSL_CERT_FILE\) cannot be read"):
        tls_context(verify=True)
