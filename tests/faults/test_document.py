from __future__ import annotations

from pathlib import Path

import pytest
from faults.rows import ROWS
from faults.table import DOCUMENT, Record, render

HERE = Path(__file__).parent
NEEDED = {f"tests/faults/{path.name}" for path in HERE.glob("test_*.py")}
NEEDED |= {each.partition("::")[0] for row in ROWS for each in row.elsewhere}


def test_the_table_is_the_one_that_a_good_run_writes(request: pytest.FixtureRequest) -> None:
    items = request.session.items
    there = {item.nodeid.partition("::")[0] for item in items}
    if request.config.option.keyword or NEEDED - there:
        pytest.skip("the whole suite must be collected: make test, or tests/faults/table.py")
    record = Record()
    for item in items:
        record.note(item)
    assert DOCUMENT.read_text(encoding="utf-8") == render(record), "run make faults"
