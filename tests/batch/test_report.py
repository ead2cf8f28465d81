"""Reports: a page that loads and runs nothing, and tables for other tools."""

from __future__ import annotations

import csv
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lmgateway import errors
from lmgateway.batch import run, to_pandas
from lmgateway.batch.progress import Counts
from lmgateway.batch.reports.figures import Histogram, gather
from lmgateway.batch.reports.report import report
from lmgateway.batch.reports.results import COLUMNS, Results
from lmgateway.errors import InputError, UnsupportedError
from lmgateway.testing import ScriptedLM
from lmgateway.types import Request

HOSTILE = '</script><script>alert(1)</script><img src="https://evil.example/x"> & "quoted"'


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def answer(name: str, text: str = "yes", **changes: Any) -> dict[str, Any]:
    body = {
        "model": "gpt-4o-mini",
        "provider": "openai",
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        **changes,
    }
    response = {"status_code": 200, "request_id": None, "seconds": 1.5, "body": body}
    return {"custom_id": name, "response": response, "error": None}


def failure(name: str, message: str = "down", kind: str = "ServerError") -> dict[str, Any]:
    error = {"type": kind, "code": None, "status_code": 500, "message": message}
    return {"custom_id": name, "response": None, "error": error}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class Elements(HTMLParser):
    """The elements of a page and the addresses in it; raises for tags that do not match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        names = dict(attrs)
        assert not [name for name in names if name.startswith("on") or name == "style"]
        self.addresses += [str(names[name]) for name in ("src", "href") if name in names]
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


PAGES: dict[str, list[dict[str, Any]]] = {
    "full": [answer(str(n), HOSTILE * (n % 3)) for n in range(30)]
    + [failure(f"f{n}", HOSTILE + str(n), kind=HOSTILE) for n in range(5)],
    "nothing": [],
    "one": [answer("a")],
    "errors alone": [failure("a")],
    "the cache alone": [answer("a", cached=True)],
    "no tokens, no price": [answer("a", usage=None, model="unknown")],
    "all 0": [answer("a", usage={"prompt_tokens": 0, "completion_tokens": 0})],
    "a wide range": [
        answer(str(n), usage={"prompt_tokens": 10**n, "completion_tokens": n}) for n in range(25)
    ],
    "many kinds": [failure(str(n), kind=f"Kind{n}") for n in range(200)],
    "odd values": [
        answer("a", HOSTILE, usage={"prompt_tokens": "7", "completion_tokens": -1}),
        answer("b", usage=[1], model=None, provider=None),
        answer("\ud800", "\ud800"),
    ],
}


def test_each_answer_has_the_price_of_its_own_tier(output: Path) -> None:
    pytest.importorskip("genai_prices")
    tiers = ("flex", "default", "of_the_future")
    rows = [answer(t, model="gpt-5", extra={"service_tier": t}) for t in tiers]
    write(output, [*rows, answer("again", cached=True)])
    flex, usual, unknown, cached = (row["cost"] for row in Results(output))
    assert flex == pytest.approx(usual / 2)
    assert (unknown, cached) == (None, 0)
    counts = Counts()
    for row in rows:
        counts.add(row["response"]["body"])
    assert counts.cost is None
    assert float(counts.known_cost) == pytest.approx(flex + usual)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_and_loads_and_runs_nothing(output: Path, name: str) -> None:
    write(output, PAGES[name])
    path = report(output)
    assert path == output.with_name("answers.jsonl.html")
    page = path.read_text("utf-8")
    found = Elements(page)
    assert not {"script", "img", "link", "iframe", "object"} & set(found.names)
    assert found.addresses == []
    assert "default-src 'none'" in page
    assert not re.search(r"\b(nan|inf|None)\b", page)
    for plot in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        root = ElementTree.fromstring(plot)
        assert root.get("aria-label")
        assert root[0].tag == "title"
        assert root.find("rect") is not None  # no plot is empty


@pytest.mark.parametrize(
    "name, sentences",
    [
        ("nothing", ["No row was answered, so there is nothing to show.", "No row failed."]),
        ("errors alone", ["No row was answered, so there is nothing to show."]),
        ("the cache alone", ["All answers came from the cache: no call was made."]),
        ("no tokens, no price", ["The service told no tokens.", "price of 1 answers is not known"]),
    ],
)
def test_a_plot_without_data_is_a_sentence(output: Path, name: str, sentences: list[str]) -> None:
    write(output, PAGES[name])
    page = report(output).read_text("utf-8")
    for sentence in sentences:
        assert sentence in page


def test_the_figures_are_those_of_the_rows(output: Path) -> None:
    def script(request: Request) -> Any:
        number = int(str(request.prompt))
        return errors.InvalidRequestError(f"no {number}", status=400) if number < 5 else "yes"

    errors_file = output.with_name("bad.jsonl")
    prompts = [str(number) for number in range(50)]
    run(prompts, output, ScriptedLM(script), errors=errors_file)
    figures = gather(Results(output))
    assert (figures.answered, figures.failed) == (45, 5)
    (kind,) = figures.errors.values()
    assert (kind.count, len(kind.examples)) == (5, 3)
    assert figures.seconds.count == 45
    assert 0 < figures.seconds.percentile(0.5) < 60
    page = report(output).read_text("utf-8")
    assert "InvalidRequestError (400): 5 rows" in page
    assert "How long a call took: 45 rows, from" in page


@pytest.mark.parametrize(
    "values", [[5.0], [0.0, 0.0], [1e-9, 1e9], [float(n) for n in range(1000)]]
)
def test_a_histogram_is_right_to_a_few_percent(values: list[float]) -> None:
    figures = Histogram()
    for value in values:
        figures.add(value)
    assert (figures.count, figures.total) == (len(values), sum(values))
    assert (figures.least, figures.most) == (min(values), max(values))
    exact = sorted(values)[-(-len(values) // 2) - 1]
    assert figures.percentile(0.5) == pytest.approx(exact, rel=0.04)


def test_what_is_kept_of_many_rows_is_bounded(output: Path) -> None:
    rows = [answer(f"a{n}", f"text {n}", model=f"m{n}") for n in range(300)]
    rows += [failure(f"f{n}", f"message {n}", kind=f"Kind{n % 100}") for n in range(300)]
    write(output, rows)
    figures = gather(Results(output))
    assert (figures.answered, figures.failed) == (300, 300)
    assert len(figures.samples) == 8
    assert len(figures.errors) <= 51
    assert len(figures.models) <= 51
    assert max(len(kind.examples) for kind in figures.errors.values()) == 3
    assert sum(kind.count for kind in figures.errors.values()) == 300


# -- tables ---------------------------------------------------------------------------------------

TEXTS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\tx", "-5", "+3.5e2", 'a,"b"\nc', ""]


def test_csv_holds_every_row_and_no_formula(output: Path) -> None:
    rows = [answer(str(n), text) for n, text in enumerate(TEXTS)]
    write(output, [*rows, failure("=f", "=1")])
    path = report(output, "csv")
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == list(COLUMNS)
    told = [row["answer"] for row in table[:-1]]
    assert told == ["'=1+1", "'+cmd|' /C calc'!A0", "'-2+3", "'@SUM(A1)", "'\tx", *TEXTS[5:]]
    assert (table[0]["prompt_tokens"], table[0]["seconds"], table[0]["cached"]) == (
        "10", "1.5", "false",
    )  # fmt: skip
    last = table[-1]
    assert (last["custom_id"], last["error_type"], last["error_message"]) == (
        "'=f", "ServerError", "'=1",
    )  # fmt: skip


def test_parquet_holds_texts_as_they_are(output: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write(output, [*(answer(str(n), text) for n, text in enumerate(TEXTS)), failure("f")])
    table = parquet.read_table(report(output, "parquet"))
    assert table.column_names == list(COLUMNS)
    assert table["answer"].to_pylist() == [*TEXTS, None]
    assert str(table.schema.field("prompt_tokens").type) == "int64"
    write(output, [])
    assert parquet.read_table(report(output, "parquet")).num_rows == 0


def test_a_data_frame_has_the_rows(output: Path) -> None:
    pandas = pytest.importorskip("pandas")
    write(output, [answer("007", "a"), failure("b")])
    frame = to_pandas(output)
    assert list(frame.columns) == list(COLUMNS)
    assert list(frame["custom_id"]) == ["007", "b"]
    assert frame["prompt_tokens"].dtype == pandas.Int64Dtype()
    assert pandas.isna(frame["prompt_tokens"][1])
    assert frame["error_type"][1] == "ServerError"


@pytest.mark.parametrize(
    "module, ask, hint",
    [
        ("pyarrow", lambda path: report(path, "parquet"), r"lmgateway-core\[parquet\]"),
        ("pandas", to_pandas, "pip install pandas"),
    ],
)
def test_what_is_not_installed_is_named(
    output: Path, monkeypatch: pytest.MonkeyPatch, module: str, ask: Any, hint: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    write(output, [answer("a")])
    with pytest.raises(UnsupportedError, match=hint):
        ask(output)
    assert [path.name for path in output.parent.glob("*answers*")] == ["answers.jsonl"]


@pytest.mark.parametrize(
    "to, target, message",
    [
        ("pdf", None, "one of html, csv, parquet"),
        ("html", "answers.jsonl", "a file of the job itself"),
        ("html", "answers.jsonl.job", "a file of the job itself"),
        ("html", "absent/x.html", "cannot be written"),
        ("html", ".", "cannot be written"),
        ("html", "a\0b", "must be the path"),
    ],
)
def test_a_report_writes_over_no_file_of_the_job(
    output: Path, monkeypatch: pytest.MonkeyPatch, to: str, target: str | None, message: str
) -> None:
    monkeypatch.chdir(output.parent)
    run(["a"], output, "echo")
    before = output.read_bytes()
    with pytest.raises(InputError, match=message):
        report(output, to, target)
    assert output.read_bytes() == before


@pytest.mark.parametrize("path", ["absent.jsonl", "a\0b", 5])
def test_a_report_needs_an_output(tmp_path: Path, path: Any) -> None:
    with pytest.raises(InputError):
        report(path if isinstance(path, int) else tmp_path / path)
