"""A schema is a type or a JSON schema: a text is refused, and never evaluated."""

from __future__ import annotations

import asyncio
import builtins
import json
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ForwardRef, Literal, NewType, Optional, TypeVar, Union

import pydantic
import pytest
import typing_extensions

import lmgateway
from lmgateway import LM, errors, get_lm
from lmgateway.batch import aprocess_batch, arun, process_batch, run
from lmgateway.testing import ScriptedLM


class City(pydantic.BaseModel):
    name: str


class Town(typing_extensions.TypedDict):
    name: str


@dataclass
class Village:
    name: str


T = TypeVar("T", bound=int)

TYPES = {
    "a pydantic model": City,
    "a TypedDict": Town,
    "a dataclass": Village,
    "a builtin": dict,
    "list[int]": list[int],
    "typing.List": typing.List[int],  # noqa: UP006
    "a union": int | None,
    "typing.Optional": Optional[City],  # noqa: UP045
    "Annotated, with a text beside": Annotated[str, "what it is", pydantic.Field(min_length=1)],
    "Literal, of texts": Literal["yes", "no"],
    "a tuple of any length": tuple[int, ...],
    "a NewType": NewType("Name", str),
    "an alias": typing_extensions.TypeAliasType("Alias", list[int]),
    "a generic alias": typing_extensions.TypeAliasType("Alias", list[T], type_params=(T,))[int],  # type: ignore[valid-type]
    "Any": Any,
    "JSON, an alias of itself": pydantic.JsonValue,
    "a list of them": list[pydantic.JsonValue],
}


@pytest.mark.parametrize("schema", TYPES.values(), ids=TYPES)
def test_a_type_is_a_schema(schema: Any) -> None:
    lm = ScriptedLM(lambda request: "null")
    assert lm.preview("q", schema=schema) is not None


ALIEN = "__import__('builtins').lmgateway_was_here.append(1)"

