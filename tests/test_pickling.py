"""The pickle of an LM: plain JSON, a function of ours, and every keyword of get_lm."""

from __future__ import annotations

import datetime
import json
import pickle
import pickletools
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from support.distributions import SitePackages

from lmgateway import LM, InputError, errors, get_lm
from lmgateway.lm import lm_from_state, spec_of
from lmgateway.types import Options

CONFIG = """
[models.ours]
provider = "company"
model = "m"
params = { temperature = 0.25, stop = ["END"] }
timeout = 9
headers = { X-Team = "blue" }

[providers.company]
plugin = "openai"
api_base = "http://127.0.0.1:9/ours"
api_key_env = "COMPANY_KEY"
retries = 1

[cache]
enabled = false

[limits.company]
rpm = 60
"""
PLUGIN = """
import datetime, enum
from pathlib import Path
from typing import Any
from pydantic import BaseModel, SecretStr
from lmgateway import hookimpl

class Kind(enum.Enum):
    FAST = "fast"

class Part(BaseModel):
    size: int = 1

class Settings(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    since: datetime.date | None = None
    folder: Path | None = None
    kind: Kind | None = None
    part: Part | None = None
    keys: dict[str, SecretStr] | None = None
    anything: Any = None

@hookimpl
def lmgateway_settings(): return Settings

@hookimpl
def lmgateway_complete(request): return {"choices": [{"text": "x"}]}
"""


@pytest.fixture(autouse=True)
def _config() -> None:
    Path("lmgateway.toml").write_text(CONFIG, encoding="utf-8")


def state_of(lm: LM) -> dict[str, Any]:
    function, (state,) = lm.__reduce__()
    assert function is lm_from_state
    return state  # type: ignore[no-any-return]


