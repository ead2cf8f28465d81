from __future__ import annotations

import asyncio
import copy
import importlib
import pickle
import sys
from typing import Any

import pytest

dspy = pytest.importorskip("dspy", reason="needs the extra [dspy]")

from dspy import lm15
from pydantic import BaseModel
from support.distributions import SitePackages

from lmgateway import InputError, UnknownParameterError, UnknownProviderError, get_lm
from lmgateway.dspy import LM, Anyscale
from lmgateway.testing import ScriptedLM

BASE = "https://one.example/v1"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def scripted(*answers: Any, **keywords: Any) -> tuple[LM, ScriptedLM]:
    double = ScriptedLM(answers)
    lm = LM(double, cache=False, **keywords)
    return lm, lm.gateway


def ask(lm: LM, *messages: lm15.Message, **fields: Any) -> lm15.Response:
    return lm(lm15.Request(lm.model, messages or (lm15.Message.user("Hi"),), **fields))


# -- one call ----------------------------------------------------------------------------------


def test_a_prompt_is_answered_with_a_list_of_texts() -> None:
    lm, gateway = scripted("Paris.")

    assert lm("The capital of France?") == ["Paris."]
    assert gateway.requests[0].messages == [{"role": "user", "content": "The capital of France?"}]


def test_it_is_a_dspy_lm() -> None:
    assert isinstance(scripted()[0], dspy.LM)


def test_awaited_it_answers_alike() -> None:
    lm, _ = scripted("Paris.")

    assert asyncio.run(lm.acall("The capital of France?")) == ["Paris."]


def test_forward_gives_the_answer_in_openais_shape_and_keeps_no_history() -> None:
    lm, _ = scripted("one", "two")

    assert lm.forward("Hi").choices[0].message.content == "one"
    assert asyncio.run(lm.aforward("Hi")).choices[0].message.content == "two"
    assert lm.history == []


def test_n_asks_as_often_and_keeps_the_order() -> None:
    lm, gateway = scripted("a", "b", "c", temperature=1.0)

    assert lm("Hi", n=3) == ["a", "b", "c"]
    assert ["n" in each.params for each in gateway.requests] == [False] * 3


def test_a_request_is_answered_with_a_response() -> None:
    answer = {
        "text": "Paris.",
        "model": "m-1",
        "id": "answer-1",
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 3,
            "total_tokens": 10,
            "cached_tokens": 2,
            "reasoning_tokens": 1,
        },
    }
    lm, _ = scripted(answer)

    response = ask(lm)

    assert isinstance(response, lm15.Response)
    assert (response.text, response.id, response.model) == ("Paris.", "answer-1", "m-1")
    assert response.usage == lm15.Usage(7, 3, 10, cache_read_tokens=2, reasoning_tokens=1)


def test_a_request_for_another_model_is_refused() -> None:
    lm, gateway = scripted("never")
    twin = dspy.LM.copy(lm)
    twin.model = "scripted/another"

    with pytest.raises(dspy.LMUnsupportedModelError, match=r"asks scripted/scripted"):
        twin("Hi")
    assert gateway.requests == []


# -- messages ----------------------------------------------------------------------------------

PIXEL = "iVBORw0KGgo="


