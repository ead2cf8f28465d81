"""An LM of a plugin that is not installed: whatever is handed over, and what such an LM can do."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from pydantic import BaseModel, SecretStr

from lmgateway import InputError, UnknownProviderError, get_lm, hookimpl
from lmgateway.errors import (
    ConfigError,
    MissingCredentialError,
    PluginContractError,
    PluginError,
    PluginLoadError,
    PluginVersionError,
    UnknownParameterError,
)
from lmgateway.testing import ScriptedLM, lm_from
from lmgateway.types import Answer, Info, Request


class Settings(BaseModel):
    api_base: str = "https://acme.example"
    api_key: SecretStr


class Acme:
    """Answers with what it is asked, its own settings before it."""

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(params=frozenset({"temperature"}), default_model="small")

    @hookimpl
    def lmgateway_settings(self) -> type[Settings]:
        return Settings

    @hookimpl
    def lmgateway_complete(self, request: Request, settings: Settings) -> Answer:
        said = f"{settings.api_base} {settings.api_key.get_secret_value()} {request.input}"
        return {"prompt": request.input, "choices": [{"text": said}]}


class Plain:
    @hookimpl
    def lmgateway_complete(self, request: Request) -> Answer:
        return {"prompt": request.input, "choices": [{"text": f"{request.model}!"}]}


def module() -> ModuleType:
    made = ModuleType("plain")
    made.lmgateway_complete = Plain().lmgateway_complete  # type: ignore[attr-defined]
    return made


class Static:
    @staticmethod
    @hookimpl
    def lmgateway_complete(request: Request) -> Answer:
        return {"prompt": request.input, "choices": [{"text": f"{request.model}!"}]}


class Newer(Plain):
    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(api=3)


class Raising(Plain):
    @hookimpl
    def lmgateway_info(self) -> Info:
        raise LookupError("nothing known")


class Unmarked:
    def lmgateway_complete(self, request: Request) -> Answer:
        raise NotImplementedError


# -- what may be handed over -------------------------------------------------------------------


@pytest.mark.parametrize(
    "plugin",
    [
        pytest.param(Plain(), id="an object"),
        pytest.param(module(), id="a module"),
        pytest.param(SimpleNamespace(lmgateway_complete=Plain().lmgateway_complete), id="a bag"),
        pytest.param(Static, id="a class of static methods"),
    ],
)
def test_anything_with_hooks_becomes_an_lm(plugin: object) -> None:
    lm = lm_from(plugin, model="m")
    assert (lm.provider, lm("hi")) == ("acme", ["m!"])


@pytest.mark.parametrize(
    "plugin, error, says",
    [
        pytest.param(
            Plain, PluginContractError, r"the class Plain: give an instance", id="a class"
        ),
        pytest.param(ModuleType("x"), PluginContractError, "no lmgateway_complete", id="a module"),
        pytest.param(object(), PluginContractError, "type object", id="a bare object"),
        pytest.param(Unmarked(), PluginContractError, "@hookimpl", id="unmarked"),
        pytest.param({}, PluginContractError, "type dict", id="a dict"),
        pytest.param(None, PluginContractError, "type NoneType", id="None"),
        pytest.param(print, PluginContractError, "type builtin_function", id="a function"),
        pytest.param("acme", PluginContractError, "give it to get_lm", id="a name"),
        pytest.param(MagicMock(), PluginContractError, "no lmgateway_complete", id="a mock"),
        pytest.param(ScriptedLM("hi"), PluginContractError, "is an LM already", id="an LM"),
        pytest.param(Newer(), PluginVersionError, "version 3", id="of another version"),
        pytest.param(Raising(), PluginLoadError, "raised LookupError", id="raises"),
    ],
)
def test_what_can_be_no_plugin_is_one_typed_error(
    plugin: object, error: type[PluginError], says: str
) -> None:
    with pytest.raises(error, match=says):
        lm_from(plugin, model="m")


@pytest.mark.parametrize("name", ["", " ", "a/b", "a\n", 3, None])
def test_what_can_be_no_name_is_refused(name: Any) -> None:
    with pytest.raises(InputError, match="name must be a provider's name"):
        lm_from(Plain(), name, model="m")


# -- keywords as for get_lm --------------------------------------------------------------------


def test_its_keywords_are_those_of_get_lm() -> None:
    lm = lm_from(Acme(), api_key="k", api_base="https://other.example", temperature=0, timeout=3)
    assert (lm.model, lm.params, lm.options.timeout) == ("small", {"temperature": 0}, 3)
    assert lm("hi") == ["https://other.example k hi"]


def test_its_variables_and_its_tables_are_those_of_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BETA_API_KEY", "of-beta")
    text = '[providers.beta]\napi_base = "https://file.example"\ntimeout = 7\n'
    Path("lmgateway.toml").write_text(text, encoding="utf-8")
    lm = lm_from(Acme(), "beta")
    assert (lm("hi"), lm.options.timeout) == (["https://file.example of-beta hi"], 7)


def test_a_key_that_is_missing_is_missed_when_it_is_needed() -> None:
    lm = lm_from(Acme())
    with pytest.raises(MissingCredentialError, match="ACME_API_KEY"):
        lm("hi")


def test_a_host_of_the_catalogue_lends_it_nothing() -> None:
    assert lm_from(Plain(), "groq", model="m")("hi") == ["m!"]


@pytest.mark.parametrize(
    "keywords, error",
    [
        pytest.param({"temprature": 1}, UnknownParameterError, id="unknown"),
        pytest.param({"timeout": "soon"}, InputError, id="of a wrong type"),
        pytest.param({"api_base": "acme.example"}, ConfigError, id="a setting that is none"),
        pytest.param({"config": "nowhere.toml"}, ConfigError, id="a file that is not there"),
    ],
)
def test_a_wrong_keyword_is_refused_as_by_get_lm(
    keywords: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        lm_from(Acme(), **keywords)


def test_without_any_model_it_says_so() -> None:
    with pytest.raises(InputError, match="acme needs a model"):
        lm_from(Plain())


# -- its life ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, answer",
    [
        pytest.param({}, "m!", id="nothing"),
        pytest.param({"model": "n"}, "n!", id="the model"),
        pytest.param({"timeout": 3}, "m!", id="an option"),
        pytest.param({"name": "acme", "model": "n"}, "n!", id="its own name"),
        pytest.param({"config": "other.toml"}, "m!", id="another file"),
    ],
)
def test_a_copy_asks_the_same_object(changes: dict[str, Any], answer: str) -> None:
    Path("other.toml").write_text('default = "echo"\n', encoding="utf-8")
    assert lm_from(Plain(), model="m").copy(**changes)("hi") == [answer]


def test_a_copy_under_another_name_is_of_that_provider() -> None:
    lm = lm_from(Plain(), model="m")
    assert lm.copy(name="echo")("hi") == ["hi"]
    with pytest.raises(UnknownProviderError):
        lm.copy(name="other/m")


@pytest.mark.parametrize("make", [lambda: lm_from(Plain(), model="m"), lambda: ScriptedLM("hi")])
def test_it_cannot_be_pickled_and_says_why(make: Any) -> None:
    with pytest.raises(InputError, match="cannot be pickled: the plugin was handed over as an obj"):
        pickle.dumps(make())


def test_an_installed_plugin_is_not_touched_by_one_of_its_name() -> None:
    assert lm_from(Plain(), "echo", model="m")("hi") == ["m!"]
    assert get_lm("echo")("hi") == ["hi"]
