"""What DSPy owns: its cache, history, usage, retries and callbacks work with an LM of ours."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest

dspy = pytest.importorskip("dspy", reason="needs the extra [dspy]")

from dspy.utils.callback import BaseCallback

from lmgateway.dspy import LM
from lmgateway.testing import ScriptedLM

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def scripted(*answers: Any, **keywords: Any) -> tuple[LM, Any]:
    lm = LM(ScriptedLM(answers), **keywords)
    return lm, lm.gateway


# -- cache -------------------------------------------------------------------------------------


def test_the_same_call_is_asked_once() -> None:
    lm, gateway = scripted("a")

    assert [lm("Hi"), lm("Hi")] == [["a"], ["a"]]
    assert len(gateway.requests) == 1


def test_awaited_the_same_call_is_asked_once() -> None:
    lm, gateway = scripted("a")

    async def twice() -> list[Any]:
        return [await lm.acall("Hi"), await lm.acall("Hi")]

    assert asyncio.run(twice()) == [["a"], ["a"]]
    assert len(gateway.requests) == 1


def test_without_a_cache_it_is_asked_each_time() -> None:
    lm, _ = scripted("a", "b", cache=False)

    assert [lm("Hi"), lm("Hi")] == [["a"], ["b"]]


def test_a_call_may_go_round_the_cache() -> None:
    lm, _ = scripted("a", "b")

    assert [lm("Hi"), lm("Hi", cache=False)] == [["a"], ["b"]]


def test_another_rollout_is_another_call() -> None:
    lm, gateway = scripted("a", "b", temperature=1.0)

    answers = [lm("Hi", rollout_id=number) for number in (1, 2, 1)]

    assert answers == [["a"], ["b"], ["a"]]
    assert [dict(each.params) for each in gateway.requests] == [{"temperature": 1.0}] * 2


def test_a_rollout_at_temperature_zero_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="rollout_id has no effect"):
        scripted(temperature=0, rollout_id=1)


@pytest.mark.parametrize(
    "one, other",
    [
        ({"api_base": "https://one.example/v1"}, {"api_base": "https://two.example/v1"}),
        ({"use_chat_api": True}, {"use_chat_api": False, "template": "none"}),
        ({"system": "Be brief."}, {"system": "Be wordy."}),
    ],
    ids=["services", "endpoints", "system texts"],
)
def test_two_lms_that_may_answer_differently_share_no_cached_answer(
    one: dict[str, Any], other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(keywords: dict[str, Any]) -> str:
        lm = LM("anyscale", model="m", **keywords)
        seen: list[str] = []
        monkeypatch.setattr(dspy.cache, "get", lambda asked, _: seen.append(asked["model"]))
        monkeypatch.setattr(lm.engine, "complete", lambda _: 1 / 0)
        with pytest.raises(dspy.LMError):
            lm("Hi")
        return seen[0]

    assert key(one) != key(other)


def test_lmgateway_stores_nothing_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMGATEWAY_CACHE_DIR", str(tmp_path / "ours"))

    LM("echo", temperature=0.0)("Hi")

    assert not (tmp_path / "ours").exists()


# -- history and usage -------------------------------------------------------------------------


def test_a_call_is_in_the_history() -> None:
    lm, _ = scripted({"text": "a", "model": "m-1", "usage": USAGE}, temperature=0.5)

    lm("Hi", max_tokens=9)

    (entry,) = lm.history
    assert (entry["prompt"], entry["outputs"], entry["kwargs"]) == ("Hi", ["a"], {"max_tokens": 9})
    assert (entry["model"], entry["response_model"]) == ("scripted/scripted", "m-1")
    assert entry["usage"]["total_tokens"] == 10


def test_inspect_history_prints_it() -> None:
    lm, _ = scripted("Paris.")
    lm("The capital of France?")
    page = io.StringIO()

    lm.inspect_history(1, file=page)

    assert "The capital of France?" in page.getvalue()
    assert "Paris." in page.getvalue()


def test_a_history_may_be_off() -> None:
    lm, _ = scripted("a")

    with dspy.context(disable_history=True):
        lm("Hi")

    assert lm.history == []


def test_usage_is_counted_once_and_not_for_a_cached_answer() -> None:
    lm, _ = scripted({"text": "a", "usage": USAGE})

    with dspy.track_usage() as tracker:
        lm("Hi")
        lm("Hi")

    (counted,) = tracker.get_total_tokens().values()
    assert (counted["prompt_tokens"], counted["completion_tokens"]) == (7, 3)


def test_callbacks_see_the_call() -> None:
    seen: list[Any] = []

    class Watch(BaseCallback):
        def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            seen.append(inputs["prompt"])

        def on_lm_end(self, call_id: str, outputs: Any, exception: Exception | None = None) -> None:
            seen.append(outputs)

    lm, _ = scripted("a", callbacks=[Watch()])

    lm("Hi")

    assert seen == ["Hi", ["a"]]


# -- state -------------------------------------------------------------------------------------

BASE = "https://one.example/v1"


def saved(lm: LM, folder: Path) -> Any:
    """A program's state after saving and loading it."""
    program = dspy.Predict("question -> answer")
    program.lm = lm
    program.save(folder / "program.json")
    again = dspy.Predict("question -> answer")
    again.load(folder / "program.json", allow_unsafe_lm_state=True)
    return again.lm


