"""llama.cpp in the process: loaded models, each shared by all who ask for the same."""

from __future__ import annotations

import atexit
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from lmgateway.errors import ConfigError, LMGatewayError, UnsupportedError

__all__ = ["INSTALL_ENGINE", "Engine", "Spec", "Take", "let_go", "load"]

INSTALL_ENGINE = "pip install xllamacpp"

EXIT_SECONDS = 10.0

Take: TypeAlias = Callable[[dict[str, Any]], bool]
"""Is handed each chunk of an answer; returns False to end it there."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What is loaded, and how; equal specs share one engine.

    Attributes:
        path: Of the weights.
        digest: Of the weights: a file that was replaced is loaded anew.
        name: What answers call the model.
        n_ctx: Tokens of one answer and its prompt.
        n_parallel: Answers computed at once.
        threads: Threads that compute.
        pooling: For an engine that embeds, how the vectors of a text's tokens become one: ``mean``,
            ``cls``, ``last`` or ``model``, which is as the file says. None for one that answers.
    """

    path: Path
    digest: str
    name: str
    n_ctx: int
    n_parallel: int
    threads: int
    pooling: str | None = None


class Engine:
    """One loaded model; it is freed with the last reference to it."""

    __slots__ = ("__weakref__", "_server", "spec")

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._server = _start(spec)

    def generate(self, endpoint: str, body: dict[str, Any], take: Take) -> None:
        """Compute an answer, from any thread, and hand it on in chunks.

        Args:
            endpoint: ``chat/completions`` or ``completions``.
            body: As for OpenAI's endpoint of that name.
            take: Is given chunks as OpenAI streams them, or ``{"error": {...}}``.

        Raises:
            Exception: whatever ``take`` raised.
        """
        handle = getattr(self._server, f"handle_{endpoint.replace('/', '_')}")
        raised: list[BaseException] = []

        def callback(chunk: dict[str, Any]) -> bool:
            try:
                with _outside():
                    return not take(chunk) or _calls.stopping
            except BaseException as error:  # xllamacpp would swallow it and go on computing
                raised.append(error)
                return True

        with _inside():
            try:
                handle(body, callback)
            except (ValueError, RuntimeError) as error:  # as llama.cpp's own HTTP server has it
                code = 400 if isinstance(error, ValueError) else 500
                take({"error": {"code": code, "message": str(error)}})
        if raised:
            raise raised[0]

    def embed(self, texts: Sequence[str]) -> dict[str, Any]:
        """Embed a few texts, from any thread: what OpenAI's endpoint answers, or an error object.

        It cannot be stopped once it has begun.
        """
        with _inside():
            try:
                return _embedded(self._server, texts)
            except (ValueError, RuntimeError) as error:
                code = 400 if isinstance(error, ValueError) else 500
                return {"error": {"code": code, "message": str(error)}}


_loading = threading.Lock()
_engines: WeakValueDictionary[Spec, Engine] = WeakValueDictionary()
_process: int | None = None  # the one that llama.cpp was started in
# Settings changed for one call live as long as that call: without this reference, each such call
# of an LM that makes no other would load the model anew.
_latest: Engine | None = None


def load(spec: Spec) -> Engine:
    """The engine for a spec, loaded now unless somebody holds it already.

    Raises:
        ConfigError: llama.cpp is missing, or cannot load these weights.
        UnsupportedError: this process was forked from one that had used llama.cpp.
    """
    global _latest
    if _process not in (None, os.getpid()):
        raise UnsupportedError(
            "this process was forked from one that had already used llama.cpp, which does not "
            "survive a fork: start it with multiprocessing's 'spawn' or 'forkserver', or fork "
            "before the first call"
        )
    if (engine := _engines.get(spec)) is None:
        with _loading:
            if (engine := _engines.get(spec)) is None:
                with _inside():
                    engine = Engine(spec)
                _engines[spec] = engine
    _latest = engine
    return engine


