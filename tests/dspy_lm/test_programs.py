"""Programs, adapters, streams and optimizers of DSPy's on an LM of ours."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from pydantic import BaseModel
from support.distributions import SitePackages

dspy = pytest.importorskip("dspy", reason="needs the extra [dspy]")

from dspy import lm15

from lmgateway.dspy import LM
from lmgateway.testing import ScriptedLM
from lmgateway.types import Request

CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Peru": "Lima"}


def fields(**values: str) -> str:
    """An answer in ChatAdapter's form."""
    shown = [f"[[ ## {name} ## ]]\n{value}" for name, value in values.items()]
    return "\n\n".join([*shown, "[[ ## completed ## ]]"])


def scripted(*answers: Any, **keywords: Any) -> tuple[LM, Any]:
    lm = LM(ScriptedLM(answers), cache=False, **keywords)
    return lm, lm.gateway


# -- modules and adapters ----------------------------------------------------------------------


def test_a_chain_of_thought_runs() -> None:
    lm, _ = scripted(fields(reasoning="France, so ...", answer="Paris"))

    with dspy.context(lm=lm):
        prediction = dspy.ChainOfThought("question -> answer")(question="The capital of France?")

    assert (prediction.reasoning, prediction.answer) == ("France, so ...", "Paris")


def test_awaited_it_runs() -> None:
    lm, _ = scripted(fields(answer="Paris"))

    with dspy.context(lm=lm):
        prediction = asyncio.run(dspy.Predict("question -> answer").acall(question="Hi"))

    assert prediction.answer == "Paris"


def test_n_gives_as_many_completions() -> None:
    lm, _ = scripted(fields(answer="Paris"), fields(answer="Lutetia"), temperature=1.0)

    with dspy.context(lm=lm):
        prediction = dspy.Predict("question -> answer", n=2)(question="Hi")

    assert prediction.completions.answer == ["Paris", "Lutetia"]


class City(BaseModel):
    name: str
    inhabitants: int


class Describe(dspy.Signature):  # type: ignore[misc]
    """Describe a city."""

    name: str = dspy.InputField()
    city: City = dspy.OutputField()


def test_the_json_adapter_binds_the_answer_to_a_schema() -> None:
    lm, gateway = scripted(json.dumps({"city": {"name": "Paris", "inhabitants": 2_100_000}}))

    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        prediction = dspy.Predict(Describe)(name="Paris")

    assert prediction.city == City(name="Paris", inhabitants=2_100_000)
    sent = gateway.requests[0].params["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["strict"] is True


def test_what_cannot_be_read_in_one_format_is_asked_for_in_another() -> None:
    lm, gateway = scripted("Paris, I think.", '{"answer": "Paris"}')

    with dspy.context(lm=lm):
        prediction = dspy.Predict("question -> answer")(question="Hi")

    assert prediction.answer == "Paris"
    assert "response_format" in gateway.requests[1].params


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def test_react_uses_tools() -> None:
    lm, gateway = scripted(
        fields(
            next_thought="Ask.",
            next_tool_name="weather",
            next_tool_args='{"city": "Paris"}',
        ),
        fields(next_thought="Done.", next_tool_name="finish", next_tool_args="{}"),
        fields(reasoning="The tool said so.", answer="sunny"),
    )

    with dspy.context(lm=lm):
        prediction = dspy.ReAct("question -> answer", tools=[weather])(question="The weather?")

    assert prediction.answer == "sunny"
    assert "sunny in Paris" in str(gateway.requests[1].messages)


class Act(dspy.Signature):  # type: ignore[misc]
    """Answer with the tools."""

    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    calls: dspy.ToolCalls = dspy.OutputField()


def test_tools_are_called_natively() -> None:
    function = {"name": "weather", "arguments": '{"city": "Paris"}'}
    call = {"id": "c1", "type": "function", "function": function}
    lm, gateway = scripted({"choices": [{"text": "", "index": 0, "tool_calls": [call]}]})

    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_native_function_calling=True)):
        prediction = dspy.Predict(Act)(question="The weather?", tools=[dspy.Tool(weather)])

    (made,) = prediction.calls.tool_calls
    assert (made.name, made.args) == ("weather", {"city": "Paris"})
    assert gateway.requests[0].params["tools"][0]["function"]["name"] == "weather"


