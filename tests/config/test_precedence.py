"""For any subset of the sources of a value, the one that goes first counts, and says so."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmgateway import get_lm
from lmgateway._config.files import find
from lmgateway._config.names import select
from lmgateway.cli.effective import Row, effective
from lmgateway.lm import spec_of

settings.register_profile("config", max_examples=120, deadline=None)
pytestmark = pytest.mark.filterwarnings("error")
some = settings(settings.get_profile("config"))


def subsets(*sources: str) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(sources))


@contextmanager
def fresh_folder() -> Iterator[tuple[Path, pytest.MonkeyPatch]]:
    """A working directory of its own, since hypothesis tries many in one test."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name).resolve()
        (folder / ".git").mkdir()
        patch.chdir(folder)
        yield folder, patch


def row(name: str, lm_name: str, **arguments: Any) -> Row:
    rows = effective(get_lm(lm_name, **arguments))
    return next(each for each in rows if each.name == name)


def first(order: list[str], present: frozenset[str]) -> str | None:
    return next((source for source in order if source in present), None)


BASE_ORDER = ["argument", "environment", ".env", "model", "provider", "catalogue"]


@some
@given(present=subsets(*BASE_ORDER[:-1]), blank=st.booleans())
def test_a_setting(present: frozenset[str], blank: bool) -> None:
    def url(source: str) -> str:
        return f"https://{source.strip('.')}.example"

    with fresh_folder() as (folder, patch):
        lines = ["[models.x]", 'provider = "groq"', 'model = "m"']
        if "model" in present:
            lines.append(f'api_base = "{url("model")}"')
        lines.append("[providers.groq]")
        if "provider" in present:
            lines.append(f'api_base = "{url("provider")}"')
        file = folder / "lmgateway.toml"
        file.write_text("\n".join(lines))
        if ".env" in present or blank:
            value = url(".env") if ".env" in present else ""
            (folder / ".env").write_text(f"# first\nGROQ_API_BASE={value}\n")
        if "environment" in present or blank:
            value = url("environment") if "environment" in present else " "
            patch.setenv("GROQ_API_BASE", value)  # a blank one counts as not set
        arguments = {"api_base": url("argument")} if "argument" in present else {}

        found = row("api_base", "x", **arguments)

    winner = first(BASE_ORDER, present | {"catalogue"})
    places = {
        "argument": ("argument", ""),
        "environment": ("environment", "GROQ_API_BASE"),
        ".env": (".env", f"GROQ_API_BASE in {folder / '.env'}:2"),
        "model": ("file", f"{file}:4"),
        "provider": ("file", f"{file}:{len(lines)}"),
        "catalogue": ("catalogue", "groq"),
    }
    values = {"catalogue": "https://api.groq.com/openai/v1"}
    assert winner is not None
    assert found.value == values.get(winner, url(winner))
    assert (found.origin.kind, found.origin.place) == places[winner]


KEY_ORDER = ["argument", "environment", ".env", "named in environment", "named in .env"]


@some
@given(present=subsets(*KEY_ORDER), names_variable=st.booleans())
def test_a_key(present: frozenset[str], names_variable: bool) -> None:
    keys = {source: f"sk-{place}" for place, source in enumerate(KEY_ORDER)}
    with fresh_folder() as (folder, patch):
        if names_variable:
            (folder / "lmgateway.toml").write_text('[providers.groq]\napi_key_env = "MINE"\n')
        dotenv = {".env": "GROQ_API_KEY", "named in .env": "MINE"}
        lines = [f"{dotenv[each]}={keys[each]}" for each in dotenv if each in present]
        (folder / ".env").write_text("\n".join(lines))
        for source, variable in {
            "environment": "GROQ_API_KEY",
            "named in environment": "MINE",
        }.items():
            if source in present:
                patch.setenv(variable, keys[source])
        arguments = {"api_key": keys["argument"]} if "argument" in present else {}

        lm = get_lm("groq/m", **arguments)
        found = next(each for each in effective(lm) if each.name == "api_key")
        resolved = spec_of(lm).settings
        secrets = list(resolved.secrets()) if resolved else []

    order = KEY_ORDER if names_variable else KEY_ORDER[:3]
    winner = first(order, present)
    assert secrets == ([keys[winner]] if winner else [])
    assert found.value == ("***" if winner else None)
    assert found.origin.kind == {
        None: "default",
        "named in environment": "environment",
        "named in .env": ".env",
    }.get(winner, winner)
    if winner and winner != "argument":
        assert found.origin.place.startswith("MINE" if "named" in winner else "GROQ_API_KEY")
    assert not any(key in str(found) for key in keys.values())


