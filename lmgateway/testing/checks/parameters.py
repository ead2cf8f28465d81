"""Checks of parameters: each reaches the service with its value, and in its own place."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar

import pytest

from ...types import JSON
from ..bench import DEFAULT_CALL, Bench
from ..conversations import TOOLS, turns
from ..samples import BESIDE, sample_values
from ..sent import Path, Sent, leaves_of
from .sights import REFUSALS

__all__ = ["ParameterChecks"]

#: Numbers that services take as they are.
_SHORT = {"p": "top_p", "k": "top_k"}  # names of services, and whose they are
_OF_SEVERAL = re.compile(r"(sequences|stops|words|strings|texts|list)$", re.I)
_AS_THEY_ARE = frozenset({
    "temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "max_completion_tokens",
    "presence_penalty", "frequency_penalty", "repetition_penalty",
})  # fmt: skip
#: Parameters that are on or off, and how names of fields begin that mean the opposite.
_FLAGS = frozenset({"parallel_tool_calls", "logprobs", "echo", "ignore_eos"})
_NOT = re.compile(r"disable|no_|non_|not_|without|skip|forbid|single|one|only|exclude", re.I)
_TWINS = ({"max_tokens", "max_completion_tokens"},)
_CHOICES: tuple[Any, ...] = (
    "auto",
    "none",
    "required",
    {"type": "function", "function": {"name": "look_up_word"}},
    {"type": "function", "function": {"name": "measure_place"}},
)


class ParameterChecks:
    """What the provider makes of the values of parameters."""

    samples: ClassVar[Mapping[str, Any]]

    def test_two_values_are_two_requests(self, bench: Bench, parameter: str) -> None:
        """Another value of a parameter is another request; a value is sent as it is."""
        values = sample_values(parameter, self.samples)
        beside = _beside(bench, parameter)
        seen: list[tuple[Any, Sent]] = []
        for value in values:
            sent = _try(bench, {**beside, parameter: value})
            if sent is not None and value not in [known for known, _ in seen]:
                seen.append((value, sent))
            if len(seen) > 1 and seen[-1][1] != seen[0][1]:
                break
        if len(seen) < 2:
            pytest.skip(f"it takes fewer than two of the sample values {values!r:.80}")
        assert any(sent != seen[0][1] for _, sent in seen), (
            f"{parameter} is sent with one value whatever the user gives "
            f"({[value for value, _ in seen]!r:.80}). Look where params[{parameter!r}] is read"
        )
        if parameter not in _AS_THEY_ARE or parameter in self.samples:
            return
        without = _try(bench, beside)
        for value, sent in seen:
            changed = _changes(sent, without)
            assert any(_is(value, leaf) for leaf in changed.values()), (
                f"{parameter}={value!r} is sent as {list(changed.values())!r:.80}: the user gets "
                f"other answers than asked for. Look where params[{parameter!r}] is read"
            )

    def test_each_parameter_has_its_own_place(self, bench: Bench) -> None:
        """No parameter is sent under the name of another one."""
        names = sorted(_AS_THEY_ARE & bench.info.params - self.samples.keys())
        without = _try(bench, {})
        places: dict[frozenset[Path], str] = {}
        for name in names:
            for value in sample_values(name, {}):
                sent = _try(bench, {name: value})
                if sent is None or sent == without:
                    continue
                changed = _changes(sent, without)
                where = frozenset(path for path, leaf in changed.items() if _is(value, leaf))
                told = {_plain(path[-1]) for path in where}
                wrong = {_plain(other) for other in _AS_THEY_ARE if not _are_twins(name, other)}
                wrong |= {each for each, whose in _SHORT.items() if whose != name}
                assert not (told & wrong), (
                    f"{name} is sent as {sorted(told & wrong)[0]!r}: it changes what the user did "
                    f"not ask to change. Look where params[{name!r}] is read"
                )
                twin = places.setdefault(where, name)
                assert not where or _are_twins(name, twin), (
                    f"{name} and {twin} are sent in one place, so that one replaces the other"
                )

    @pytest.mark.parametrize("value", [True, False], ids=["on", "off"])
    def test_a_flag_is_sent_the_right_way_round(self, bench: Bench, value: bool) -> None:
        """What is switched on is sent as on, or the opposite of it as off."""
        for name in sorted(_FLAGS & bench.info.params - self.samples.keys()):
            sent = _try(bench, {**_beside(bench, name), name: value})
            if sent is None:
                continue
            word = name.partition("_")[0]
            for path, leaf in _changes(sent, _try(bench, _beside(bench, name))).items():
                if not isinstance(leaf, bool) or word not in path[-1].lower():
                    continue
                turned = bool(_NOT.match(path[-1]))
                assert leaf is (not value if turned else value), (
                    f"{name}={value} is sent as {path[-1]}={leaf}: the service does the opposite. "
                    f"Look where params[{name!r}] is read"
                )

    def test_each_choice_of_tools_is_another_request(self, bench: Bench, way: bool) -> None:
        """``tool_choice``: none, a required call, and the call of one tool are told apart."""
        if not {"tools", "tool_choice"} <= bench.info.params:
            pytest.skip("its Info.params names no tool_choice")
        seen: list[tuple[Any, Sent]] = []
        for choice in _CHOICES:
            sent = _try(bench, {"tools": TOOLS, "tool_choice": choice}, stream=way)
            if sent is None:
                continue
            same = [other for other, known in seen if known == sent]
            assert not same, (
                f"tool_choice={choice!r} and {same[0]!r} are one request: the model calls a tool "
                "where it must not, or another one. Look where params['tool_choice'] is read"
            )
            seen.append((choice, sent))

    def test_all_of_several_stops_are_sent(self, bench: Bench, way: bool) -> None:
        """Each of several stop texts arrives, or the list is refused."""
        for name in sorted({"stop", "stop_sequences"} & bench.info.params - self.samples.keys()):
            one = _try(bench, {name: "heliotrope"}, stream=way)
            assert one is None or one.holds("heliotrope"), f"a text in {name} is sent in pieces"
            for path, leaf in leaves_of(one.exchanges if one else ()):
                assert leaf != "heliotrope" or not _OF_SEVERAL.search(path[-1]), (
                    f"one text in {name} is sent as the bare value of {path[-1]!r}, where a list "
                    f"is due: the service refuses it. Look where params[{name!r}] is read"
                )
            sent = _try(bench, {name: ["heliotrope", "quillwort"]}, stream=way)
            if sent is None:
                continue
            for word in ("heliotrope", "quillwort"):
                assert sent.holds(word), (
                    f"of two texts in {name} one is dropped: the model writes on. Look where "
                    f"params[{name!r}] is read"
                )
            for _, leaf in leaves_of(sent.exchanges):
                joined = isinstance(leaf, str) and "heliotrope" in leaf and "quillwort" in leaf
                assert not joined or leaf[:1] in "[{", (
                    f"two texts in {name} are sent as one ({leaf!r:.60}): the model stops at "
                    f"neither. Look where params[{name!r}] is read"
                )

    def test_two_models_are_two_requests(self, bench: Bench, way: bool) -> None:
        """The model that the user names is the one that is asked."""
        if bench.info.model_is_file:
            pytest.skip("its models are files")
        if not bench.model:
            pytest.skip("it has one model only, which has no name")
        one = _try(bench, {}, stream=way)
        other = _try(bench.other(), {}, stream=way)
        if other is None:
            pytest.skip("it refuses another model before it sends anything")
        if one == other and not _names_a_model(bench, one, stream=way):
            pytest.skip("no model's name is sent: its service has one only")
        assert one != other, (
            "another model is the same request: whoever asks for a model gets a different one. "
            "Look where request.model is read"
        )


def _names_a_model(bench: Bench, sent: Sent | None, *, stream: bool) -> bool:
    """Whether the model's name stands where a service looks for one, in any kind of request."""
    several = [sent] if sent is not None else []
    if "messages" in bench.info.capabilities:
        with suppress(*REFUSALS):
            call = {"messages": turns("user", "assistant", "user")}
            several.append(bench.sent(call, stream=stream))
    return any(
        isinstance(leaf, str)
        and bench.model in leaf
        and re.search(r"model|deployment|url", path[-1])
        for each in several
        for path, leaf in leaves_of(each.exchanges)
        if path
    )