def is_plain(value: Any) -> bool:
    if type(value) is dict:
        return all(type(key) is str for key in value) and all(map(is_plain, value.values()))
    if type(value) is list:
        return all(map(is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


LMS = [
    pytest.param("echo", {}, id="without settings"),
    pytest.param("ours", {}, id="of a file"),
    pytest.param("groq/m", {"api_key": "gsk-0123456789"}, id="of the catalogue"),
    pytest.param(
        "openai/m",
        {
            "api_key": "sk-0123456789",
            "headers": {"X-Plain": "shown", "Authorization": "Bearer abc"},
            "logit_bias": {50256: -1},
            "stop": ("a", "b"),
            "fallbacks": ("echo",),
            "recordings": [Path("tape.jsonl")],
            "extra_body": {"deep": [{"er": None}]},
        },
        id="of many arguments",
    ),
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name, keywords", LMS)
def test_its_pickle_names_one_function_and_no_class(
    name: str, keywords: dict[str, Any], protocol: int
) -> None:
    frozen = pickle.dumps(get_lm(name, **keywords), protocol)
    names, strings = set(), []
    for code, argument, _ in pickletools.genops(frozen):
        if code.name in ("GLOBAL", "INST"):
            names.add(argument)
        elif code.name == "STACK_GLOBAL":
            names.add(" ".join(strings[-2:]))
        elif isinstance(argument, str):
            strings.append(argument)
    assert names == {"lmgateway.lm lm_from_state"}


@pytest.mark.parametrize("name, keywords", LMS)
def test_its_state_is_json_as_it_is(name: str, keywords: dict[str, Any]) -> None:
    state = state_of(get_lm(name, **keywords))
    assert is_plain(state)
    assert json.loads(json.dumps(state, allow_nan=False)) == state


@pytest.mark.parametrize("name, keywords", LMS)
def test_what_is_loaded_is_pickled_alike(name: str, keywords: dict[str, Any]) -> None:
    state = state_of(get_lm(name, **keywords))
    assert state_of(lm_from_state(state)) == state


KEYWORDS: dict[str, Any] = {
    "timeout": None,
    "connect_timeout": 3,
    "idle_timeout": 4.5,
    "retries": 1,
    "cache": "refresh",
    "sample": 2,
    "recordings": ["tape.jsonl"],
    "fallbacks": ["echo", "groq/m"],
    "headers": {"X-Team": "blue"},
    "verify": Path("ca.pem"),
    "history": 5,
    "max_body": 1000,
    "unsupported": "adapt",
    "transport": "threads",
    "config": Path("lmgateway.toml"),
    "system": "be brief",
    "api_base": "http://127.0.0.1:9/mine",
    "use_chat_api": False,
    "organization": "org",
    "temperature": 0.5,
    "stop": ["END"],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
}


def test_the_table_holds_every_core_option() -> None:
    assert set(Options.__dataclass_fields__) <= KEYWORDS.keys()


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_every_keyword_of_get_lm_goes_along(keyword: str) -> None:
    Path("ca.pem").write_text("", encoding="utf-8")
    lm = get_lm("openai", model="m", **{keyword: KEYWORDS[keyword]})
    twin: LM = pickle.loads(pickle.dumps(lm))
    assert (twin.provider, twin.model) == (lm.provider, lm.model)
    assert (twin.options, twin.settings, twin.params) == (lm.options, lm.settings, lm.params)
    assert spec_of(twin).system == spec_of(lm).system
    assert twin.copy(model="n").options == lm.copy(model="n").options


def settings_of(lm: LM) -> Any:
    return pickle.loads(pickle.dumps(lm)).settings


def test_a_setting_that_is_no_json_goes_as_its_model_writes_it(site_packages: SitePackages) -> None:
    import importlib

    site_packages.install("typed", PLUGIN)
    given = {"since": datetime.date(2026, 1, 2), "folder": Path("a/b"), "kind": "fast"}
    lm = get_lm("typed/m", **given)
    module = importlib.import_module(type(lm.settings).__module__)
    lm = lm.copy(part=module.Part(size=3))
    assert settings_of(lm) == lm.settings


def test_a_date_of_the_file_goes_along(site_packages: SitePackages) -> None:
    site_packages.install("typed", PLUGIN)
    Path("lmgateway.toml").write_text("[providers.typed]\nsince = 2026-01-02\n", encoding="utf-8")
    assert settings_of(get_lm("typed/m")).since == datetime.date(2026, 1, 2)


def test_a_secret_within_a_setting_stays_behind(site_packages: SitePackages) -> None:
    from pydantic import SecretStr

    site_packages.install("typed", PLUGIN)
    lm = get_lm("typed/m", keys={"a": SecretStr("sk-within")})
    frozen = pickle.dumps(lm)
    assert b"sk-within" not in frozen
    assert spec_of(pickle.loads(frozen)).left_behind == ("keys",)


class Opaque:
    pass


@pytest.mark.parametrize("value", [Opaque(), {"a": [Opaque()]}, {1.5: "x"}, float("nan"), {"x"}])
def test_what_json_cannot_carry_is_named(value: object, site_packages: SitePackages) -> None:
    site_packages.install("typed", PLUGIN)
    lm = get_lm("typed/m", anything=value)
    with pytest.raises(InputError, match="cannot be pickled: anything"):
        pickle.dumps(lm)


@pytest.mark.parametrize("state", [{}, {"version": 0}, {"version": 2}])
def test_the_state_of_another_version_is_one_typed_error(state: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="another version of lmgateway"):
        lm_from_state(state)


@pytest.mark.parametrize(
    "change",
    [
        {"selection": "x"},
        {"selection": {"provider": "echo"}},
        {"selection": {"provider": "echo", "plugin": "echo", "model": None, "more": 1}},
        {"selection": {"provider": "echo", "plugin": "echo", "model": None, "keywords": {"n": 1}}},
        {"arguments": [1]},
        {"arguments": "x"},
        {"left_behind": 3},
    ],
)
def test_a_state_that_was_changed_is_one_typed_error(change: dict[str, Any]) -> None:
    state = state_of(get_lm("echo"))
    with pytest.raises(InputError, match="no pickled LM"):
        lm_from_state(state | change)
    (name,) = change
    with pytest.raises(InputError, match="no pickled LM"):
        lm_from_state({each: value for each, value in state.items() if each != name})


@pytest.mark.parametrize("state", [None, "x", [1]])
def test_what_is_no_state_at_all_is_one_typed_error(state: Any) -> None:
    with pytest.raises(InputError, match="make it anew"):
        lm_from_state(state)


def test_a_plugin_that_is_not_installed_there_is_named(site_packages: SitePackages) -> None:
    state = state_of(get_lm("echo"))
    state["selection"] |= {"plugin": "elsewhere", "provider": "elsewhere"}
    with pytest.raises(errors.UnknownProviderError, match="'elsewhere'"):
        lm_from_state(state)


def test_a_model_of_pydantic_as_a_keyword_is_none_of_gets_business() -> None:
    class City(BaseModel):
        name: str

    with pytest.raises(InputError):
        get_lm("openai/m", extra_body={"schema": City})


# -- errors ------------------------------------------------------------------------------------

OLD = json.loads(Path(__file__).with_name("data").joinpath("errors-0.1.json").read_text("utf-8"))


@pytest.mark.parametrize("name", OLD)
def test_an_error_that_was_pickled_by_0_1_is_loaded(name: str) -> None:
    error = pickle.loads(b64decode(OLD[name]))
    assert type(error) is getattr(errors, name)
    assert (error.provider, error.model) == ("acme", "m")
    assert "a message" in str(error)
    assert "do this" in str(error)
