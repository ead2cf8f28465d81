"""What the pages for authors of plugins show works as it is shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from support.distributions import SitePackages

import lmgateway
from lmgateway.testing import lm_from
from lmgateway.testing.bench import Bench
from lmgateway.testing.objects import plugin_from
from lmgateway.types import HTTPResponse

BASE = "https://acme.example"
DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
HOW_TO = (
    "authenticate",
    "choose-the-endpoint",
    "models-that-differ",
    "run-a-job",
    "run-a-model-in-process",
    "send-bytes-and-forms",
    "stream-answers",
    "stream-other-formats",
    "tell-what-it-costs",
    "wrap-an-sdk",
)


def blocks(page: str) -> list[tuple[str, str]]:
    return BLOCK.findall((DOCS / page).read_text("utf-8"))


def files(page: str) -> dict[str, str]:
    """The blocks that name a file in their first line."""
    named = {}
    for _, text in blocks(page):
        if found := re.match(r"# ([\w./-]+\.\w+)\n", text):
            named[found[1]] = text
    return named


TEMPLATES = Path(lmgateway.__file__).parent / "_plugins" / "scaffold" / "template"
SCAFFOLDS = TEMPLATES.glob("*/README.md.txt")
PAGES = [*DOCS.glob("[!a]*/*.md"), DOCS.parent / "README.md", *SCAFFOLDS]  # all but the adr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_installs_is_enough_for_its_commands(page: Path) -> None:
    lines = re.findall(
        r"^\$? ?((?:uv )?pip install .*|lmgateway .*)$", page.read_text("utf-8"), re.MULTILINE
    )
    core = r" '?(\S*/lmgateway|lmgateway-core)(\[|[' ]|$)"  # a checkout, or the distribution
    installs = [line for line in lines if "pip install" in line and re.search(core, line)]
    if installs and any("pip install" not in line for line in lines):
        assert any(re.search(r"/lmgateway\[cli|lmgateway-core\[cli", line) for line in installs)
    assert not [line for line in lines if "--group" in line]  # unknown to a fresh one's pip


# -- the tutorial -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tutorial's files, its distribution installed."""
    folder = tmp_path_factory.mktemp("tutorial")
    for name, text in files("tutorial/first-provider.md").items():
        (folder / name).write_text(text)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / "lmgateway_parrot-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    ((group, points),) = project["entry-points"].items()
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]) + "\n")
    return folder


def run(folder: Path, *arguments: str, **variables: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder), "LMGATEWAY_CACHE": "off", **variables}
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def run_kit(folder: Path, *arguments: str, **variables: str) -> str:
    """Run pytest as its user would, but without the plugins that happen to be installed here."""
    options = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return run(folder, *options, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", **variables)


@pytest.mark.slow
@pytest.mark.loopback
def test_the_tutorial_leads_to_a_provider_that_passes_its_contract(tutorial: Path) -> None:
    service = subprocess.Popen(
        [sys.executable, "parrot_service.py"],
        cwd=tutorial,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with service:
        try:
            assert service.stdout is not None
            base = service.stdout.readline().strip()
            set_up = {"PARROT_API_BASE": base, "PARROT_API_KEY": "a-parrots-key"}
            shown = next(t for k, t in blocks("tutorial/first-provider.md") if "ask.py" in t[:20])
            assert shown.startswith("# ask.py")
            expected = next(
                text.partition("\n")[2]
                for _, text in blocks("tutorial/first-provider.md")
                if text.startswith("$ python ask.py")
            )
            assert run(tutorial, "ask.py", **set_up) == expected
            run(tutorial, "record.py", **set_up)
        finally:
            service.kill()
    printed = run_kit(tutorial, "test_parrot.py")
    assert " passed" in printed
    assert "a-parrots-key" not in (tutorial / "calls.jsonl").read_text()


@pytest.mark.slow
def test_the_tutorials_provider_is_listed(tutorial: Path) -> None:
    assert "parrot" in run(tutorial, "-m", "lmgateway", "providers")


OWN = "tutorial/own-wire-format.md"


@pytest.fixture(scope="module")
def heron(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``new-plugin`` wrote, with the tutorial's files in place of its own."""
    home = tmp_path_factory.mktemp("heron")
    command = next(text for kind, text in blocks(OWN) if kind == "console")
    (arguments,) = re.findall(r"^\$ lmgateway (new-plugin .*)$", command, re.MULTILINE)
    run(home, "-m", "lmgateway", *arguments.split())
    folder = home / "lmgateway-heron"
    for name, text in files(OWN).items():
        (folder / name).write_text(text)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / "src" / "lmgateway_heron-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lmgateway-heron\nVersion: 0.1.0\n")
    ((group, points),) = project["entry-points"].items()
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]) + "\n")
    return folder


