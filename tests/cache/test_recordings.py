from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, permutations
from pathlib import Path
from typing import Any

import pytest
from support.service import BASE, CANARY, DONE, Service, Where, World, embedded, says, streams

import lmgateway._store.recorder
from lmgateway import errors
from lmgateway._layers.cache import cache
from lmgateway._store import recordings
from lmgateway._store.difference import nearest
from lmgateway._store.recorder import record, replay
from lmgateway._store.recordings import Recording, from_json, to_json
from lmgateway._store.settings import CacheSettings
from lmgateway.types import Blocking, Flow, HTTPRequest, HTTPResponse, Request, send


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "examples.jsonl"


@pytest.fixture
def elsewhere(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """Another machine: no cache, no base, and a service that must not be asked."""

    def fail(request: HTTPRequest) -> HTTPResponse:
        raise AssertionError("something was sent")

    monkeypatch.setenv("LMGATEWAY_CACHE_DIR", str(tmp_path / "elsewhere"))
    return World(cache(), Service(fail), Where(base_url=None))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_a_recording_is_json_lines_for_people_to_read(world: World, path: Path) -> None:
    with record(path):
        world.ask("What is 1 + 1?", max_tokens=5)
    [line] = lines(path)
    asked = {"prompt": "What is 1 + 1?", "temperature": 0, "max_tokens": 5, "stream": False}
    assert line["request"] == {
        "provider": "one",
        "sample": 0,
        "stream": False,
        "method": "POST",
        "path": "/completions",
        "body": asked,
    }
    assert line["response"]["json"]["usage"] == {"prompt_tokens": 3, "completion_tokens": 5}


def test_it_answers_elsewhere_with_neither_key_nor_base(
    world: World, path: Path, elsewhere: World
) -> None:
    with record(path):
        first = world.ask(temperature=0.7)
    again = elsewhere.ask(temperature=0.7, recordings=(str(path),))
    assert again.pop("cached")
    assert not first.pop("cached")
    assert again == first


def test_the_configuration_names_recordings_for_all(
    world: World, path: Path, elsewhere: World
) -> None:
    with record(path):
        world.ask()
    elsewhere.layer = cache(CacheSettings(recordings=(str(path),)))
    assert elsewhere.ask()["cached"]


@pytest.mark.parametrize("options", [{"cache": False}, {"cache": "only"}, {"cache": True}])
def test_recordings_answer_whatever_the_cache_may_do(
    world: World, path: Path, elsewhere: World, options: dict[str, Any]
) -> None:
    with record(path):
        world.ask()
    assert elsewhere.ask(recordings=(str(path),), **options)["cached"]


def test_refresh_passes_recordings_by(world: World, path: Path) -> None:
    with record(path):
        world.ask()
    assert not world.ask(recordings=(str(path),), cache="refresh")["cached"]


def test_streams_are_recorded_and_replayed(world: World, path: Path, elsewhere: World) -> None:
    pieces = ["one ", "zwölf ", "\u2028", '"']
    chunks = [piece.encode() for piece in pieces]
    world.service.answer = lambda request: streams(*chunks, DONE)
    with record(path):
        world.stream()
    assert elsewhere.stream(recordings=(str(path),))[0] == pieces
    assert lines(path)[0]["response"]["chunks"] == [*pieces, DONE.decode()]


def test_work_in_the_process_is_recorded(world: World, path: Path, elsewhere: World) -> None:
    world.provider = embedded(lambda: {"tokens": [1, 2]}, {"model": "sha"})
    with record(path):
        world.ask()
    elsewhere.provider = embedded(lambda: pytest.fail("it ran"), {"model": "sha"})
    raw = elsewhere.ask(recordings=(str(path),))["raw"]  # type: ignore[typeddict-item]
    assert raw == {"tokens": [1, 2]}


def test_what_the_cache_answers_is_recorded_too_and_nothing_twice(world: World, path: Path) -> None:
    world.ask()
    for _ in range(2):
        with record(path):
            assert world.ask()["cached"]
            world.ask("another")
    assert len(lines(path)) == 2


def test_what_fails_is_not_recorded(world: World, path: Path) -> None:
    world.service.answer = lambda request: says("x", 500)
    with record(path), pytest.raises(errors.ServerError):
        world.ask()
    assert lines(path) == []


def test_neither_key_nor_host_nor_cookie_is_in_it(world: World, path: Path) -> None:
    with record(path):
        world.ask()
    text = path.read_text()
    assert CANARY not in text
    assert BASE not in text
    assert "one.example" not in text


def test_a_changed_file_is_read_again(world: World, path: Path, elsewhere: World) -> None:
    with record(path):
        world.ask("a")
    assert elsewhere.ask("a", recordings=(str(path),))["cached"]
    with record(path):
        world.ask("b")
    assert elsewhere.ask("b", recordings=(str(path),))["cached"]


def test_a_last_line_without_its_end_is_not_run_into(world: World, path: Path) -> None:
    with record(path):
        world.ask("a")
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    with record(path):
        world.ask("b")
    assert len(lines(path)) == 2


def answered(response: str) -> bytes:
    """A line of a request over HTTP that was answered so."""
    return b'{"request": {"method": "POST"}, "response": %b}' % response.encode()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"{", id="no JSON"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"{}", id="empty"),
        pytest.param(b'{"request": {"a": 1}, "response": {"status": 200}}', id="no headers"),
        pytest.param(b'{"request": 5, "response": {"value": 1}}', id="a number asked"),
        pytest.param(
            b'{"request": {}, "response": {"status": 200, "headers": {}, "base64": "?"}}',
            id="no base64",
        ),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(
            answered('{"status": 200, "headers": {}, "json": %s}' % ("[" * 9999)), id="cut"
        ),
        *(
            pytest.param(answered(response), id=response[:60])
            for response in (
                '{"status": 1e999, "headers": {}, "json": {}}',
                '{"status": NaN, "headers": {}, "json": {}}',
                '{"status": -1, "headers": {}, "json": {}}',
                '{"status": 0, "headers": {}, "json": {}}',
                '{"status": 101, "headers": {}, "json": {}}',
                '{"status": 1000, "headers": {}, "json": {}}',
                '{"status": 200.5, "headers": {}, "json": {}}',
                '{"status": true, "headers": {}, "json": {}}',
                '{"status": "200", "headers": {}, "json": {}}',
                '{"status": null, "headers": {}, "json": {}}',
                '{"status": %s, "headers": {}, "json": {}}' % ("9" * 5000),
                '{"status": 200, "headers": {"x": 1}, "json": {}}',
                '{"status": 200, "headers": {"x": null}, "json": {}}',
                '{"status": 200, "headers": [], "json": {}}',
                '{"status": 200, "headers": "x", "json": {}}',
                '{"status": 200, "headers": {}}',
                '{"status": 200, "headers": {}, "text": 5}',
                '{"status": 200, "headers": {}, "text": "\\ud800"}',
                '{"status": 200, "headers": {}, "base64": 5}',
                '{"status": 200, "headers": {}, "base64": "é"}',
                '{"status": 200, "headers": {}, "chunks": 5}',
                '{"status": 200, "headers": {}, "chunks": "ab"}',
                '{"status": 200, "headers": {}, "chunks": {"a": 1}}',
                '{"status": 200, "headers": {}, "chunks": [1]}',
                '{"value": {}}',
                '"text"',
                "[]",
                "null",
            )
        ),
    ],
)
def test_a_line_that_is_no_recording_is_named(
    world: World, path: Path, elsewhere: World, line: bytes
) -> None:
    with record(path):
        world.ask()
    path.write_bytes(path.read_bytes() + b"\n" + line + b"\n")
    with pytest.raises(errors.ConfigError, match=r"line 3 of .*examples\.jsonl"):
        elsewhere.ask(recordings=(str(path),))


