"""The commands config, models and doctor, as processes of their own."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.distributions import SitePackages
from support.llama_server import LlamaServer

from lmgateway import get_lm
from lmgateway._config.names import configuration

pytest.importorskip("typer")

Write = Callable[..., Path]
Run = Callable[..., subprocess.CompletedProcess[str]]

SECRET = "sk-0123456789abcdef"
COMPANY = """\
default = "main"
[models.main]
provider = "company"
model = "{model}"
[providers.company]
plugin = "openai"
api_base = "{base}"
api_key_env = "COMPANY_KEY"
"""


@pytest.fixture
def dead_base() -> str:
    """A base URL where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


# -- config ------------------------------------------------------------------------------------


def test_config_shows_each_value_with_its_origin_and_no_secret(
    write: Write, run_command: Run
) -> None:
    path = write(COMPANY.format(model="m", base="https://llm.company.example/v1"))
    shown = run_command("config", COMPANY_KEY=SECRET, COMPANY_USE_CHAT_API="false")

    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in shown.stdout.splitlines()}
    assert shown.returncode == 0
    assert lines["configuration:"].startswith(str(path))
    assert lines["api_base"] == f"https://llm.company.example/v1 file: {path}:7"
    assert lines["api_key"] == "*** environment: COMPANY_KEY"
    assert lines["use_chat_api"] == "false environment: COMPANY_USE_CHAT_API"
    assert lines["timeout"] == "60.0 default"
    assert SECRET not in shown.stdout + shown.stderr


def test_config_is_json_too(write: Write, run_command: Run) -> None:
    path = write(COMPANY.format(model="m", base="https://llm.company.example/v1"))
    shown = json.loads(run_command("config", "main", "--json").stdout)

    values = {row["name"]: row for row in shown["values"]}
    assert shown["config"]["path"] == str(path)
    assert shown["models"] == ["main"]
    assert values["model"] == {
        "name": "model",
        "value": "m",
        "kind": "name",
        "origin": {"kind": "file", "place": f"{path}:4"},
    }


def test_config_without_any_file_says_how_to_begin_one(run_command: Run) -> None:
    shown = run_command("config")

    assert shown.returncode == 0
    assert shown.stdout == "configuration: none\n"
    assert "lmgateway config --init" in shown.stderr


def test_init_writes_a_file_that_works(run_command: Run) -> None:
    assert run_command("config", "--init").returncode == 0

    assert get_lm()("It works.") == ["It works."]


def test_init_never_overwrites(write: Write, run_command: Run) -> None:
    path = write("# mine\n")
    shown = run_command("config", "--init")

    assert shown.returncode == 2
    assert "was not touched" in shown.stderr
    assert path.read_text() == "# mine\n"


def test_everything_that_init_leaves_commented_is_right(write: Write, run_command: Run) -> None:
    run_command("config", "--init")
    path = Path("lmgateway.toml")
    path.write_text(re.sub(r"(?m)^#(?=[a-z\[])", "", path.read_text()))

    assert set(configuration().models) == {"trial", "fast", "favourite"}
    assert get_lm("favourite").options.retries == 2
    assert get_lm("company/m").settings.api_base == "https://llm.company.example/v1"


# -- models ------------------------------------------------------------------------------------


@pytest.mark.real
def test_models_lists_what_an_endpoint_offers(
    write: Write, run_command: Run, llama_server: LlamaServer
) -> None:
    write(COMPANY.format(model="m", base=llama_server.base_url))
    key = llama_server.api_key

    assert llama_server.model in run_command("models", COMPANY_KEY=key).stdout
    cards = json.loads(run_command("models", "company", "--json", COMPANY_KEY=key).stdout)
    assert [card["id"] for card in cards] == [llama_server.model]


def test_models_of_a_provider_that_lists_none_says_so(run_command: Run) -> None:
    shown = run_command("models", "echo")

    assert shown.returncode == 2
    assert "does not support models" in shown.stderr


# -- doctor ------------------------------------------------------------------------------------


