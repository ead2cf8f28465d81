"""A keyword that nobody knows says what to use in its place, wherever it is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmgateway import LM, ConfigError, InputError, UnknownProviderError, get_lm
from lmgateway._base.spelling import advise

Door = Callable[[LM, str], Any]


def in_a_file(text: str) -> Door:
    def get(lm: LM, name: str) -> Any:
        Path("lmgateway.toml").write_text(text.format(name=name), encoding="utf-8")
        return get_lm("x")

    return get


DOORS: dict[str, Door] = {
    "get_lm": lambda lm, name: get_lm("openai/m", **{name: 1}),
    "copy": lambda lm, name: lm.copy(**{name: 1}),
    "call": lambda lm, name: lm("x", **{name: 1}),
    "complete": lambda lm, name: lm.complete("x", **{name: 1}),
    "stream": lambda lm, name: lm.stream("x", **{name: 1}),
    "preview": lambda lm, name: lm.preview("x", **{name: 1}),
    "batch": lambda lm, name: lm.batch(["x"], **{name: 1}),
    "row of a batch": lambda lm, name: lm.batch([{"prompt": "x", name: 1}]),
    "embed": lambda lm, name: lm.embed("x", **{name: 1}),
    "file": in_a_file('[models.x]\nprovider = "openai"\nmodel = "m"\n{name} = 1\n'),
    "file's provider": in_a_file(
        '[models.x]\nprovider = "openai"\nmodel = "m"\n[providers.openai]\n{name} = 1\n'
    ),
    "file's params": in_a_file(
        '[models.x]\nprovider = "openai"\nmodel = "m"\nparams = {{ {name} = 1 }}\n'
    ),
}

NAMES = {
    "base_url": "use api_base",
    "baseURL": "use api_base",
    "request_timeout": "use timeout",
    "num_retries": "use retries",
    "default_headers": "use headers",
    "caching": "use cache",
    "proxies": "set HTTPS_PROXY",
    "rpm": "[limits.PROVIDER]",
    "api_version": "Azure",
    "max_budget": "lmgateway.usage()",
    "http_client": "transport=",
    "callbacks": "lmgateway.on_call",
    "api_type": "get_lm('PROVIDER', 'MODEL')",
    "engine": "use model",
    "max_new_tokens": "use max_tokens",
    "stop_sequences": "use stop",
    "system_prompt": "use system",
    "timeot": "did you mean 'timeout'",
    "temprature": "did you mean 'temperature'",
    "use_chat": "did you mean 'use_chat_api'",
}


@pytest.fixture
def lm() -> LM:
    return get_lm("openai/m", api_key="sk", api_base="http://127.0.0.1:9", retries=0)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_another_library_or_a_typo_says_what_to_use(
    name: str, door: str, lm: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if door == "embed" and name in ("max_new_tokens", "stop_sequences"):
        pytest.skip("embeddings have no such parameter")
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InputError, ConfigError)) as caught:
        DOORS[door](lm, name)
    told = str(caught.value)
    assert NAMES[name] in told
    assert len(told) < 300
    if door.startswith("file"):
        assert f"lmgateway.toml:{len(Path('lmgateway.toml').read_text().splitlines())}" in told


@pytest.mark.parametrize("door", ["call", "complete", "stream", "preview", "batch"])
@pytest.mark.parametrize(
    "name, instead",
    [("stream", "lm.stream(...)"), ("model", "lm.copy(model=...)"), ("schem", "'schema'")],
)
def test_what_belongs_elsewhere_says_where(name: str, instead: str, door: str, lm: LM) -> None:
    if (name, door) == ("stream", "preview"):
        pytest.skip("preview takes it")
    with pytest.raises(InputError) as caught:
        DOORS[door](lm, name)
    assert instead in str(caught.value)


def test_the_keywords_of_a_batch_are_near_too(lm: LM) -> None:
    with pytest.raises(InputError, match="did you mean 'concurrency'"):
        lm.batch(["x"], concurency=3)
    with pytest.raises(InputError, match="use concurrency"):
        lm.batch(["x"], max_workers=3)


@pytest.mark.parametrize("door", ["get_lm", "copy", "call", "embed", "row of a batch"])
@pytest.mark.parametrize(
    "name, entry", [("events", "stream"), ("concurrency", "batch"), ("return_exceptions", "batch")]
)
def test_a_keyword_of_another_entry_says_which(name: str, entry: str, door: str, lm: LM) -> None:
    if (name, door) == ("concurrency", "embed"):
        pytest.skip("embed takes it")
    with pytest.raises(InputError) as caught:
        DOORS[door](lm, name)
    assert f"{name} belongs to a call: give it to {entry}(...)" in str(caught.value)


def test_no_name_is_offered_in_its_own_place() -> None:
    with pytest.raises(InputError) as caught:
        get_lm("echo", api_base="http://127.0.0.1:9")
    assert "did you mean" not in str(caught.value)
    assert "it takes max_tokens" in str(caught.value)


@pytest.mark.parametrize(
    "table, name, told",
    [
        ("providers.openai", "model", "model belongs into a table [models.NAME]"),
        ("providers.openai", "alias", "alias belongs into a table [models.NAME]"),
        ("models.x", "plugin", "plugin belongs into a table [providers.NAME]"),
        ("models.x", "api_key_env", "api_key_env belongs into a table [providers.NAME]"),
        ("models.x.params", "api_base", "api_base is a setting: write it beside"),
        ("models.x.params", "api_key", "api_key is a setting: write it beside"),
        ("models.x.params", "events", "events belongs to a call: give it to stream(...)"),
    ],
)
def test_what_stands_in_the_wrong_table_is_told_its_own(
    table: str, name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tables = {"models.x": 'provider = "openai"\nmodel = "m"\n'}
    tables[table] = tables.get(table, "") + f'{name} = "v"\n'
    Path("lmgateway.toml").write_text("".join(f"[{t}]\n{text}" for t, text in tables.items()))
    with pytest.raises(ConfigError) as caught:
        get_lm("x")
    assert told in str(caught.value)
    assert "extra_body" not in str(caught.value)


def test_a_provider_of_another_library_is_not_cut_in_two() -> None:
    with pytest.raises(UnknownProviderError) as caught:
        get_lm("together_ai/m")
    assert "did you mean 'together'" in str(caught.value)


def test_a_name_that_is_near_to_nothing_does_not_list_all_that_are_known(lm: LM) -> None:
    with pytest.raises(InputError) as caught:
        lm("x", frobnicate=1)
    assert "extra_body={'frobnicate': ...} sends it as it is" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_setting_that_a_plugin_lacks_is_not_offered_again() -> None:
    with pytest.raises(InputError, match="has no parameter 'api_base': it takes max_tokens"):
        get_lm("echo", api_base="http://127.0.0.1:9")


def test_few_names_are_told() -> None:
    with pytest.raises(InputError, match="it takes ") as caught:
        get_lm("echo", frobnicate=1)
    for name in ("max_tokens", "n", "seed", "stop", "temperature"):
        assert name in str(caught.value)


def test_a_keyword_is_named_only_where_there_is_one() -> None:
    assert advise("base_url", ["api_base"]) == "use api_base"
    assert advise("base_url", ["timeout"]) == ""
