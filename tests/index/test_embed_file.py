"""A file of texts becomes a file of vectors: each text is paid for once, whatever happens."""

from __future__ import annotations

import errno
import gzip
import json
import os
import signal
import struct
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmgateway import hookimpl
from lmgateway._index import run as runs
from lmgateway._index import work as works
from lmgateway._index.outputs import check_output
from lmgateway._index.run import Summary, embed_file
from lmgateway._index.texts import TextFile
from lmgateway.errors import (
    ConfigError,
    InputError,
    InvalidRequestError,
    LMGatewayError,
    RateLimitError,
    ResponseFormatError,
    UnsupportedError,
)
from lmgateway.testing import lm_from
from lmgateway.types import Blocking, EmbedLimits, EmbedRequest, Flow, Info

LIMITS = EmbedLimits(texts=3, empty=False)


class Host:
    """Embeds a text as its length and its first letter, and notes which texts it was sent."""

    def __init__(self, wide: int = 2, model: str = "m") -> None:
        self.asked: list[str] = []
        self.wide = wide
        self.model = model
        self.faults: dict[str, BaseException | Callable[[], object]] = {}

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(api=2, embed=LIMITS)

    @hookimpl
    def lmgateway_complete(self, request: Any) -> Any:
        raise AssertionError("nothing asks for a completion")

    @hookimpl
    def lmgateway_embed(self, request: EmbedRequest) -> Flow[Any]:
        def work() -> Any:
            for text in request.texts:
                fault = self.faults.get(text)
                if isinstance(fault, BaseException):
                    raise fault
                if fault is not None:
                    fault()
            self.asked += request.texts
            return [vector(text, self.wide) for text in request.texts]

        vectors = yield Blocking(work)
        usage = {"prompt_tokens": len(request.texts)}
        return {"embeddings": vectors, "model": self.model, "usage": usage}


def vector(text: str, wide: int = 2) -> list[float]:
    return [float(len(text)), float(ord(text[0])), *[0.0] * wide][:wide]


TEXTS = ["one", "two", "three", "four", "five", "six", "seven", "eight"]


class Files:
    """An input and an output in a folder, and a host that embeds one into the other."""

    def __init__(self, folder: Path) -> None:
        self.input = folder / "texts.txt"
        self.output = folder / "out.npy"
        self.host = Host()
        self.write(TEXTS)

    def write(self, texts: list[str]) -> None:
        self.input.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")

    def embed(self, concurrency: int = 1, id_: str | None = None, **params: Any) -> Summary:
        source = TextFile.open(str(self.input), None, "text", id_)
        with lm_from(self.host, name="acme", model="m", retries=0) as lm:
            return embed_file(
                lm, source, self.output, params, concurrency=concurrency, command="the command"
            )


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def read_npy(path: Path) -> list[list[float]]:
    data = path.read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00"
    (length,) = struct.unpack("<H", data[8:10])
    assert (10 + length) % 64 == 0
    head = eval(data[10 : 10 + length])
    assert (head["descr"], head["fortran_order"]) == ("<f4", False)
    rows, wide = head["shape"]
    floats = array("f", data[10 + length :])
    assert len(floats) == rows * wide
    return [floats[row * wide : (row + 1) * wide].tolist() for row in range(rows)]


# -- what is written ----------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 4])
def test_each_text_has_its_vector_in_its_row(files: Files, concurrency: int) -> None:
    summary = files.embed(concurrency)
    assert read_npy(files.output) == [vector(text) for text in TEXTS]
    assert (summary.total, summary.embedded, summary.tokens) == (8, 8, 8)
    assert sorted(path.name for path in files.output.parent.iterdir() if path.is_file()) == [
        "out.npy",
        "out.npy.job",
        "texts.txt",
    ]


def test_numpy_reads_it(files: Files) -> None:
    np = pytest.importorskip("numpy")
    files.embed()
    assert np.load(files.output, mmap_mode="r").tolist() == [vector(text) for text in TEXTS]


@pytest.mark.parametrize("id_", [None, "n"])
def test_json_lines_hold_the_text_and_the_id(files: Files, id_: str | None) -> None:
    files.input = files.input.with_suffix(".jsonl")
    files.output = files.output.with_suffix(".jsonl")
    files.input.write_text('{"n": "a", "text": "Ä\\n"}\n\n{"n": 7, "text": "zwei"}\n')
    files.embed(id_=id_)
    rows = [json.loads(line) for line in files.output.read_text("utf-8").splitlines()]
    name, names = ("index", [0, 1]) if id_ is None else ("id", ["a", 7])
    assert [row[name] for row in rows] == names
    assert [row["text"] for row in rows] == ["Ä\n", "zwei"]
    assert [row["embedding"] for row in rows] == [vector("Ä\n"), vector("zwei")]


