"""A loaded model is shared, freed with its last user, and harms no process that ends or forks."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest
from support.llama_server import INSTALL, is_installed

from lmgateway import get_lm
from lmgateway_local import engine, weights
from lmgateway_local.settings import Settings

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not is_installed(), reason=f"needs a model: {INSTALL}"),
]

QUICK: dict[str, Any] = {"max_tokens": 1, "cache": False, "n_ctx": 128}


def loaded() -> int:
    gc.collect()  # what an earlier test forgot is let go at no moment of ours
    return len(engine._engines)


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-W", "error", "-W", "ignore::DeprecationWarning", "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment, check=False
    )


def spec() -> engine.Spec:
    found = weights.find(weights.DEFAULT_MODEL)
    return engine.Spec(found.path, found.digest(), "tiny", n_ctx=128, n_parallel=1, threads=1)


def test_lms_share_a_model_until_the_last_lets_it_go() -> None:
    before = loaded()
    one, other = get_lm("local", **QUICK), get_lm("local", use_chat_api=False, **QUICK)
    one("Hi")
    other("Hi")
    assert loaded() == before + 1
    one.close()
    assert loaded() == before + 1
    other.close()
    assert loaded() == before


def test_an_lm_that_is_forgotten_lets_its_model_go() -> None:
    before = loaded()
    get_lm("local", **QUICK)("Hi")
    assert loaded() == before


def test_settings_of_one_call_do_not_load_the_model_for_each() -> None:
    before = loaded()
    lm = get_lm("local", max_tokens=1, cache=False)
    lm("Hi", n_ctx=192)
    assert loaded() == before + 1
    lm.close()
    assert loaded() == before


def test_what_is_loaded_does_not_travel_with_the_settings() -> None:
    settings = Settings(n_ctx=128)
    model = engine.load(spec())
    settings.holds.add(model)
    copy = pickle.loads(pickle.dumps(settings))
    assert copy == settings
    settings.holds.release()
    engine.let_go()
    before = loaded()
    del model
    assert loaded() == before - 1


def test_what_a_callback_raises_is_not_swallowed() -> None:
    def take(chunk: dict[str, Any]) -> bool:
        raise LookupError("from the callback")

    body = {"prompt": "Hi", "max_tokens": 5, "stream": True}
    with pytest.raises(LookupError, match="from the callback"):
        engine.load(spec()).generate("completions", body, take)
    engine.let_go()


def test_its_port_is_closed_to_others() -> None:
    model = engine.load(spec())
    request = urllib.request.Request(
        f"{model._server.listening_address}/v1/completions", b'{"prompt": "Hi"}'
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    with caught.value as error:
        assert error.code == 401
    engine.let_go()


def test_importing_the_plugin_loads_nothing_heavy() -> None:
    code = (
        "import sys, lmgateway_local\n"
        "sys.exit(' '.join({'xllamacpp', 'pydantic', 'requests', 'asyncio'} & set(sys.modules)))"
    )
    assert run(code).stderr == "\n"


@pytest.mark.parametrize("way", ["lm.complete", "lm.stream"])
def test_the_interpreter_exits_in_the_middle_of_an_answer(way: str) -> None:
    code = (
        "import contextlib, threading\n"
        "from lmgateway import get_lm\n"
        "from lmgateway_local import engine\n"
        "lm = get_lm('local', max_tokens=1, cache=False)\n"
        "lm('Hi')\n"
        "def work():\n"
        "    with contextlib.suppress(Exception):\n"  # it may be told that its answer was stopped
        f"        list({way}('Once upon a time', max_tokens=2000))\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "with engine._calls.changed:\n"
        "    assert engine._calls.changed.wait_for(lambda: engine._calls.count, timeout=30)\n"
    )
    done = run(code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_is_told_so_and_ends_as_it_means_to() -> None:
    code = (
        "import os, sys\n"
        "from lmgateway import get_lm\n"
        "from lmgateway.errors import UnsupportedError\n"
        "lm = get_lm('local', max_tokens=1, cache=False)\n"
        "lm('Hi')\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    try:\n"
        "        lm('Hi')\n"
        "    except UnsupportedError as error:\n"
        "        sys.exit(7 if 'spawn' in str(error) else 8)\n"
        "    sys.exit(9)\n"
        "lm('Hello')\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = run(code)
    assert (done.returncode, done.stderr) == (7, "")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")
def test_memory_returns_with_the_last_lm() -> None:
    code = (
        "from lmgateway import get_lm\n"
        "def megabytes():\n"
        "    with open('/proc/self/statm') as file:\n"
        "        return int(file.read().split()[1]) * 4 // 1024\n"
        "lm = get_lm('local', max_tokens=8, cache=False)\n"
        "before = megabytes()\n"
        "lm('Hi')\n"
        "during = megabytes()\n"
        "lm.close()\n"
        "print(before, during, megabytes())\n"
    )
    before, during, after = map(int, run(code).stdout.split())
    assert during - before > 200
    assert after - before < 100
