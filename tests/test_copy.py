"""A copy for another provider takes nothing along that was meant for the old one."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from support.fault_server import FaultServer, reply

from lmgateway import LM, UnknownParameterError, get_lm
from lmgateway.lm import spec_of

KEY = "sk-openais-own-0123456789"
HOST = "http://127.0.0.1:9/mine"
CONFIG = """
[models.ours]
provider = "openai"
model = "m"
api_base = "http://127.0.0.1:9/ours"

[models.same]
provider = "openai"
model = "m"
params = { temperature = 0.25 }

[models.alias]
alias = "ours"

[providers.mine]
plugin = "openai"
api_base = "http://127.0.0.1:9/theirs"
api_key_env = "MINE_KEY"
"""
ANSWER = json.dumps(
    {"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}
).encode()


@pytest.fixture(autouse=True)
def _config() -> None:
    Path("lmgateway.toml").write_text(CONFIG, encoding="utf-8")


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    path.write_text("", encoding="utf-8")
    return str(path)


@pytest.fixture
def lm(bundle: str) -> Iterator[LM]:
    with get_lm(
        "openai",
        model="m",
        api_key=KEY,
        api_base=HOST,
        headers={"OpenAI-Organization": "org-1", "X-Weird": SecretStr("another-secret")},
        verify=bundle,
        organization="org-2",
        use_chat_api=False,
        temperature=0.5,
        extra_body={"user_key": "a-users-key"},
        system="be brief",
        timeout=7,
        retries=1,
        cache=True,
    ) as lm:
        yield lm


OTHERS = [
    pytest.param({"name": "groq", "model": "m"}, id="a row of the catalogue"),
    pytest.param({"name": "groq/m"}, id="provider and model in one"),
    pytest.param({"name": "anyscale", "model": "m"}, id="another plugin"),
    pytest.param({"name": "echo"}, id="a plugin without settings"),
    pytest.param({"name": "ours"}, id="the same provider at another host, by the file"),
    pytest.param({"name": "alias"}, id="an alias of that"),
    pytest.param({"name": "mine", "model": "m"}, id="a provider of the file's own"),
]


@pytest.mark.parametrize("changes", OTHERS)
def test_what_was_meant_for_the_old_one_stays_behind(lm: LM, changes: dict[str, Any]) -> None:
    if changes["name"] == "echo":
        changes = {**changes, "temperature": None}  # it has no such parameter
    with lm.copy(**changes) as copy:
        settings: Any = copy.settings
        spec = spec_of(copy)
        shown = repr((spec, dict(spec.arguments), copy.options, settings))
        for mine in (KEY, HOST, "org-1", "org-2", "another-secret", "a-users-key"):
            assert mine not in shown
            assert mine.encode() not in pickle.dumps(copy)
        assert not list(spec.settings.secrets() if spec.settings else ())
        assert copy.options.headers == {}
        assert copy.options.verify is True
        assert "extra_body" not in copy.params
        if settings is not None:
            assert settings.api_base != HOST
        if hasattr(settings, "organization"):
            assert settings.organization is None
            assert settings.use_chat_api
        assert (copy.options.timeout, copy.options.retries, copy.options.cache) == (7, 1, True)
        assert spec.system == "be brief"
        assert copy.params == ({} if changes["name"] == "echo" else {"temperature": 0.5})


@pytest.mark.parametrize("changes", OTHERS[:2])
def test_what_is_given_in_the_copy_goes_along(lm: LM, changes: dict[str, Any]) -> None:
    with lm.copy(**changes, api_key="gsk-0123456789", api_base=HOST, headers={"X": "y"}) as copy:
        settings: Any = copy.settings
        assert settings.api_key.get_secret_value() == "gsk-0123456789"
        assert settings.api_base == HOST
        assert copy.options.headers == {"X": "y"}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"name": "openai", "model": "n"}, id="its own name"),
        pytest.param({"name": "openai/n"}, id="its own name with a model"),
        pytest.param({"name": "same"}, id="a model of the file with the same host"),
        pytest.param({"model": "n"}, id="a model alone"),
        pytest.param({"temperature": 0.5}, id="a parameter"),
    ],
)
def test_the_same_provider_keeps_everything(lm: LM, changes: dict[str, Any]) -> None:
    with lm.copy(**changes) as copy:
        settings: Any = copy.settings
        assert settings.api_key.get_secret_value() == KEY
        assert settings.api_base == HOST
        assert settings.organization == "org-2"
        assert copy.options.headers == lm.options.headers
        assert copy.params["extra_body"] == {"user_key": "a-users-key"}


def test_another_configuration_file_may_lead_to_another_host(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[models.same]\nprovider = "groq"\nmodel = "m"\n', encoding="utf-8")
    with get_lm("same", api_key=KEY) as lm, lm.copy(config=str(other)) as copy:
        assert copy.provider == "groq"
        resolved = spec_of(copy).settings
        assert resolved is not None
        assert not list(resolved.secrets())


def test_a_copy_back_has_nothing_of_the_first_either(lm: LM) -> None:
    away = lm.copy(name="groq/m", api_key="gsk-0123456789")
    resolved = spec_of(away.copy(name="openai/m")).settings
    assert resolved is not None
    assert not list(resolved.secrets())


def test_a_setting_of_the_new_one_is_not_made_of_a_parameter_of_the_old() -> None:
    with get_lm("anyscale", model="m", api_key=KEY) as lm:
        assert lm.copy(name="openai/m").settings is not None


def test_a_parameter_that_the_new_one_lacks_is_named_with_the_way_out(lm: LM) -> None:
    with pytest.raises(UnknownParameterError, match="logit_bias=None leaves it behind"):
        lm.copy(logit_bias={"1": 2}).copy(name="echo")


@pytest.mark.loopback
@pytest.mark.parametrize("way", ["there", "back"])
def test_no_key_reaches_the_other_host(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer([reply(ANSWER, 200, {"Content-Type": "application/json"})]) as server:
        if way == "there":  # a key as argument, the other host by its variable
            monkeypatch.setenv("GROQ_API_BASE", server.url)
            monkeypatch.setenv("GROQ_API_KEY", "gsk-0123456789")
            lm = get_lm("openai", model="m", api_key=KEY, headers={"X-Org": "org-1"})
            copy = lm.copy(name="groq", model="m")
        else:  # a host as argument, the other key by its variable
            monkeypatch.setenv("MINE_KEY", "key-of-mine-0123")
            lm = get_lm("openai", model="m", api_base=server.url)
            copy = lm.copy(name="mine", model="m", api_base=server.url, api_key="given-0123456")
        copy("hi", cache=False)
    sent = server.requests[0].raw.decode()
    assert KEY not in sent
    assert "org-1" not in sent
    expected = "gsk-0123456789" if way == "there" else "given-0123456"
    assert server.requests[0].headers["authorization"] == f"Bearer {expected}"


@pytest.mark.loopback
def test_extra_body_is_not_sent_to_a_fallback_of_another_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with FaultServer([reply(ANSWER, 200, {"Content-Type": "application/json"})]) as server:
        monkeypatch.setenv("GROQ_API_BASE", server.url)
        monkeypatch.setenv("GROQ_API_KEY", "gsk-0123456789")
        lm = get_lm("openai", model="m", api_base="http://127.0.0.1:9", api_key=KEY, retries=0)
        mine = {"user_key": "a-users-key"}
        assert lm("hi", cache=False, fallbacks=["groq/m"], extra_body=mine) == ["hi"]
    assert b"user_key" not in server.requests[0].raw
    assert KEY.encode() not in server.requests[0].raw


def test_a_pickled_lm_says_what_stayed_behind() -> None:
    headers = {"X-Weird": SecretStr("another-secret"), "X-Plain": "shown"}
    with get_lm("openai", model="m", api_key=KEY, api_base=HOST, headers=headers) as lm:
        revived: LM = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(lm))))
    assert spec_of(revived).left_behind == ("api_key", "header X-Weird")
    assert revived.options.headers == {"X-Plain": "shown"}
    assert spec_of(revived.copy(api_key=KEY)).left_behind == ("header X-Weird",)
    assert spec_of(revived.copy(name="groq/m")).left_behind == ()
