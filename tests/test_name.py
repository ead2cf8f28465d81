"""The distribution is ``lmgateway-core``: no text leads to ``lmgateway``, which is another's."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from lmgateway._plugins.scaffold import files_of

ROOT = Path(__file__).parents[1]
OWN, PIN = "lmgateway-core", ">=0.2,<0.3"

# -- what a text says ----------------------------------------------------------------------------

#: The name alone: no part of a path, of an address, or of a longer name.
NAME = r"(?<![\w./~-])lmgateway(?![\w-])"
EXTRAS = r"\[[a-z][\w, -]*\]"
ONE_STRING = r"""\s*(?:"[^"\n]*"|'[^'\n]*')\s*,|\s*\#[^\n]*\n"""

REQUIRED = re.compile(
    rf"""
      {NAME}{EXTRAS}                                                    # lmgateway[cli]
    | {NAME}\ ?(?:[=!<>~]=|<|>)=?\ ?\d                                  # lmgateway>=0.1
    | {NAME}\ ?@\ ?(?:git|https?|file)\b                                # lmgateway @ git+https:
    | --(?:recursive-)?copy-metadata[ =]{NAME}                          # of PyInstaller
    | \b(?:version|distribution|metadata|requires|files)\(["']lmgateway["']\)
    | \bRequires-Dist:\ *{NAME}(?!\.)
    | /(?:p|project|simple|pypi(?:/\w+)?)/lmgateway(?![\w-])            # an index, a badge
    | \b(?:dependencies|requires|install_requires|with)\s*[=:]\s*\[(?:{ONE_STRING})*
      \s*["']lmgateway["']
    | ^\s*-\ lmgateway\s*$                                              # a list in YAML
    """,
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)
#: A command that installs, up to where its arguments end.
INSTALLS = re.compile(
    r"""\b(?:(?:pip[x\d.]*|conda|mamba)["',\s]+(?:install|download|wheel|run|inject)
    | (?:uv|poetry|pdm|rye|hatch|pixi)\ (?:pip\ install|tool\ (?:install|run)|add|run\ --with)
    | uvx)\b (?P<arguments>[^\n`|;&()]*)""",
    re.VERBOSE,
)


def uses(text: str) -> Iterator[str]:
    """Where a text takes ``lmgateway`` for the distribution."""
    text = re.sub(r"\\\n\s*", " ", text)
    yield from (found[0] for found in REQUIRED.finditer(text))
    for command in INSTALLS.finditer(text):
        arguments = [word.strip("\"',[]") for word in command["arguments"].split()]
        if "--from" in arguments:  # the next is installed, and the command after it is run
            arguments = arguments[arguments.index("--from") :][:2]
        if any(re.fullmatch(rf"{NAME}(?:[\[=<>!~@].*|[.:])?", word) for word in arguments):
            yield command[0]


@pytest.mark.parametrize(
    "text",
    [
        "pip install lmgateway",
        "$ pip install -U lmgateway  # the newest",
        "python3.12 -m pip install --upgrade pytest lmgateway",
        "Run `pip install lmgateway`.",
        "pip install \\\n    lmgateway",
        '[*pip, "pip", "install", "lmgateway"]',
        "pip3 install 'lmgateway'",
        "pipx install lmgateway",
        "pip download lmgateway",
        "      - run: pip install lmgateway pytest",
        "uv add lmgateway",
        "uv pip install lmgateway",
        "uv tool install lmgateway",
        "uvx lmgateway ask",
        "uvx --from lmgateway lmgateway ask",
        "uv run --with lmgateway ask.py",
        "poetry add lmgateway",
        "pip install 'lmgateway[cli]'",
        "needs jinja2: lmgateway[templates]",
        'all = ["lmgateway[async,cli]"]',
        "lmgateway==0.2",
        "lmgateway >= 0.1",
        '"lmgateway>=0.1,<0.2"',
        "lmgateway~=0.2",
        "lmgateway @ git+https://host.example/lmgateway",
        'dependencies = ["lmgateway"]',
        'dependencies = [\n  "pydantic>=2.7", # models\n  "lmgateway",\n]',
        "requires = ['x[y]', 'lmgateway']",
        "dependencies:\n  - lmgateway\n",
        "pyinstaller --copy-metadata lmgateway",
        "--recursive-copy-metadata=lmgateway",
        'importlib.metadata.version("lmgateway")',
        "Requires-Dist: lmgateway",
        "https://index.example/project/lmgateway/",
        "https://badges.example/pypi/v/lmgateway",
    ],
)
def test_a_use_of_the_other_name_is_found(text: str) -> None:
    assert list(uses(text))


