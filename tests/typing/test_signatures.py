"""The signatures that editors and checkers see are those of the one table, and of what runs."""

from __future__ import annotations

import importlib.util
import inspect
import pickle
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

import lmgateway
from lmgateway import LM, UNSET, get_lm
from lmgateway._call import signatures
from lmgateway._call.parameters import CallOptions, EmbedParameters, LMOptions, Parameters
from lmgateway._call.spec import FIXED
from lmgateway.errors import CacheMissError, InputError
from lmgateway.testing import ScriptedLM
from lmgateway.types import Options
from lmgateway.wire.openai import OPENAI, VLLM

HERE = Path(__file__).parent


def _writer() -> Any:
    spec = importlib.util.spec_from_file_location("signatures_writer", HERE / "signatures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WRITER = _writer()
TABLES = WRITER.tables()
ENTRIES = {entry.name: entry for entry in WRITER.ENTRIES}


def shown(name: str) -> inspect.Signature:
    return inspect.signature(get_lm if name == "get_lm" else getattr(LM, name))


def run(name: str) -> Any:
    """The function that a call runs, without what it shows itself as."""
    function = get_lm if name == "get_lm" else vars(LM)[name]
    return function


def test_the_signatures_are_written_from_the_table() -> None:
    committed = Path(signatures.__file__).read_text("utf-8")
    assert committed == WRITER.written(), "the table has changed: run make signatures"


def test_the_table_holds_every_option_once() -> None:
    fixed = set(LMOptions.__annotations__)
    assert fixed == FIXED
    options = set(Options.__dataclass_fields__)
    assert set(CallOptions.__annotations__) == options - fixed
    assert not set(Parameters.__annotations__) & (options | fixed)


def test_a_common_parameter_is_one_that_services_take() -> None:
    assert set(Parameters.__annotations__) - {"system"} <= OPENAI.params | VLLM.params


def test_each_public_method_that_takes_keywords_has_a_typed_signature() -> None:
    open_ended = {
        name
        for name, member in vars(LM).items()
        if inspect.isfunction(member)
        and (not name.startswith("_") or name == "__call__")
        and any(p.kind is p.VAR_KEYWORD for p in inspect.signature(member).parameters.values())
    }
    assert open_ended | {"get_lm"} == set(ENTRIES)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_signature_names_all_keywords_of_its_tables(name: str) -> None:
    names = [each for table in ENTRIES[name].tables for each in TABLES[table]]
    parameters = shown(name).parameters
    assert [each for each in parameters if parameters[each].default is UNSET] == names
    assert repr(parameters[names[0]].default) == "UNSET"


@pytest.mark.parametrize("name", ENTRIES)
def test_what_runs_takes_what_its_signature_names(name: str) -> None:
    """A plain function with **keywords: those that it names itself are shown, with its defaults."""
    running = inspect.signature(run(name), follow_wrapped=False).parameters
    if list(running) == ["args", "keywords"]:  # guarded: what is guarded is its free variable
        (inner,) = (c.cell_contents for c in run(name).__closure__)
        running = inspect.signature(inner).parameters
    parameters = shown(name).parameters
    named = [each for each in running.values() if each.kind is not each.VAR_KEYWORD]
    for each in named:
        assert parameters[each.name].default == each.default, each.name
        assert parameters[each.name].kind is each.kind, each.name
    assert any(each.kind is each.VAR_KEYWORD for each in running.values())


@pytest.mark.parametrize("name", ENTRIES)
def test_whoever_looks_sees_the_words_of_what_runs(name: str) -> None:
    assert inspect.getdoc(getattr(signatures, name)) == inspect.getdoc(run(name))
    assert inspect.iscoroutinefunction(run(name)) is not ENTRIES[name].blocking


def test_what_embed_names_is_taken() -> None:
    lm = get_lm("openai/m", api_key="sk")
    for name in EmbedParameters.__annotations__:
        with pytest.raises(CacheMissError):  # and no UnknownParameterError
            lm.embed("x", cache="only", **{name: None})


# -- UNSET --------------------------------------------------------------------------------------


def test_unset_is_as_not_given() -> None:
    lm = ScriptedLM(["a"] * 9, temperature=0.5)
    lm("x", temperature=UNSET, timeout=UNSET, seed=UNSET)
    lm.batch(["x"], temperature=UNSET)
    list(lm.stream("x", temperature=UNSET))
    lm("x", temperature=None)
    assert [request.params for request in lm.requests] == [{"temperature": 0.5}] * 3 + [{}]
    assert get_lm("echo", seed=UNSET, timeout=UNSET, config=UNSET).params == {}
    assert get_lm("echo", seed=1).copy(seed=UNSET, model=UNSET).params == {"seed": 1}


def test_there_is_one_unset() -> None:
    assert pickle.loads(pickle.dumps(UNSET)) is UNSET
    assert deepcopy(UNSET) is UNSET


# -- how it is called ---------------------------------------------------------------------------


def test_the_model_may_come_second() -> None:
    assert get_lm("openai", "gpt-4o-mini").model == "gpt-4o-mini"


def test_a_stream_takes_messages_and_a_schema_by_name() -> None:
    lm = ScriptedLM(["[1]", "hi"])
    stream = lm.stream("x", schema=list[int])
    assert "".join(stream) == "[1]"
    assert stream.completion is not None
    assert stream.completion["choices"][0]["parsed"] == [1]
    assert "".join(lm.stream(messages=[{"role": "user", "content": "x"}])) == "hi"
    with pytest.raises(InputError, match="not both"):
        lm.stream("x", messages=[{"role": "user", "content": "x"}])


# -- the package --------------------------------------------------------------------------------


def test_the_package_says_its_version() -> None:
    import tomllib

    project = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    assert lmgateway.__version__ == project["version"]


# -- the page that shows them ------------------------------------------------------------------

PAGE = (HERE.parents[1] / "docs" / "reference" / "lm.md").read_text("utf-8")
HEADINGS = {
    "LMOptions": "Options of an LM",
    "CallOptions": "Options of an LM or a call",
    "Parameters": "Parameters",
    "EmbedParameters": "Parameters of embeddings",
    "RerankParameters": "Parameters of an order",
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading of the reference, without its first two lines."""
    section = PAGE.partition(f"# {heading}\n")[2].partition("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


@pytest.mark.parametrize("table", HEADINGS)
def test_the_reference_shows_every_keyword_with_its_type(table: str) -> None:
    shown = {name: kind.replace("\\|", "|") for name, kind, _ in rows(HEADINGS[table])}
    wanted = {f"`{name}`": f"`{' '.join(kind.split())}`" for name, kind in TABLES[table].items()}
    assert list(shown.items()) == list(wanted.items())


def test_the_reference_says_which_keywords_each_method_takes() -> None:
    words = {
        "LMOptions": "options of an LM",
        "CallOptions": "call options",
        "Parameters": "parameters",
        "EmbedParameters": "parameters of embeddings",
        "RerankParameters": "parameters of an order",
    }
    told = {
        name.replace("lm(...)", "__call__"): keywords
        for names, _, keywords, _ in rows("Methods")
        for name in re.findall(r"`([^`]+)`", names)
    }
    wanted = {name: ", ".join(words[each] for each in e.tables) for name, e in ENTRIES.items()}
    assert told == wanted


def test_the_reference_lists_every_member_of_an_lm() -> None:
    listed = re.findall(r"^        - (\w+)$", PAGE, re.MULTILINE)
    public = [name for name in vars(LM) if not name.startswith("_")]
    assert sorted(listed) == sorted([*public, "__call__"])