def test_json_lines_hold_each_float_whole(files: Files) -> None:
    files.output = files.output.with_suffix(".jsonl")
    floats = array("f", [0.1, -1e-38, 1 / 3, 3.4e38, 16777217.0])
    line = runs.write_rows(
        files.output, iter([runs.Embedded(0, "a", floats)]), "index", "int", len(floats)
    ).read_text()
    assert array("f", json.loads(line)["embedding"]) == floats


def test_parquet(files: Files) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra [parquet]")
    files.input = files.input.with_suffix(".csv")
    files.output = files.output.with_suffix(".parquet")
    files.input.write_text('name,text\na,"one, two"\n7,three\n')
    files.embed(id_="name")
    assert parquet.read_table(files.output).to_pylist() == [
        {"id": "a", "text": "one, two", "embedding": vector("one, two")},
        {"id": "7", "text": "three", "embedding": vector("three")},
    ]
    files.input = files.output  # and it is read
    files.output = files.output.with_name("again.npy")
    files.embed()
    assert read_npy(files.output) == [vector("one, two"), vector("three")]


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UnsupportedError, match=r"lmgateway-core\[parquet\]"):
        check_output(tmp_path / "out.parquet")


@pytest.mark.parametrize(
    "name, content",
    [
        ("t.txt", b"\xef\xbb\xbfone\r\ntwo"),
        ("t.txt.gz", gzip.compress(b"one\ntwo\n", mtime=0)),
        ("t.jsonl", b'"one"\n{"text": "two", "more": 1}\n'),
        ("t.jsonl.gz", gzip.compress(b'{"text": "one"}\n{"text": "two"}', mtime=0)),
        ("t.json", b'[{"text": "one"},\n {"text": "two"}]'),
        ("t.csv", b"\xef\xbb\xbftext,n\none,1\n\ntwo,2\n"),
        ("t.tsv", b"n\ttext\n1\tone\n2\ttwo\n"),
    ],
)
def test_inputs(files: Files, name: str, content: bytes) -> None:
    files.input = files.input.with_name(name)
    files.input.write_bytes(content)
    files.embed()
    assert files.host.asked == ["one", "two"]


# -- what is refused, before anything is sent -----------------------------------------------------


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("t.txt", "", "no texts"),
        ("t.txt", "a\n\nb\n", "row 2 of .*t.txt is empty"),
        ("t.jsonl", '{"text": "a"}\n{"body": "b"}\n', "row 2 of .* has no 'text', but 'body'"),
        ("t.jsonl", '{"text": "a"}\n{"text": null}\n', "row 2 of .* has no 'text'"),
        ("t.jsonl", '{"text": "a"}\n{"text": 3}\n', "row 2 of .* must be a str"),
        ("t.jsonl", '"a"\n{\n', "row 2 of .*: line 2 is not JSON"),
        ("t.csv", "a,b\n1,2\n", "row 1 of .* has no 'text', but 'a', 'b'"),
        ("t.csv", "text\na,b\n", "line 2 has more cells"),
        ("t.doc", "a", "not known by its name"),
    ],
)
def test_what_cannot_be_embedded_is_named(
    files: Files, name: str, content: str, message: str
) -> None:
    files.input = files.input.with_name(name)
    files.input.write_text(content)
    with pytest.raises(InputError, match=message):
        files.embed()
    assert not files.host.asked
    assert os.listdir(files.input.parent).count("out.npy.job") == 0


def test_an_output_of_somebody_else_is_left_alone(files: Files) -> None:
    files.output.write_bytes(b"precious")
    with pytest.raises(InputError, match="move it away"):
        files.embed()
    assert files.output.read_bytes() == b"precious"


@pytest.mark.parametrize("content", [b'{\n "version": 1\n}\n', b"[]\n", b"\xff\n", b'{"vec'])
def test_the_job_of_something_else_is_left_alone(files: Files, content: bytes) -> None:
    job = files.output.with_name("out.npy.job")
    job.write_bytes(content)
    with pytest.raises(ConfigError, match="another kind of job, or damaged"):
        files.embed()
    assert job.read_bytes() == content


# -- what goes on ---------------------------------------------------------------------------------


def stopped(files: Files, at: str = "seven") -> None:
    """A run that stops with some texts embedded."""
    files.host.faults[at] = RateLimitError("slow down", status=429)
    with pytest.raises(RateLimitError, match=r"6 of 8 texts embedded; to go on: the command"):
        files.embed()
    files.host.faults.clear()
    assert files.host.asked == TEXTS[:6]
    files.host.asked.clear()
    assert not files.output.exists()


