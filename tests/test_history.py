from __future__ import annotations

from typing import Any

import pytest

from lmgateway._records.history import render, show


def entry(prompt: Any = "What is 1 + 1?", text: str = "2", **more: Any) -> dict[str, Any]:
    completion = {
        "prompt": prompt,
        "choices": [{"text": text, "finish_reason": "stop"}],
        "provider": "openai",
        "model": "m",
        "usage": {"prompt_tokens": 7, "completion_tokens": 1},
    }
    known = {"params": {"temperature": 0}, "error": None, "seconds": 0.25, "time": 0.0}
    return {"prompt": prompt, "completion": completion, **known, **more}


def test_a_call_reads_as_what_was_asked_and_answered() -> None:
    first, *rest = render([entry()]).splitlines()
    assert first.endswith("openai/m  temperature=0  7+1 tokens  0.25 s")
    assert rest == ["", "[prompt]", "What is 1 + 1?", "", "[answer]", "2"]


def test_a_conversation_reads_turn_by_turn() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {}}],
        },
        {"role": "assistant", "content": None, "tool_calls": [call("f", '{"a": 1}')]},
    ]
    text = render([entry(messages)])
    assert "[system]\nBe brief.\n" in text
    assert "[user]\nLook:\n<image_url>\n" in text
    assert '[assistant]\n→ f({"a": 1})\n' in text


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def test_several_answers_are_numbered_and_an_odd_end_is_told() -> None:
    several = entry()
    several["completion"]["choices"].append({"text": "three", "finish_reason": "length"})
    assert "[answer 1 of 2]\n2\n" in render([several])
    assert "[answer 2 of 2, length]\nthree" in render([several])


@pytest.mark.parametrize(
    "choice, shown",
    [
        pytest.param({"text": "", "refusal": "I cannot"}, "refused: I cannot", id="a refusal"),
        pytest.param({"text": "", "tool_calls": [call("f", {"a": 1})]}, '→ f({"a": 1})', id="tool"),
    ],
)
def test_what_stands_for_a_text_is_shown(choice: dict[str, Any], shown: str) -> None:
    one = entry()
    one["completion"]["choices"] = [choice]
    assert render([one]).endswith(f"[answer]\n{shown}")


def test_an_error_is_shown_in_its_place() -> None:
    text = render([entry(completion=None, error="refused [provider one]")])
    assert text.endswith("[error]\nrefused [provider one]")


def test_a_cached_call_says_so() -> None:
    one = entry()
    one["completion"]["cached"] = True
    assert render([one]).splitlines()[0].endswith("cached")


def test_no_answer_can_write_to_the_terminal_itself() -> None:
    text = render([entry("a\x1b[2Jb", "c\x9b31md\re\tf\ng")])
    assert not set("\x1b\x9b\r") & set(text)
    assert "e\tf\ng" in text


def test_the_last_calls_are_shown_oldest_first(capsys: pytest.CaptureFixture[str]) -> None:
    show([entry(text=text) for text in ("one", "two", "three")], 2)
    output = capsys.readouterr().out
    assert "one" not in output
    assert output.index("two") < output.index("three")


def test_no_calls_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    show([], 3)
    assert capsys.readouterr().out == "no calls yet\n"
