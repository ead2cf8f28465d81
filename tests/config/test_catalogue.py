from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
import responses

from lmgateway import (
    AuthenticationError,
    ConfigError,
    MissingCredentialError,
    UnknownProviderError,
    get_lm,
)
from lmgateway._config import catalogue
from lmgateway._config.catalogue import Host, hosts

ROWS = list(hosts().values())
LOCKED = [host for host in ROWS if host.needs_key]
ASKED = {
    "openai", "groq", "together", "fireworks", "openrouter", "deepseek", "mistral", "xai",
    "cerebras", "nvidia", "perplexity", "deepinfra", "huggingface", "ollama", "vllm", "lmstudio",
    "llamafile", "llamacpp",
}  # fmt: skip


def named(host: Host) -> str:
    return host.name


def test_it_holds_the_hosts_that_were_asked_for() -> None:
    assert set(hosts()) >= ASKED


def test_the_plugins_whose_own_host_has_a_row_are_named() -> None:
    assert {host.name for host in ROWS if host.plugin == host.name} == catalogue.WITH_OWN_ROW


def test_a_plugin_without_one_is_found_without_the_catalogue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lmgateway._config.names.hosts", lambda: pytest.fail("it was read"))
    get_lm("echo").close()


@pytest.mark.parametrize("host", ROWS, ids=named)
def test_a_row_says_where_it_is_from_and_when(host: Host) -> None:
    assert host.page.startswith("https://")
    assert datetime.date.fromisoformat(host.read) >= datetime.date(2026, 1, 1)
    assert host.title
    assert not host.api_base.endswith("/")
    assert host.api_base.startswith("https://" if host.needs_key else "http://localhost:")


@pytest.mark.parametrize("host", ROWS, ids=named)
def test_a_row_is_a_provider(host: Host) -> None:
    lm = get_lm(f"{host.name}/some/model")

    assert (lm.provider, lm.model) == (host.name, "some/model")
    assert lm.settings.api_base == host.api_base


@pytest.mark.parametrize("host", LOCKED, ids=named)
def test_without_a_key_nothing_is_sent(host: Host) -> None:
    variable = host.key_variable or f"{host.name.upper()}_API_KEY"
    lm = get_lm(f"{host.name}/m")

    with pytest.raises(MissingCredentialError, match=f"set {variable}.*looked in"):
        lm("hi")


@pytest.mark.parametrize("host", LOCKED, ids=named)
def test_its_key_is_all_it_needs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(host.key_variable or f"{host.name.upper()}_API_KEY", "sk-theirs")
    shown = get_lm(f"{host.name}/m").preview("hi")

    assert shown["url"] == f"{host.api_base}/chat/completions"
    assert shown["headers"]["Authorization"] == "Bearer ***"


def test_the_key_is_really_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk-mine")
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}}]}
    with responses.RequestsMock() as network:
        network.post("https://api.groq.com/openai/v1/chat/completions", json=answer)
        assert get_lm("groq/llama-3.1-8b-instant", cache=False)("hi") == ["Hello."]
        assert network.calls[0].request.headers["Authorization"] == "Bearer gsk-mine"


@pytest.mark.parametrize("way", ["preview", "models", "stream"])
def test_a_missing_key_is_told_on_every_way(way: str) -> None:
    lm = get_lm("groq/m")
    if way == "preview":
        assert lm.preview("hi")["headers"]["Authorization"] == "<no key>"
        return
    with pytest.raises(MissingCredentialError, match="GROQ_API_KEY"):
        lm.models() if way == "models" else list(lm.stream("hi"))


@pytest.mark.parametrize(
    "keywords",
    [
        pytest.param({"api_base": "https://own.example/v1"}, id="another-host"),
        pytest.param({"headers": {"Authorization": "Basic abcdefgh"}}, id="a-header-of-ones-own"),
        pytest.param({"headers": {"api-key": "abcdefgh"}}, id="another-header"),
    ],
)
def test_no_key_is_asked_for_where_none_is_needed(keywords: dict[str, object]) -> None:
    lm = get_lm("groq/m", cache=False, retries=0, **keywords)
    base = str(keywords.get("api_base", "https://api.groq.com/openai/v1"))
    with responses.RequestsMock() as network:
        network.post(f"{base}/chat/completions", status=401, json={"error": {"message": "no"}})
        with pytest.raises(AuthenticationError):
            lm("hi")


Write = Callable[..., Path]
OWN = '[providers.own]\nplugin = "openai"\napi_base = "{base}"\napi_key_env = "OWN_SECRET"\n'


def test_a_table_that_names_a_variable_needs_it(write: Write) -> None:
    write(OWN.format(base="https://own.example/v1"))

    with pytest.raises(MissingCredentialError, match=r"own needs a key: set OWN_SECRET"):
        get_lm("own/m")("hi")


def test_a_table_at_a_known_host_needs_its_key_under_any_name(write: Write) -> None:
    write('[providers.own]\nplugin = "openai"\napi_base = "https://api.groq.com/openai/v1"\n')

    with pytest.raises(MissingCredentialError, match=r"own needs a key: set OWN_API_KEY"):
        get_lm("own/m")("hi")


def test_a_table_needs_no_key_at_another_base_than_its_own(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(OWN.format(base="https://own.example/v1"))
    monkeypatch.setenv("OWN_API_BASE", "https://elsewhere.example/v1")

    assert "Authorization" not in get_lm("own/m").preview("hi")["headers"]


def test_without_its_file_a_host_is_unknown_and_the_rest_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(path: str) -> bytes:
        raise FileNotFoundError(2, "No such file or directory", path)

    monkeypatch.setattr(catalogue.__loader__, "get_data", gone)
    for each in (hosts, catalogue._locked):
        each.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="--collect-data lmgateway"):
            hosts()
        with pytest.raises(UnknownProviderError):
            get_lm("groq/m")
        assert get_lm("echo")("hi") == ["hi"]
        assert get_lm("openai/m", api_key="k").preview("hi")["url"].startswith("https://")
    finally:
        for each in (hosts, catalogue._locked):
            each.cache_clear()


@pytest.mark.parametrize("key", ["title", "api_base", "needs_key", "page", "read"])
def test_a_row_that_lacks_a_key_is_named(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {
        "title": '"Acme"',
        "api_base": '"https://api.acme.example/v1"',
        "needs_key": "true",
        "page": '"https://acme.example"',
        "read": "2026-11-22",
    }
    lines = [f"{name} = {value}" for name, value in row.items() if name != key]
    text = "\n".join(["[acme]", *lines]).encode()
    monkeypatch.setattr(catalogue.__loader__, "get_data", lambda path: text)
    hosts.cache_clear()
    try:
        with pytest.raises(ConfigError, match=rf"row \[acme\] lacks {key}$"):
            hosts()
    finally:
        hosts.cache_clear()