@pytest.mark.parametrize(
    "message, turns",
    [
        pytest.param(
            lm15.Message.developer("Be brief."),
            [{"role": "system", "content": "Be brief."}],
            id="developer",
        ),
        pytest.param(
            lm15.Message.assistant([lm15.ThinkingPart("hm"), lm15.TextPart("Yes.")]),
            [{"role": "assistant", "content": "Yes."}],
            id="reasoning is not sent back",
        ),
        pytest.param(
            lm15.Message.assistant(lm15.ToolCallPart("c1", "weather", {"city": "Paris"})),
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
                        }
                    ],
                }
            ],
            id="tool call",
        ),
        pytest.param(
            lm15.Message.tool({"c1": "sunny", "c2": "rain"}),
            [
                {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
                {"role": "tool", "tool_call_id": "c2", "content": "rain"},
            ],
            id="tool results",
        ),
        pytest.param(
            lm15.Message.tool("c1", "no such city", is_error=True),
            [{"role": "tool", "tool_call_id": "c1", "content": "[error] no such city"}],
            id="tool error",
        ),
        pytest.param(
            lm15.Message.user(
                [lm15.TextPart("Look:"), lm15.ImagePart(data=PIXEL, detail="low")],
            ),
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Look:"},
                        {
                            "type": "image_url",
                            "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"},
                        },
                    ],
                }
            ],
            id="image",
        ),
        pytest.param(
            lm15.Message.user(lm15.AudioPart(data=PIXEL, media_type="audio/mpeg")),
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "mp3"}}
                    ],
                }
            ],
            id="audio",
        ),
        pytest.param(
            lm15.Message.user(lm15.DocumentPart(file_id="file-1")),
            [
                {
                    "role": "user",
                    "content": [{"type": "file", "file": {"file_id": "file-1"}}],
                }
            ],
            id="document",
        ),
        pytest.param(
            lm15.Message.user(lm15.DataPart({"city": "Zürich"})),
            [{"role": "user", "content": '{"city": "Zürich"}'}],
            id="data",
        ),
    ],
)
def test_every_kind_of_message_reaches_the_provider(
    message: lm15.Message, turns: list[dict[str, Any]]
) -> None:
    lm, gateway = scripted("ok")

    ask(lm, lm15.Message.user("Hi"), message)

    assert gateway.requests[0].messages[1:] == turns


def test_the_system_text_goes_first() -> None:
    lm, gateway = scripted("ok")

    ask(lm, system="Be brief.")

    assert gateway.requests[0].messages[0] == {"role": "system", "content": "Be brief."}


def test_a_part_that_chat_has_no_place_for_is_refused_before_anything_is_sent() -> None:
    lm, gateway = scripted("never")

    with pytest.raises(dspy.LMUnsupportedFeatureError, match="video"):
        ask(lm, lm15.Message.user(lm15.VideoPart(url="https://one.example/v.mp4")))
    assert gateway.requests == []


