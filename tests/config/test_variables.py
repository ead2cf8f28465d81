"""A setting may name further variables, and has one name everywhere."""

from __future__ import annotations

import pickle
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Optional

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, SecretStr

from lmgateway import LM, hookimpl
from lmgateway.cli.doctor import examine
from lmgateway.cli.effective import effective
from lmgateway.errors import (
    ConfigError,
    InvalidSettingError,
    MissingCredentialError,
    PluginContractError,
)
from lmgateway.testing import lm_from
from lmgateway.types import HTTPRequest, Info, Request, Variables, send


class Settings(BaseModel):
    region: Annotated[str | None, Variables("AWS_REGION", "AWS_DEFAULT_REGION")] = None
    api_key: Annotated[SecretStr, Variables("GOOGLE_API_KEY")]
    api_base: Annotated[str | None, Variables("ACME_ENDPOINT")] = None


class Plugin:
    """A plugin with the settings that it is given."""

    def __init__(self, settings: type[BaseModel] = Settings, api: int = 2) -> None:
        self.settings = settings
        self.api = api

    @hookimpl
    def lmgateway_settings(self) -> type[BaseModel]:
        return self.settings

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(api=self.api, default_model="m")

    @hookimpl
    def lmgateway_complete(self, request: Request, settings: Any) -> Any:
        key = settings.api_key
        yield from send(HTTPRequest("POST", settings.api_base, "/", json={}, auth=key))


def origin(lm: LM, name: str) -> tuple[Any, str, str]:
    row = next(each for each in effective(lm) if each.name == name)
    return row.value, row.origin.kind, row.origin.place


NAMES = ["ACME_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"]
#: As they are tried: every name in the environment and in .env, and then the next name.
ORDER = [(name, place) for name, place in product(NAMES, ["environment", ".env"])]


@pytest.mark.parametrize("first", range(len(ORDER) + 1))
def test_the_own_variable_goes_before_the_further_ones(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["# a line of its own"]
    for name, place in ORDER[first:]:
        if place == "environment":
            monkeypatch.setenv(name, f"{name} in the environment")
        else:
            lines.append(f"{name}={name} in the file")
    Path(".env").write_text("\n".join(lines), encoding="utf-8")
    found = origin(lm_from(Plugin()), "region")
    if first == len(ORDER):
        assert found == (None, "default", "")
        return
    name, place = ORDER[first]
    if place == "environment":
        assert found == (f"{name} in the environment", "environment", name)
    else:
        value, kind, said = found
        assert (value, kind) == (f"{name} in the file", ".env")
        assert said.startswith(f"{name} in ")


def test_an_argument_goes_before_and_the_file_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("lmgateway.toml").write_text('[providers.acme]\nregion = "of the file"\n', "utf-8")
    assert origin(lm_from(Plugin()), "region")[0] == "of the file"
    monkeypatch.setenv("AWS_REGION", "  ")  # a blank one counts as not set
    assert origin(lm_from(Plugin()), "region")[0] == "of the file"
    monkeypatch.setenv("AWS_REGION", "of the environment")
    assert origin(lm_from(Plugin()), "region")[0] == "of the environment"
    assert origin(lm_from(Plugin(), region="given"), "region")[:2] == ("given", "argument")


def test_a_secret_may_have_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "the-key-0123456789")
    lm = lm_from(Plugin())
    assert origin(lm, "api_key") == ("***", "environment", "GOOGLE_API_KEY")
    assert "the-key-0123456789" not in repr((lm, lm.preview("hi")))
    assert lm.preview("hi")["headers"]["Authorization"] == "Bearer ***"


def test_a_key_that_is_missing_names_all_of_them() -> None:
    lm = lm_from(Plugin(), api_base="http://127.0.0.1:9")
    with pytest.raises(MissingCredentialError, match="ACME_API_KEY or GOOGLE_API_KEY, or give"):
        lm("hi")


def test_a_base_that_is_missing_names_all_of_them() -> None:
    with pytest.raises(MissingCredentialError, match="set ACME_API_BASE or ACME_ENDPOINT, or give"):
        lm_from(Plugin(), api_key="k")("hi")
    assert "ACME_API_BASE or ACME_ENDPOINT" in lm_from(Plugin(), api_key="k").preview("hi")["url"]


def test_doctor_tells_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from lmgateway.cli import doctor

    monkeypatch.setattr(doctor, "open_anyhow", lambda *_, **more: lm_from(Plugin()))
    found = {each.what: f"{each.fact}; {each.next}" for each in examine("acme")}
    assert "ACME_API_KEY or GOOGLE_API_KEY" in found["api_key"]
    monkeypatch.setenv("GOOGLE_API_KEY", "the-key-0123456789")
    found = {each.what: f"{each.fact}; {each.next}" for each in examine("acme")}
    assert "from the environment: GOOGLE_API_KEY" in found["api_key"]


def test_a_call_may_change_such_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "of the environment")
    lm = lm_from(Plugin(), api_key="k", api_base="http://127.0.0.1:9")
    assert origin(lm.copy(region="copied"), "region")[:2] == ("copied", "argument")
    assert origin(lm.copy(), "region")[0] == "of the environment"
    lm.preview("hi", region="of the call")


