"""Every keyword of get_lm, in a row of every form: sent as a parameter, or refused.

A row of data says what to ask. So each keyword is put into a row of each form of input, once with
the path of a file that nobody may open, once with a value that fits; a server tells what was sent.
"""

from __future__ import annotations

import asyncio
import csv
import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest

from lmgateway import LM, errors, get_lm, hookimpl
from lmgateway._layers.limit import Limits
from lmgateway._plugins.registry import installed, load
from lmgateway.batch import aprocess_batch, arun, process_batch, run
from lmgateway.batch.ray import Answerer, _Actor
from lmgateway.batch.rows import identified
from lmgateway.lm import spec_of
from lmgateway.testing import lm_from
from lmgateway.types import Answer, Info, Options, Request
from lmgateway.wire.openai import params as openai_params

pytestmark = pytest.mark.loopback

Row: TypeAlias = dict[str, Any]
Outcome: TypeAlias = "str | None"  # the class of the error and what it says; None for an answer

SECRET = "the-content-of-a-file-that-no-row-may-open"
PROVIDERS = ("openai", "anyscale", "anthropic")
HOW = {"chat_template", "kv_transfer_params", "ec_transfer_params"}
OTHERS = (
    "name", "provider", "plugin", "model", "config", "system", "schema", "messages", "prompt",
    "tools", "api_key", "api_base", "template", "stream", "events", "self", "params", "limits",
    "body", "url", "method", "extra_body", "extra_headers", "extra_query", "default_headers",
    "base_url", "proxies", "auth", "cert", "hooks", "layers", "__class__", "__init__", "Schema",
    " schema", "schema ", "TIMEOUT", "", "nonsense",
)  # fmt: skip


def plugins() -> list[Any]:
    return [load(row.name) for row, _ in installed()]


def keywords() -> list[str]:
    """What get_lm takes, of the core and of every plugin, and what somebody may hope it does."""
    names = set(Options.__dataclass_fields__) | set(OTHERS)
    for plugin in plugins():
        names |= set(plugin.info.params)
        names |= set(plugin.settings.model_fields) if plugin.settings is not None else set()
    return sorted(names)


# -- the service -------------------------------------------------------------------------------