def let_go() -> None:
    """Keep no engine beyond those that somebody holds."""
    global _latest
    _latest = None


def _start(spec: Spec) -> Any:
    global _process
    try:
        import xllamacpp  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise ConfigError(f"llama.cpp is not there ({error}): {INSTALL_ENGINE}") from error
    _process = os.getpid()
    params = xllamacpp.CommonParams()
    params.model.path = str(spec.path)
    params.model_alias = {spec.name}  # without one, the file's path is the model's name
    params.n_ctx = spec.n_ctx * spec.n_parallel
    params.n_parallel = spec.n_parallel
    params.cpuparams.n_threads = spec.threads
    params.cpuparams_batch.n_threads = spec.threads
    # It opens a port on 127.0.0.1 whatever one says: nobody is to know the key.
    params.api_keys = [secrets.token_urlsafe(32)]
    params.endpoint_slots = False
    params.ui = False
    params.cache_ram_mib = 0  # else it keeps up to 8 GiB of past prompts
    params.warmup = False  # see below
    params.verbosity = 0
    if spec.pooling is not None:
        params.embedding = True
        # Else the tokens of texts of different lengths are computed in several steps, and only
        # those of the last one get into the vector.
        params.kv_unified = True
        params.n_batch = params.n_ubatch = spec.n_ctx  # a text is computed in one step, or refused
        if spec.pooling != "model":
            kinds = xllamacpp.llama_pooling_type
            params.pooling_type = getattr(kinds, f"LLAMA_POOLING_TYPE_{spec.pooling.upper()}")
    try:
        server = xllamacpp.Server(params)
        # It is there before its loop runs, and one freed in between never ends. An answer proves
        # that the loop runs; it also takes the place of the warm-up.
        if spec.pooling is None:
            server.handle_completions({"prompt": "a", "max_tokens": 0})
        elif "error" in (answer := _embedded(server, ["a"])):
            raise ValueError(answer["error"].get("message"))
        return server
    except Exception as error:
        raise ConfigError(
            f"llama.cpp cannot load {spec.path}: the file is damaged, or of an architecture that "
            "this version of xllamacpp does not know, or larger than the free memory "
            f"(n_ctx={spec.n_ctx} and n_parallel={spec.n_parallel} cost memory too)"
        ) from error


def _embedded(server: Any, texts: Sequence[str]) -> dict[str, Any]:
    answer: dict[str, Any] = server.handle_embeddings(
        {"input": list(texts), "encoding_format": "base64"}
    )
    return answer


# -- the end of the process ---------------------------------------------------------------------


class _Calls:
    """How many threads are inside llama.cpp, and whether they are to leave it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.count = 0
        self.stopping = False

    def add(self, number: int) -> None:
        with self.changed:
            self.count += number
            self.changed.notify_all()


_calls = _Calls()


@contextmanager
def _inside() -> Iterator[None]:
    if _calls.stopping:
        raise LMGatewayError("the interpreter is exiting")
    _calls.add(1)
    try:
        yield
    finally:
        _calls.add(-1)


@contextmanager
def _outside() -> Iterator[None]:
    """For a callback: a reader that never comes back must not hold up the exit."""
    _calls.add(-1)
    try:
        yield
    finally:
        _calls.add(1)


@atexit.register
def _stop() -> None:
    """End all answers before the interpreter does: a thread inside llama.cpp would crash it."""
    _calls.stopping = True
    with _calls.changed:
        _calls.changed.wait_for(lambda: not _calls.count, timeout=EXIT_SECONDS)


def _abandon() -> None:
    """In a forked child: never free what needs threads that only the parent has."""
    if _process is None:
        return
    import ctypes

    for engine in list(_engines.values()):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine._server))
    # llama.cpp's own exit handler waits for such a thread for ever. This one runs before it.
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):  # glibc
        libc.on_exit(libc._exit, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon)
