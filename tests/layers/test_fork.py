"""After a fork the child begins anew: what its parent has in flight will never come back to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.fault_server import FaultServer, reply

JSON = {"Content-Type": "application/json"}
SAYS_FINE = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}}]}'

CODE = """
import os
from lmgateway._layers.limit import Limits, limiter_for
from lmgateway._layers.retry import budget_for

limits = Limits(in_flight=1)
place = limiter_for("p", limits).in_flight.acquire()
budget_for("p", None)._lock.acquire()
child = os.fork()
if not child:
    granted = limiter_for("p", limits).in_flight.acquire().granted
    place.release()
    os._exit(0 if granted is None and budget_for("p", None).spend(5) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_holds_nothing_of_its_parents() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.stdout.strip() == "0", done.stderr


EVERY_LOCK = """
import faulthandler, gc, os, sys, threading
import lmgateway
from lmgateway import get_lm, on_call, record, replay
from lmgateway.testing import ScriptedLM

base, path = sys.argv[1:]
options = {"model": "m", "api_key": "k", "retries": 0, "temperature": 0.5, "cache": False}
lm = get_lm("openai", api_base=base, **options)
scripted = ScriptedLM(lambda request: "scripted")
asked = 0


def use():
    global asked
    asked += 1
    another = get_lm("openai", api_base=base, **options)
    assert another("recorded", recordings=[path]) == ["fine"]
    assert lm(f"to be recorded {asked} by {os.getpid()}", idle_timeout=asked) == ["fine"]
    assert scripted("x") == ["scripted"]
    with on_call(lambda event: None), replay(path):
        assert lm("recorded") == ["fine"]
    assert len(lm.history) == 2 * asked


def locks():
    kinds = (type(threading.Lock()), type(threading.RLock()), threading.Condition)
    holders = list(sys.modules.items())
    holders += [(f"{type(thing).__module__}.{type(thing).__name__}", thing)
                for thing in gc.get_objects()]
    for name, holder in holders:
        if name.startswith("lmgateway.") and not name.endswith((".sqlite.Store", ".Maintenance")):
            for attribute, value in list(getattr(holder, "__dict__", {}).items()):
                if isinstance(value, kinds):
                    yield f"{name}.{attribute}", value


def hold():
    for name, lock in locks():
        if lock.acquire(blocking=False):
            print(name)
    held.set()
    threading.Event().wait()


held = threading.Event()
with record(path):
    lm("recorded")
    lm.history.clear()
    use()
    threading.Thread(target=hold, daemon=True).start()
    held.wait()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        faulthandler.dump_traceback_later(10, exit=True)
        use()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("the child ended with", code, flush=True)
    os._exit(0)
"""


@pytest.mark.loopback
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_finds_every_lock_free(tmp_path: Path) -> None:
    with FaultServer([reply(SAYS_FINE, headers=JSON)]) as server:
        done = subprocess.run(
            [sys.executable, "-c", EVERY_LOCK, server.url, str(tmp_path / "r.jsonl")],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    held = set(done.stdout.splitlines())
    assert "the child ended with 0" in held, done.stderr
    assert held >= {
        "lmgateway._config.files._lock",
        "lmgateway._config.provenance._lock",
        "lmgateway._transports.leases.Leases._lock",
        "lmgateway._records.history.History._lock",
        "lmgateway._layers.observe._lock",
        "lmgateway._plugins.registry._lock",
        "lmgateway._store.recorder.Recorder._lock",
        "lmgateway._store.recorder._lock",
        "lmgateway._store.recordings.Recording._lock",
        "lmgateway.testing.scripted._Script._lock",
        "lmgateway._transports.leases.Shared.lock",
    }