# -- parameters --------------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.mark.parametrize(
    "config, params",
    [
        ({"temperature": 0.5, "max_tokens": 9}, {"temperature": 0.5, "max_tokens": 9}),
        ({"stop": ("\n", "END")}, {"stop": ["\n", "END"]}),
        ({"top_k": 4, "seed": 1}, {"top_k": 4, "seed": 1}),
        ({"logprobs": 0}, {"logprobs": True}),
        ({"logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"user_id": "u"}, {"user": "u"}),
        ({"reasoning": lm15.Reasoning("low")}, {"reasoning_effort": "low"}),
        ({"reasoning": lm15.Reasoning("off")}, {"reasoning_effort": "none"}),
        ({"cache": lm15.CacheConfig(key="k")}, {"prompt_cache_key": "k"}),
        ({"extensions": {"min_p": 0.1}}, {"min_p": 0.1}),
        (
            {"response_format": {"type": "json_object"}},
            {"response_format": {"type": "json_object"}},
        ),
        (
            {"response_format": {"type": "json_schema", "schema": SCHEMA, "strict": True}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "response", "schema": SCHEMA, "strict": True},
                }
            },
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)
def test_every_setting_of_a_request_reaches_the_provider(
    config: dict[str, Any], params: dict[str, Any]
) -> None:
    lm, gateway = scripted("{}")

    ask(lm, config=lm15.Config(**config))

    assert gateway.requests[0].params == params


@pytest.mark.parametrize(
    "choice, params",
    [
        (lm15.ToolChoice("auto"), {"tool_choice": "auto"}),
        (lm15.ToolChoice("none"), {"tool_choice": "none"}),
        (lm15.ToolChoice("auto", parallel=False), {"parallel_tool_calls": False}),
        (
            lm15.ToolChoice("required", ("weather",)),
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
        ),
    ],
    ids=["auto", "none", "one at a time", "this one"],
)
def test_tools_and_their_choice_reach_the_provider(
    choice: lm15.ToolChoice, params: dict[str, Any]
) -> None:
    lm, gateway = scripted("ok")
    function = TOOL["function"]
    tool = lm15.FunctionTool(function["name"], function["description"], function["parameters"])

    ask(lm, tools=(tool,), config=lm15.Config(tool_choice=choice))

    assert gateway.requests[0].params == {"tools": [TOOL], **params}


def test_what_was_given_to_the_lm_holds_for_every_call_and_a_call_may_say_otherwise() -> None:
    lm, gateway = scripted("a", "b", temperature=0.1, max_tokens=5)

    lm("Hi")
    lm("Hi", temperature=0.9)

    assert gateway.requests[0].params == {"temperature": 0.1, "max_tokens": 5}
    assert gateway.requests[1].params == {"temperature": 0.9, "max_tokens": 5}


def test_a_parameter_that_a_copy_dropped_does_not_come_back() -> None:
    lm, gateway = scripted("a", temperature=0.1)

    lm.copy(temperature=None)("Hi")

    assert gateway.requests[0].params == {}


def test_a_parameter_that_dspy_does_not_carry_is_held_for_every_call() -> None:
    lm, gateway = scripted("a", repetition_penalty=1.1)

    lm("Hi")

    assert gateway.requests[0].params == {"repetition_penalty": 1.1}


def test_a_pydantic_model_binds_the_answer() -> None:
    class City(BaseModel):
        city: str

    lm, gateway = scripted('{"city": "Paris"}')

    lm("Hi", response_format=City)

    sent = gateway.requests[0].params["response_format"]["json_schema"]
    assert (sent["name"], sent["schema"]["required"]) == ("City", ["city"])


def test_a_provider_that_takes_no_conversation_gets_one_text(site_packages: SitePackages) -> None:
    site_packages.install(
        "prompty",
        """
        from lmgateway import hookimpl

        @hookimpl
        def lmgateway_complete(request):
            text = request.prompt.upper()
            return {"prompt": request.prompt, "choices": [{"text": text}]}
        """,
    )
    lm = LM("prompty", model="m", cache=False)

    assert ask(lm, system="Shout.").text == "SHOUT.\n\nHI"


# -- answers -----------------------------------------------------------------------------------


def choice(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"text": "", "index": 0, **fields}]}


def call_of(arguments: str, **fields: Any) -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments}
    return {"id": "c1", "type": "function", "function": function, **fields}


@pytest.mark.parametrize(
    "call, arguments",
    [
        (call_of('{"city": "Paris"}'), {"city": "Paris"}),
        (call_of('"{}"', parsed={}), {}),
        (call_of("", parsed={}), {}),
        (call_of("[1]", parsed=[1]), {"value": [1]}),
        (call_of('{"city": "Par'), {"partial_json": '{"city": "Par'}),
    ],
    ids=["object", "string of an object", "none", "list", "cut off"],
)
def test_a_tool_call_is_a_part_of_the_response(
    call: dict[str, Any], arguments: dict[str, Any]
) -> None:
    lm, _ = scripted(choice(tool_calls=[call], finish_reason="tool_calls"))

    response = ask(lm)

    assert response.tool_calls == [lm15.ToolCallPart("c1", "weather", arguments)]
    assert response.finish_reason == "tool_call"


def test_reasoning_is_beside_the_text() -> None:
    lm, _ = scripted(choice(text="Paris.", reasoning="France, so ..."))

    assert lm("Hi") == [{"text": "Paris.", "reasoning_content": "France, so ..."}]