@pytest.mark.slow
@pytest.mark.loopback
def test_the_tutorial_of_an_own_format_leads_to_a_green_kit(heron: Path) -> None:
    service = subprocess.Popen(
        [sys.executable, "heron_service.py"],
        cwd=heron,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    source = {"PYTHONPATH": str(heron / "src")}
    with service:
        try:
            assert service.stdout is not None
            base = service.stdout.readline().strip()
            set_up = {**source, "HERON_API_BASE": base, "HERON_API_KEY": "a-herons-key"}
            run(heron, "record_heron.py", **set_up)
            expected = next(
                text.partition("\n")[2]
                for _, text in blocks(OWN)
                if text.startswith("$ python ask_heron.py")
            )
            assert run(heron, "ask_heron.py", **set_up) == expected
        finally:
            service.kill()
    printed = run_kit(heron, **source)
    assert " passed" in printed
    assert "xfailed" not in printed


# -- the how-tos --------------------------------------------------------------------------------


def modules_of(page: str, monkeypatch: pytest.MonkeyPatch) -> list[ModuleType]:
    """The plugins that a page shows, each a file."""
    modules = []
    for name, text in files(f"how-to/{page}.md").items():
        module = ModuleType(name.removesuffix(".py"))
        monkeypatch.setitem(sys.modules, module.__name__, module)  # where pydantic looks for names
        exec(compile(text, name, "exec"), module.__dict__)
        modules.append(module)
    return modules


@pytest.mark.parametrize("page", HOW_TO)
def test_a_how_tos_plugins_hold_to_the_contract_of_hooks(
    page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = modules_of(page, monkeypatch)
    assert modules
    for module in modules:
        assert lm_from(module, page, model="m").provider == page


@pytest.mark.parametrize("page", ["authenticate", "run-a-job"])
def test_a_how_tos_plugins_answer(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in modules_of(page, monkeypatch):
        fields = vars(module)["Settings"].model_fields if hasattr(module, "Settings") else ()
        given = {name: BASE if name.endswith("_base") else f"the-{name}" for name in fields}
        bench = Bench(plugin_from(module, name="acme", described="acme"), "m", given, ())
        result = bench.ask({"prompt": "Hi"}, HTTPResponse(200, {}, b'{"said": "Hello"}'))
        assert result.completion["choices"][0]["text"] == "Hello", module.__name__


@pytest.mark.slow
def test_the_plugins_of_the_how_tos_pass_the_contract(site_packages: SitePackages) -> None:
    contracts = (Path(__file__).parent / "contracts.py").read_text("utf-8")
    for page in HOW_TO:
        for name, text in files(f"how-to/{page}.md").items():
            provider = name.removeprefix("lmgateway_").removesuffix(".py")
            site_packages.install(provider, text)
            assert f'"{provider}"' in contracts, f"{page} shows a plugin that the kit does not try"
    (site_packages.folder / "test_examples.py").write_text(contracts)
    few = "(not is_its_error or 403) and not odd_text and not cut_anywhere and not other_hooks"
    printed = run_kit(site_packages.folder, "-k", few)
    assert " passed" in printed


def test_the_model_in_the_process_answers_as_shown(site_packages: SitePackages) -> None:
    page = "how-to/run-a-model-in-process.md"
    ((_, plugin),) = files(page).items()
    site_packages.install("backwards", plugin)
    usage = next(text for kind, text in blocks(page) if text.startswith("lm = get_lm"))
    exec(usage, {"get_lm": lmgateway.get_lm})


# -- the reference -----------------------------------------------------------------------------


def test_a_reference_names_what_exists() -> None:
    from importlib import import_module

    for page in (DOCS / "reference").glob("*.md"):
        for name in re.findall(r"^::: ([\w.]+)", page.read_text("utf-8"), re.MULTILINE):
            try:
                import_module(name)
            except ModuleNotFoundError:
                module, _, attribute = name.rpartition(".")
                assert hasattr(import_module(module), attribute), f"{page.name}: {name}"
