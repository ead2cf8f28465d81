from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lmgateway.batch import sources
from lmgateway.batch.rows import BadLine
from lmgateway.batch.sources import open_source
from lmgateway.errors import InputError


def read(path: Path, content: str | bytes, form: str | None = None) -> list[Any]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(open_source(path, form).read())


def test_json_lines(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"prompt": "a"}\n\n  \n"b"\r\n["c"]'
    assert read(tmp_path / "in.jsonl", content) == [{"prompt": "a"}, "b", ["c"]]
    assert open_source(tmp_path / "in.jsonl").total == 3


@pytest.mark.parametrize(
    "text, fault",
    [
        pytest.param(b"{", "line 1 is not JSON", id="cut"),
        pytest.param(b'"\xff"', "not UTF-8", id="latin-1"),
        pytest.param(b"[" * 100_000, "nested too deeply", id="deep"),
    ],
)
def test_a_bad_line_is_a_fault_of_its_own(tmp_path: Path, text: bytes, fault: str) -> None:
    first, second = read(tmp_path / "in.jsonl", text + b'\n"b"\n')
    assert isinstance(first, BadLine)
    assert fault in first.fault
    assert second == "b"


def test_csv(tmp_path: Path) -> None:
    content = 'custom_id,prompt,temperature,stop,label\n7,"a\n""b""",0.5,,x\n8,1e5,,"[""a""]",\n'
    first, second = read(tmp_path / "in.csv", content)
    assert first == {
        "custom_id": "7",
        "prompt": 'a\n"b"',
        "temperature": 0.5,
        "stop": None,
        "label": "x",
    }
    assert (second["prompt"], second["stop"]) == ("1e5", ["a"])
    assert open_source(tmp_path / "in.csv").total == 2


def test_tsv(tmp_path: Path) -> None:
    assert read(tmp_path / "in.tsv", 'prompt\tn\na, b\t2\n"c"\t3\n')[0] == {
        "prompt": "a, b",
        "n": 2,
    }


def test_a_csv_row_with_too_many_cells_is_bad(tmp_path: Path) -> None:
    (row,) = read(tmp_path / "in.csv", "prompt\na,b\n")
    assert isinstance(row, BadLine)


def test_bytes_that_are_no_text_reach_the_checks_of_the_prompt(tmp_path: Path) -> None:
    assert read(tmp_path / "in.csv", b"prompt\n\xff\n") == [{"prompt": "\udcff"}]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    messages = [[{"role": "user", "content": "a"}], [{"role": "user", "content": "b", "name": "n"}]]
    parquet.write_table(
        pyarrow.table({"messages": messages, "n": [1, None]}), tmp_path / "i.parquet"
    )
    source = open_source(tmp_path / "i.parquet")
    assert source.total == 2
    assert list(source.read()) == [
        {"messages": [{"role": "user", "content": "a"}], "n": 1},
        {"messages": [{"role": "user", "content": "b", "name": "n"}], "n": None},
    ]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("absent.jsonl", None, "no file"),
        ("in.txt", "a", "form of the input"),
        ("in.csv", "question,n\na,1\n", "needs a column prompt or messages"),
        ("empty.csv", "", "needs a column"),
        ("in.csv", 'prompt\n"a', "cannot be read as csv"),
    ],
    ids=["absent", "unknown form", "no prompt", "empty", "open quote"],
)
def test_what_cannot_be_read_is_told(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        open_source(tmp_path / name)


HEADERS = {
    "a quote too many": ('"prompt"x,n\na,1\n', "line 1 of {} cannot be read as {}"),
    "an open quote": ('prompt,"n\na,1\n', "line 2 of {} cannot be read as {}"),
    "an open quote over lines": ('"prompt\n\n\na', "line 4 of {} cannot be read as {}"),
    "a quote closed twice": ('"prompt"","n"\na,1\n', "line 1 of {} cannot be read as {}"),
    "beyond the limit": ("prompt," + "n" * 200_000 + "\na,1\n", "field larger"),
    "twice": ("prompt,n,n\na,1,2\n", "{}: the column 'n' is there more than once"),
    "the prompt twice": ("prompt,prompt\na,b\n", "{}: the column 'prompt' is there more than once"),
    "nameless twice": (",,prompt\n1,2,a\n", "{}: the column '' is there more than once"),
    "blank lines only": ("\n\n\n", "{}: a table needs a column"),
    "a NUL": ("prompt\0\na\n", "{}: a table needs a column"),
    "blanks around": (" prompt ,n\na,1\n", "{}: a table needs a column"),
    "another case": ("Prompt,n\na,1\n", "{}: a table needs a column"),
    "UTF-16": ("prompt\na\n".encode("utf-16"), "{}: a table needs a column"),
}


@pytest.fixture
def _small_cells(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sources, "LARGEST_CELL", 100_000)
    before = csv.field_size_limit(100_000)
    yield
    csv.field_size_limit(before)


@pytest.mark.usefixtures("_small_cells")
@pytest.mark.parametrize("kind", ["csv", "tsv"])
@pytest.mark.parametrize("way", ["file", "stdin"])
@pytest.mark.parametrize("content, message", HEADERS.values(), ids=HEADERS)
def test_a_header_that_is_none_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    way: str,
    content: str | bytes,
    message: str,
) -> None:
    path = tmp_path / f"in.{kind}"
    if isinstance(content, str):
        content = content.replace(",", "\t" if kind == "tsv" else ",").encode()
    path.write_bytes(content)
    name = str(path) if way == "file" else "stdin"
    with path.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        with pytest.raises(InputError) as caught:
            list(open_source(path if way == "file" else "-", kind).read())
    assert message.format(name, kind) in str(caught.value)


def test_columns_without_a_name_at_the_end_are_none_as_long_as_they_are_empty(
    tmp_path: Path,
) -> None:
    first, second, third = read(tmp_path / "in.csv", "prompt,n,,\na,1,,\nb\nc,2,3\n")
    assert (first, second) == ({"prompt": "a", "n": 1}, {"prompt": "b", "n": None})
    assert isinstance(third, BadLine)


def test_every_line_end_is_one(tmp_path: Path) -> None:
    rows = [{"prompt": "a\rb"}, {"prompt": "c"}]
    for end in ("\n", "\r\n", "\r"):
        text = f'\ufeffprompt{end}{end}"a\rb"{end}c{end}'
        assert read(tmp_path / "in.csv", text) == rows


def test_a_table_that_breaks_later_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 3 of .*in\.csv cannot be read as csv"):
        read(tmp_path / "in.csv", 'prompt\na\n"b"c\n')


def test_columns_are_told_before_a_row_is_read(tmp_path: Path) -> None:
    def refuse(names: Sequence[str]) -> None:
        raise InputError(",".join(names))

    (tmp_path / "in.csv").write_text("prompt,timeout\na,1\n")
    with pytest.raises(InputError, match="prompt,timeout"):
        open_source(tmp_path / "in.csv", check=refuse)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_damaged_parquet_is_told(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("pyarrow.parquet", reason="needs the extra [parquet]")
    (tmp_path / "in.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"in\.parquet cannot be read as parquet"):
        open_source(tmp_path / "in.parquet")


def test_a_file_is_known_again(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    read(path, '"a"\n')
    before = open_source(path)
    read(path, '"b"\n')
    assert before.digest != open_source(path).digest


def test_an_iterable_has_a_length_where_it_has_one() -> None:
    assert open_source(["a", "b"]).total == 2
    assert open_source(iter(["a"])).total is None
