"""Schemas: closed as the API wants them; nothing is lost, and nothing means another thing."""

from __future__ import annotations

import copy
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, SecretStr

from lmgateway._base.values import TypeSchema
from lmgateway.errors import InputError, UnsupportedError
from lmgateway.types import Request
from lmgateway_anthropic.build import prepare
from lmgateway_anthropic.schema import closed
from lmgateway_anthropic.settings import Settings

SETTINGS = Settings(api_key=SecretStr("a-made-up-key"))


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    a: Annotated[int, Field(ge=1, le=9)]


class Empty(BaseModel):
    pass


class Whole(BaseModel):
    """Of everything one."""

    name: Annotated[str, Field(max_length=9, description="Of whom.")]
    inner: list[Inner] = Field(min_length=2)
    either: Inner | Empty | None = None
    colour: Colour
    kind: Literal["x", "y"] = "x"
    pair: tuple[int, str]
    when: Annotated[str, Field(json_schema_extra={"format": "date"})]
    odd: Annotated[str, Field(json_schema_extra={"format": "phone"})]


INNER = Inner.model_json_schema()
SCHEMAS: dict[str, dict[str, Any]] = {
    "a model": Whole.model_json_schema(),
    "a reference at the top": {"$ref": "#/$defs/A", "$defs": {"A": INNER}},
    "one of several": {"oneOf": [INNER, {"type": "null"}]},
    "all of several": {"type": "object", "properties": {"b": {"allOf": [INNER]}}},
    "an open object with properties": {**INNER, "additionalProperties": True},
    "values of several types": {"enum": [1, "a", None, True]},
    "one value": {"const": 3},
    "a list": {"type": "array", "items": INNER, "minItems": 1, "maxItems": 3},
}


def objects(schema: Any) -> list[Any]:
    inner = schema.values() if isinstance(schema, dict) else schema
    found = [each for value in inner if isinstance(value, (dict, list)) for each in objects(value)]
    return [schema, *found] if isinstance(schema, dict) and "properties" in schema else found


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_object_is_closed(name: str) -> None:
    before = copy.deepcopy(SCHEMAS[name])
    made = closed(SCHEMAS[name])
    assert all(each["additionalProperties"] is False for each in objects(made))
    assert closed(made) == made
    assert SCHEMAS[name] == before


@pytest.mark.parametrize("name", SCHEMAS)
def test_it_is_the_sdks_own_form(name: str) -> None:
    lib = pytest.importorskip("anthropic.lib._parse._transform", reason="needs the SDK")
    assert closed(SCHEMAS[name]) == lib.transform_schema(copy.deepcopy(SCHEMAS[name]))


@pytest.mark.parametrize(
    "schema, made",
    [
        ({"type": "integer", "minimum": 1, "description": "A."},
         {"type": "integer", "description": "A.\n\n{minimum: 1}"}),
        ({"type": "string", "maxLength": 3}, {"type": "string", "description": "{maxLength: 3}"}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"properties": {}},
         {"type": "object", "properties": {}, "additionalProperties": False}),
        ({"type": ["string", "null"], "maxLength": 3},
         {"anyOf": [{"type": "string", "description": "{maxLength: 3}"}, {"type": "null"}]}),
        ({"$defs": {"A": {"type": "null"}}, "type": "object",
          "properties": {"a": {"$ref": "#/$defs/A", "description": "Which."}}},
         {"$defs": {"A": {"type": "null"}}, "type": "object", "additionalProperties": False,
          "properties": {"a": {"anyOf": [{"$ref": "#/$defs/A"}], "description": "Which."}}}),
    ],
    ids=["a number", "a text", "a format", "no type", "two types", "beside a reference"],
)  # fmt: skip
def test_what_the_api_does_not_know_is_said_in_words(schema: Any, made: Any) -> None:
    assert closed(schema) == made


class Node(BaseModel):
    children: list["Node"]  # noqa: UP037


class Names(BaseModel):
    ages: dict[str, int]


class Any_(BaseModel):  # noqa: N801
    anything: Any


@pytest.mark.parametrize(
    "schema, problem",
    [
        (Node.model_json_schema(), "refers to itself"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}}, "refers to itself"),
        ({"$ref": "#/$defs/B"}, "has no #/\\$defs/B"),
        (Names.model_json_schema(), r"schema\.ages.*any names"),
        (Any_.model_json_schema(), r"schema\.anything.*no type"),
        ({"type": "array", "items": True}, r"schema\.items.*anything"),
    ],
    ids=["recursion", "recursion at the top", "a loose end", "any names", "any value", "true"],
)
def test_what_would_mean_another_thing_is_refused(schema: Any, problem: str) -> None:
    with pytest.raises(UnsupportedError, match=problem) as caught:
        closed(schema)
    assert caught.value.param == "schema"


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_an_object_of_any_names_is_asked_for_in_words(system: str | None) -> None:
    schema = {"type": "object", "additionalProperties": {"type": "integer"}}
    request, (warning,) = prepare(Request("m", "Hi", system=system, schema=schema), SETTINGS)
    assert "output_config" not in request.json
    assert '"additionalProperties": {"type": "integer"}' in request.json["system"]
    assert request.json["system"].startswith(system or "Answer with one JSON object")
    assert (warning["kind"], warning["name"]) == ("adapted", "schema")


@pytest.mark.parametrize("schema", [INNER, TypeSchema(INNER)], ids=["a dict", "a type"])
def test_an_answer_is_kept_under_the_schema_that_was_given(schema: Any) -> None:
    request, _ = prepare(Request("m", "Hi", schema=schema), SETTINGS)
    assert request.json["output_config"]["format"]["schema"] == closed(INNER)
    assert request.kept_as["output_config"]["format"]["schema"] == INNER
    again, _ = prepare(Request("m", "Hi", schema=closed(INNER)), SETTINGS)
    assert again.kept_as is None


def test_the_rest_of_output_config_goes_along() -> None:
    extra = {"output_config": {"effort": "low"}}
    params: dict[str, Any] = {"extra_body": extra}
    request, _ = prepare(Request("m", "Hi", schema=INNER, params=params), SETTINGS)
    assert request.json["output_config"]["effort"] == "low"
    assert "format" in request.json["output_config"]
    extra["output_config"]["format"] = {}  # type: ignore[assignment]
    with pytest.raises(InputError, match="format"):
        prepare(Request("m", "Hi", schema=INNER, params=params), SETTINGS)