def test_log_probabilities_are_in_the_output() -> None:
    token = {"token": "Paris", "logprob": -0.5, "bytes": [80], "top_logprobs": []}
    token["top_logprobs"] = [{"token": "Rome", "logprob": -2.0}]
    lm, _ = scripted(choice(text="Paris", logprobs=[token]))

    (output,) = lm("Hi", logprobs=True, top_logprobs=1)

    (scored,) = output["logprobs"]["content"]
    assert (scored["token"], scored["logprob"], scored["bytes"]) == ("Paris", -0.5, [80])
    assert [(top["token"], top["logprob"]) for top in scored["top_logprobs"]] == [("Rome", -2.0)]


def test_a_refusal_is_a_part_of_its_own() -> None:
    lm, _ = scripted(choice(refusal="I will not."))

    assert ask(lm).message.parts == (lm15.RefusalPart("I will not."),)


@pytest.mark.parametrize(
    "said, reason", [("stop", "stop"), ("length", "length"), (None, "stop"), ("eos", "stop")]
)
def test_why_it_ended_is_said_in_dspys_words(said: str | None, reason: str) -> None:
    lm, _ = scripted(choice(text="x", finish_reason=said))

    assert ask(lm).finish_reason == reason


# -- names, settings, copies -------------------------------------------------------------------


@pytest.mark.parametrize(
    "lm, label",
    [
        (lambda: LM("anyscale", model="m/a"), "anyscale/m/a"),
        (lambda: LM("anyscale/m/a", api_base=BASE), "anyscale@one.example/v1/m/a"),
        (lambda: LM("openai", model="gpt-4o"), "openai@api.openai.com/v1/gpt-4o"),
        (lambda: LM("anthropic", model="c"), "anthropic/@api.anthropic.com/c"),
        (lambda: LM("echo"), "echo/echo"),
        (lambda: LM(get_lm("echo"), temperature=0.5), "echo/echo"),
        (lambda: Anyscale("m/a", BASE), "anyscale@one.example/v1/m/a"),
    ],
    ids=[
        "no service yet",
        "service",
        "its own service",
        "Claude",
        "in the process",
        "an LM",
        "Anyscale",
    ],
)
def test_the_model_string_names_provider_service_and_model(lm: Any, label: str) -> None:
    assert lm().model == label


@pytest.mark.parametrize(
    "keywords",
    [
        {"use_chat_api": True},
        {"template": "none"},
        {"system": "Be brief."},
        {"min_p": 0.1},
        {"headers": {"x-portkey-provider": "groq"}},
    ],
    ids=lambda keywords: next(iter(keywords)),
)
def test_whatever_else_shapes_an_answer_is_in_the_model_string_too(
    keywords: dict[str, Any],
) -> None:
    plain = LM("anyscale", model="m", api_base=BASE)

    other = LM("anyscale", model="m", api_base=BASE, **keywords)

    assert other.model != plain.model
    assert other.model == LM("anyscale", model="m", api_base=BASE, **keywords).model


def test_generation_parameters_and_the_key_are_not() -> None:
    lm = LM("anyscale", model="m", api_base=BASE, api_key="sk-12345678", temperature=0.5)

    assert lm.model == LM("anyscale", model="m", api_base=BASE).model
    assert lm.kwargs["temperature"] == 0.5


