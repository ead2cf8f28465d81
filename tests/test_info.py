"""What a model can do is told before anything is sent: by its plugin, for each model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from lmgateway import LM, errors, hookimpl
from lmgateway.lm import spec_of
from lmgateway.testing import lm_from
from lmgateway.types import Answer, EmbedRequest, Emit, Flow, Info, Request

CANARY = "sk-canary-0123456789abcdef"


class Settings(BaseModel):
    api_key: SecretStr = SecretStr("")
    tier: str = "small"


class Models:
    """Two models that take different things, and settings that matter as well."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, str | None]] = []
        self.requests: list[Any] = []

    @hookimpl
    def lmgateway_settings(self) -> type[BaseModel]:
        return Settings

    @hookimpl
    def lmgateway_info(self, settings: Settings | None, model: str | None) -> Info:
        self.asked.append((settings and settings.tier, model))
        params = {
            None: {"temperature", "seed", "top_k", "stop"},
            "warm": {"temperature", "seed"},
            "cold": {"stop"},
        }[model if model in ("warm", "cold") else None]
        if settings is not None and settings.tier == "large":
            params = params | {"top_k"}
        has = {"messages"} if model == "cold" else {"messages", "images", "tools"}
        if model is None:
            return Info(2, frozenset(has), frozenset(params), "warm")
        return Info(2, frozenset(has), frozenset(params), "warm")

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Answer:
        self.requests.append(request)
        return {"prompt": request.input, "choices": [{"text": "yes"}]}

    @hookimpl
    def lmgateway_stream(self, request: Request) -> Flow[Answer]:
        yield Emit("yes")
        return self.lmgateway_complete(request)

    @hookimpl
    def lmgateway_embed(self, request: EmbedRequest) -> Any:
        self.requests.append(request)
        return {"embeddings": [[1.0] for _ in request.texts]}


def with_info(hook: Callable[..., Any], **more: Any) -> Any:
    """A plugin with that info, and settings."""
    plain = {
        "lmgateway_settings": hookimpl(lambda self: Settings),
        "lmgateway_complete": hookimpl(Models.lmgateway_complete),
        "requests": [],
    }
    return type("P", (), {**plain, "lmgateway_info": hookimpl(hook), **more})()


# -- who is asked, and when ----------------------------------------------------------------------


def test_the_hook_is_asked_once_at_load_and_once_for_each_lm() -> None:
    plugin = Models()
    lm = lm_from(plugin)
    lm("hi")
    lm("hi", temperature=0)
    assert plugin.asked == [(None, None), ("small", "warm")]
    lm.copy(model="cold")
    lm("hi", tier="large", top_k=3)
    assert plugin.asked[2:] == [("small", "cold"), ("large", "warm")]


def test_a_hook_without_arguments_is_asked_once_in_all() -> None:
    asked = []

    def info(self: object) -> Info:
        asked.append(1)
        return Info(2, default_model="m")

    lm_from(with_info(info)).copy(timeout=3)("hi")
    assert asked == [1]


ARGUMENTS = [
    pytest.param(lambda self, settings: Info(2, params=_params(settings, "warm")), id="settings"),
    pytest.param(lambda self, model: Info(2, params=_params(..., model)), id="model"),
    pytest.param(lambda self, model, settings: Info(2, params=_params(settings, model)), id="both"),
]


def _params(settings: Any, model: str | None) -> frozenset[str]:
    known = settings is not None and model is not None
    return frozenset({"seed"} if known else {"seed", "top_k"})


@pytest.mark.parametrize("info", ARGUMENTS)
def test_a_hook_takes_either_argument_or_both(info: Callable[..., Info]) -> None:
    lm = lm_from(with_info(info), model="m")
    assert lm("hi", seed=1) == ["yes"]
    with pytest.raises(errors.UnknownParameterError):
        lm("hi", top_k=1)


def test_what_load_said_of_version_and_default_model_stays() -> None:
    def info(self: object, model: str | None) -> Info:
        if model is None:
            return Info(2, frozenset({"messages"}), default_model="m")
        return Info(1, frozenset({"messages"}), default_model="other")

    lm = lm_from(with_info(info))
    assert (spec_of(lm).info.api, spec_of(lm).info.default_model, lm.model) == (2, "m", "m")


