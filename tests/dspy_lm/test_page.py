"""The program that the documentation shows, word for word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.llama_server import INSTALL, LlamaServer, is_installed, serve_llama

dspy = pytest.importorskip("dspy", reason="needs the extra [dspy]")

import lmgateway

PROGRAM = """
import dspy
from lmgateway.dspy import LM

dspy.configure(lm=LM("anyscale", model="meta-llama/Llama-2-70b-chat-hf"))
qa = dspy.ChainOfThought("question -> answer")
answer = qa(question="What is the capital of France?").answer
"""

#: Made by running the program inside ``lmgateway.record(...)``, with a llama.cpp server for the
#: service; the first answer is not in the form that DSPy asks for, so that it asks again.
RECORDING = Path(__file__).parent / "data" / "page.jsonl"


def run() -> Any:
    names: dict[str, Any] = {}
    exec(PROGRAM, names)
    return names["answer"]


@pytest.fixture(scope="module")
def service() -> Iterator[LlamaServer]:
    """A model that does not talk for ever where it was not told how long it may."""
    if not is_installed():
        pytest.skip(f"needs a model: {INSTALL}")
    with serve_llama(parallel=1, context=2048, limit=120) as server:
        yield server


@pytest.mark.real
def test_it_runs_with_nothing_but_a_dotenv(service: LlamaServer) -> None:
    Path(".env").write_text(
        f"ANYSCALE_API_BASE={service.base_url}\nANYSCALE_API_KEY={service.api_key}\n"
    )

    answer = run()

    assert isinstance(answer, str)
    assert answer
    assert dspy.settings.lm.history[-1]["response_model"] == service.model


@pytest.mark.skipif(
    not dspy.__version__.startswith("3.4."), reason="recorded with the prompts of DSPy 3.4"
)
def test_it_runs_from_a_recording_with_nothing_set() -> None:
    with lmgateway.replay(RECORDING):
        assert run() == "Paris"


@pytest.mark.skipif(
    not dspy.__version__.startswith("3.4."), reason="recorded with the prompts of DSPy 3.4"
)
def test_a_recording_may_be_named_where_the_lm_is_made() -> None:
    from lmgateway.dspy import LM

    model = "meta-llama/Llama-2-70b-chat-hf"
    with dspy.context(lm=LM("anyscale", model=model, recordings=str(RECORDING))):
        prediction = dspy.ChainOfThought("question -> answer")(
            question="What is the capital of France?"
        )

    assert prediction.answer == "Paris"