def test_a_file_that_is_not_there_is_an_error(elsewhere: World) -> None:
    with pytest.raises(errors.ConfigError, match=r"nowhere\.jsonl cannot be read"):
        elsewhere.ask(recordings=("nowhere.jsonl",))


def test_a_place_that_cannot_be_written_is_an_error_before_anything_is_asked(
    tmp_path: Path,
) -> None:
    with (
        pytest.raises(errors.ConfigError, match="cannot record to"),
        record(tmp_path / "no" / "x.jsonl"),
    ):
        pytest.fail("the block was entered")


def test_a_write_that_fails_spoils_no_answer_and_is_told_at_the_end(
    world: World, path: Path
) -> None:
    def append() -> None:
        with record(path):
            path.unlink()
            path.mkdir()
            assert world.ask()["choices"]

    with pytest.raises(errors.ConfigError, match="not everything was recorded"):
        append()


needs_limits = pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of file sizes")


@needs_limits
def test_a_disk_that_is_full_leaves_whole_lines(path: Path) -> None:
    """In a process of its own: a limit of file sizes cuts a write short, as a full disk does."""
    code = """
import os, resource, sys
from lmgateway._store.recordings import append_line
path = sys.argv[1]
append_line(path, {"a": 1})
size = os.path.getsize(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, resource.RLIM_INFINITY))
for entry in ({"b": "x" * 100}, {"c": "x" * 100}):
    try:
        append_line(path, entry)
    except OSError:
        print("told")
append_line(path, {"d": 1})
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "told\ntold\n", done.stderr
    assert lines(path) == [{"a": 1}, {"d": 1}]


def split_last_line(path: Path) -> bytes:
    """Take the second half of a file's last line out of it, as if it were still being written."""
    whole = path.read_bytes()
    middle = whole.rindex(b"{", 0, len(whole) - 40)
    path.write_bytes(whole[:middle])
    return whole[middle:]