def test_a_missing_credential_means_all_models_together() -> None:
    def info(self: object, settings: Any) -> Info:
        if settings is not None:
            raise errors.MissingCredentialError("no key")
        return Info(2, params=frozenset({"seed", "top_k"}))

    lm = lm_from(with_info(info), model="m")
    assert lm("hi", top_k=1) == ["yes"]


@pytest.mark.parametrize(
    "answer, error, says",
    [
        pytest.param(LookupError("no model"), errors.PluginLoadError, "LookupError", id="raises"),
        pytest.param(
            errors.InputError("no model"), errors.PluginLoadError, "InputError", id="ours"
        ),
        pytest.param(SystemExit(3), errors.PluginLoadError, "SystemExit", id="leaves"),
        pytest.param({"api": 2}, errors.PluginContractError, "dict, not Info", id="a dict"),
        pytest.param(
            Info(2, params=["seed"]),  # type: ignore[arg-type]
            errors.PluginContractError,
            "Info.params must be a frozenset",
            id="a list",
        ),
        pytest.param(
            Info(2, portable="a"),  # type: ignore[arg-type]
            errors.PluginContractError,
            "Info.portable must be a frozenset",
            id="a text",
        ),
    ],
)
def test_a_hook_that_fails_for_a_model_is_a_typed_error(
    answer: Any, error: type[Exception], says: str
) -> None:
    def info(self: object, model: str | None) -> Any:
        if model is None:
            return Info(2)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    with pytest.raises(error, match=rf"plugin 'acme'.*{says}"):
        lm_from(with_info(info), model="m")


def test_a_secret_in_what_it_raises_is_masked() -> None:
    def info(self: object, settings: Any) -> Info:
        if settings is not None:
            raise LookupError(f"no model for {settings.api_key.get_secret_value()}")
        return Info(2)

    with pytest.raises(errors.PluginLoadError) as caught:
        lm_from(with_info(info), model="m", api_key=CANARY)
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value.__cause__)


# -- what is judged by it ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda lm: lm("hi", seed=1), id="call"),
        pytest.param(lambda lm: asyncio.run(lm.acall("hi", seed=1)), id="awaited"),
        pytest.param(lambda lm: lm.stream("hi", seed=1), id="stream"),
        pytest.param(lambda lm: lm.astream("hi", seed=1), id="astream"),
        pytest.param(lambda lm: lm.preview("hi", seed=1), id="preview"),
        pytest.param(lambda lm: lm.embed("hi", seed=1), id="embed"),
        pytest.param(lambda lm: lm.copy(seed=1), id="copy"),
        pytest.param(lambda lm: lm.batch(["hi"], seed=1), id="batch"),
        pytest.param(lambda lm: lm.batch([{"prompt": "hi", "seed": 1}]), id="a row"),
    ],
)
def test_a_parameter_of_another_model_is_refused(ask: Callable[[LM], Any]) -> None:
    plugin = Models()
    with pytest.raises(errors.UnknownParameterError) as caught:
        ask(lm_from(plugin, model="cold"))
    assert caught.value.param == "seed"
    assert plugin.requests == []


def test_a_copy_to_a_model_that_takes_less_says_what_to_leave_behind() -> None:
    lm = lm_from(Models(), model="warm", temperature=0)
    with pytest.raises(errors.UnknownParameterError, match="temperature=None leaves it behind"):
        lm.copy(model="cold")
    assert lm.copy(model="cold", temperature=None).params == {}


def test_settings_of_a_call_count() -> None:
    lm = lm_from(Models(), model="warm")
    assert lm("hi", tier="large", top_k=3) == ["yes"]
    with pytest.raises(errors.UnknownParameterError):
        lm("hi", top_k=3)
    large = lm_from(Models(), model="warm", tier="large", top_k=3)
    with pytest.raises(errors.UnknownParameterError, match="top_k"):
        large("hi", tier="small")


def test_a_table_is_judged_by_its_model_with_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "lmgateway.toml"
    file.write_text('[models.x]\nprovider = "switch"\nmodel = "cold"\nparams = { seed = 1 }\n')
    from lmgateway._plugins import registry
    from lmgateway._plugins.contract import plugin_from

    plugin = plugin_from(Models(), name="switch", installed=True)
    monkeypatch.setattr(registry, "load", lambda name: plugin)
    monkeypatch.setattr(registry, "is_installed", lambda name: True)
    import lmgateway

    with pytest.raises(errors.ConfigError, match=r"lmgateway\.toml:4: .*'seed'"):
        lmgateway.get_lm("x")
    file.write_text(file.read_text().replace('"cold"', '"warm"'))
    assert lmgateway.get_lm("x").params == {"seed": 1}