OPTION_ORDER = ["argument", "model", "provider"]


@some
@given(present=subsets(*OPTION_ORDER))
def test_an_option(present: frozenset[str]) -> None:
    values = {"argument": 1.5, "model": 2.5, "provider": 3.5}
    with fresh_folder() as (folder, _):
        lines = ["[models.x]", 'provider = "groq"', 'model = "m"']
        lines += ["timeout = 2.5"] if "model" in present else []
        lines += ["[providers.groq]"]
        lines += ["timeout = 3.5"] if "provider" in present else []
        file = folder / "lmgateway.toml"
        file.write_text("\n".join(lines))
        arguments = {"timeout": 1.5} if "argument" in present else {}

        found = row("timeout", "x", **arguments)

    winner = first(OPTION_ORDER, present)
    assert found.value == (values[winner] if winner else 60.0)
    expected = {"argument": "", "model": f"{file}:4", "provider": f"{file}:{len(lines)}", None: ""}
    assert found.origin.place == expected[winner]
    assert found.origin.kind == {None: "default", "argument": "argument"}.get(winner, "file")


@some
@given(given_argument=st.booleans(), in_file=st.booleans())
def test_a_parameter(given_argument: bool, in_file: bool) -> None:
    with fresh_folder() as (folder, _):
        params = "params = { temperature = 0.25 }" if in_file else ""
        file = folder / "lmgateway.toml"
        file.write_text(f'[models.x]\nprovider = "groq"\nmodel = "m"\n{params}\n')
        arguments = {"temperature": 0.75} if given_argument else {}
        rows = effective(get_lm("x", **arguments))

    found = {each.name: each for each in rows}.get("temperature")
    if not (given_argument or in_file):
        assert found is None
        return
    assert found is not None
    assert found.value == (0.75 if given_argument else 0.25)
    assert found.origin.place == ("" if given_argument else f"{file}:4")


NAME_ORDER = ["argument", "environment", ".env", "default"]


@some
@given(present=subsets(*NAME_ORDER).filter(bool))
def test_the_name(present: frozenset[str]) -> None:
    with fresh_folder() as (folder, patch):
        default = 'default = "m-default"\n' if "default" in present else ""
        models = {source: f"m-{source.strip('.')}" for source in NAME_ORDER}
        tables = "".join(f'[models.{name}]\nprovider = "echo"\n' for name in models.values())
        (folder / "lmgateway.toml").write_text(default + tables)
        if ".env" in present:
            (folder / ".env").write_text("LMGATEWAY_MODEL=m-env\n")
        if "environment" in present:
            patch.setenv("LMGATEWAY_MODEL", "m-environment")
        name = models["argument"] if "argument" in present else None

        origin = select(name).provenance["name"]

    winner = first(NAME_ORDER, present)
    assert winner is not None
    assert origin.value == models[winner]
    assert origin.kind == ("file" if winner == "default" else winner)


FILE_ORDER = ["config=", "LMGATEWAY_CONFIG", "here", "pyproject here", "above", "user"]


@some
@given(present=subsets(*FILE_ORDER))
def test_the_file(present: frozenset[str]) -> None:
    with fresh_folder() as (folder, patch):
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("HOME", str(folder))
        here = folder / "project"
        paths = {
            "config=": folder / "argument.toml",
            "LMGATEWAY_CONFIG": folder / "variable.toml",
            "here": here / "lmgateway.toml",
            "pyproject here": here / "pyproject.toml",
            "above": folder / "lmgateway.toml",
            "user": folder / "config" / "lmgateway" / "lmgateway.toml",
        }
        for source in present:
            paths[source].parent.mkdir(parents=True, exist_ok=True)
            table = "[tool.lmgateway]\n" if source == "pyproject here" else ""
            paths[source].write_text(f'{table}default = "echo"\n')
        here.mkdir(exist_ok=True)
        patch.chdir(here)
        if "LMGATEWAY_CONFIG" in present:
            patch.setenv("LMGATEWAY_CONFIG", str(paths["LMGATEWAY_CONFIG"]))
        argument = paths["config="] if "config=" in present else None

        found = find(argument)
        works = get_lm(config=argument).provider == "echo" if found else True

    winner = first(FILE_ORDER, present)
    assert (found.path if found else None) == (str(paths[winner]) if winner else None)
    assert works