def test_what_came_is_not_asked_again(files: Files) -> None:
    stopped(files)
    summary = files.embed()
    assert files.host.asked == TEXTS[6:]
    assert (summary.skipped, summary.embedded) == (6, 2)
    assert read_npy(files.output) == [vector(text) for text in TEXTS]
    assert files.embed().skipped == 8
    assert files.host.asked == TEXTS[6:]


def test_a_text_that_was_mended_is_asked_with_its_neighbours_only(files: Files) -> None:
    stopped(files)
    texts = ["ONE", *TEXTS[1:], "nine"]
    files.write(texts)
    files.embed()
    assert sorted(files.host.asked) == sorted(["ONE", "two", "three", "seven", "eight", "nine"])
    assert read_npy(files.output) == [vector(text) for text in texts]


@pytest.mark.parametrize("damage", ["torn line", "torn vectors", "lost vectors", "changed vectors"])
def test_what_a_dying_machine_did_not_write_is_asked_again(files: Files, damage: str) -> None:
    stopped(files)
    job, part = files.output.with_name("out.npy.job"), works.part_of(files.output)
    if damage == "torn line":
        job.write_bytes(job.read_bytes()[:-5])
    elif damage == "torn vectors":
        os.truncate(part, works.HEAD + 40)
    elif damage == "lost vectors":
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[:-1] + b"\1")
    files.embed()
    again = 8 if damage == "lost vectors" else 5
    assert len(files.host.asked) == again
    assert read_npy(files.output) == [vector(text) for text in TEXTS]


@pytest.mark.parametrize(
    "change, error, message",
    [
        ("model", ResponseFormatError, "n answered, and m did before"),
        ("dimensions", ResponseFormatError, "3 dimensions, and those before have 2"),
        ("params", InputError, "begun with another settings or parameters"),
        ("texts", InputError, "begun with other texts"),
    ],
)
def test_vectors_that_do_not_compare_are_not_mixed(
    files: Files, change: str, error: type[LMGatewayError], message: str
) -> None:
    stopped(files)
    params = {}
    if change == "model":
        files.host.model = "n"
    elif change == "dimensions":
        files.host.wide = 3
    elif change == "params":
        params = {"dimensions": 2}
    else:
        files.write(["other"] * 8)
    with pytest.raises(error, match=message):
        files.embed(**params)
    assert not files.output.exists()


def test_a_whole_output_of_other_texts_is_left_alone(files: Files) -> None:
    files.embed()
    files.write([*TEXTS, "nine"])
    with pytest.raises(InputError, match=r"is whole, and .* is not what it was made of"):
        files.embed()
    assert len(read_npy(files.output)) == 8


def test_the_text_that_is_refused_is_found(files: Files) -> None:
    files.host.faults["five"] = InvalidRequestError("no fives", status=400)
    with pytest.raises(InvalidRequestError, match=r"row 5 of .*texts.txt.*to go on"):
        files.embed()
    assert files.host.asked == TEXTS[:4]
    files.host.faults.clear()
    files.embed()
    assert files.host.asked == [*TEXTS[:4], *TEXTS[4:]]


def test_one_process_at_a_time(files: Files) -> None:
    def again() -> None:
        with pytest.raises(InputError, match="another process is at work"):
            files.embed()

    files.host.faults["two"] = again
    assert files.embed().embedded == 8


def test_a_full_disk_loses_nothing(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    write, left = os.write, 3

    def full(file: int, data: Any) -> int:
        nonlocal left
        if len(data) >= 16 and bytes(data[:2]) != b'{"':
            left -= 1
            if not left:
                raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data)

    monkeypatch.setattr(works.os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        files.embed()
    monkeypatch.undo()
    files.host.asked.clear()
    assert files.embed().skipped == 6
    assert read_npy(files.output) == [vector(text) for text in TEXTS]


def test_the_first_ctrl_c_lets_requests_end(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    files.host.faults["two"] = lambda: signal.raise_signal(signal.SIGINT)
    summary = files.embed()
    assert summary.interrupted
    assert summary.embedded >= 3
    assert "Ctrl-C again stops at once" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    files.host.faults.clear()
    files.embed()
    assert sorted(files.host.asked) == sorted(TEXTS)
    assert read_npy(files.output) == [vector(text) for text in TEXTS]


def test_an_input_that_changes_meanwhile_is_told(files: Files) -> None:
    files.host.faults["eight"] = lambda: files.write([*TEXTS, "nine"])
    with pytest.raises(InputError, match="changed meanwhile"):
        files.embed()
    files.host.faults.clear()
    files.embed()
    assert read_npy(files.output) == [vector(text) for text in [*TEXTS, "nine"]]
    assert files.host.asked.count("one") == 1
