"""Columns that are no parameters: found before the first row, left out, or kept in the output."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmgateway.batch import process_batch, run
from lmgateway.batch.rows import fields_of, identified
from lmgateway.errors import InputError, UnknownParameterError
from lmgateway.testing import ScriptedLM
from lmgateway.types import Request

ROWS = [{"custom_id": f"r{n}", "prompt": f"p{n}", "label": n, "id": f"x{n}"} for n in range(3)]


def in_body(row: dict[str, Any]) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": row["prompt"]}], "label": row["label"]}
    return {"custom_id": row["custom_id"], "body": body, "id": row["id"]}


def table(rows: list[dict[str, Any]]) -> bytes:
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    return "\n".join(lines).encode()


FORMS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "in.jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    "in.jsonl.gz": lambda rows: gzip.compress(FORMS["in.jsonl"](rows)),
    "in.json": lambda rows: json.dumps(rows, indent=2).encode(),
    "in.csv": table,
    "in.csv.gz": lambda rows: gzip.compress(table(rows)),
    "in.ndjson": lambda rows: FORMS["in.jsonl"](list(map(in_body, rows))),  # OpenAI's form
}
forms = pytest.mark.parametrize("name", FORMS)


def source(folder: Path, name: str, rows: list[dict[str, Any]] = ROWS) -> Path:
    path = folder / name
    path.write_bytes(FORMS[name](rows))
    return path


def lines(path: Path) -> dict[str, Any]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["custom_id"]: row for row in rows}


def repeated(request: Request) -> str:
    return str(request.prompt)


@forms
def test_a_column_that_is_no_parameter_is_found_before_the_first_row(
    tmp_path: Path, name: str
) -> None:
    path = source(tmp_path, name)
    before = sorted(tmp_path.iterdir())
    ways = r"the column 'label'.*--ignore label\S* leaves (it|them) out, --keep label"
    with pytest.raises(UnknownParameterError, match=ways):
        run(path, tmp_path / "out.jsonl", "echo", errors=tmp_path / "errors.jsonl")
    assert sorted(tmp_path.iterdir()) == before  # nothing was asked, or it would be there


def test_rows_of_a_program_are_looked_at_too(tmp_path: Path) -> None:
    with pytest.raises(
        UnknownParameterError, match="label, id are no parameter: --ignore label,id leaves them out"
    ):
        run(ROWS, tmp_path / "out.jsonl", "echo")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_pipe_is_looked_at_when_its_first_row_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    with source(tmp_path, f"in.{form}").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        with pytest.raises(UnknownParameterError, match="--keep label"):
            run("-", tmp_path / "out.jsonl", "echo", format=form)
    assert not list(tmp_path.glob("out*"))


def test_a_field_of_some_rows_fails_them_alone(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, {"prompt": "b", "temprature": 1}, "c", {"prompt": "d", "label": None}]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = run(path, tmp_path / "out.jsonl", "echo")
    assert (summary.answered, summary.errors) == (3, {"UnknownParameterError": 1})


@forms
def test_kept_columns_stand_beside_the_answer(tmp_path: Path, name: str) -> None:
    path, lm = source(tmp_path, name), ScriptedLM(repeated)
    run(path, tmp_path / "out.jsonl", lm, keep=["label", "id"])
    found = lines(tmp_path / "out.jsonl")
    assert {name: (row["label"], row["id"]) for name, row in found.items()} == {
        f"r{n}": (n, f"x{n}") for n in range(3)
    }
    assert list(found["r0"]) == ["custom_id", "label", "id", "response", "error"]
    assert run(path, tmp_path / "out.jsonl", lm, keep=["id", "label"]).skipped == 3
    with pytest.raises(InputError, match="other settings"):
        run(path, tmp_path / "out.jsonl", lm, keep=["id"], ignore=["label"])


def test_rows_of_a_list_are_kept_too() -> None:
    rows = process_batch(ROWS, "echo", keep=["label"], ignore=["id"])
    assert [(row["custom_id"], row["label"], row["error"]) for row in rows] == [
        ("r0", 0, None), ("r1", 1, None), ("r2", 2, None),
    ]  # fmt: skip


def test_a_label_that_is_no_text_fails_its_row(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes("prompt,label\nx,\u00e9\ny,e\n".encode("latin-1"))
    run(tmp_path / "in.csv", tmp_path / "out.jsonl", "echo", keep=["label"])
    told = [
        row["error"] and row["error"]["message"] for row in lines(tmp_path / "out.jsonl").values()
    ]
    assert sorted(map(str, told)) == ["None", "line 2 is not UTF-8"]


def test_a_kept_parameter_is_still_sent(tmp_path: Path) -> None:
    path = source(tmp_path, "in.csv", [{"prompt": "a b", "max_tokens": 1, "note": "007"}])
    run(path, tmp_path / "out.jsonl", "echo", keep=["prompt", "max_tokens", "note", "custom_id"])
    (row,) = lines(tmp_path / "out.jsonl").values()
    assert (row["prompt"], row["max_tokens"], row["note"]) == ("a b", 1, "007")
    assert row["response"]["body"]["choices"][0]["finish_reason"] == "length"


def test_what_is_no_json_is_kept_as_text(tmp_path: Path) -> None:
    circle: list[Any] = []
    circle.append(circle)
    rows = [
        {"custom_id": "a", "prompt": "p", "note": circle},
        {"custom_id": "b", "prompt": "p", "note": {1: {2}, "x": [float("inf")]}},
    ]
    run(rows, tmp_path / "out.jsonl", "echo", keep=["note"])
    found = lines(tmp_path / "out.jsonl")
    assert (found["a"]["note"], found["b"]["note"]) == ("[[...]]", {"1": "{2}", "x": [None]})


def test_rows_that_fail_are_joined_as_well(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "note": "x"}, {"prompt": 5, "note": float("nan")}, {"prompt": "c"}]
    run(rows, tmp_path / "out.jsonl", "echo", keep=("note",))
    found = lines(tmp_path / "out.jsonl").values()
    assert {(row["note"], row["error"] is None) for row in found} == {
        ("x", True), (None, False), (None, True)
    }  # fmt: skip


@pytest.mark.parametrize(
    "rows, columns",
    [
        ([{"a": 1}, {"a": 2}], ["a"]),
        ([{"a": 1}, {"a": None}, {"a": None}], ["a"]),
        ([{"a": None}, {"a": None}], []),
        ([{"a": 1}, {"a": 1}, {"b": 1}], ["a"]),
        ([{"a": 1}, {"b": 1}], []),
        (["text", {"a": 1}, [{"role": "user"}]], ["a"]),
        ([{"body": {"a": 1}, "id": 1}, {"body": 5, 7: 8}], ["body"]),
        ([], []),
    ],
    ids=["all", "nulls", "nulls only", "most", "half", "others", "a body", "none"],
)
def test_what_most_rows_have_is_a_column(rows: list[Any], columns: list[str]) -> None:
    assert fields_of(rows)[0] == columns


def test_labels_do_not_change_places_when_rows_do() -> None:
    rows = [{"prompt": "a", "label": 1}, {"prompt": "a", "label": 2}]
    one = {row.id: row.kept for row in identified(rows, ("label",), ("label",))}
    two = {row.id: row.kept for row in identified(rows[::-1], ("label",), ("label",))}
    assert one == two


@pytest.mark.parametrize(
    "given, message",
    [
        ({"keep": "label"}, "keep must be a list of names"),
        ({"keep": ["response"]}, "has its own 'response'"),
        ({"keep": ["lable"], "ignore": ["label", "id"]}, "no column 'lable' in the input"),
    ],
    ids=["a text", "a name of ours", "misspelt"],
)
def test_what_cannot_be_kept_is_refused(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    for name in ("in.jsonl", "in.csv"):
        path = source(tmp_path, name)
        with pytest.raises(InputError, match=message):
            run(path, tmp_path / "out.jsonl", "echo", **given)
    assert not list(tmp_path.glob("out*"))


@forms
def test_appended_rows_are_asked_and_edited_ones_refused(tmp_path: Path, name: str) -> None:
    output, lm = tmp_path / "out.jsonl", ScriptedLM(repeated)
    run(source(tmp_path, name, ROWS[:2]), output, lm, ignore=["label", "id"])
    summary = run(source(tmp_path, name, ROWS), output, lm, ignore=["label", "id"])
    assert (summary.skipped, summary.answered, summary.total) == (2, 1, 3)
    edited = [{**ROWS[0], "prompt": "edited"}, *ROWS[1:]]
    with pytest.raises(InputError, match="other input"):
        run(source(tmp_path, name, edited), output, lm, ignore=["label", "id"])
    fewer = run(source(tmp_path, name, ROWS[:2]), output, lm, ignore=["label", "id"])
    assert (fewer.skipped, fewer.answered) == (2, 0)
    assert run(source(tmp_path, name, ROWS), output, lm, ignore=["label", "id"]).skipped == 3


def test_what_was_dropped_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, lm = tmp_path / "out.jsonl", ScriptedLM(repeated)
    path = source(tmp_path, "in.jsonl")
    run(path, output, lm, ignore=["label", "id"])
    output.write_bytes(output.read_bytes()[:-20])
    assert run(path, output, lm, ignore=["label", "id"]).answered == 1
    assert f"line 3 of {output}, the last, was not whole and is dropped" in capsys.readouterr().err
