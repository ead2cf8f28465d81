from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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


def test_a_file_is_known_again(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    read(path, '"a"\n')
    before = open_source(path)
    read(path, '"b"\n')
    assert before.digest != open_source(path).digest


def test_an_iterable_has_a_length_where_it_has_one() -> None:
    assert open_source(["a", "b"]).total == 2
    assert open_source(iter(["a"])).total is None