# What carries a text in, or is no type: pydantic evaluates the first and calls the others.
NO_TYPES: dict[str, Callable[[str], Any]] = {
    "a text": lambda text: text,
    "a kind of text": lambda text: type("Text", (str,), {})(text),
    "bytes": lambda text: text.encode(),
    "a ForwardRef": ForwardRef,
    "list of a text": lambda text: list[text],  # type: ignore[valid-type]
    "typing.List of a text": lambda text: typing.List[text],  # type: ignore[valid-type]  # noqa: UP006
    "a text deep inside": lambda text: dict[str, list[tuple[int, text]]],  # type: ignore[valid-type]
    "a union": lambda text: Union[int, text],  # noqa: UP007
    "an optional": lambda text: Optional[text],  # noqa: UP045
    "Annotated": lambda text: Annotated[text, 1],
    "type[...]": lambda text: type[text],
    "a callable": lambda text: typing.Callable[[text], int],
    "a NewType": lambda text: NewType("Name", text),  # type: ignore[valid-newtype]
    "an alias": lambda text: typing_extensions.TypeAliasType("Alias", text),  # type: ignore[misc]
    "an alias in a list": lambda text: list[typing_extensions.TypeAliasType("A", text)],  # type: ignore[misc]
    "a TypeVar": lambda text: TypeVar("V", bound=text),  # type: ignore[misc]
    "a function": lambda _: builtins.eval,
    "a list of a function": lambda _: list[builtins.eval],  # type: ignore[valid-type]
    "a number": lambda _: 1,
    "a list": lambda text: [text],
    "a tuple": lambda text: (text,),
    "True": lambda _: True,
    "an instance": lambda _: City(name="x"),
    "a TypeAdapter": lambda _: pydantic.TypeAdapter(int),
}


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What ALIEN appends to when it is evaluated."""
    marks: list[int] = []
    monkeypatch.setattr(builtins, "lmgateway_was_here", marks, raising=False)
    return marks


def streamed(lm: LM, schema: Any) -> None:
    with lm.stream("q", schema=schema) as stream:
        list(stream)


async def astreamed(lm: LM, schema: Any) -> None:
    async with lm.astream("q", schema=schema) as stream:
        async for _ in stream:
            pass


ENTRIES: dict[str, Callable[[LM, Any], Any]] = {
    "complete": lambda lm, schema: lm.complete("q", schema=schema),
    "acomplete": lambda lm, schema: asyncio.run(lm.acomplete("q", schema=schema)),
    "call": lambda lm, schema: lm("q", schema=schema),
    "acall": lambda lm, schema: asyncio.run(lm.acall("q", schema=schema)),
    "stream": streamed,
    "astream": lambda lm, schema: asyncio.run(astreamed(lm, schema)),
    "preview": lambda lm, schema: lm.preview("q", schema=schema),
    "batch": lambda lm, schema: lm.batch(["q"], schema=schema),
    "abatch": lambda lm, schema: asyncio.run(lm.abatch(["q"], schema=schema)),
    "a dict of batch": lambda lm, schema: lm.batch([{"prompt": "q", "schema": schema}]),
    "a dict of abatch": lambda lm, schema: asyncio.run(
        lm.abatch([{"prompt": "q", "schema": schema}])
    ),
    "get_lm": lambda lm, schema: get_lm("echo", schema=schema),
    "copy": lambda lm, schema: get_lm("echo").copy(schema=schema),
}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
@pytest.mark.parametrize("make", NO_TYPES.values(), ids=NO_TYPES)
def test_what_is_no_type_is_refused_and_not_evaluated(
    entry: Callable[[LM, Any], Any], make: Callable[[str], Any], evaluated: list[int]
) -> None:
    lm = ScriptedLM(lambda request: "null")
    with pytest.raises(errors.InputError, match="schema") as caught:
        entry(lm, make(ALIEN))
    assert not evaluated
    assert not lm.requests
    assert "lmgateway_was_here" not in str(caught.value)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="'type' statements are of Python 3.12")
def test_an_alias_of_itself_is_a_type() -> None:
    space: dict[str, Any] = {}
    exec("type Json = dict[str, Json] | list[Json] | int | None", space)
    ScriptedLM(["1"]).complete("q", schema=space["Json"])


def test_the_message_says_what_to_give() -> None:
    with pytest.raises(
        errors.InputError, match=r"a type .* or a JSON schema as a dict, not a text"
    ):
        ScriptedLM([]).complete("q", schema="int")


def test_an_unusable_type_is_told_in_one_line() -> None:
    class Odd:
        pass

    with pytest.raises(errors.InputError, match="Odd") as caught:
        ScriptedLM([]).complete("q", schema=Odd)
    assert "\n" not in str(caught.value)


# -- from data ---------------------------------------------------------------------------------


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


BODY = {"messages": [{"role": "user", "content": "q"}]}
AS_TEXTS = {
    "code": ALIEN,
    "code as JSON text": json.dumps(ALIEN),
    "a list": f"[{json.dumps(ALIEN)}]",
    "a number": "1",
    "true": "true",
}


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


FILES: dict[str, Callable[[Path, str], Any]] = {
    "JSON lines": lambda folder, text: written(
        folder, "in.jsonl", json.dumps({"prompt": "q", "schema": parsed(text)})
    ),
    "OpenAI's form": lambda folder, text: written(
        folder, "in.jsonl", json.dumps({"body": {**BODY, "schema": parsed(text)}})
    ),
    "CSV": lambda folder, text: written(folder, "in.csv", f"prompt,schema\nq,{quoted(text)}\n"),
    "OpenAI's form in CSV": lambda folder, text: written(
        folder, "in.csv", "body\n" + quoted(json.dumps({**BODY, "schema": parsed(text)}))
    ),
    "TSV": lambda folder, text: written(folder, "in.tsv", f"prompt\tschema\nq\t{quoted(text)}\n"),
    "an iterable": lambda _, text: [{"prompt": "q", "schema": parsed(text)}],
}


@pytest.mark.parametrize("source", FILES.values(), ids=FILES)
@pytest.mark.parametrize("text", AS_TEXTS.values(), ids=AS_TEXTS)
def test_a_row_evaluates_nothing(
    tmp_path: Path, source: Callable[[Path, str], Any], text: str, evaluated: list[int]
) -> None:
    given, lm = source(tmp_path, text), ScriptedLM([])
    for name, answer in (("a", run), ("b", lambda *args: asyncio.run(arun(*args)))):
        summary = answer(given, tmp_path / f"{name}.jsonl", lm)
        assert summary.errors == {"InputError": 1}
        (row,) = map(json.loads, (tmp_path / f"{name}.jsonl").read_text().splitlines())
        assert "row 1: schema must be" in row["error"]["message"]
        assert "lmgateway_was_here" not in row["error"]["message"]
    assert not evaluated


@pytest.mark.parametrize(
    "answer", [process_batch, lambda *args: asyncio.run(aprocess_batch(*args))], ids=["", "awaited"]
)
@pytest.mark.parametrize("schema", [ALIEN, City, list[int], 1], ids=["text", "type", "form", "int"])
def test_a_row_of_process_batch_holds_json(
    answer: Callable[..., Any], schema: Any, evaluated: list[int]
) -> None:
    (row,) = answer([{"prompt": "q", "schema": schema}], ScriptedLM([]))
    assert row["error"]["type"] == "InputError"
    assert "row 1: schema must be" in row["error"]["message"]
    assert not evaluated


def test_a_schema_as_json_is_sent_from_every_file(tmp_path: Path) -> None:
    schema = {"type": "object", "$ref": "file:///etc/passwd", "$defs": {"x": {"$id": "http://h/"}}}
    for name, source in FILES.items():
        lm = ScriptedLM(["{}"])
        output = tmp_path / f"{name.replace(' ', '')}.jsonl"
        assert run(source(tmp_path, json.dumps(schema)), output, lm).answered == 1, name
        assert lm.requests[0].schema == schema


def test_a_dict_of_batch_may_hold_a_type() -> None:
    (answer,) = ScriptedLM(['{"name": "x"}']).batch([{"prompt": "q", "schema": City}])
    assert answer["choices"][0]["parsed"] == City(name="x")


TABLES = {
    "in the table": "schema = '{}'",
    "in its parameters": "params = {{ schema = '{}' }}",
    "as a table": "[models.x.schema]\ntype = '{}'",
    "in a list": "schema = ['{}']",
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_configuration_file_evaluates_nothing(
    tmp_path: Path, table: str, evaluated: list[int]
) -> None:
    path = tmp_path / "lmgateway.toml"
    alien = ALIEN.replace("'", '"')
    path.write_text(f'[models.x]\nprovider = "openai"\nmodel = "m"\n{table.format(alien)}\n')
    with pytest.raises(errors.ConfigError, match="schema"):
        lmgateway.get_lm("x", config=str(path))
    assert not evaluated