@pytest.mark.parametrize(
    "text",
    [
        "pip install lmgateway-core",
        "pip install -U 'lmgateway-core[cli]' lmgateway-anyscale",
        "pip install ../lmgateway ../lmgateway/plugins/anyscale",
        "pip install './lmgateway[cli]'",
        "uv add '../lmgateway[cli]'",
        "uvx --from 'lmgateway-core[cli]' lmgateway ask",
        "uv run lmgateway ask",
        "pip uninstall lmgateway",
        "uv pip uninstall lmgateway lmgateway-anyscale",
        "pip install . && lmgateway ask",
        "`pip install .`, then lmgateway is there",
        "lmgateway-core>=0.2,<0.3",
        "import lmgateway",
        "lmgateway 0.2.0",
        "[tool.lmgateway]",
        "lmgateway.toml",
        "lmgateway/0.2.0 python/3.12",
        'packages = ["lmgateway"]',
        'root_packages = ["lmgateway"]',
        'keywords = ["gateway", "lmgateway"]',
        "--collect-data lmgateway",
        "--copy-metadata lmgateway-core",
        'version("lmgateway-core")',
        'getLogger("lmgateway")',
        "- **lmgateway** is a library",
    ],
)
def test_a_use_of_the_package_or_of_our_own_name_is_let_pass(text: str) -> None:
    assert not list(uses(text))


# -- every file ----------------------------------------------------------------------------------

#: What git ignores, or no person reads.
PASSED_OVER = {"build", "dist", "site", "node_modules", "__pycache__"}
SHOWN = {".ci", ".github", ".env.example", ".navigation.py"}


def texts(folder: Path = ROOT) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.iterdir()):
        if path.name in PASSED_OVER or (path.name.startswith(".") and path.name not in SHOWN):
            continue
        if path.is_dir():
            yield from texts(path)
        elif path != Path(__file__):
            try:
                yield path, path.read_text("utf-8")
            except UnicodeDecodeError:
                continue


def test_no_text_leads_to_the_other_distribution() -> None:
    found, seen = [], set()
    for path, text in texts():
        seen.add(path.relative_to(ROOT).parts[0])
        found += [f"{path.relative_to(ROOT)}: {use}" for use in uses(text)]
    assert not found
    assert {"docs", "lmgateway", "pyproject.toml", "tests"} <= seen


# -- the pins ------------------------------------------------------------------------------------


def required(tables: dict[str, Any]) -> list[Requirement]:
    """What a pyproject requires, in whatever list."""
    project = tables.get("project", {})
    lists = [
        project.get("dependencies", []),
        tables.get("build-system", {}).get("requires", []),
        *project.get("optional-dependencies", {}).values(),
        *tables.get("dependency-groups", {}).values(),
    ]
    return [Requirement(line) for each in lists for line in each if isinstance(line, str)]


def tutorial() -> str:
    page = (ROOT / "docs" / "tutorial" / "first-provider.md").read_text("utf-8")
    (block,) = re.findall(r"^```toml\n(# pyproject\.toml\n.*?)^```", page, re.MULTILINE | re.DOTALL)
    return str(block)


PLUGINS = {
    **{file.parent.name: file.read_text("utf-8") for file in ROOT.glob("plugins/*/pyproject.toml")},
    "what new-plugin writes": dict(files_of("acme"))["pyproject.toml"],
    "the tutorial's": tutorial(),
}


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_requires_this_minor_version_of_ours(plugin: str) -> None:
    requirements = required(tomllib.loads(PLUGINS[plugin]))
    (own,) = [each for each in requirements if each.name == OWN]
    assert own.specifier == Requirement(f"{OWN}{PIN}").specifier
    assert not [each for each in requirements if each.name == "lmgateway"]


def test_this_version_is_one_that_the_plugins_require() -> None:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert tables["project"]["name"] == OWN
    assert tables["project"]["version"] in Requirement(f"{OWN}{PIN}").specifier
    assert not [each for each in required(tables) if each.name == "lmgateway"]
