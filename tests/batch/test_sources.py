from __future__ import annotations

import csv
import gzip
import json
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lmgateway.batch import readers, values
from lmgateway.batch.rows import BadLine
from lmgateway.batch.sources import RowSource, open_source
from lmgateway.errors import InputError, UnsupportedError


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
    "UTF-16": ("prompt\na\n".encode("utf-16"), "{} is written in UTF-16"),
}


@pytest.fixture
def _small_cells(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(readers, "LARGEST_CELL", 100_000)
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


# -- encodings, compression and JSON that is not one row a line -------------------------------

ROWS = [{"custom_id": "ä", "prompt": "é\n\U0001f600"}, {"prompt": "b", "n": 2}, {"prompt": "c"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABLE = "prompt,n\né,1\n"


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-16-le, Chinese"]
)
@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "jsonl.gz"])
def test_another_encoding_is_named_once(tmp_path: Path, encoding: str, suffix: str) -> None:
    text = TABLE.replace(",", "\t" if suffix == "tsv" else ",") if "sv" in suffix else LINES
    if "Chinese" in encoding:
        text = text.replace("é", "\u4f60\u597d" * 9)
    content = text.encode(encoding.partition(",")[0])
    path = tmp_path / f"in.{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    with pytest.raises(
        InputError, match=r"in\.\S+ is written in UTF-(16|32), and is read as UTF-8"
    ):
        open_source(path)


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "BOM"])
@pytest.mark.parametrize(
    "suffix, text",
    [
        ("jsonl", LINES),
        ("json", LINES),
        ("json", json.dumps(ROWS)),
        ("json", json.dumps(ROWS, indent=1, ensure_ascii=False)),
        ("jsonl", json.dumps(ROWS, indent=1)),
        ("jsonl", json.dumps(ROWS)),
        ("jsonl", "".join(json.dumps(row, indent=1) + "\n" for row in ROWS)),
        ("jsonl", "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n\n"),
    ],
    ids=["lines", "lines as json", "list", "indented list", "indented list as lines",
         "list as lines", "indented objects as lines", "a list of lines"],
)  # fmt: skip
def test_json_in_every_form(tmp_path: Path, suffix: str, text: str, mark: str, end: str) -> None:
    content = (mark + text).replace("\n", end).encode()
    for packed, pack in {"": bytes, ".gz": gzip.compress, ".zst": zstd}.items():
        path = tmp_path / f"in.{suffix}{packed}"
        path.write_bytes(pack(content))
        source = open_source(path)
        assert (source.total, list(source.read())) == (3, ROWS)


def zstd(content: bytes) -> bytes:
    library = pytest.importorskip("zstandard", reason="needs the extra [zstd]")
    frames = content[:20], content[20:]  # as pzstd writes them
    return b"".join(map(library.ZstdCompressor().compress, frames))


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_tables_are_decompressed_and_names_do_not_decide(tmp_path: Path, pack: Any) -> None:
    for name in ("in.csv.gz", "in.csv", "in.csv.zst"):
        assert read(tmp_path / name, pack(TABLE.encode())) == [{"prompt": "é", "n": 1}]


def test_stdin_is_decompressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "in"
    for form, text in (("jsonl", LINES), ("json", json.dumps(ROWS)), (None, LINES)):
        path.write_bytes(gzip.compress(text.encode()))
        with path.open() as file:
            monkeypatch.setattr("sys.stdin", file)
            assert list(open_source("-", form).read()) == ROWS


def test_messages_on_a_line_are_one_row(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "a"}]
    for suffix in ("jsonl", "json"):
        text = json.dumps(chat) + "\n" + json.dumps(chat)
        assert read(tmp_path / f"in.{suffix}", text) == [chat, chat]