# -- kinds of parts, and tools -------------------------------------------------------------------

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def said(part: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, part]}]}


NEEDS = [
    ("images", said({"type": "image_url", "image_url": {"url": "http://x"}})),
    ("images", said({"type": "image", "source": {}})),
    ("images", said({"type": "input_image", "image_url": "http://x"})),
    ("images", said({"type": "file", "media_type": "image/png", "data": ""})),
    ("audio", said({"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}})),
    ("audio", said({"type": "audio", "audio": {}})),
    ("audio", said({"type": "file", "media_type": "Audio/mpeg", "data": ""})),
    ("files", said({"type": "file", "file": {"file_data": "x"}})),
    ("files", said({"type": "document", "source": {}})),
    ("files", said({"type": "input_file", "file_id": "x"})),
    ("files", said({"type": "file", "media_type": "application/pdf", "data": ""})),
    ("tools", {"prompt": "hi", "tools": [TOOL]}),
    ("tools", {"messages": [{"role": "tool", "tool_call_id": "c", "content": "1"}]}),
    ("tools", {"messages": [{"role": "assistant", "content": None, "tool_calls": [CALL]}]}),
    (None, said({"type": "something of 2030", "value": 3})),
    (None, {"messages": [{"role": "assistant", "content": "yes", "tool_calls": []}]}),
    (None, {"prompt": "hi", "tools": []}),
]
EVERYTHING = frozenset({"messages", "images", "audio", "files", "tools"})


def lm_with(api: int, has: frozenset[str]) -> LM:
    info = Info(api, has, frozenset({"tools"}), "m")
    return lm_from(with_info(lambda self: info))


@pytest.mark.parametrize("needed, call", NEEDS, ids=lambda each: str(each)[:60])
def test_a_part_needs_its_capability(needed: str | None, call: dict[str, Any]) -> None:
    assert lm_with(2, EVERYTHING)(**call) == ["yes"]
    lacking = lm_with(2, EVERYTHING - {needed or ""})
    if needed is None:
        assert lacking(**call) == ["yes"]
        return
    with pytest.raises(errors.UnsupportedError, match=f"acme does not support {needed}"):
        lacking(**call)


@pytest.mark.parametrize("needed, call", NEEDS, ids=lambda each: str(each)[:60])
def test_of_a_plugin_of_api_1_nothing_newer_is_asked(
    needed: str | None, call: dict[str, Any]
) -> None:
    lm = lm_with(1, frozenset({"messages"}))
    if needed == "images" and "media_type" not in str(call):  # as it was
        with pytest.raises(errors.UnsupportedError, match="images"):
            lm(**call)
    else:
        assert lm(**call) == ["yes"]


def test_a_word_of_a_newer_list_is_accepted() -> None:
    assert lm_with(2, frozenset({"messages", "telepathy"}))("hi") == ["yes"]


# -- our own keys of messages --------------------------------------------------------------------


@pytest.mark.parametrize(
    "extra, says",
    [
        pytest.param(
            {"is_error": "yes"}, r"messages\[1\].is_error must be True or False", id="str"
        ),
        pytest.param({"is_error": 1}, r"messages\[1\].is_error must be True or False", id="int"),
        pytest.param({"reasoning": 3}, r"messages\[1\].reasoning must be a str, not int", id="3"),
        pytest.param({"reasoning": ["a"]}, r"messages\[1\].reasoning must be a str", id="a list"),
    ],
)
def test_a_key_of_ours_with_a_wrong_value_is_refused(extra: dict[str, Any], says: str) -> None:
    lm = lm_with(2, EVERYTHING)
    turn = {"role": "assistant", "content": "a", **extra}
    with pytest.raises(errors.InputError, match=says):
        lm(messages=[{"role": "user", "content": "hi"}, turn])


@pytest.mark.parametrize("state", [None, "x", 3, [], {}, {"format": 3}, {"turn": {"a": 1}}])
def test_a_state_of_any_type_passes(state: Any) -> None:
    turns = [
        {"role": "assistant", "content": "a", "state": state},
        {"role": "user", "content": "b"},
    ]
    assert lm_with(2, EVERYTHING)(messages=turns) == ["yes"]
