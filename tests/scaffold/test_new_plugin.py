"""``lmgateway new-plugin``: what it writes installs, answers and passes its contract untouched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from support.fault_server import FaultServer, head, receive, send

from lmgateway._plugins.scaffold import WIRES, files_of, write_plugin
from lmgateway.errors import InputError

ROOT = Path(__file__).parents[2]
MESSAGE = b'{"role": "assistant", "content": "Over the wire."}'
ANSWER = b'{"choices": [{"index": 0, "message": %s, "finish_reason": "stop"}]}' % MESSAGE

EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "%s"}, "finish_reason": %s}]}\n\n'
PIECES = EVENT % (b"Over the", b"null") + EVENT % (b" wire.", b'"stop"') + b"data: [DONE]\n\n"
REFUSAL = b'{"error": {"message": "Who are you?", "code": "invalid_api_key"}}'


def run(*arguments: object, cwd: Path, **variables: str) -> str:
    environment = {**os.environ, "PYTHONWARNINGS": "error", **variables}
    command = list(map(str, arguments))
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution, as the command writes it."""
    folder = tmp_path_factory.mktemp("written")
    run(sys.executable, "-m", "lmgateway", "new-plugin", "my-host", cwd=folder)
    return folder / "lmgateway-my-host"


@pytest.fixture(scope="module")
def own_wire(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plugin with a wire format of its own, and what makes its folder a place of installed ones.

    Its name is another: a checker takes two packages of one name for one.
    """
    folder = tmp_path_factory.mktemp("own")
    new = [sys.executable, "-m", "lmgateway", "new-plugin", "their-host"]
    run(*new, "--wire", "own", "--into", "new", cwd=folder)
    info = folder / "new" / "src" / "lmgateway_their_host-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: lmgateway-their-host\nVersion: 0\n"
    )
    project = tomllib.loads((folder / "new" / "pyproject.toml").read_text())["project"]
    ((group, points),) = project["entry-points"].items()
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]) + "\n")
    return folder / "new"


@pytest.fixture(scope="module")
def python(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment's Python, with the wheels of the core and of the plugin."""
    home, wheels = tmp_path_factory.mktemp("fresh"), tmp_path_factory.mktemp("wheels")
    offline = ["--no-build-isolation", "--no-deps", "--no-index", "--quiet"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", *offline, "--wheel-dir", wheels, ROOT, written, cwd=home, PYTHONWARNINGS="")
    venv.create(home, symlinks=True, with_pip=False)
    (site,) = home.glob("lib/python*/site-packages")
    for folder in map(Path, sys.path):
        for path in folder.iterdir() if folder.name == "site-packages" else ():
            ours = "lmgateway" in path.name or path.suffix == ".pth"
            if not ours and not (site / path.name).exists():
                (site / path.name).symlink_to(path)
    python = home / "bin" / "python"
    install = ["--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    run(*pip, *install, *wheels.glob("*.whl"), cwd=home, PYTHONWARNINGS="")
    return python


@pytest.mark.slow
def test_it_passes_its_contract_untouched(python: Path, written: Path) -> None:
    printed = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=written)
    assert " passed" in printed
    assert "failed" not in printed


@pytest.mark.slow
@pytest.mark.loopback
def test_it_answers_and_is_listed(python: Path, tmp_path: Path) -> None:
    script = (
        "import lmgateway\n"
        "print([row.name for row in lmgateway.providers()])\n"
        "print(lmgateway.get_lm('my-host', model='m', cache=False)('Hi'))\n"
    )
    plain = head(200, {"content-type": "application/json"}, length=len(ANSWER))
    with FaultServer([receive(), send(plain, ANSWER)]) as server:
        base = f"{server.url}/v1"
        printed = run(
            python, "-c", script, cwd=tmp_path, MY_HOST_API_BASE=base, MY_HOST_API_KEY="made-up"
        )
    assert "'my-host'" in printed
    assert "['Over the wire.']" in printed


@pytest.mark.slow
@pytest.mark.loopback
def test_the_recipe_of_its_readme_records_calls_that_pass(
    python: Path, written: Path, tmp_path: Path
) -> None:
    project = shutil.copytree(written, tmp_path / "project")
    recipe = re.findall(r"```python\n(.*?)```", (project / "README.md").read_text(), re.DOTALL)[-1]
    script = tmp_path / "record.py"
    script.write_text(recipe)
    plain = head(200, {"content-type": "application/json"}, length=len(ANSWER))
    stream = head(200, {"content-type": "text/event-stream"})
    wrong = head(401, {"content-type": "application/json"}, length=len(REFUSAL))
    with FaultServer(
        [receive(), send(plain, ANSWER)],
        [receive(), send(stream, PIECES)],
        [receive(), send(wrong, REFUSAL)],
    ) as server:
        base = f"{server.url}/v1"
        key = {"MY_HOST_API_BASE": base, "MY_HOST_API_KEY": "made-up-as-well"}
        run(python, script, cwd=project, **key)

    recorded = (project / "tests" / "recordings.jsonl").read_text()
    assert recorded.count("Over the") == 2
    assert recorded.count("\n") == 3  # none of those that were made up
    assert "made-up" not in recorded
    printed = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project)
    assert " passed" in printed
    assert "failed" not in printed


@pytest.mark.slow
def test_one_with_a_wire_format_of_its_own_passes_untouched(own_wire: Path) -> None:
    printed = run(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        cwd=own_wire,
        PYTHONPATH=str(own_wire / "src"),
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
    )
    assert " passed" in printed
    assert "failed" not in printed


@pytest.mark.slow
def test_its_code_is_as_clean_as_ours(written: Path, own_wire: Path) -> None:
    sources = [written / "src", own_wire / "src"]
    ruff = [sys.executable, "-m", "ruff"]
    run(*ruff, "check", "--config", ROOT / "pyproject.toml", *sources, cwd=ROOT)
    run(*ruff, "format", "--check", "--line-length=100", written, own_wire, cwd=ROOT)
    run(sys.executable, "-m", "mypy", "--strict", *sources, cwd=written, PYTHONWARNINGS="")


def test_each_wire_has_the_files_of_a_distribution() -> None:
    for wire in WIRES:
        files = dict(files_of("my-host", wire))
        needed = {"pyproject.toml", "README.md", "tests/test_contract.py", "tests/recordings.jsonl"}
        assert needed <= files.keys()
        assert "src/lmgateway_my_host/py.typed" in files
        assert not [path for path, text in files.items() if "acme" in (path + text).lower()]


def test_a_wire_that_there_is_no_template_for_is_refused(tmp_path: Path) -> None:
    for wire in ("", "Own", "both", "../own"):
        with pytest.raises(InputError, match="wire must be one of openai, own"):
            write_plugin("acme", tmp_path / "new", wire=wire)
    assert not (tmp_path / "new").exists()


def test_a_name_of_two_words_is_spelt_everywhere() -> None:
    files = dict(files_of("my-host"))
    assert "src/lmgateway_my_host/__init__.py" in files
    assert not [path for path, text in files.items() if "acme" in (path + text).lower()]
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["entry-points"]["lmgateway.providers"] == {"my-host": "lmgateway_my_host"}
    assert "MY_HOST_API_KEY" in files["README.md"]
    assert "class TestMyHost(" in files["tests/test_contract.py"]


@pytest.mark.parametrize(
    "name",
    ["", "Acme", "my_host", "-a", "a--b", "1a", "../a", "a/b", "acmé", "a b", "a\n", "~", "a.b"],
)
def test_what_is_no_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no provider's name"):
        write_plugin(name, tmp_path / "new")


@pytest.mark.parametrize("name", ["lmgateway-acme", "lmgateway_acme", "lmgateway"])
def test_the_name_of_a_distribution_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give the provider's alone, as in 'acme'"):
        write_plugin(name, tmp_path / "new")


@pytest.mark.parametrize("name", ["class", "import", "none", "test", "src"])
def test_a_word_of_python_is_a_name_as_any_other(name: str) -> None:
    for path, text in files_of(name, "own"):
        if path.endswith(".py"):
            compile(text, path, "exec")


@pytest.mark.parametrize("name", ["echo", "core"])  # "core" would be called like lmgateway itself
def test_a_name_that_is_taken_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="taken by lmgateway-core"):
        write_plugin(name, tmp_path / "new")


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        write_plugin("acme", folder)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