def _beside(bench: Bench, parameter: str) -> dict[str, Any]:
    beside = BESIDE.get(parameter, {})
    taken = bench.info.params - {parameter}
    return {name: value for name, value in beside.items() if name in taken}


def _try(bench: Bench, params: Mapping[str, Any], *, stream: bool = False) -> Sent | None:
    """What is sent with these parameters; None if they are refused."""
    try:
        sent = bench.sent({**DEFAULT_CALL, **params}, stream=stream)
    except REFUSALS:
        return None
    if not sent.exchanges:
        pytest.skip("it asks for nothing, so what it makes of a parameter cannot be seen")
    if sent.is_hidden:
        pytest.skip("its Blocking has no key that says what is asked")
    return sent


def _changes(sent: Sent, without: Sent | None) -> dict[Path, JSON]:
    """The scalars that are there now, and were not before or had another value."""
    before = {} if without is None else dict(leaves_of(without.exchanges))
    now = dict(leaves_of(sent.exchanges))
    return {path: leaf for path, leaf in now.items() if path not in before or before[path] != leaf}


def _is(value: Any, leaf: JSON) -> bool:
    if isinstance(leaf, str):
        try:
            leaf = json.loads(leaf)
        except ValueError:
            return False
    return not isinstance(leaf, bool) and bool(leaf == value)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _are_twins(one: str, other: str) -> bool:
    return one == other or any({one, other} <= twins for twins in _TWINS)