def test_native_reasoning_fills_its_field() -> None:
    answer = {"text": fields(answer="Paris"), "index": 0, "reasoning": "France, so ..."}
    lm, gateway = scripted({"choices": [answer]}, supports=lm15.ModelSupport(reasoning=True))
    signature = dspy.Signature("question -> reasoning: dspy.Reasoning, answer")

    with dspy.context(lm=lm):
        prediction = dspy.Predict(signature)(question="Hi")

    assert prediction.reasoning.content == "France, so ..."
    assert gateway.requests[0].params["reasoning_effort"] == "low"


def test_an_image_goes_along() -> None:
    lm, gateway = scripted(fields(answer="a dot"))
    picture = dspy.Image(url="data:image/png;base64,iVBORw0KGgo=")

    with dspy.context(lm=lm):
        dspy.Predict("picture: dspy.Image -> answer")(picture=picture)

    parts = gateway.requests[0].messages[-1]["content"]
    assert {"type": "image_url", "image_url": {"url": picture.url}} in parts


def test_many_run_in_parallel() -> None:
    def answer(request: Request) -> str:
        asked = str((request.messages or ())[-1])
        return fields(answer=next(city for land, city in CAPITALS.items() if land in asked))

    lm = LM(ScriptedLM(answer), cache=False)
    program = dspy.Predict("question -> answer")

    with dspy.context(lm=lm):
        found = dspy.Parallel(num_threads=4, disable_progress_bar=True)(
            [(program, {"question": f"The capital of {land}?"}) for land in CAPITALS]
        )

    assert [each.answer for each in found] == list(CAPITALS.values())


# -- streams -----------------------------------------------------------------------------------


async def streamed(lm: LM, *, is_async: bool) -> list[Any]:
    program = dspy.streamify(
        dspy.Predict("question -> answer"),
        stream_listeners=[dspy.streaming.StreamListener("answer")],
        is_async_program=is_async,
    )
    with dspy.context(lm=lm):
        return [value async for value in program(question="Hi")]


@pytest.mark.parametrize("is_async", [False, True], ids=["blocking", "awaiting"])
def test_a_field_is_streamed_piece_by_piece(is_async: bool) -> None:
    answer = "Paris is the capital of France and has been that for a long time."
    lm, _ = scripted({"text": fields(answer=answer), "usage": {"total_tokens": 9}})

    *pieces, last = asyncio.run(streamed(lm, is_async=is_async))

    assert len(pieces) > 3
    assert "".join(piece.chunk for piece in pieces).strip() == answer
    assert last.answer == answer
    assert lm.history[0]["usage"]["total_tokens"] == 9


def test_a_stream_can_be_read_without_a_loop() -> None:
    lm, _ = scripted(fields(answer="Paris is the capital."))
    program = dspy.streamify(
        dspy.Predict("question -> answer"),
        stream_listeners=[dspy.streaming.StreamListener("answer")],
        async_streaming=False,
    )

    with dspy.context(lm=lm):
        *_, last = list(program(question="Hi"))

    assert last.answer == "Paris is the capital."


def test_a_provider_that_does_not_stream_gives_its_answer_in_one_piece(
    site_packages: SitePackages,
) -> None:
    site_packages.install(
        "steady",
        """
        from lmgateway import hookimpl
        from lmgateway.types import Info

        @hookimpl
        def lmgateway_info():
            return Info(capabilities=frozenset({"messages"}))

        @hookimpl
        def lmgateway_complete(request):
            text = "[[ ## answer ## ]]\\nParis\\n\\n[[ ## completed ## ]]"
            return {"prompt": request.messages, "choices": [{"text": text}]}
        """,
    )

    *_, last = asyncio.run(streamed(LM("steady", model="m", cache=False), is_async=False))

    assert last.answer == "Paris"


def events(*answers: Any) -> list[Any]:
    lm, _ = scripted(*answers)
    return list(lm.engine.stream(lm15.Request(lm.model, lm15.Message.user("Hi"))))


