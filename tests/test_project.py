"""The project as a user gets it: its files agree, and its wheels install and find one another."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import venv
from configparser import ConfigParser
from email import message_from_string
from email.message import Message
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PROJECTS = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]


class Project(NamedTuple):
    folder: Path
    name: str
    package: Path
    metadata: dict[str, Any]


def read_project(folder: Path) -> Project:
    tables = tomllib.loads((folder / "pyproject.toml").read_text())
    (package,) = tables["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    return Project(folder, tables["project"]["name"], folder / package, tables["project"])


projects = pytest.mark.parametrize(
    "project", [pytest.param(project, id=project.name) for project in map(read_project, PROJECTS)]
)


# -- files that must agree ----------------------------------------------------------------------


def test_env_example_names_the_settings_of_anyscale() -> None:
    from lmgateway_anyscale import lmgateway_settings

    example = (ROOT / ".env.example").read_text()
    variables = set(re.findall(r"^#? ?(ANYSCALE_\w+)=", example, re.MULTILINE))
    fields = {f"ANYSCALE_{field.upper()}" for field in lmgateway_settings().model_fields}
    assert variables <= fields
    assert {"ANYSCALE_API_BASE", "ANYSCALE_API_KEY"} <= variables


def test_env_example_holds_no_value() -> None:
    from dotenv import dotenv_values

    assert not any(dotenv_values(ROOT / ".env.example", interpolate=False).values())


def test_every_decision_is_listed_once_and_in_order() -> None:
    folder = ROOT / "docs" / "adr"
    listed = re.findall(r"^\| \[\d{4}\]\((.+?)\)", (folder / "README.md").read_text(), re.MULTILINE)
    assert listed == sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [int(name[:4]) for name in listed] == list(range(1, len(listed) + 1))


def pages() -> list[Path]:
    folders = (ROOT / name for name in ("changelog.d", "docs", "plugins"))
    return sorted([*ROOT.glob("*.md"), *(path for each in folders for path in each.rglob("*.md"))])


@pytest.mark.parametrize(
    "page", [pytest.param(path, id=str(path.relative_to(ROOT))) for path in pages()]
)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", prose)
    missing = {link for link in links if not (page.parent / link).exists()}
    assert missing <= {"NNNN-title.md"}  # what the template for a decision has in its place


# -- wheels -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ZipFile]:
    """Every distribution's wheel, built from the tree by the backend that is installed."""
    folder = tmp_path_factory.mktemp("wheels")
    offline = ["--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check"]
    run("-m", "pip", "wheel", "--quiet", *offline, "--wheel-dir", folder, *PROJECTS)
    found = (ZipFile(path) for path in folder.glob("*.whl"))
    return {headers(wheel)["Name"]: wheel for wheel in found}


def run(*arguments: str | Path, python: Path = Path(sys.executable), cwd: Path = ROOT) -> str:
    command = [str(python), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def member(wheel: ZipFile, pattern: str) -> str:
    (name,) = [name for name in wheel.namelist() if fnmatch(name, pattern)]
    return wheel.read(name).decode()


def headers(wheel: ZipFile) -> Message:
    return message_from_string(member(wheel, "*.dist-info/METADATA"))


@pytest.mark.slow
@projects
def test_a_wheel_holds_the_whole_package_and_nothing_else(
    project: Project, wheels: dict[str, ZipFile]
) -> None:
    source = {
        path.relative_to(project.package.parent).as_posix()
        for path in project.package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in wheels[project.name].namelist() if ".dist-info/" not in name}
    assert packed == source
    assert f"{project.package.name}/py.typed" in packed


@pytest.mark.slow
@projects
def test_a_wheel_brings_its_licence(project: Project, wheels: dict[str, ZipFile]) -> None:
    assert headers(wheels[project.name])["License-Expression"] == "Apache-2.0"
    licence = member(wheels[project.name], "*.dist-info/licenses/LICENSE")
    assert licence == (ROOT / "LICENSE").read_text()


@pytest.mark.slow
@projects
def test_an_entry_point_names_a_module_of_its_wheel(
    project: Project, wheels: dict[str, ZipFile]
) -> None:
    wheel = wheels[project.name]
    points = ConfigParser()
    points.read_string(member(wheel, "*.dist-info/entry_points.txt"))
    values = [value for section in points.sections() for value in points[section].values()]
    modules = {value.split(":")[0] for value in values}
    packed = {re.sub(r"(/__init__)?\.py$", "", name).replace("/", ".") for name in wheel.namelist()}
    assert modules <= packed


@pytest.mark.slow
def test_the_core_needs_eight_distributions(wheels: dict[str, ZipFile]) -> None:
    required = headers(wheels["lmgateway-core"]).get_all("Requires-Dist", [])
    core = {re.split(r"[^\w-]", line)[0] for line in required if "extra ==" not in line}
    eight = "certifi platformdirs pluggy pydantic python-dotenv requests typing-extensions urllib3"
    assert core == set(eight.split())


# -- a fresh environment ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fresh_python(wheels: dict[str, ZipFile], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment's Python: the wheels are installed, what they need is borrowed."""
    home = tmp_path_factory.mktemp("fresh")
    venv.create(home, symlinks=True, with_pip=False)
    python = home / "bin" / "python"
    (site,) = home.glob("lib/python*/site-packages")
    borrow_dependencies(site)
    pip = ["-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", *(str(wheel.filename) for wheel in wheels.values()))
    return python


def borrow_dependencies(site: Path) -> None:
    """Link in what is installed here, but for the project itself and everything editable."""
    for folder in map(Path, sys.path):
        for path in folder.iterdir() if folder.name == "site-packages" else ():
            ours = "lmgateway" in path.name or path.suffix == ".pth"
            if not ours and not (site / path.name).exists():
                (site / path.name).symlink_to(path)


@pytest.mark.slow
def test_installed_wheels_list_every_provider(fresh_python: Path, tmp_path: Path) -> None:
    script = """
import json, lmgateway
print(json.dumps([lmgateway.__file__, lmgateway.providers()]))
"""
    output = run("-I", "-W", "error", "-c", script, python=fresh_python, cwd=tmp_path)
    location, listed = json.loads(output)
    assert Path(location).is_relative_to(fresh_python.parents[1])
    assert listed == sorted(
        [name, project.name, project.metadata["version"]]
        for project in map(read_project, PROJECTS)
        for name in project.metadata["entry-points"]["lmgateway.providers"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["echo", "openai", "anyscale"])
def test_an_installed_provider_loads(name: str, fresh_python: Path, tmp_path: Path) -> None:
    script = "import sys, lmgateway; print(lmgateway.get_lm(sys.argv[1], model='m'))"
    printed = run("-I", "-W", "error", "-c", script, name, python=fresh_python, cwd=tmp_path)
    assert name in printed
