"""One program, untouched, answers from wherever one line of a file, or one variable, says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.llama_server import INSTALL, MODEL, is_installed

PROGRAM = """\
from lmgateway import get_lm

with get_lm() as lm:
    completion = lm.complete("Say hello.", cache=False)
print(completion["provider"], completion["model"], completion["choices"][0]["text"], sep="|")
"""

FILE = """\
default = "{default}"

[models.nowhere]
provider = "echo"

[models.process]
provider = "local"
params = {{ max_tokens = 8 }}

[models.server]
provider = "company"
model = "{model}"
params = {{ max_tokens = 8 }}

[providers.company]
plugin = "openai"
api_base = "{base}"
api_key_env = "COMPANY_KEY"
"""


@dataclass
class Place:
    """Where an answer comes from."""

    name: str
    provider: str
    base: str = "http://127.0.0.1:9/v1"
    variables: dict[str, str] = field(default_factory=dict)


@pytest.fixture(
    params=[
        "echo",
        pytest.param("local", marks=pytest.mark.real),
        pytest.param("server", marks=pytest.mark.real),
    ]
)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "echo":
        yield Place("nowhere", "echo")
    elif request.param == "local":
        pytest.importorskip("lmgateway_local")
        if not is_installed():
            pytest.skip(f"needs a model: {INSTALL}")
        yield Place("process", "local")
    else:
        server = request.getfixturevalue("llama_server")
        yield Place("server", "company", server.base_url, {"COMPANY_KEY": server.api_key})


@pytest.mark.parametrize("way", ["line", "variable"])
def test_the_program_answers_from(place: Place, way: str) -> None:
    Path("program.py").write_text(PROGRAM)
    default = place.name if way == "line" else "nowhere"
    Path("lmgateway.toml").write_text(FILE.format(default=default, base=place.base, model=MODEL))
    variables = {"LMGATEWAY_MODEL": place.name} if way == "variable" else {}

    done = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        capture_output=True,
        text=True,
        env={**os.environ, **place.variables, **variables},
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    provider, _, text = done.stdout.split("|", 2)
    assert provider == place.provider
    assert text.strip()
    assert (text.strip() == "Say hello.") == (provider == "echo")