def test_a_saved_program_brings_its_lm_back(tmp_path: Path) -> None:
    lm = LM("anyscale", model="m", api_base=BASE, temperature=0.3, use_chat_api=True, cache=False)

    again = saved(lm, tmp_path)

    assert type(again) is LM
    assert again.model == lm.model
    assert (again.kwargs["temperature"], again.cache, again.num_retries) == (0.3, False, 3)
    assert again.gateway.options.retries == 0


def test_its_file_holds_no_secret(tmp_path: Path) -> None:
    key = "sk-canary-12345678"
    lm = LM("anyscale", model="m", api_base=BASE, api_key=key, headers={"X-Auth-Token": key})

    saved(lm, tmp_path)

    assert "canary" not in (tmp_path / "program.json").read_text()


def test_where_it_is_loaded_its_name_is_resolved_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANYSCALE_API_BASE", BASE)
    lm = LM("anyscale", model="m")
    monkeypatch.setenv("ANYSCALE_API_BASE", "https://two.example/v1")

    assert saved(lm, tmp_path).model == "anyscale@two.example/v1/m"


CONFIG = """
default = "fast"

[models.fast]
provider = "anyscale"
model = "m"
params = {{ temperature = 0.2, max_tokens = 64 }}
retries = 1

[providers.anyscale]
api_base = "https://{host}/v1"
"""


def test_a_name_from_the_configuration_is_followed(tmp_path: Path) -> None:
    config = Path("lmgateway.toml")
    config.write_text(CONFIG.format(host="one.example"))
    lm = LM("fast", max_tokens=9)
    config.write_text(CONFIG.format(host="two.example"))

    again = saved(lm, tmp_path)

    assert (lm.model, LM().model) == ("anyscale@one.example/v1/m", "anyscale@two.example/v1/m")
    assert again.model == "anyscale@two.example/v1/m"
    for each in (lm, again, lm.copy(timeout=3)):
        assert (each.kwargs["temperature"], each.kwargs["max_tokens"]) == (0.2, 9)
        assert (each.gateway.options.retries, each.gateway.options.cache) == (1, False)


def test_what_dspy_asks_of_a_services_prompt_cache_is_kept(tmp_path: Path) -> None:
    wanted = dspy.lm15.CacheConfig(key="k", retention="long")

    again = saved(LM("openai", model="m", prompt_cache=wanted), tmp_path)

    assert again.kwargs["prompt_cache"] == wanted


def test_it_can_be_saved_again(tmp_path: Path) -> None:
    lm = LM("echo", max_tokens=2, supports=dspy.lm15.ModelSupport(reasoning=True))

    again = saved(saved(lm, tmp_path), tmp_path)

    assert again.dump_state() == lm.dump_state()
    assert again.supports_reasoning


def test_dspys_own_class_can_load_it_too() -> None:
    lm = LM("echo", cache=False)

    again = dspy.LM.load_state(lm.dump_state(), allow_custom_lm_class=True)

    assert again("Hi") == ["Hi"]


def test_without_leave_no_class_of_ours_is_loaded(tmp_path: Path) -> None:
    program = dspy.Predict("question -> answer")
    program.lm = LM("echo")
    program.save(tmp_path / "program.json")

    with pytest.raises(ValueError, match="allow_unsafe_lm_state"):
        dspy.Predict("question -> answer").load(tmp_path / "program.json")


def test_a_whole_program_can_be_pickled_with_it(tmp_path: Path) -> None:
    program = dspy.Predict("question -> answer")
    program.lm = LM("echo", cache=False)

    program.save(tmp_path / "program", save_program=True)
    again = dspy.load(tmp_path / "program", allow_pickle=True)

    assert again.lm("Hi") == ["Hi"]