def test_a_line_that_is_being_written_is_not_there_yet(
    world: World, path: Path, elsewhere: World
) -> None:
    with record(path):
        world.ask("a")
        world.ask("b")
    rest = split_last_line(path)
    assert elsewhere.ask("a", recordings=(str(path),))["cached"]
    with replay(path), pytest.raises(errors.CacheMissError, match='recorded "a", asked "b"'):
        elsewhere.ask("b")
    with path.open("ab") as file:
        file.write(rest)
    assert elsewhere.ask("b", recordings=(str(path),))["cached"]


def test_a_recording_that_begins_waits_for_the_line_another_process_writes(
    world: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with record(path):
        world.ask("a")
        world.ask("b")
    whole = path.read_bytes()
    rest = split_last_line(path)

    def write_on(seconds: float) -> None:
        with path.open("ab") as file:
            file.write(rest)

    monkeypatch.setattr(recordings, "sleep", write_on)
    with record(path):
        world.ask("b")
    assert path.read_bytes() == whole


def test_a_line_that_stays_unfinished_is_named_before_anything_is_asked(
    world: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "UNFINISHED_WAIT", 0.0)
    with record(path):
        world.ask("a")
        world.ask("b")
    split_last_line(path)
    with pytest.raises(errors.ConfigError, match=r"line 2 of .*examples\.jsonl"), record(path):
        pytest.fail("the block was entered")


def test_what_a_recording_appends_is_known_without_reading_it_again(
    world: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[bytes] = []
    digest = recordings._digest
    monkeypatch.setattr(
        recordings, "_digest", lambda line: (looked_at.append(line), digest(line))[1]
    )
    with record(path, fresh=True):
        for number in range(10):
            world.ask(f"{number}")
            assert world.ask(f"{number}")["cached"]
    with record(path):
        world.ask("another", recordings=(str(path),))
        assert world.ask("another", recordings=(str(path),), cache=False)["cached"]
    assert looked_at == []
    assert len(lines(path)) == 11


def test_what_others_append_meanwhile_is_found(world: World, path: Path) -> None:
    with record(path, fresh=True):
        world.ask("a")
        of_b = path.read_bytes().replace(b'"a"', b'"b"')

        def write_meanwhile(request: HTTPRequest) -> HTTPResponse:
            path.write_bytes(path.read_bytes() + of_b)
            return says("c")

        world.service.answer = write_meanwhile
        world.ask("c")
        world.service.answer = lambda request: pytest.fail("something was sent")
        assert all(world.ask(prompt)["cached"] for prompt in "abc")


def rewrite(path: Path, content: bytes) -> None:
    """Write into the same file, and leave size and time as they were."""
    before = path.stat()
    with path.open("rb+") as file:
        file.write(content)
        file.truncate()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path, content: bytes) -> None:
    """Put another file in its place."""
    other = path.with_suffix(".new")
    other.write_bytes(content)
    other.replace(path)


class Meanwhile:
    """Does something each time that a file has been indexed, and before a line of it is read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
        refresh = Recording._refresh

        def refreshed(recording: Recording, file: Any) -> None:
            refresh(recording, file)
            act()

        monkeypatch.setattr(Recording, "_refresh", refreshed)


@pytest.mark.parametrize("change", [rewrite, replace])
def test_a_file_that_changes_between_index_and_reading_gives_no_other_answer(
    world: World,
    path: Path,
    elsewhere: World,
    change: Callable[[Path, bytes], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with record(path):
        answers = {prompt: world.ask(prompt)["choices"] for prompt in "abc"}
    orders = cycle(permutations(path.read_bytes().splitlines(keepends=True)))
    changes = iter([True, False] * 100)

    def rearrange() -> None:
        if next(changes):  # what changes each time it is looked at is another matter
            change(path, b"".join(next(orders)))

    Meanwhile(monkeypatch, rearrange)
    for _ in range(12):
        for prompt in "abc":
            answer = elsewhere.ask(prompt, recordings=(str(path),))
            assert answer["cached"]
            assert answer["choices"] == answers[prompt]


def test_a_file_that_never_rests_is_told_of(
    world: World, path: Path, elsewhere: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with record(path):
        for prompt in "ab":
            world.ask(prompt)
    first, second = path.read_bytes().splitlines(keepends=True)
    orders = cycle([second + first, first + second])
    Meanwhile(monkeypatch, lambda: rewrite(path, next(orders)))
    with pytest.raises(errors.ConfigError, match=r"examples\.jsonl change while they are read"):
        elsewhere.ask("a", recordings=(str(path),))


def test_another_file_of_the_same_size_and_time_is_read_again(
    world: World, path: Path, elsewhere: World
) -> None:
    with record(path):
        world.ask("a")
    before, line = path.stat(), path.read_bytes()
    assert elsewhere.ask("a", recordings=(str(path),))["cached"]
    replace(path, line.replace(b'"a"', b'"b"'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert elsewhere.ask("b", recordings=(str(path),))["cached"]


def test_a_file_replaced_while_it_is_appended_to_is_read_again(
    world: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with record(path, fresh=True):
        world.ask("a")
        line = path.read_bytes()
        append = recordings.append_line

        def append_to_another(where: str, entry: Any) -> tuple[int, int]:
            replace(path, line.replace(b'"a"', b'"z"'))  # as long as what was there
            return append(where, entry)

        with monkeypatch.context() as patch:
            patch.setattr(recordings, "append_line", append_to_another)
            world.ask("b")
        world.service.answer = lambda request: pytest.fail("something was sent")
        assert world.ask("z")["cached"]
        assert world.ask("b")["cached"]


@dataclass
class Tokens:
    count: int


@pytest.mark.parametrize(
    "outcome",
    [
        pytest.param(Tokens(3), id="an object"),
        pytest.param({"logprob": float("-inf")}, id="infinity"),
        pytest.param({1: "a"}, id="keys that are numbers"),
        pytest.param(("a", "b"), id="a tuple"),
        pytest.param(None, id="nothing"),
    ],
)
@pytest.mark.parametrize("cached", [True, False])
def test_work_whose_outcome_json_does_not_give_back_is_told_of_at_the_end(
    world: World, path: Path, outcome: Any, cached: bool
) -> None:
    def provider(request: Request) -> Flow[dict[str, Any]]:
        yield from send(Blocking(lambda: outcome, key={"model": "sha"}))
        return {"choices": [{"text": "fine"}]}

    def ask() -> None:
        with record(path):
            assert world.ask(cache=cached)["choices"][0]["text"] == "fine"

    world.provider = provider
    with pytest.raises(errors.ConfigError, match=r"not everything was recorded .* JSON"):
        ask()
    assert lines(path) == []


def test_a_stream_too_long_to_be_recorded_is_told_of_at_the_end(world: World, path: Path) -> None:
    pieces = [b"x" * 1024**2] * 9
    world.service.answer = lambda request: streams(*pieces, DONE)

    def stream() -> None:
        with record(path):
            assert len(world.stream(cache=False)[0]) == 9

    with pytest.raises(errors.ConfigError, match="a stream is longer than 8 MiB"):
        stream()
    assert lines(path) == []


# -- replay ------------------------------------------------------------------------------------


def test_a_replay_answers_alone_and_says_what_differs(world: World, path: Path) -> None:
    with record(path):
        world.ask("What is the capital of France?", max_tokens=5)
    world.ask("What is the capital of Spain?", max_tokens=5)  # in the cache, but not recorded
    sent = len(world.service.requests)
    with replay(path):
        assert world.ask("What is the capital of France?", max_tokens=5, cache=False)["cached"]
        with pytest.raises(errors.CacheMissError) as caught:
            world.ask("What is the capital of Spain?", max_tokens=6)
    assert len(world.service.requests) == sent
    assert str(path) in str(caught.value)
    assert "body.max_tokens: recorded 5, asked 6" in str(caught.value)
    assert not caught.value.retryable


def test_a_replay_lets_nothing_without_identity_out(world: World, path: Path) -> None:
    path.touch()
    world.provider = embedded(lambda: {"a": 1}, None)
    with replay(path), pytest.raises(errors.CacheMissError, match="no identity"):
        world.ask()


def test_a_fresh_recording_passes_the_cache_by_but_not_itself(world: World, path: Path) -> None:
    world.ask()
    with record(path, fresh=True):
        assert not world.ask(cache=True)["cached"]
        assert world.ask(temperature=0.0)
        assert world.ask()["cached"]
    assert len(lines(path)) == 2


def test_blocks_leave_nothing_behind(path: Path) -> None:
    with record(path), replay(path):
        pass
    assert lmgateway._store.recorder.recorders() == ()
    assert lmgateway._store.recorder.replayer() is None


# -- the form ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"a": [1, 2.5, null, "\\u00fc"]}', id="JSON"),
        pytest.param(b'{"a": NaN}', id="NaN"),
        pytest.param(b'{"a": 1e999}', id="infinity"),
        pytest.param("grüße".encode(), id="text"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\x00\xfe", id="bytes"),
    ],
)
def test_every_body_survives(body: bytes) -> None:
    response = HTTPResponse(200, {"Content-Type": "x"}, body)
    again = from_json(json.loads(json.dumps(to_json(response), allow_nan=False)))
    assert again.status == 200
    assert again.headers["content-type"] == "x"
    if b"NaN" in body or b"1e999" in body or not body.startswith(b"{"):
        assert again.body == body
    else:
        assert json.loads(again.body) == json.loads(body)


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([b"gr\xc3", b"\xbc\xc3", b"\x9fe"], id="characters cut in two"),
        pytest.param([b"\xff", b"a"], id="no text"),
        pytest.param([b"ends in \xc3"], id="a character without its end"),
    ],
)
def test_every_stream_survives(chunks: list[bytes]) -> None:
    from lmgateway._store.serialization import Replay, decode, encode

    response = HTTPResponse(200, source=Replay(chunks))
    for again in (
        from_json(json.loads(json.dumps(to_json(response)))),
        decode(encode(response) or b""),
    ):
        assert b"".join(again.source.chunks) == b"".join(chunks)


# -- what differs ------------------------------------------------------------------------------

ASKED = {"provider": "one", "sample": 0, "path": "/p", "body": {"prompt": "x", "n": 1}}


@pytest.mark.parametrize(
    "recorded, told",
    [
        pytest.param([], "nothing is recorded there", id="nothing"),
        pytest.param(
            [{**ASKED, "body": {"prompt": "y"}}, {**ASKED, "sample": 1}],
            "the nearest, number 2 of 2, differs: sample: recorded 1, asked 0",
            id="the nearest of two",
        ),
        pytest.param(
            [{**ASKED, "body": {"prompt": "x"}}], "body.n: recorded nothing, asked 1", id="added"
        ),
        pytest.param(
            [{**ASKED, "body": {"prompt": "x", "n": True}}], "recorded true, asked 1", id="a type"
        ),
        pytest.param(
            [{"provider": "two", "sample": 1, "path": "/q", "body": {"prompt": "z", "n": 1}}],
            "; and 1 more",
            id="more than three",
        ),
    ],
)
def test_what_differs_is_told(recorded: list[dict[str, Any]], told: str) -> None:
    assert told in nearest(ASKED, recorded)


def test_long_texts_are_told_from_where_they_differ() -> None:
    recorded = {**ASKED, "body": {"prompt": "a" * 5000 + "b" * 5000, "n": 1}}
    asked = {**ASKED, "body": {"prompt": "a" * 5000 + "c" * 5000, "n": 1}}
    told = nearest(asked, [recorded])
    assert "body.prompt from character 5000" in told
    assert len(told) < 300