def lines_of(shown: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    """What was looked at: its mark and its fact."""
    found = re.findall(r"(?m)^(ok|FAIL|--) +([^:]+): (.*)$", shown.stdout)
    return {what: (mark, fact) for mark, what, fact in found}


def test_doctor_with_nothing_configured(run_command: Run) -> None:
    shown = run_command("doctor")

    assert shown.returncode == 1
    assert lines_of(shown)["configuration"][0] == "--"
    assert lines_of(shown)["model"] == ("FAIL", "there is no default")
    assert "lmgateway config --init" in shown.stdout


def test_doctor_with_all_well(run_command: Run) -> None:
    run_command("config", "--init")
    shown = run_command("doctor")

    assert shown.returncode == 0
    assert "FAIL" not in shown.stdout
    assert lines_of(shown)["call"][1].startswith("echo answered, in ")


@pytest.mark.real
def test_doctor_with_all_well_at_a_server(
    write: Write, run_command: Run, llama_server: LlamaServer
) -> None:
    write(COMPANY.format(model=llama_server.model, base=llama_server.base_url))
    shown = run_command("doctor", COMPANY_KEY=llama_server.api_key)

    assert shown.returncode == 0
    assert lines_of(shown)["api_key"] == ("ok", "***, from the environment: COMPANY_KEY")
    assert lines_of(shown)["call"][0] == "ok"
    assert llama_server.api_key not in shown.stdout + shown.stderr


@pytest.mark.real
def test_doctor_with_a_wrong_key(write: Write, run_command: Run, llama_server: LlamaServer) -> None:
    write(COMPANY.format(model=llama_server.model, base=llama_server.base_url))
    shown = run_command("doctor", COMPANY_KEY=SECRET)

    assert shown.returncode == 1
    assert lines_of(shown)["host"][0] == "ok"
    assert "refused (401)" in shown.stdout
    assert "put a valid key into COMPANY_KEY" in shown.stdout
    assert SECRET not in shown.stdout + shown.stderr


@pytest.mark.loopback
def test_doctor_with_a_dead_host(write: Write, run_command: Run, dead_base: str) -> None:
    write(COMPANY.format(model="m", base=dead_base))
    shown = run_command("doctor", COMPANY_KEY=SECRET)

    assert shown.returncode == 1
    assert lines_of(shown)["host"][0] == "FAIL"
    assert f"next: see that a server runs at {dead_base}" in shown.stdout


@pytest.mark.loopback
def test_doctor_takes_no_fallbacks_answer_for_the_models(
    write: Write, run_command: Run, dead_base: str
) -> None:
    text = COMPANY.format(model="m", base=dead_base)
    write(text.replace('provider = "company"\n', 'provider = "company"\nfallbacks = ["echo"]\n'))
    shown = run_command("doctor", COMPANY_KEY=SECRET)

    assert shown.returncode == 1
    assert lines_of(shown)["host"][0] == "FAIL"


def test_doctor_with_a_missing_key(write: Write, run_command: Run) -> None:
    write(COMPANY.format(model="m", base="https://llm.company.example/v1"))
    shown = run_command("doctor")

    assert shown.returncode == 1
    assert lines_of(shown)["api_key"] == ("FAIL", "company needs a key")
    assert "next: set COMPANY_KEY" in shown.stdout


def test_doctor_with_a_broken_plugin(site_packages: SitePackages, run_command: Run) -> None:
    site_packages.install("broken", "raise ImportError('no such thing')")
    run_command("config", "--init")
    shown = run_command("doctor", PYTHONPATH=str(site_packages.folder))

    assert shown.returncode == 1
    mark, fact = lines_of(shown)["plugin broken"]
    assert mark == "FAIL"
    assert "ImportError: no such thing" in fact
    assert "next: mend or reinstall lmgateway-broken" in shown.stdout
    assert lines_of(shown)["call"][0] == "ok"  # the others work


@pytest.mark.parametrize(
    "code, name",
    [
        pytest.param("def __dir__(): raise RuntimeError('odd')", "plugin odd", id="plugin"),
        pytest.param(
            """
from lmgateway import hookimpl
from lmgateway.types import Info
from pydantic import BaseModel, model_validator

class Settings(BaseModel):
    @model_validator(mode="before")
    @classmethod
    def check(cls, values): raise RuntimeError(values)

@hookimpl
def lmgateway_settings(): return Settings

@hookimpl
def lmgateway_complete(request): ...
""",
            "model strange",
            id="settings",
        ),
    ],
)
def test_doctor_survives_whatever_a_plugin_raises(
    site_packages: SitePackages, write: Write, run_command: Run, code: str, name: str
) -> None:
    site_packages.install("odd", code)
    write('default = "odd/m"\n[models.strange]\nprovider = "odd"\nmodel = "m"\n')
    shown = run_command("doctor", PYTHONPATH=str(site_packages.folder))
    assert shown.returncode == 1
    assert lines_of(shown)[name] == ("FAIL", "raised RuntimeError")
    assert lines_of(shown)["plugin openai"][0] == "ok"
    assert lines_of(shown)["model"] == ("FAIL", "raised RuntimeError")

    as_json = run_command("doctor", "echo", "--json", PYTHONPATH=str(site_packages.folder))
    findings = {each["what"]: each for each in json.loads(as_json.stdout)}
    assert as_json.returncode == 1
    assert findings[name]["ok"] is False
    assert findings["call"]["ok"] is True


def test_doctor_with_a_malformed_file(write: Write, run_command: Run) -> None:
    path = write("default =\n")
    shown = run_command("doctor")

    assert shown.returncode == 1
    assert f"{path}:1:10" in shown.stdout


def test_doctor_tries_every_model_of_the_file(write: Write, run_command: Run) -> None:
    path = write(
        'default = "good"\n[models.good]\nprovider = "echo"\n'
        '[models.bad]\nprovider = "acme"\nmodel = "m"\n'
    )
    shown = run_command("doctor")

    assert shown.returncode == 1
    assert lines_of(shown)["model bad"][0] == "FAIL"
    assert f"{path}:5" in shown.stdout


def test_doctor_is_json_too(run_command: Run) -> None:
    shown = run_command("doctor", "echo", "--json")

    findings = json.loads(shown.stdout)
    assert shown.returncode == 0
    assert {"ok", "what", "fact", "next"} == set(findings[0])
    assert findings[-1]["what"] == "call"