def test_headers_are_in_the_model_string_by_what_they_say_and_credentials_are_not() -> None:
    def label(**headers: str) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return str(LM("anyscale", model="m", api_base=BASE, headers=named).model)

    assert label(X_A="1", X_B="2") == label(x_b="2", x_a="1") != label(X_A="2", X_B="1")
    assert label(X_Api_Key="sk-12345678") == LM("anyscale", model="m", api_base=BASE).model


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"name": "anyscal", "model": "m"}, UnknownProviderError),
        ({"name": "anyscale", "model": "m", "temprature": 0}, UnknownParameterError),
        ({"name": "anyscale"}, InputError),
        ({"name": "echo", "cache": "only"}, InputError),
    ],
    ids=["provider", "parameter", "no model", "cache"],
)
def test_what_means_nothing_is_refused_at_once(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        LM(**arguments)


def test_lmgateways_own_cache_retries_and_history_are_off() -> None:
    options = LM("echo").gateway.options

    assert (options.cache, options.retries, options.history) == (False, 0, 0)


def test_they_are_on_when_asked_for() -> None:
    mine = get_lm("echo", cache=True, retries=1)

    assert LM(mine).gateway is mine
    assert LM("echo", retries=4).gateway.options.retries == 4


def test_a_copy_shares_connections_and_has_a_history_of_its_own() -> None:
    lm, _ = scripted("a", "b")
    twin = lm.copy(temperature=0.7, rollout_id=3)

    twin("Hi")

    assert twin.gateway is lm.gateway
    assert (lm.history, len(twin.history)) == ([], 1)
    assert (lm.kwargs.get("temperature"), twin.kwargs["temperature"]) == (None, 0.7)


@pytest.mark.parametrize(
    "changes, label, timeout",
    [
        ({"model": "other"}, "anyscale@one.example/v1/other", 60.0),
        ({"timeout": 5}, "anyscale@one.example/v1/m", 5),
        ({"api_base": "https://two.example/v1"}, "anyscale@two.example/v1/m", 60.0),
    ],
    ids=["model", "option", "setting"],
)
def test_a_copy_may_change_what_belongs_to_lmgateway(
    changes: dict[str, Any], label: str, timeout: float
) -> None:
    lm = LM("anyscale", model="m", api_base=BASE, temperature=0.2)

    twin = lm.copy(**changes)

    assert (twin.model, twin.gateway.options.timeout) == (label, timeout)
    assert (twin.kwargs["temperature"], twin.gateway.options.retries) == (0.2, 0)
    assert lm.model == "anyscale@one.example/v1/m"


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda lm: pickle.loads(pickle.dumps(lm))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_duplicates_answer_alike(duplicate: Any) -> None:
    lm = duplicate(LM("echo", cache=False))

    assert lm("Hi") == ["Hi"]


def test_a_setting_of_the_connection_is_refused_in_a_call() -> None:
    lm, gateway = scripted("never")

    with pytest.raises(ValueError, match="api_key"):
        lm("Hi", api_key="sk-12345678")
    assert gateway.requests == []


@pytest.mark.parametrize(
    "stated, flags",
    [
        (None, (True, False, True)),
        (lm15.ModelSupport(function_calling=False, reasoning=True), (False, True, True)),
    ],
    ids=["as the provider says", "as stated"],
)
def test_what_the_model_can_do_is_told_to_adapters(
    stated: lm15.ModelSupport | None, flags: tuple[bool, ...]
) -> None:
    lm = LM("anyscale", model="m", supports=stated)

    assert flags == (
        lm.supports_function_calling,
        lm.supports_reasoning,
        lm.supports_response_schema,
    )
    assert {"response_format", "tools", "top_k"} <= lm.supported_params


def test_the_old_constructor_still_holds() -> None:
    lm = Anyscale(model="m", api_base=BASE, api_key="sk-12345678", max_tokens=150, n=2)

    assert isinstance(lm, LM)
    assert lm.kwargs == {"temperature": 0.0, "max_tokens": 150, "n": 2}


def test_without_dspy_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == "dspy"]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in [each for each in sys.modules if each.startswith("lmgateway.dspy")]:
        monkeypatch.delitem(sys.modules, name)

    with pytest.raises(ImportError, match=r"pip install 'lmgateway-core\[dspy\]'"):
        importlib.import_module("lmgateway.dspy")


def test_no_look_at_it_shows_the_key() -> None:
    lm = Anyscale(model="m", api_base=BASE, api_key="sk-canary-12345678")

    shown = f"{lm!r} {vars(lm)} {lm.engine!r} {lm.dump_state()} {pickle.dumps(lm)!r}"

    assert "canary" not in shown