def test_a_stream_begins_once_and_ends_once_and_holds_the_whole_answer() -> None:
    function = {"name": "weather", "arguments": '{"city": "Paris"}'}
    call = {"id": "c1", "type": "function", "function": function}
    token = {"token": "Look", "logprob": -0.5, "top_logprobs": []}
    answer = {"text": "Look it up", "index": 0, "tool_calls": [call], "logprobs": [token]}

    found = events({"choices": [answer], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})

    assert [each.type for each in found] == ["start", *["delta"] * (len(found) - 2), "end"]
    texts = [each.delta.text for each in found[1:-1] if each.delta.type == "text"]
    calls = [each.delta for each in found[1:-1] if each.delta.type == "tool_call"]
    assert "".join(texts) == "Look it up"
    places = [each.delta.part_index for each in found[1:-1]]
    assert places == sorted(places)  # the order in which DSPy puts the parts together
    assert [(made.id, made.name, made.input) for made in calls] == [
        ("c1", "weather", '{"city": "Paris"}')
    ]
    assert found[-1].finish_reason == "tool_call"
    assert found[-1].usage.total_tokens == 3


def test_a_reader_that_leaves_closes_the_stream() -> None:
    closed = []

    class Watched(ScriptedLM):
        def stream(self, *args: Any, **keywords: Any) -> Any:
            stream = super().stream(*args, **keywords)
            close = stream.close
            stream.close = lambda: (closed.append(True), close())[1]
            return stream

    lm = LM(Watched(["one two three"]), cache=False)
    reading = lm.engine.stream(lm15.Request(lm.model, lm15.Message.user("Hi")))
    next(reading)
    next(reading)

    reading.close()

    assert closed == [True]


# -- optimizers --------------------------------------------------------------------------------


def student(request: Request) -> str:
    """Knows the capitals, Peru's at a high temperature only, and writes whatever else is asked."""
    asked = str((request.messages or ())[-1]["content"])
    if "[[ ## question ## ]]" not in asked:  # an optimizer wants an instruction, or a summary
        wanted = re.findall(r"`\[\[ ## (\w+) ## ]]`", asked.rpartition("Respond with")[2])
        return fields(**{name: "Name the city." for name in wanted if name != "completed"})
    question = asked.rpartition("[[ ## question ## ]]")[2]
    land = next(land for land in CAPITALS if land in question)
    known = land != "Peru" or request.params.get("temperature") == 1.0
    return fields(answer=CAPITALS[land] if known else "Cusco")


TRAINSET = [
    dspy.Example(question=f"The capital of {land}?", answer=city).with_inputs("question")
    for land, city in CAPITALS.items()
]


def right(example: Any, prediction: Any, trace: Any = None) -> bool:
    return bool(example.answer == prediction.answer)


def test_few_shots_are_bootstrapped_over_several_rounds() -> None:
    lm = LM(ScriptedLM(student))
    optimizer = dspy.BootstrapFewShot(
        metric=right, max_bootstrapped_demos=4, max_labeled_demos=0, max_rounds=2
    )

    with dspy.context(lm=lm):
        compiled = optimizer.compile(dspy.Predict("question -> answer"), trainset=TRAINSET)

    found = {demo.question: demo.answer for demo in compiled.demos}
    assert found == {example.question: example.answer for example in TRAINSET}


def test_mipro_optimizes_instructions_and_demos() -> None:
    pytest.importorskip("optuna", reason="MIPROv2 needs optuna: pip install optuna")
    lm = LM(ScriptedLM(student))

    with dspy.context(lm=lm):
        compiled = dspy.MIPROv2(
            metric=right, auto=None, num_candidates=2, init_temperature=0.7, num_threads=1
        ).compile(
            dspy.Predict("question -> answer"),
            trainset=TRAINSET,
            valset=TRAINSET,
            num_trials=2,
            minibatch=False,
            max_bootstrapped_demos=1,
            max_labeled_demos=1,
        )
        assert compiled(question="The capital of Italy?").answer == "Rome"
