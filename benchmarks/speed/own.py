"""What only lmgateway does, measured in its worker; by public names alone, as versions differ."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contenders import KEY, Contender
from workload import PROMPT, WARM_UP, Clock, Figures

__all__ = ["OWN", "modules"]

FAMILY = "llama-3.1"
TURNS = [{"role": ("user", "assistant")[n % 2], "content": PROMPT} for n in range(41)]


@contextmanager
def opened(contender: Contender, name: str = "openai", **options: Any) -> Iterator[Any]:
    """An LM on the contender's service."""
    from lmgateway import get_lm

    options = {"model": "m", "api_base": contender.base, "api_key": KEY, **options}
    with get_lm(name, **options) as lm:
        yield lm


def each(does: Callable[[], object], count: int) -> Figures:
    """What one of them costs, the first few left out."""
    for _ in range(WARM_UP):
        does()
    clock = Clock()
    for _ in range(count):
        does()
    return clock.read(count)


def cached(contender: Contender, count: int, _: int) -> Figures:
    """Answers from the cache."""
    with opened(contender, cache=True) as lm:
        lm(PROMPT)
        assert lm.complete(PROMPT)["cached"]
        return each(lambda: lm(PROMPT), count)


def limited(contender: Contender, count: int, in_flight: int) -> Figures:
    """Calls one after the other, where the configuration bounds how many are in flight."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "lmgateway.toml")
        config.write_text(f"[limits.openai]\nin_flight = {in_flight}\n")
        with opened(contender, config=str(config), temperature=0.5) as lm:
            return each(lambda: lm(PROMPT), count)


def dicts(contender: Contender, count: int, in_flight: int) -> Figures:
    """A batch of dicts, all different."""
    rows = [
        {"prompt": f"{number} {PROMPT}", "temperature": 0.5, "max_tokens": 100 + number}
        for number in range(count)
    ]
    with opened(contender) as lm:
        lm.batch(rows[:WARM_UP], concurrency=in_flight)
        clock = Clock()
        lm.batch(rows, concurrency=in_flight)
        return clock.read()


def embed(contender: Contender, count: int, _: int) -> Figures:
    """Embeddings of one text."""
    with opened(contender) as lm:
        return each(lambda: lm.embed(PROMPT), count)


def made(contender: Contender, count: int, _: int) -> Figures:
    """LMs that are got and closed, and asked nothing."""

    def get() -> None:
        with opened(contender, temperature=0.5):
            pass

    return each(get, count)


def render(_contender: Contender, count: int, _: int) -> Figures:
    """A long conversation in a model's chat template."""
    from lmgateway.wire.chat_template import resolve

    template = resolve(FAMILY)
    assert template.render(TURNS).count(PROMPT.strip()) == len(TURNS)
    return each(lambda: template.render(TURNS), count)


def preview(contender: Contender, count: int, _: int) -> Figures:
    """What would be sent, looked at."""
    with opened(contender) as lm:
        return each(lambda: lm.preview(PROMPT), count)


def imports(_contender: Contender, _count: int, _in_flight: int) -> Figures:
    """The import in a process that has nothing yet."""
    return of_process("import lmgateway")


def ready(_contender: Contender, _count: int, _in_flight: int) -> Figures:
    """The import of what makes an LM as well."""
    return of_process("from lmgateway import get_lm")


def cold(contender: Contender, _count: int, _in_flight: int) -> Figures:
    """From nothing to the first answer."""
    options = f"model='m', api_base={contender.base!r}, api_key={KEY!r}"
    return of_process(f"from lmgateway import get_lm; get_lm('openai', {options})('Hi')[0]")


_CODE = """
from time import process_time
began = process_time()
{code}
cpu = process_time() - began
import json
with open("/proc/self/status") as lines:
    (kib,) = [line.split()[1] for line in lines if line.startswith("VmRSS")]
print(json.dumps({{"cpu": cpu, "resident": int(kib) / 1024}}))
"""


def of_process(code: str) -> Figures:
    """CPU seconds of some code in a process of its own, and the MiB that it has after it."""
    command = [sys.executable, "-c", _CODE.format(code=code)]
    figures: Figures = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    )
    return figures


def modules(_contender: Contender, _count: int, _in_flight: int) -> dict[str, Any]:
    """The files that this process has its lmgateway from, plugins included."""
    loaded = [module for name, module in sys.modules.items() if name.startswith("lmgateway")]
    files = (getattr(module, "__file__", None) for module in loaded)
    return {"files": sorted({file for file in files if file})}


OWN: dict[str, Callable[[Contender, int, int], dict[str, Any]]] = {
    does.__name__: does
    for does in (
        cached,
        limited,
        dicts,
        embed,
        made,
        render,
        preview,
        imports,
        ready,
        cold,
        modules,
    )
}