@pytest.mark.parametrize(
    "text, fault",
    [
        ('[{"prompt": "a"},\n{"prompt": }]', r"line 2 of .*in\.json cannot be read as json"),
        ('[{"prompt": "a"}\n{"prompt": "b"}]', "line 2 of .*: a comma or a ] is missing"),
        ('[{"prompt": "a"},', r"line 1 of .*in\.json cannot"),
        ('[{"prompt": "a"}]\n[', "line 2 of .*: the list has ended before"),
        ('{"prompt": "a"}\n\n{"prompt": "b', "line 3 of"),
        ("[" * 100_000, "too deep"),
    ],
    ids=["broken", "comma", "cut", "more", "cut object", "deep"],
)
def test_json_that_is_broken_is_told_with_its_line(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        read(tmp_path / "in.json", text)


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
@pytest.mark.parametrize("end", [8, -8], ids=["its head", "its end"])
def test_a_damaged_compression_is_told(tmp_path: Path, pack: Any, end: int) -> None:
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(pack(LINES.encode())[:end])
    with pytest.raises(InputError, match=r"in\.jsonl\.gz cannot be decompressed"):
        open_source(path)


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "in.jsonl.zst"
    path.write_bytes(zstd(LINES.encode()))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'lmgateway-core\[zstd\]'"):
        open_source(path)


def test_a_list_is_read_in_flat_memory(tmp_path: Path) -> None:
    path = tmp_path / "in.json"
    row = json.dumps({"prompt": "x" * 1000})
    path.write_text("[" + ",\n".join([row] * 4000) + "]")
    source = open_source(path)
    tracemalloc.start()
    assert sum(1 for _ in source.read()) == source.total == 4000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_row_longer_than_a_block_is_read_a_few_times_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {"prompt": "x" * 1_000_000}
    begun = []
    decode = values._decode
    monkeypatch.setattr(values, "_decode", lambda *text: (begun.append(1), decode(*text))[1])
    assert read(tmp_path / "in.json", json.dumps([long, long])) == [long, long]
    assert len(begun) < 60


@pytest.mark.parametrize(
    "header, fault",
    [("prompt,n,n\na,1,2\n", r"line 1 of .*in\.csv: the column 'n' is there more than once"),
     ('prompt,n\na,1\n"b,2\nc,3\n', r"line 4 of .*in\.csv .* in the row that begins at line 3")],
    ids=["twice", "an open quote"],
)  # fmt: skip
def test_a_table_that_is_none_is_told_with_its_line(
    tmp_path: Path, header: str, fault: str
) -> None:
    with pytest.raises(InputError, match=fault):
        read(tmp_path / "in.csv", header)


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "tsv"])
def test_an_input_may_grow_at_its_end(tmp_path: Path, form: str) -> None:
    def text(*prompts: str) -> str:
        if form == "json":
            return json.dumps([{"prompt": each} for each in prompts], indent=1)
        if form == "jsonl":
            return "\n".join(json.dumps({"prompt": each}) for each in prompts)
        return "prompt\n" + "\n".join(prompts)

    def source(*prompts: str, end: str = "") -> RowSource:
        (tmp_path / f"in.{form}").write_text(text(*prompts) + end)
        return open_source(tmp_path / f"in.{form}")

    first = source("a", "b")
    record: dict[str, Any] = {"input": first.digest, "inputs": first.history({})}
    longer = source("a", "b", "c")
    inputs = longer.history(record)
    assert inputs is not None
    assert len(inputs) == 2
    record = {"input": longer.digest, "inputs": inputs}
    assert source("a", "b").history(record) is not None  # as it was at first
    assert source("a", "b", "c", "d").history(record) is not None
    assert source("a", "b", "d").history(record) is None
    assert source("x", "b", "c").history(record) is None
    assert source("a").history(record) is None
    assert form == "json" or source("a", "b", "c", end="d").history(record) is None
    for odd in ({"inputs": 5}, {"inputs": [5, [1], ["a", 2], [10**30, "x"]]}, {"inputs": None}):
        assert longer.history({"input": "other", **odd}) is None


def test_labels_are_numbers_only_if_they_are_written_so(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    cells = ["7", "-1.5", "true", "007", "1e5", "NaN", "1.10", "", "[1]", "9" * 30]
    path.write_text("prompt,id\n" + "".join(f'p,"{cell}"\n' for cell in cells))
    found = [row["id"] for row in open_source(path, labels=["id"]).read()]
    assert found == [7, -1.5, True, "007", "1e5", "NaN", "1.10", None, "[1]", int("9" * 30)]