class Service:
    """Answers whatever it is asked, and keeps the bodies by the prompt in them."""

    def __init__(self) -> None:
        self.bodies: dict[str, dict[str, Any]] = {}
        self.heads: list[str] = []
        self.url = ""

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        asked = body.get("prompt") or body["messages"][-1]["content"]
        self.bodies[str(asked)] = body
        if path.endswith("/v1/messages"):
            return {"id": "m", "type": "message", "role": "assistant", "model": "m",
                    "content": [{"type": "text", "text": "{}"}], "stop_reason": "end_turn",
                    "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip
        said = {"text": "{}", "message": {"role": "assistant", "content": "{}"}}
        choice = {"index": 0, "finish_reason": "stop", **said}
        return {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    kept = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            kept.heads.append(f"{self.path}\n{self.headers}")
            text = json.dumps(kept.answer(self.path, body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    kept.url = f"http://127.0.0.1:{server.server_port}"
    yield kept
    server.shutdown()
    server.server_close()
    thread.join()


def made(provider: str, service: Service) -> LM:
    base = service.url if provider == "anthropic" else f"{service.url}/v1"
    more = {"dialect": "vllm"} if provider == "openai" else {}
    return get_lm(
        provider, model="m", api_base=base, api_key="k" * 20, retries=0, cache=False, **more
    )


# -- the forms ---------------------------------------------------------------------------------


def prompt_of(name: str) -> str:
    return f"ask with {name!r}"


def row(name: str, value: Any) -> Row:
    """A row that asks, and says one thing more."""
    given: Row = {"custom_id": f"with {name}", "prompt": prompt_of(name), name: value}
    if name == "messages":
        del given["prompt"]
    return given


def in_body(name: str, value: Any) -> Row:
    body = {"messages": [{"role": "user", "content": prompt_of(name)}], name: value}
    if name == "prompt":
        del body["messages"]
    return {
        "custom_id": f"with {name}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": body,
    }


def said(error: BaseException | None) -> Outcome:
    if error is None:
        return None
    assert isinstance(error, errors.LMGatewayError), repr(error)
    return f"{type(error).__name__}: {error}"


def of_rows(rows: list[Row]) -> dict[str, Outcome]:
    return {
        each["custom_id"].removeprefix("with "): each["error"]
        and f"{each['error']['type']}: {each['error']['message']}"
        for each in rows
    }


def of_file(output: Path) -> dict[str, Outcome]:
    return of_rows([json.loads(line) for line in output.read_text().splitlines()])


Asks = Callable[[LM, Mapping[str, Any], Path], Mapping[str, Outcome]]


def lines(folder: Path, rows: list[Row]) -> Path:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def json_lines(lm: LM, values: Mapping[str, Any], folder: Path) -> Mapping[str, Outcome]:
    run(lines(folder, [row(*each) for each in values.items()]), folder / "out.jsonl", lm)
    return of_file(folder / "out.jsonl")


def openai_bodies(lm: LM, values: Mapping[str, Any], folder: Path) -> Mapping[str, Outcome]:
    run(lines(folder, [in_body(*each) for each in values.items()]), folder / "out.jsonl", lm)
    return of_file(folder / "out.jsonl")


def a_pipe(lm: LM, values: Mapping[str, Any], folder: Path) -> Mapping[str, Outcome]:
    path = lines(folder, [row(*each) for each in values.items()])
    with path.open() as file, pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stdin", file)
        run("-", folder / "out.jsonl", lm)
    return of_file(folder / "out.jsonl")


def an_iterable(lm: LM, values: Mapping[str, Any], folder: Path) -> Mapping[str, Outcome]:
    asyncio.run(arun((row(*each) for each in values.items()), folder / "out.jsonl", lm))
    return of_file(folder / "out.jsonl")


def processed(lm: LM, values: Mapping[str, Any], _: Path) -> Mapping[str, Outcome]:
    return of_rows(process_batch([row(*each) for each in values.items()], lm))


def aprocessed(lm: LM, values: Mapping[str, Any], _: Path) -> Mapping[str, Outcome]:
    return of_rows(asyncio.run(aprocess_batch([in_body(*each) for each in values.items()], lm)))


def actors(lm: LM, values: Mapping[str, Any], _: Path) -> Mapping[str, Outcome]:
    async def main() -> dict[str, Outcome]:
        actor = _Actor(lm, 10, Limits())
        rows = list(identified(row(*each) for each in values.items()))
        report = await actor.run_rows(rows)
        return {
            name: said(outcome if isinstance(outcome, Exception) else None)
            for name, outcome in zip(values, report.replies, strict=True)
        }

    return asyncio.run(main())


def ray_data(lm: LM, values: Mapping[str, Any], _: Path) -> Mapping[str, Outcome]:
    async def one(name: str, value: Any) -> Outcome:
        columns = {key: [each] for key, each in row(name, value).items()}
        try:
            told = await Answerer(lm, params=[name])(columns)
        except errors.LMGatewayError as error:
            return said(error)
        (error_text,) = told["error"]
        return error_text and "{type}: {message}".format_map(json.loads(error_text))

    async def main() -> dict[str, Outcome]:
        return {name: await one(name, value) for name, value in values.items()}

    return asyncio.run(main())


def dicts(lm: LM, values: Mapping[str, Any], _: Path) -> Mapping[str, Outcome]:
    rows = [row(*each) for each in values.items()]
    answers = lm.batch([_without_id(each) for each in rows], return_exceptions=True)
    return {name: _told(each) for name, each in zip(values, answers, strict=True)}


def adicts(lm: LM, values: Mapping[str, Any], _: Path) -> Mapping[str, Outcome]:
    rows = [_without_id(row(*each)) for each in values.items()]
    answers = asyncio.run(lm.abatch(rows, return_exceptions=True))
    return {name: _told(each) for name, each in zip(values, answers, strict=True)}


def _without_id(given: Row) -> Row:
    return {name: value for name, value in given.items() if name != "custom_id"}


def _told(answer: Any) -> Outcome:
    return said(answer if isinstance(answer, BaseException) else None)


def table(kind: str) -> Asks:
    def ask(lm: LM, values: Mapping[str, Any], folder: Path) -> Mapping[str, Outcome]:
        outcomes: dict[str, Outcome] = {}
        for number, (name, value) in enumerate(values.items()):
            path, output = folder / f"{number}.{kind}", folder / f"{number}.jsonl"
            _write(path, row(name, value))
            try:
                run(path, output, lm)
                (outcomes[name],) = of_file(output).values()
            except errors.LMGatewayError as error:
                outcomes[name] = said(error)
                assert not output.exists(), name  # it was refused before the job began
        return outcomes

    return ask


def _write(path: Path, given: Row) -> None:
    if path.suffix == ".parquet":
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
        parquet.write_table(arrow.table({name: [value] for name, value in given.items()}), path)
        return
    text = StringIO()
    writer = csv.writer(text, delimiter="\t" if path.suffix == ".tsv" else ",")
    writer.writerow(given)
    writer.writerow([v if isinstance(v, str) else json.dumps(v) for v in given.values()])
    path.write_text(text.getvalue())


FORMS: dict[str, Asks] = {
    "JSON lines": json_lines,
    "OpenAI's form": openai_bodies,
    "a pipe": a_pipe,
    "an iterable": an_iterable,
    "process_batch": processed,
    "aprocess_batch": aprocessed,
    "Ray's actors": actors,
    "Ray Data": ray_data,
    "batch": dicts,
    "abatch": adicts,
    "CSV": table("csv"),
    "TSV": table("tsv"),
    "Parquet": table("parquet"),
}


@pytest.fixture(params=FORMS, ids=str)
def form(request: pytest.FixtureRequest) -> SimpleNamespace:
    return form_of(request.param)


def form_of(name: str) -> SimpleNamespace:
    if name == "Parquet":
        pytest.importorskip("pyarrow", reason="needs the extra [parquet]")
    return SimpleNamespace(name=name, ask=FORMS[name])


# -- the tests ---------------------------------------------------------------------------------

_opened: list[str] = []
_watched: set[str] = set()


def _note(event: str, args: tuple[Any, ...]) -> None:
    if _watched and event == "open" and str(args[0]) in _watched:
        _opened.append(str(args[0]))


sys.addaudithook(_note)


@contextmanager
def unopened(path: Path) -> Iterator[None]:
    """Nobody opens a file meanwhile."""
    _watched.add(str(path))
    _opened.clear()
    try:
        yield
    finally:
        _watched.clear()
    assert not _opened


@pytest.mark.filterwarnings("ignore")  # of a model that no template is known for, say
@pytest.mark.parametrize(
    "provider, name", [(PROVIDERS[0], form) for form in FORMS] + [(p, "CSV") for p in PROVIDERS[1:]]
)
def test_no_keyword_in_a_row_opens_a_file_or_turns_the_request(
    service: Service, provider: str, name: str, tmp_path: Path
) -> None:
    form, canary = form_of(name), tmp_path / "canary.txt"
    canary.write_text(SECRET)
    service.bodies.clear()
    service.heads.clear()
    lm, names = made(provider, service), keywords()
    with unopened(canary):
        outcomes = form.ask(lm, dict.fromkeys(names, str(canary)), tmp_path)
    info, shown = spec_of(lm).plugin.info, repr((service.bodies, service.heads))
    assert SECRET not in shown
    for name in names:
        body = service.bodies.get(prompt_of(name))
        if name in ("prompt", "messages"):
            continue  # the prompt is the path, and goes out as it is; messages are no text
        if outcomes[name] is not None:
            assert body is None, name
            assert outcomes[name].partition(":")[0] in TYPED, outcomes[name]
        else:
            assert name in info.params - HOW - {"extra_body"} | {"system", "model"}, name
            assert str(canary) in json.dumps(body), name
    where = {head.partition("\n")[0] for head in service.heads}
    assert where <= {"/v1/chat/completions", "/v1/completions", "/v1/messages"}


TYPED = {"InputError", "UnsupportedError", "UnknownParameterError"}
VALUES = {
    "a number": 0.5, "an integer": 1, "True or False": True, "a string": "v",
    "a string or a list of strings": ["v"], "a list": [{"type": "v"}], "a dict": {"k": "v"},
    "a string or a dict": "auto", "True, False or an integer": True,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_what_says_what_to_ask_is_sent(
    service: Service, form: SimpleNamespace, tmp_path: Path
) -> None:
    service.bodies.clear()
    types = openai_params._TYPES
    wanted = openai_params.VLLM.chat - HOW - {"extra_body", "top_logprobs", "stream_options"}
    values = {name: VALUES[types.get(name, "a number")] for name in sorted(wanted)}
    values |= {"system": "be brief", "schema": {"type": "object"}, "seed": 7}
    if form.name not in ("batch", "abatch"):
        values["model"] = "another"
    outcomes = form.ask(made("openai", service), values, tmp_path)
    assert {name: told for name, told in outcomes.items() if told is not None} == {}
    for name, value in values.items():
        body = service.bodies[prompt_of(name)]
        if name == "system":
            assert body["messages"][0] == {"role": "system", "content": value}
        elif name == "schema":
            assert body["response_format"]["json_schema"]["schema"] == value
        else:
            assert body[name] == value
        assert body["model"] == values.get("model", "m") if name == "model" else "m"


REFUSED: dict[str, Any] = {
    **{name: 1 for name in Options.__dataclass_fields__ if name != "sample"},
    "extra_body": {"temperature": 0},
    "extra_headers": {"A": "b"},
    "chat_template": "{{ messages }}",
    "kv_transfer_params": {"remote_host": "10.0.0.1"},
    "chat_template_kwargs": {"chat_template": "{{ messages }}"},
    "mm_processor_kwargs": {"extra_body": {"k": 1}},
    "use_chat_api": False,
    "dialect": "openai",
    "api_base": "http://127.0.0.1:9/v1",
    "api_key": "sk-another-secret",
    "stream": False,
    "name": "echo",
    "config": "x.toml",
}


def test_what_belongs_to_the_job_is_told_with_its_row(
    service: Service, form: SimpleNamespace, tmp_path: Path
) -> None:
    service.bodies.clear()
    outcomes = form.ask(made("openai", service), REFUSED, tmp_path)
    assert not service.bodies
    for number, name in enumerate(REFUSED):
        told = outcomes[name]
        places = (f"row {number + 1}: ", f"inputs[{number}]: ", f"the column {name!r}: ", "row 1: ")
        assert told is not None
        assert told.startswith(tuple(f"InputError: {place}" for place in places)), told
        assert "belongs to the job" in told
        assert "sk-another-secret" not in told


@pytest.mark.parametrize("field", ["timeout", "label"])
@pytest.mark.parametrize("way", ["file", "pipe"])
def test_a_column_that_is_not_ignored_is_refused_before_a_row_is_asked(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, way: str
) -> None:
    service.bodies.clear()
    path, lm = tmp_path / "in.csv", made("openai", service)
    path.write_text(f"prompt,{field}\na,\nb,1\n")
    output = tmp_path / "out.jsonl"
    for ignore in ((), ("label", "timeout")):
        with path.open() as file:
            monkeypatch.setattr(sys, "stdin", file)
            source, given = ("-", {"format": "csv"}) if way == "pipe" else (path, {})
            if ignore:
                assert run(source, output, lm, ignore=ignore, **given).answered == 2
                continue
            with pytest.raises(errors.InputError, match=f"column '{field}'.*--ignore"):
                run(source, output, lm, **given)
            assert not service.bodies
            assert way == "pipe" or not output.exists()
            for each in tmp_path.glob("out*"):
                each.unlink()


def test_what_is_ignored_is_ignored_in_openais_form_too(service: Service, tmp_path: Path) -> None:
    body = {"messages": [{"role": "user", "content": "q"}], "stream": False, "timeout": 1}
    rows = [{"body": body, "label": 1}]
    summary = run(
        rows, tmp_path / "o", made("openai", service), ignore=["stream", "timeout", "label"]
    )
    assert summary.answered == 1


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"prompt": "q", 1: 2}, id="a name that is a number"),
        pytest.param({"prompt": "q", None: 2}, id="a name that is None"),
        pytest.param({"prompt": "q", ("a",): 2}, id="a name that is a tuple"),
        pytest.param({"prompt": "q", "params": {"timeout": 1}}, id="params"),
        pytest.param({"prompt": "q", "keywords": {"timeout": 1}}, id="keywords"),
        pytest.param({"prompt": "q", "sample": "1"}, id="a sample that is a text"),
        pytest.param({"prompt": "q", "sample": -1}, id="a sample below 0"),
        pytest.param({"prompt": "q", "system": ["x"]}, id="a system text that is none"),
        pytest.param({"prompt": 5}, id="a prompt that is a number"),
        pytest.param({"prompt": ["q"]}, id="a prompt that is a list"),
        pytest.param({"messages": '[{"role": "user", "content": "q"}]'}, id="messages as text"),
        pytest.param({"messages": ["q"]}, id="messages of texts"),
        pytest.param({"messages": {}}, id="messages that are none"),
        pytest.param({"body": {"body": {"prompt": "q"}}}, id="a body in a body"),
        pytest.param({"body": {"prompt": "q", "body": {}}}, id="a body beside a prompt"),
        pytest.param({"body": {"prompt": "q", "custom_id": "x"}}, id="an id in a body"),
        pytest.param({"body": {"prompt": "q"}, 1: 2, "z": 3}, id="odd names beside a body"),
        pytest.param({"body": {"prompt": "q"}, "timeout": 3}, id="an option beside a body"),
        pytest.param({"body": {"prompt": "q"}, "url": "http://h/v1/completions"}, id="a host"),
        pytest.param({"body": {"prompt": "q"}, "url": "//h/v1/completions"}, id="a host alone"),
        pytest.param({"body": {"prompt": "q"}, "url": 1}, id="a URL that is a number"),
        pytest.param({"body": {"prompt": "q"}, "method": "GET"}, id="a method"),
        pytest.param({"prompt": "q", "custom_id": {"x": 1}}, id="an id that is a dict"),
        pytest.param({"prompt": "q", "model": ["m"]}, id="a model that is a list"),
        pytest.param({"prompt": "q", "model": "a\nb"}, id="a model of two lines"),
        pytest.param({"prompt": "q", "model": ""}, id="a model that is empty"),
    ],
)
def test_odd_rows_are_refused(service: Service, given: Any) -> None:
    service.bodies.clear()
    lm = made("openai", service)

    class Kind(dict[Any, Any]):
        """A dict of another kind."""

    for each in (given, Kind(given)):
        (told,) = process_batch([each], lm)
        assert told["error"]["type"] in TYPED
        (outcome,) = lm.batch([each], return_exceptions=True)
        assert type(outcome).__name__ in TYPED
    assert not service.bodies


def test_a_rows_model_is_of_the_jobs_own_provider(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.bodies.clear()
    (tmp_path / "lmgateway.toml").write_text('[models.fast]\nprovider = "echo"\n')
    monkeypatch.chdir(tmp_path)
    names = ["fast", "echo", "echo/echo", "anthropic/claude", "../../etc/passwd", "http://h/m"]
    rows = [{"custom_id": name, "prompt": name, "model": name} for name in names]
    process_batch(rows, made("openai", service))
    assert {name: body["model"] for name, body in service.bodies.items()} == {
        each: each for each in names
    }


class Files:
    """A provider whose models are files."""

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(model_is_file=True)

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Answer:
        return {"prompt": "", "choices": [{"text": request.model}]}


def test_a_row_names_no_file_as_its_model() -> None:
    lm = lm_from(Files(), "files", model="a.gguf")
    rows = process_batch(
        [{"prompt": "q"}, {"prompt": "q", "model": "a.gguf"}, {"prompt": "q", "model": "b.gguf"}],
        lm,
    )
    assert [each["error"] and each["error"]["type"] for each in rows] == [None, None, "InputError"]
    assert "row 3: a model of files is a file" in rows[2]["error"]["message"]


def test_the_models_of_the_local_provider_are_files() -> None:
    assert load("local").info.model_is_file
