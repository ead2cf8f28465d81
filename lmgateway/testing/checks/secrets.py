"""Checks of secrets: a secret is sent in a header of the request, and is nowhere else."""

from __future__ import annotations

import io
import logging
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ..._store.recorder import record
from ...errors import LMGatewayError
from ...types import HTTPRequest, HTTPResponse, Signed
from ..bench import DEFAULT_CALL, Bench, BenchResult
from ..calls import RecordedCall
from ..wire import Wire
from .failures import OTHERS

__all__ = ["SecretChecks"]

#: Loggers of libraries that sign or send, and show what they sign when they are debugged.
_TALKATIVE = frozenset(
    {"botocore", "boto3", "google", "msal", "azure", "urllib3", "httpx", "httpcore"}
)
_SECRET_NAME = re.compile(r"(^|_)(key|token|secret|password|credentials?)$")


class SecretChecks:
    """The secrets of the plugin are canaries here: each place that shows one is a leak."""

    def test_secrets_are_secret_settings(self, bench: Bench) -> None:
        """A setting that is named like a secret is a SecretStr, so that no repr shows it."""
        fields = bench.plugin.settings.model_fields if bench.plugin.settings else {}
        bare = [
            name
            for name, field in fields.items()
            if _SECRET_NAME.search(name) and "SecretStr" not in str(field.annotation)
        ]
        assert not bare, f"the setting {bare[0]} must be a pydantic.SecretStr: its repr shows it"

    def test_a_secret_is_sent_in_a_header(self, bench: Bench, answered: RecordedCall) -> None:
        """A secret in a URL or in a body would be logged and cached."""
        result = bench.replay(answered)
        if not bench.canaries or not result.wire.sent:
            pytest.skip("it sends no secret")
        headers = [str(dict(request.headers)) for request in result.wire.sent]
        for canary in bench.canaries:
            assert _proves_otherwise(result.wire) or any(canary in each for each in headers), (
                f"{canary} was not sent in a header"
            )
            for request in result.wire.sent:
                where = (request.url, request.json)
                assert canary not in str(where), "a secret is in the URL or the body"

    def test_a_secret_is_resolved_when_it_is_sent(
        self, bench: Bench, answered: RecordedCall
    ) -> None:
        """It is given as ``auth=``: a cached answer needs no key, and the cache sees none."""
        result = bench.replay(answered)
        for exchange in result.wire.asked:
            if isinstance(exchange, HTTPRequest):
                early = (dict(exchange.headers), exchange.path, exchange.json, exchange.base_url)
                for canary in bench.canaries:
                    assert canary not in str(early), (
                        "a secret stands in the request before it is sent: give it as auth="
                    )

    @pytest.mark.parametrize("hook", list(OTHERS))
    def test_every_kind_of_call_proves_who_asks(self, bench: Bench, hook: str) -> None:
        """Where a completion is sent with a secret, so is a listing, an embedding, a ranking."""
        if hook not in bench.plugin.hooks:
            pytest.skip(f"it has no {hook}")
        calls: list[Callable[[Any], Any]] = [lambda lm: lm.complete(**DEFAULT_CALL), OTHERS[hook]]
        wires = []
        for call in calls:
            wires.append(Wire())
            with suppress(Exception):  # there is no answer
                call(bench.lm(wires[-1]))
        completion, other = wires
        if not completion.sent or not other.sent or not _proves(completion, bench.canaries):
            pytest.skip("it sends no secret over HTTP")
        assert _proves(other, bench.canaries), (
            f"{hook} sends no secret, and a completion does: the service refuses it. Give its "
            "request auth= as well"
        )

    def test_no_secret_is_shown(
        self, bench: Bench, capfd: pytest.CaptureFixture[str], calls: list[RecordedCall]
    ) -> None:
        """No message, repr, traceback, log or output shows it, whatever the service answers."""
        answered = [call for call in calls if not call.is_error]
        with _logged() as log:
            shown = [text for each in answered for text in _shown(lambda e=each: bench.replay(e))]
            for response in _echoes(bench.canaries):
                shown += _shown(lambda r=response: bench.ask(DEFAULT_CALL, r))
            shown.append(repr(bench.lm(Wire())))
            shown.append(repr(bench.lm(Wire()).settings))
        output = capfd.readouterr()
        shown += [log.getvalue(), output.out, output.err]
        for canary in bench.canaries:
            leaks = [text for text in shown if canary in text]
            assert not leaks, f"a secret is shown: {leaks[0][-400:]}"

    def test_no_secret_is_kept(
        self,
        bench: Bench,
        answered: RecordedCall,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """No cache file, recording, history or completion holds a secret."""
        folder, tape = tmp_path / "kept", tmp_path / "tape.jsonl"
        monkeypatch.setenv("LMGATEWAY_CACHE_DIR", str(folder))
        monkeypatch.setenv("LMGATEWAY_CACHE", "on")
        lm = bench.lm(Wire(*answered.answers()), cache=True)
        with record(tape):
            if answered.stream:
                stream = lm.stream(**answered.call)
                list(stream)
                completion = stream.completion
            else:
                completion = lm.complete(**answered.call)
        files = [path for path in [tape, *folder.rglob("*")] if path.is_file()]
        kept = b"".join(path.read_bytes() for path in files)
        kept += repr([completion, list(lm.history)]).encode()
        for canary in bench.canaries:
            assert canary.encode() not in kept, "a secret was kept in cache, recording or history"


def _proves(wire: Wire, canaries: tuple[str, ...]) -> bool:
    """Whether what is asked proves who asks."""
    asked = [each for each in wire.asked if isinstance(each, HTTPRequest)]
    sent = [str(dict(request.headers)) for request in wire.sent]
    return any(each.auth is not None for each in asked) or any(
        canary in headers for canary in canaries for headers in sent
    )


def _proves_otherwise(wire: Wire) -> bool:
    """Whether a secret is what a request is signed with, or what a token is fetched for."""
    auths = [each.auth for each in wire.asked if isinstance(each, HTTPRequest)]
    return wire.fetched > 0 or any(isinstance(auth, Signed) for auth in auths)


def _echoes(canaries: tuple[str, ...]) -> Iterator[HTTPResponse]:
    """Answers of services that repeat the key in their errors."""
    for canary in canaries:
        for status in (200, 401, 500):
            yield HTTPResponse(status, {}, f'{{"error": {{"message": "bad {canary}"}}}}'.encode())
            yield HTTPResponse(status, {}, f"<p>bad {canary}</p>".encode())


def _shown(ask: Any) -> list[str]:
    """All texts in which a call shows itself."""
    try:
        result: BenchResult = ask()
    except LMGatewayError as error:
        kinds = [str(error), repr(error), repr(vars(error)), repr(error.args)]
        return [*kinds, "".join(traceback.TracebackException.from_exception(error).format())]
    except Exception as error:
        return [repr(error)]
    return [repr(result.completion), repr(result.pieces), repr(result.wire.asked)]


def _is_of_the_plugin(record: logging.LogRecord) -> bool:
    """Whether the plugin answers for a record: not for what other libraries tell for debugging.

    botocore logs all that it signs, the session's token included, at that level.
    """
    root = record.name.partition(".")[0]
    return record.levelno > logging.DEBUG or root not in _TALKATIVE


@contextmanager
def _logged() -> Iterator[io.StringIO]:
    """Collect everything that is logged, at every level."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.addFilter(_is_of_the_plugin)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield text
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
