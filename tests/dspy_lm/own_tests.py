"""DSPy's own tests, over plain DSPy and over this library: `make dspy-tests DSPY=../dspy`.

They are in a checkout of DSPy's repository, and not in its distribution: take the tag that is
nearest to the installed version. What runs over plain DSPy is to run over this library, too; each
exception is here, with its reason.
"""

from __future__ import annotations

import re
import subprocess
import sys
from os import environ, pathsep
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
PARTS = ("adapters", "callback", "clients/test_cache.py", "clients/test_lm.py", "evaluate",
         "predict", "primitives", "signatures", "streaming", "teleprompt", "utils")  # fmt: skip

#: What runs over plain DSPy alone: tests by their names, and why.
KNOWN = (
    (r"test_lm.py::.*(dump_state|load_state|saved_in_json)", "the test reads dspy.LM's own state"),
    (r"(dump_and_load|save_load|save_exclude|_load_\w*endpoint|load_state_\w+|legacy_lm_state)",
     "the LM of this harness is made of an object, which cannot be saved; LMs by name can"),
    (r"test_disabled_cache_skips_cache_key", "the test looks at how DSPy calls LiteLLM"),
    (r"test_json_adapter_not_using_structured_outputs", "here the plugin says what is supported"),
    (r"test_streaming_with_citations", "the test's citations are LiteLLM's, in no wire format"),
)  # fmt: skip


def main() -> int:
    """Run them twice and compare; 1 if anything runs over plain DSPy alone, unexplained."""
    (checkout,) = map(Path, sys.argv[1:])
    plain, ours = (passing(checkout.resolve(), *plugin) for plugin in ((), ("-p", "over_ours")))
    unexplained = []
    print(f"{len(plain)} pass over plain DSPy, {len(ours)} over lmgateway")
    for test in sorted(plain - ours):
        reason = next((why for pattern, why in KNOWN if re.search(pattern, test)), None)
        print(f"  not over lmgateway: {test}: {reason or 'UNEXPLAINED'}")
        unexplained += [] if reason else [test]
    return 1 if unexplained or not plain else 0


def passing(checkout: Path, *plugin: str) -> set[str]:
    """The names of the tests that pass."""
    paths = [f"tests/{part}" for part in PARTS if (checkout / "tests" / part).exists()]
    with TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=no", "--asyncio-mode=auto",
             "--continue-on-collection-errors", "-W", "ignore", "-p", "no:cacheprovider",
             "-o", "addopts=", *plugin, *paths],
            cwd=checkout,
            env={**environ, "PYTHONPATH": pathsep.join([str(HERE), str(checkout)]),
                 "LITELLM_LOCAL_MODEL_COST_MAP": "true", "DSPY_CACHEDIR": cache},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )  # fmt: skip
    print(done.stdout.splitlines()[-1])
    return set(re.findall(r"^PASSED (.*)$", done.stdout, re.MULTILINE))


if __name__ == "__main__":
    sys.exit(main())