KINDS: dict[str, Any] = {
    "outside": Annotated[str | None, Variables("AWS_REGION")],
    "inside": Annotated[str, Variables("AWS_REGION")] | None,
    "Optional": Optional[Annotated[str, Variables("AWS_REGION")]],  # noqa: UP045
    "with a Field": Annotated[str | None, Field(max_length=99), Variables("AWS_REGION")],
    "twice": Annotated[str | None, Variables("A_REGION"), Variables("AWS_REGION")],
}


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_found_wherever_they_are_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(BaseModel):
        region: KINDS[kind] = None  # type: ignore[valid-type]

    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert origin(lm_from(Plugin(Own)), "region")[0] == "eu-west-1"


def test_a_secret_within_an_annotation_is_one() -> None:
    class Own(BaseModel):
        proof: Annotated[SecretStr, Variables("GOOGLE_SECRET")] | None = None

    Path("lmgateway.toml").write_text('[providers.acme]\nproof = "in-a-file"\n', "utf-8")
    with pytest.raises(ConfigError, match="is a secret and must not stand in a file"):
        lm_from(Plugin(Own))


def test_a_key_of_one_host_is_not_sent_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    from lmgateway._config.names import Selection
    from lmgateway._config.provenance import Environment
    from lmgateway._config.settings import resolve_settings

    monkeypatch.setenv("GOOGLE_API_KEY", "the-key-0123456789")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    other = Selection("other", "acme", "m")
    resolved = resolve_settings(Settings, other, {}, Environment())
    assert not list(resolved.secrets())
    assert resolved.named("api_key") == "OTHER_API_KEY"
    assert resolved.values.region == "eu-west-1"  # type: ignore[attr-defined]


def test_a_variable_that_the_file_names_takes_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("lmgateway.toml").write_text('[providers.acme]\napi_key_env = "MINE"\n', "utf-8")
    monkeypatch.setenv("GOOGLE_API_KEY", "the-key-0123456789")
    lm = lm_from(Plugin(), api_base="http://127.0.0.1:9")
    with pytest.raises(MissingCredentialError, match="set MINE, or give"):
        lm("hi")
    monkeypatch.setenv("MINE", "my-key-0123456789")
    assert origin(lm_from(Plugin()), "api_key")[2] == "MINE"


@pytest.mark.parametrize("names", [(), ("",), ("A B",), ("A=B",), (7,), ("A", None), ("\u00c4",)])
def test_what_can_be_no_variable_is_refused(names: Any) -> None:
    with pytest.raises(ValueError, match="Variables takes names of variables"):
        Variables(*names)


def test_variables_are_plain_values() -> None:
    one = Variables("A", "B")
    assert (one, hash(one)) == (Variables("A", "B"), hash(Variables("A", "B")))
    assert one != Variables("B", "A")
    assert pickle.loads(pickle.dumps(one)) == one
    assert repr(one) == "Variables('A', 'B')"


# -- aliases -----------------------------------------------------------------------------------


class Alias(BaseModel):
    region: str = Field("r", alias="place")


class ValidationAlias(BaseModel):
    region: str = Field("r", validation_alias="place")


class Choices(BaseModel):
    region: str = Field("r", validation_alias=AliasChoices("region", "place"))


class InAPath(BaseModel):
    region: str = Field("r", validation_alias=AliasPath("place", 0))


class Generated(BaseModel):
    model_config = ConfigDict(alias_generator=str.upper)
    region: str = "r"


class ByNameToo(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    region: str = Field("r", alias="place", max_length=20)


@pytest.mark.parametrize("settings", [Alias, ValidationAlias, Choices, InAPath, Generated])
@pytest.mark.parametrize("api", [1, 2])
def test_an_alias_is_refused_when_the_plugin_is_loaded(settings: Any, api: int) -> None:
    with pytest.raises(PluginContractError, match="'region' has an alias"):
        lm_from(Plugin(settings, api))


def test_a_model_that_takes_names_as_well_may_have_one_in_version_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plugin = Plugin(ByNameToo, 1)
    assert origin(lm_from(plugin, region="given"), "region")[0] == "given"
    monkeypatch.setenv("ACME_REGION", "of the environment")
    lm = lm_from(plugin)
    assert origin(lm, "region")[0] == "of the environment"
    assert origin(lm.copy(region="copied"), "region")[0] == "copied"
    monkeypatch.setenv("ACME_REGION", "x" * 30)
    with pytest.raises(InvalidSettingError, match=r"region \(from the environment: ACME_REGION"):
        lm_from(plugin)
    with pytest.raises(PluginContractError, match="'region' has an alias"):
        lm_from(Plugin(ByNameToo, 2))


class Harmless(BaseModel):
    model_config = ConfigDict(alias_generator=str.lower)
    region: str = Field("r", serialization_alias="place")


def test_an_alias_that_changes_nothing_is_none() -> None:
    assert origin(lm_from(Plugin(Harmless), region="given"), "region")[0] == "given"
