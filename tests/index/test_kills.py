"""A run that is killed at any moment and begun again pays for what was in flight only."""

from __future__ import annotations

import random
import subprocess
import sys
from array import array
from collections import Counter
from pathlib import Path

import pytest

TEXTS, AT_ONCE, IN_FLIGHT = 600, 5, 4

PROGRAM = f"""
import sys, time
from lmgateway import hookimpl
from lmgateway._index.run import embed_file
from lmgateway._index.texts import TextFile
from lmgateway.testing import lm_from
from lmgateway.types import Blocking, EmbedLimits, Info
from pathlib import Path


class Host:
    @hookimpl
    def lmgateway_info(self):
        return Info(api=2, embed=EmbedLimits(texts={AT_ONCE}))

    @hookimpl
    def lmgateway_complete(self, request):
        raise AssertionError

    @hookimpl
    def lmgateway_embed(self, request):
        def work():
            with open("asked", "a") as file:
                file.write("".join(f"{{text}}\\n" for text in request.texts))
            time.sleep(0.01)
            return [[float(text), 1.0] for text in request.texts]

        return {{"embeddings": (yield Blocking(work))}}


with lm_from(Host(), name="acme", model="m") as lm:
    source = TextFile.open("texts.txt", None, "text", None)
    embed_file(lm, source, Path("out" + sys.argv[1]), {{}}, concurrency={IN_FLIGHT}, command="")
"""


@pytest.mark.soak
@pytest.mark.parametrize("ending", [".npy", ".jsonl"])
def test_a_killed_run_goes_on(ending: str, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("".join(f"{number}\n" for number in range(TEXTS)))
    output, chance, kills = tmp_path / f"out{ending}", random.Random(1), 0
    for _ in range(1000):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, ending], cwd=tmp_path)
        try:
            process.wait(chance.uniform(0.2, 1.5))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        else:
            assert process.returncode == 0
            break
    assert output.exists()
    asked = Counter((tmp_path / "asked").read_text().split())
    assert len(asked) == TEXTS
    assert asked.total() <= TEXTS + kills * IN_FLIGHT * AT_ONCE
    if ending == ".npy":
        floats = array("f", output.read_bytes()[128:])
        assert floats[::2].tolist() == list(range(TEXTS))
    else:
        assert len(output.read_text().splitlines()) == TEXTS
