"""Whatever a caller gives, to every public door: it is taken, or refused by a typed error.

Nothing raw comes out, nothing waits for ever, and what is refused was asked of nobody.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fault_server import FaultServer, receive, send
from support.odd import ODD, each_field_odd

import lmgateway
from lmgateway import (
    LM,
    ConfigError,
    InputError,
    LMGatewayError,
    PluginError,
    UnknownProviderError,
    UnsupportedError,
    get_lm,
)
from lmgateway._call.validation import check_texts
from lmgateway.cli import main

pytestmark = pytest.mark.loopback

REFUSALS = (InputError, ConfigError, UnsupportedError, UnknownProviderError)
PATIENCE = 60.0  # seconds; what is not back by then waits for ever


class Unspeakable:
    def __repr__(self) -> str:
        raise ZeroDivisionError


class Text(str):
    __slots__ = ()


def within_itself() -> list[Any]:
    value: list[Any] = [{"role": "user", "content": []}]
    value[0]["content"].append({"inner": value})
    return value


def deep() -> Any:
    value: Any = 1
    for _ in range(3000):
        value = {"a": value}
    return value


VALUES: dict[str, Callable[[Path], Any]] = {
    "None": lambda tmp: None,
    "5": lambda tmp: 5,
    "-1": lambda tmp: -1,
    "5,000 digits": lambda tmp: 10**5000,
    "-5,000 digits": lambda tmp: -(10**5000),
    "400 digits": lambda tmp: 10**400,
    "NaN": lambda tmp: float("nan"),
    "infinite": lambda tmp: float("inf"),
    "1e300": lambda tmp: 1e300,
    "True": lambda tmp: True,
    "empty": lambda tmp: "",
    "NUL": lambda tmp: "a\0b",
    "surrogate": lambda tmp: "a\ud800",
    "long": lambda tmp: "x" * 5000,
    "a kind of str": lambda tmp: Text("x"),
    "bytes": lambda tmp: b"x",
    "list": lambda tmp: [],
    "list of a number": lambda tmp: [5],
    "list of a NUL": lambda tmp: ["a\0b"],
    "dict": lambda tmp: {},
    "dict of numbers": lambda tmp: {10**5000: 1},
    "object": lambda tmp: object(),
    "object without repr": lambda tmp: Unspeakable(),
    "function": lambda tmp: print,
    "within itself": lambda tmp: within_itself(),
    "3,000 deep": lambda tmp: deep(),
    "Path": lambda tmp: tmp / "nothing",
    "folder": lambda tmp: str(tmp),
    "endless device": lambda tmp: "/dev/zero",
    "empty device": lambda tmp: "/dev/null",
    "pipe": lambda tmp: str(tmp / "pipe"),
}

Door = Callable[[LM, Any], Any]


def recorded(path: Any) -> None:
    with lmgateway.record(path):
        pass


def replayed(lm: LM, path: Any) -> Any:
    with lmgateway.replay(path):
        return lm("Hi")


def options(name: str) -> dict[str, Door]:
    """An option by each of its ways."""
    return {
        f"get_lm({name}=)": lambda lm, value: get_lm("echo", **{name: value})("Hi"),
        f"copy({name}=)": lambda lm, value: lm.copy(**{name: value})("Hi"),
    } | (
        {}
        if name in ("verify", "headers", "config", "history", "api_base", "api_key")
        else {f"call({name}=)": lambda lm, value: lm("Hi", **{name: value})}
    )


def keyword(name: str) -> dict[str, Door]:
    return {f"call({name}=)": lambda lm, value: lm("Hi", **{name: value})}


def drained(stream: Any) -> str:
    with stream:
        return "".join(stream)


OPTIONS = (
    "timeout", "connect_timeout", "idle_timeout", "retries", "cache", "sample", "recordings",
    "fallbacks", "headers", "verify", "transport", "history", "max_body", "config", "system",
)  # fmt: skip
PARAMS = (
    "n", "temperature", "max_tokens", "seed", "stop", "logit_bias", "logprobs", "top_logprobs",
    "tools", "tool_choice", "response_format", "metadata", "extra_body", "user", "unknown",
)  # fmt: skip
DOORS: dict[str, Door] = {
    "get_lm": lambda lm, value: get_lm(value),
    "get_lm(model=)": lambda lm, value: get_lm("openai", model=value),
    "get_lm(api_base=)": lambda lm, value: get_lm("openai/m", api_base=value),
    "get_lm(api_key=)": lambda lm, value: get_lm("openai/m", api_key=value),
    "copy(name=)": lambda lm, value: lm.copy(name=value),
    "copy(model=)": lambda lm, value: lm.copy(model=value),
    **{door: act for name in OPTIONS for door, act in options(name).items()},
    **{door: act for name in PARAMS for door, act in keyword(name).items()},
    "prompt": lambda lm, value: lm(value),
    "messages": lambda lm, value: lm(messages=value),
    "content": lambda lm, value: lm(messages=[{"role": "user", "content": value}]),
    "a part": lambda lm, value: lm(messages=[{"role": "user", "content": [value]}]),
    "a role": lambda lm, value: lm(messages=[{"role": value, "content": "Hi"}]),
    "schema": lambda lm, value: lm.complete("Hi", schema=value, cache=False),
    "required": lambda lm, value: lm.preview("Hi", schema={"properties": {}, "required": value,
                                                           "additionalProperties": False}),
    "acomplete": lambda lm, value: asyncio.run(lm.acomplete(value)),
    "stream": lambda lm, value: drained(lm.stream(value)),
    "preview": lambda lm, value: lm.preview(value),
    "preview(stream=)": lambda lm, value: lm.preview("Hi", stream=value),
    "embed": lambda lm, value: lm.embed(value),
    "embed one": lambda lm, value: lm.embed([value]),
    "batch": lambda lm, value: lm.batch(value),
    "batch of one": lambda lm, value: lm.batch([value], return_exceptions=True),
    "batch(concurrency=)": lambda lm, value: lm.batch(["Hi"], concurrency=value),
    "batch of an iterator": lambda lm, value: lm.batch(iter(["Hi"]), concurrency=value),
    "abatch": lambda lm, value: asyncio.run(lm.abatch(value)),
    "abatch(concurrency=)": lambda lm, value: asyncio.run(lm.abatch(["Hi"], concurrency=value)),
    "inspect_history": lambda lm, value: lm.inspect_history(value),
    "record": lambda lm, value: recorded(value),
    "replay": replayed,
    "on_call": lambda lm, value: lmgateway.on_call(value)(),
    "batch.run(source)": lambda lm, value: lmgateway.batch.run(value, "out.jsonl", lm),
    "batch.run(output)": lambda lm, value: lmgateway.batch.run(["Hi"], value, lm),
    "batch.run(lm)": lambda lm, value: lmgateway.batch.run([], "out.jsonl", value),
    **{
        f"batch.run({name}=)": (
            lambda lm, value, name=name: lmgateway.batch.run(["Hi"], "out.jsonl", lm,
                                                             **{name: value})
        )
        for name in ("errors", "concurrency", "rpm", "tpm", "ignore", "format")
    },
    "process_batch": lambda lm, value: lmgateway.batch.process_batch(value, lm),
    "batch.status": lambda lm, value: lmgateway.batch.status(value),
}  # fmt: skip

BODY = (
    b'{"id": "1", "model": "m", "choices": [{"index": 0, "message": {"content": "1"}, '
    b'"finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer([receive(), send(ANSWER)]) as server:
        yield server


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def outcome(act: Callable[[], Any]) -> Any:
    """What comes out of it, in a thread that may be left alone."""
    found: list[Any] = []

    def work() -> None:
        try:
            found.append(act())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert found, "it waits for ever"
    return found[0]


@pytest.mark.parametrize("door", DOORS)
def test_what_is_odd_is_taken_or_refused(
    door: str, server: FaultServer, pipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pipe)
    raw = {}
    lm = get_lm("openai/m", api_base=f"{server.url}/v1", api_key="a-key-of-mine", retries=0,
                timeout=30)  # fmt: skip
    for name, make in VALUES.items():
        value = make(pipe)
        asked = len(server.requests)
        result = outcome(lambda value=value: DOORS[door](lm, value))
        if isinstance(result, REFUSALS):
            assert len(server.requests) == asked, f"{name} was refused, and sent"
            assert str(result)
        elif isinstance(result, PluginError) or (
            isinstance(result, BaseException) and not isinstance(result, LMGatewayError)
        ):
            raw[name] = repr(result)[:200]
    assert not raw


# -- what stands in the environment, in files, on the command line -------------------------------

VARIABLES = {
    "LMGATEWAY_MODEL": ("/", "a\x01b", "x" * 5000, "openai/\udcff", "../..", "openai/"),
    "LMGATEWAY_CONFIG": ("/dev/zero", "/dev/null", "/", "x" * 5000, "a\udcff", "~nobody/x"),
    "LMGATEWAY_CACHE": ("maybe", "x" * 5000, "\udcff", "OFF"),
    "LMGATEWAY_CACHE_DIR": ("/dev/null", "/dev/zero/x", "x" * 5000, "a\udcff", "~nobody/x"),
    "OPENAI_API_BASE": ("x", "x" * 5000, "http://\udcff/v1", "http://[/v1"),
    "OPENAI_API_KEY": ("\udcff" * 20, "x" * 100_000),
}


@pytest.mark.filterwarnings("ignore")  # a cache that cannot be used is warned of
@pytest.mark.parametrize(
    "variable, value",
    [
        pytest.param(variable, value, id=f"{variable}-{n}")
        for variable, values in VARIABLES.items()
        for n, value in enumerate(values)
    ],
)
def test_an_odd_variable_is_taken_or_refused(
    variable: str, value: str, server: FaultServer, pipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pipe)
    monkeypatch.setenv("LMGATEWAY_CACHE_DIR", str(pipe / "cache"))
    monkeypatch.setenv("LMGATEWAY_CACHE", "on")
    monkeypatch.setenv("OPENAI_API_BASE", f"{server.url}/v1")
    monkeypatch.setenv(variable, value)
    name = None if variable == "LMGATEWAY_MODEL" else "openai/m"
    result = outcome(lambda: get_lm(name, retries=0)("Hi", temperature=0))
    assert isinstance(result, (list, LMGatewayError)), repr(result)[:300]
    assert str(result)


FILES = {
    "a path with a NUL": '[cache]\npath = "a\\u0000b"',
    "a recording with a NUL": '[cache]\nrecordings = ["a\\u0000b"]',
    "a model's recording with a NUL": '[models.m]\nprovider = "echo"\nrecordings = ["a\\u0000b"]',
    "a CA bundle with a NUL": '[models.m]\nprovider = "echo"\nverify = "a\\u0000b"',
    "a CA bundle without end": '[models.m]\nprovider = "echo"\nverify = "/dev/zero"',
    "a recording without end": '[models.m]\nprovider = "openai"\nmodel = "m"\n'
                               'recordings = ["/dev/zero"]',
    "a pipe for a recording": '[models.m]\nprovider = "openai"\nmodel = "m"\nrecordings = ["pipe"]',
    "a number of 400 digits": f'[models.m]\nprovider = "echo"\nretries = {"9" * 400}',
    "a limit of 400 digits": f'[limits.echo]\nrpm = {"9" * 400}\n[models.m]\nprovider = "echo"',
    "a limit without end": '[limits.echo]\nrpm = inf\n[models.m]\nprovider = "echo"',
    "parameters 200 deep": '[models.m]\nprovider = "openai"\nmodel = "m"\n[models.m.params]\n'
                           f'metadata = {{a = {"[" * 200}{"]" * 200}}}',
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_an_odd_value_in_a_file_is_refused(
    name: str, pipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pipe)
    monkeypatch.setenv("OPENAI_API_BASE", "http://127.0.0.1:9/v1")
    (pipe / "lmgateway.toml").write_text(FILES[name])
    result = outcome(lambda: get_lm("m", retries=0)("Hi"))
    assert isinstance(result, (ConfigError, InputError)), repr(result)[:300]


COMMANDS = [
    ["ask", "Hi", "-m", "a\0b"],
    ["ask", "Hi", "-m", "x" * 5000],
    ["ask", "Hi", "-m", "echo", "--config", "/dev/zero"],
    ["ask", "Hi", "-m", "echo", "--config", "a\0b"],
    ["ask", "Hi", "-m", "echo", "--schema", "/dev/zero"],
    ["ask", "Hi", "-m", "echo", "--schema", "a\0b"],
    ["ask", "Hi", "-m", "echo", "--schema", "/"],
    ["ask", "Hi", "-m", "echo", "-p", "timeout=" + "9" * 5000],
    ["ask", "Hi", "-m", "echo", "-p", "timeout=1e999"],
    ["ask", "Hi", "-m", "echo", "-p", "retries=" + "9" * 400],
    ["ask", "Hi", "-m", "echo", "-p", "verify=/dev/zero"],
    ["ask", "Hi", "-m", "echo", "-p", "headers=" + "[" * 3000],
    ["batch", "run", "/dev/zero", "out.jsonl", "-m", "echo"],
    ["batch", "run", "a\0b", "out.jsonl", "-m", "echo"],
    ["batch", "run", "x" * 5000, "out.jsonl", "-m", "echo"],
    ["batch", "run", "in.jsonl", "a\0b", "-m", "echo"],
    ["batch", "run", "in.jsonl", "/dev/null", "-m", "echo"],
    ["batch", "run", "in.jsonl", "out.jsonl", "-m", "echo", "--concurrency", "9" * 5000],
    ["batch", "run", "in.jsonl", "out.jsonl", "-m", "echo", "--concurrency", "9" * 400],
    ["batch", "run", "in.jsonl", "out.jsonl", "-m", "echo", "--rpm", "nan"],
    ["batch", "run", "in.jsonl", "out.jsonl", "-m", "echo", "--tpm", "-inf"],
    ["batch", "status", "a\0b"],
    ["batch", "status", "/dev/zero"],
    ["config", "a\0b"],
    ["models", "a\0b"],
    ["doctor", "a\0b"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda each: " ".join(each)[:60])
def test_an_odd_argument_of_a_command_is_refused(
    arguments: list[str],
    pipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(pipe)
    (pipe / "in.jsonl").write_text('{"prompt": "Hi"}\n')
    result = outcome(lambda: main(arguments))
    said = capsys.readouterr()
    assert result in (1, 2), result
    assert "Traceback" not in said.err
    assert "not foreseen" not in said.err, said.err


# -- conversations, tools and schemas, by every provider -----------------------------------------

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"],
          "additionalProperties": False}  # fmt: skip
ASKED: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [
            {"type": "text", "text": "Hi"},
            {"type": "image_url", "image_url": {"url": "https://host/a.png", "detail": "auto"}},
        ]},
        {"role": "assistant", "content": "x", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": "y"},
        {"role": "user", "content": "z", "name": "me"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "description": "d",
                                                "parameters": SCHEMA}}],
    "schema": SCHEMA,
    "stop": ["a"],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "extra_body": {"a": 1},
    "metadata": {"a": "b"},
}  # fmt: skip
INNER = {
    **ODD,
    "object of an object": {"a": {}},
    "list of objects": [{}],
    "list of lists": [[]],
    "list of texts": ["a"],
    "list of nulls": [None],
    "part of an odd kind": [{"type": [1]}],
    "90 deep": json.loads("[" * 90 + "]" * 90),
}


@pytest.mark.parametrize("name", ["openai", "anthropic", "anyscale", "local", "echo"])
@pytest.mark.parametrize("field", ASKED)
def test_an_odd_field_of_what_is_asked_is_sent_or_refused(name: str, field: str) -> None:
    settings = {} if name in ("local", "echo") else {"api_key": "a-key-of-mine", "model": "m"}
    lm = get_lm(name, **settings)
    beside = {"tools": ASKED["tools"]} if field == "tool_choice" else {}
    beside |= {} if field == "messages" else {"prompt": "Hi"}
    raw = {}
    for what, odd in INNER.items():
        for path, asked in each_field_odd({field: ASKED[field]}, odd):
            try:
                lm.preview(**beside, **asked)
            except PluginError as error:
                raw[what, path] = repr(error)[:200]
            except LMGatewayError as error:
                str(error).encode()
            except Exception as error:
                raw[what, path] = repr(error)[:200]
    assert not raw


@pytest.mark.parametrize("text", [3, None, ["a"], b"a", "a\ud800"])
def test_a_text_that_is_none_is_named_by_its_place(text: Any) -> None:
    with pytest.raises(InputError) as caught:
        get_lm("openai/m").embed(["a", text])
    assert str(caught.value).startswith("texts[1] ")
    assert "messages" not in str(caught.value)


@pytest.mark.parametrize("texts", [("a", "b"), iter(["a", "b"]), {"a": 1, "b": 2}.keys()])
def test_whatever_yields_texts_can_be_embedded(texts: Any) -> None:
    assert check_texts(texts) == ["a", "b"]
