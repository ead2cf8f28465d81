"""After a fork the child begins anew: what its parent has in flight will never come back to it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import os
from lmgateway.layers.limit import Limits, limiter_for
from lmgateway.layers.retry import budget_for

limits = Limits(in_flight=1)
place = limiter_for("p", limits).gate.enter()
limiter_for("p", limits).gate._lock.acquire()  # as another thread of the parent might
budget_for("p", None)._lock.acquire()
child = os.fork()
if not child:
    granted = limiter_for("p", limits).gate.enter().granted
    place.leave()
    os._exit(0 if granted is None and budget_for("p", None).spend(5) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_holds_nothing_of_its_parents() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.stdout.strip() == "0", done.stderr
