"""The guides' programs, word for word: the first against a real server and from a recording."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.llama_server import INSTALL, LlamaServer, is_installed, serve_llama

dspy = pytest.importorskip("dspy", reason="needs the extra [dspy]")

import lmgateway

GUIDES = Path(__file__).parents[2] / "docs" / "how-to"
BLOCKS = {
    page: re.findall(r"```python\n(.*?)```", (GUIDES / page).read_text("utf-8"), re.DOTALL)
    for page in ("dspy.md", "from-dspy-anyscale.md")
}
PROGRAM = BLOCKS["dspy.md"][0]

#: Made by running the program inside ``lmgateway.record(...)``, with a llama.cpp server for the
#: service; the first answer is not in the form that DSPy asks for, so that it asks again.
RECORDING = Path(__file__).parent / "data" / "page.jsonl"

recorded = pytest.mark.skipif(
    not dspy.__version__.startswith("3.4."), reason="recorded with the prompts of DSPy 3.4"
)


@pytest.fixture(scope="module")
def service() -> Iterator[LlamaServer]:
    """A model that does not talk for ever where it was not told how long it may."""
    if not is_installed():
        pytest.skip(f"needs a model: {INSTALL}")
    with serve_llama(parallel=1, context=2048, limit=120) as server:
        yield server


@pytest.mark.real
def test_the_program_runs_with_nothing_but_a_dotenv(
    service: LlamaServer, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(".env").write_text(
        f"ANYSCALE_API_BASE={service.base_url}\nANYSCALE_API_KEY={service.api_key}\n"
    )

    exec(PROGRAM, {})

    assert capsys.readouterr().out.strip()
    assert dspy.settings.lm.history[-1]["response_model"] == service.model


@recorded
def test_it_runs_from_a_recording_with_nothing_set(capsys: pytest.CaptureFixture[str]) -> None:
    with lmgateway.replay(RECORDING):
        exec(PROGRAM, {})

    assert capsys.readouterr().out == "Paris\n"


@recorded
def test_a_recording_may_be_named_where_the_lm_is_made() -> None:
    from lmgateway.dspy import LM

    model = "meta-llama/Llama-2-70b-chat-hf"
    with dspy.context(lm=LM("anyscale", model=model, recordings=str(RECORDING))):
        prediction = dspy.ChainOfThought("question -> answer")(
            question="What is the capital of France?"
        )

    assert prediction.answer == "Paris"


OTHERS = [
    pytest.param(block, id=f"{page}, block {number}")
    for page, found in BLOCKS.items()
    for number, block in enumerate(found)
    if block != PROGRAM and not block.startswith("# continued")  # that one asks a service
]


@pytest.mark.parametrize("block", OTHERS)
def test_the_other_blocks_run(block: str) -> None:
    exec(block, {})
