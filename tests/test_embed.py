"""Many texts at once: parts that the host takes, in order, each text checked and paid for once."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import re
import struct
import threading
from contextlib import suppress
from typing import Any

import pytest
import responses

import lmgateway
from lmgateway import errors, hookimpl
from lmgateway._call.embedding import Embedding
from lmgateway._call.texts import Gathered
from lmgateway._records.history import History
from lmgateway._store.serialization import describe_request
from lmgateway.lm import LM, spec_of
from lmgateway.testing import lm_from
from lmgateway.types import Blocking, EmbedLimits, EmbedRequest, Flow, HTTPRequest, Info, Vectors

WAYS = ["sync", "async"]
THREE = EmbedLimits(texts=3)


class Host:
    """Embeds a text as its length and its first letter, and notes what it was sent."""

    def __init__(self, limits: EmbedLimits | None = THREE, wide: int = 2) -> None:
        self.info = Info(api=2, embed=limits)
        self.wide = wide
        self.parts: list[list[Any]] = []
        self.faults: dict[str, Exception] = {}
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()

    @hookimpl
    def lmgateway_info(self) -> Info:
        return self.info

    @hookimpl
    def lmgateway_complete(self, request: Any) -> Any:
        raise AssertionError("nothing asks for a completion")

    @hookimpl
    def lmgateway_embed(self, request: EmbedRequest) -> Flow[Any]:
        def work() -> Any:
            with self.lock:
                self.parts.append(list(request.texts))
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
            try:
                for text in request.texts:
                    if fault := self.faults.get(str(text)):
                        raise fault
                return [vector(text, self.wide) for text in request.texts]
            finally:
                with self.lock:
                    self.in_flight -= 1

        vectors = yield Blocking(work, key=[list(request.texts), dict(request.params)])
        return {
            "embeddings": vectors,
            "usage": {"prompt_tokens": len(request.texts), "total_tokens": len(request.texts)},
        }

    def lm(self, **options: Any) -> LM:
        return lm_from(self, "host", **{"model": "m", "retries": 0, **options})


def vector(text: Any, wide: int = 2) -> list[float]:
    return [float(len(text)), float(ord(str(text)[0])), *[0.5] * (wide - 2)]


def embed(lm: LM, way: str, texts: Any, **options: Any) -> Any:
    if way == "sync":
        return lm.embed(texts, **options)
    return asyncio.run(lm.aembed(texts, **options))


TEXTS = [letter * number for number, letter in enumerate("abcdefgh", 1)]


# -- parts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_texts_go_out_in_parts_and_come_back_in_order(way: str) -> None:
    host, events = Host(), []
    with host.lm() as lm, lmgateway.usage() as used, lmgateway.on_call(events.append):
        answer = embed(lm, way, TEXTS)
        assert answer["embeddings"] == [vector(text) for text in TEXTS]
        assert isinstance(answer["embeddings"], Vectors)
        assert answer["usage"] == {"prompt_tokens": 8, "total_tokens": 8}
        assert (answer["provider"], answer["model"], answer["cached"]) == ("host", "m", False)
        assert sorted(map(len, host.parts)) == [2, 3, 3]
        assert [(event.kind, event.outcome, event.attempts) for event in events] == [
            ("embed", "ok", 3)
        ]
        assert (used.calls, used.prompt_tokens) == (3, 8)
        [entry] = lm.history
        assert entry["prompt"] == TEXTS
        assert (entry["embeddings"]["vectors"], entry["embeddings"]["dimensions"]) == (8, 2)


@pytest.mark.parametrize("given", [
    lambda: list(TEXTS), lambda: tuple(TEXTS), lambda: (text for text in TEXTS),
    lambda: dict.fromkeys(TEXTS), lambda: iter(TEXTS), lambda: dict.fromkeys(TEXTS).keys(),
])  # fmt: skip
def test_any_iterable_of_texts_is_taken(given: Any) -> None:
    with Host().lm() as lm:
        if isinstance(given(), dict):
            with pytest.raises(errors.InputError, match="a list of texts"):
                lm.embed(given())
        else:
            assert lm.embed(given())["embeddings"] == [vector(text) for text in TEXTS]


@pytest.mark.parametrize("dimensions", [0, -1, 2.5, "3", True])
def test_dimensions_are_a_number_of_them(dimensions: Any) -> None:
    host = Host()
    with host.lm() as lm, pytest.raises(errors.InputError, match="dimensions must be a whole"):
        lm.embed("a", dimensions=dimensions)
    assert not host.parts


def test_texts_of_numpy_are_texts() -> None:
    np = pytest.importorskip("numpy")
    host = Host(None)
    with host.lm() as lm:
        assert lm.embed(np.array(["ab", "c"]))["embeddings"] == [vector("ab"), vector("c")]
        with pytest.raises(errors.InputError, match="a list of texts"):
            lm.embed(np.array("ab"))
    assert [type(text) for text in host.parts[0]] == [str, str]


@pytest.mark.parametrize("limits, texts, parts", [
    (None, ["a"] * 0 + TEXTS, [8]),
    (EmbedLimits(), TEXTS, [8]),
    (EmbedLimits(texts=8), TEXTS, [8]),
    (EmbedLimits(texts=7), TEXTS, [7, 1]),
    (EmbedLimits(texts=1), TEXTS, [1] * 8),
    (EmbedLimits(tokens=100), ["a" * 90, "b" * 90, "c" * 90], [2, 1]),
    (EmbedLimits(tokens=10), ["a" * 90, "b" * 90], [1, 1]),  # too long for sure is none of them
    (EmbedLimits(texts=2, tokens=100), ["a" * 90, "b", "c", "d"], [2, 2]),
    (EmbedLimits(tokens=100), ["ü" * 90, "b" * 90], [1, 1]),
    (EmbedLimits(texts=3), ["a", "b", "a", "c", "a"], [3]),
])  # fmt: skip
def test_a_part_is_within_the_limits(
    limits: EmbedLimits | None, texts: list[str], parts: list[int]
) -> None:
    host = Host(limits)
    with host.lm() as lm:
        answer = lm.embed(texts, concurrency=1)
    assert answer["embeddings"] == [vector(text) for text in texts]
    assert [len(part) for part in host.parts] == parts


@pytest.mark.parametrize("way", WAYS)
def test_equal_texts_are_asked_for_once(way: str) -> None:
    host = Host()
    with host.lm() as lm:
        answer = embed(lm, way, ["a", "bb", "a", "a", "ccc", "bb", "d"])
    assert answer["embeddings"] == [vector(t) for t in ["a", "bb", "a", "a", "ccc", "bb", "d"]]
    assert sorted(text for part in host.parts for text in part) == ["a", "bb", "ccc", "d"]


@pytest.mark.parametrize("params", [
    {"late_chunking": True}, {"extra_body": {"late_chunking": True}},
])  # fmt: skip
def test_texts_that_shape_one_another_stay_together(params: dict[str, Any]) -> None:
    host = Host()
    with host.lm(cache=True) as lm:
        lm.embed(["a", "b", "a", "c", "d"], **params)
    assert host.parts == [["a", "b", "a", "c", "d"]]


@pytest.mark.parametrize("way", WAYS)
def test_no_more_are_in_flight_than_asked_for(way: str) -> None:
    host = Host(EmbedLimits(texts=1))
    with host.lm() as lm:
        embed(lm, way, [str(number) for number in range(30)], concurrency=2)
        assert host.most_in_flight <= 2
        for wrong in (0, -1, True, 1.5, "2", None):
            with pytest.raises(errors.InputError, match="concurrency"):
                embed(lm, way, TEXTS, concurrency=wrong)


def test_the_history_keeps_the_first_texts_only() -> None:
    with Host(EmbedLimits(texts=100)).lm() as lm:
        lm.embed([str(number) for number in range(250)])
        [entry] = lm.history
        assert entry["prompt"] == [str(number) for number in range(100)]
        assert entry["embeddings"]["vectors"] == 250


# -- what is refused ---------------------------------------------------------------------------

SHORT = EmbedLimits(texts=3, text_tokens=4, empty=False)


@pytest.mark.parametrize("texts, said", [
    (["a", ""], r"texts\[1\] is empty"),
    ("", r"texts\[0\] is empty"),
    (["a", "b", "c", "a b c d e"], r"texts\[3\] is too long"),
    (["x" * 513], r"texts\[0\] is too long"),
    (["a", 3], r"texts\[1\] must be a str, not int"),
    (["a", None], r"texts\[1\] must be a str, not NoneType"),
    (["a", b"b"], r"texts\[1\] must be a str, not bytes"),
    (["a", ["b"]], r"texts\[1\] must be a str, not list"),
    (["a", {"type": "text", "text": "b"}], r"texts\[1\] must be a str, not dict"),
    (["a", float("nan")], r"texts\[1\] must be a str, not float"),
    (["a", "\ud800"], r"texts\[1\] holds a lone surrogate"),
    ([], "at least one text"), ({}, "a list of texts"), (b"ab", "a list of texts"),
    (None, "a list of texts"), (3, "a list of texts"), ([[1, 2], [3]], r"texts\[0\] must be a str"),
], ids=lambda value: repr(value)[:25])  # fmt: skip
@pytest.mark.parametrize("way", WAYS)
def test_a_text_that_cannot_be_embedded_is_named(way: str, texts: Any, said: str) -> None:
    host = Host(SHORT)
    with host.lm() as lm, pytest.raises(errors.InputError, match=said):
        embed(lm, way, texts)
    assert not host.parts


@pytest.mark.parametrize("text", ["a b c d", "x" * 512, "a  b\n c\td", "word " * 4, "字" * 512])
def test_what_may_fit_is_sent(text: str) -> None:
    host = Host(SHORT)
    with host.lm() as lm:
        lm.embed(text)
    assert host.parts == [[text]]


def test_a_text_that_the_host_cuts_may_be_long() -> None:
    host = Host(SHORT)
    with host.lm() as lm:
        lm.embed("a b c d e", truncate="END")
    assert len(host.parts) == 1


def test_parts_with_images_go_where_they_are_taken() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    host = Host(EmbedLimits(texts=3, images=True))
    with host.lm() as lm:
        answer = lm.embed(["a", [image], "b", image, "c", [image]], concurrency=1)
        assert host.parts == [["a"], [[image]], ["b"], ["c"]] or host.parts == [
            ["a"], [[image]], ["b", "c"],
        ]  # fmt: skip
        assert len(answer["embeddings"]) == 6
        for wrong in ([["a"]], [[]], [[image, 3]]):
            with pytest.raises(errors.InputError, match=r"texts\[0\]"):
                lm.embed(wrong)


# -- failures ----------------------------------------------------------------------------------


def fails(status: int, code: str | None = None) -> errors.APIError:
    return errors.APIError("no", status=status, code=code)


@pytest.mark.parametrize("way", WAYS)
def test_a_part_that_fails_fails_the_call_and_says_which(way: str) -> None:
    host, events = Host(), []
    host.faults["eeeee"] = fails(400)
    with host.lm(cache=True) as lm, lmgateway.on_call(events.append):
        with pytest.raises(errors.APIError, match=r"it was about texts\[3:6\]") as caught:
            embed(lm, way, TEXTS, concurrency=1)
        assert caught.value.status == 400
        assert [event.outcome for event in events] == ["error"]
        assert lm.history[0]["error"]
        host.parts.clear()
        host.faults.clear()
        embed(lm, way, TEXTS, concurrency=1)
        assert host.parts == [["dddd", "eeeee", "ffffff"], ["ggggggg", "hhhhhhhh"]]


@pytest.mark.parametrize("way", WAYS)
def test_a_part_that_has_too_many_tokens_is_halved(way: str) -> None:
    host = Host(EmbedLimits(texts=8, tokens=10))
    host.faults["bb"] = fails(400, "max_tokens_per_request")
    texts = ["a", "bb", "ccc", "d"]

    class Both(dict[str, Exception]):
        def get(self, text: str, default: Any = None) -> Any:
            return fails(400, "max_tokens_per_request") if len(host.parts[-1]) > 2 else None

    host.faults = Both()
    with host.lm() as lm:
        answer = embed(lm, way, [*texts, *(text * 9 for text in texts)], concurrency=1)
        assert len(answer["embeddings"]) == 8
    assert max(len(part) for part in host.parts[-1:]) <= 2


@pytest.mark.parametrize("way", WAYS)
def test_one_request_that_is_too_large_becomes_two(way: str) -> None:
    class Narrow(Host):
        @hookimpl
        def lmgateway_embed(self, request: EmbedRequest) -> Flow[Any]:
            if len(request.texts) > 2:
                raise fails(413)
            return (yield from Host.lmgateway_embed(self, request))

    host, events = Narrow(None), []
    with host.lm() as lm, lmgateway.on_call(events.append):
        assert embed(lm, way, TEXTS[:5])["embeddings"] == [vector(text) for text in TEXTS[:5]]
        assert [(event.outcome, event.attempts) for event in events] == [("ok", 5)]
        assert len(lm.history) == 1


@pytest.mark.parametrize("limit, said, place", [
    (1, "no", "2"), (2, "Invalid 'input[0]': too long", "2"), (2, "Invalid 'input[1]'", "3"),
    (2, "Invalid 'input[2]'", "2:4"), (2, "Invalid 'input[99999999999]'", "2:4"),
])  # fmt: skip
def test_one_text_that_fails_is_named(limit: int, said: str, place: str) -> None:
    host = Host(EmbedLimits(texts=limit))
    host.faults["ccc"] = errors.APIError(said, status=400)
    named = re.escape(f"it was about texts[{place}]")
    with host.lm() as lm, pytest.raises(errors.APIError, match=named):
        lm.embed(TEXTS)


def test_a_call_that_failed_leaves_no_cycle() -> None:
    together = threading.Barrier(2)

    class Refusing(Host):
        @hookimpl
        def lmgateway_embed(self, request: EmbedRequest) -> Flow[Any]:
            together.wait(10)
            raise fails(400)

    def fail(lm: LM) -> int:
        with suppress(errors.APIError):
            lm.embed(TEXTS[:6])
        return gc.collect()

    with Refusing().lm() as lm:
        fail(lm)
        gc.disable()
        try:
            assert 0 in [fail(lm) for _ in range(3)]  # what other tests left may litter too
        finally:
            gc.enable()


@pytest.mark.parametrize("way", WAYS)
def test_parts_of_other_dimensions_are_no_answer(way: str) -> None:
    class Odd(Host):
        @hookimpl
        def lmgateway_embed(self, request: EmbedRequest) -> Any:
            return {"embeddings": [[0.5] * len(request.texts) for _ in request.texts]}

    with Odd().lm() as lm, pytest.raises(errors.ResponseFormatError, match="dimensions"):
        embed(lm, way, TEXTS)


def test_ctrl_c_ends_what_is_under_way() -> None:
    class Slow(Host):
        @hookimpl
        def lmgateway_embed(self, request: EmbedRequest) -> Flow[Any]:
            raise KeyboardInterrupt
            yield

    events: list[Any] = []
    with Slow().lm() as lm, lmgateway.on_call(events.append):
        with pytest.raises(KeyboardInterrupt):
            lm.embed(TEXTS)
        assert [event.outcome for event in events] == ["cancelled"]
        assert len(lm.history) == 0


# -- the cache ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_second_run_asks_only_for_what_is_new(way: str) -> None:
    host, events = Host(), []
    with host.lm(cache=True) as lm, lmgateway.usage() as used:
        first = embed(lm, way, TEXTS)
        host.parts.clear()
        with lmgateway.on_call(events.append):
            again = embed(lm, way, TEXTS)
            more = embed(lm, way, ["new", *reversed(TEXTS), "new"])
            one = embed(lm, way, "bb")
        assert again == {**first, "cached": True}
        assert host.parts == [["new"]]
        assert more["embeddings"] == [vector(t) for t in ["new", *reversed(TEXTS), "new"]]
        assert more["usage"] == {"prompt_tokens": 1, "total_tokens": 1}
        assert one["embeddings"] == [vector("bb")]
        assert [event.cached for event in events] == [True, False, True]
        assert (again["cached"], more["cached"], one["cached"]) == (True, False, True)
        assert used.cached == 2


def test_one_text_and_several_share_their_entries() -> None:
    host = Host()
    with host.lm(cache=True) as lm:
        first = lm.embed("a")
        assert lm.embed("a") == {**first, "cached": True}
        lm.embed(["a", "bb"])
        assert host.parts == [["a"], ["bb"]]


@pytest.mark.parametrize("other", [
    {"dimensions": 3}, {"sample": 1}, {"input_type": "query"}, {"extra_body": {"x": 1}},
])  # fmt: skip
def test_what_is_asked_in_another_way_is_another_entry(other: dict[str, Any]) -> None:
    host = Host()
    with host.lm(cache=True) as lm:
        lm.embed("a")
        lm.embed("a", **other)
    assert len(host.parts) == 2


def test_only_and_refresh_mean_what_they_mean_elsewhere() -> None:
    host = Host()
    with host.lm() as lm:
        with pytest.raises(errors.CacheMissError):
            lm.embed(TEXTS, cache="only")
        lm.embed(TEXTS)
        with pytest.raises(errors.CacheMissError):
            lm.embed(TEXTS, cache="only")
        lm.embed(TEXTS[:2], cache=True)
        with pytest.raises(errors.CacheMissError, match=r"about texts\[2:5\]"):
            lm.embed(TEXTS[:5], cache="only")
        assert lm.embed(TEXTS[1], cache="only")["cached"]
        host.parts.clear()
        assert not lm.embed(TEXTS[:2], cache="refresh")["cached"]
        assert host.parts == [TEXTS[:2]]


def test_a_recording_holds_whole_requests(tmp_path: Any) -> None:
    host, file = Host(), tmp_path / "calls.jsonl"
    with host.lm(cache=True) as lm:
        lm.embed(TEXTS[:2])
        with lmgateway.record(file):
            first = lm.embed(TEXTS)
        host.parts.clear()
        with lmgateway.replay(file):
            assert lm.embed(TEXTS)["embeddings"] == first["embeddings"]
        assert not host.parts


def test_texts_of_a_recording_go_out_as_they_were_given(tmp_path: Any) -> None:
    host, file = Host(), tmp_path / "calls.jsonl"
    with host.lm() as lm:
        with lmgateway.record(file):  # as 0.1 did
            lm.embed(["a", "b", "a"])
        assert host.parts == [["a", "b", "a"]]
        for answer in (lm.embed(["a", "b", "a"], recordings=file), lm.embed(["a", "b", "a"])):
            assert answer["embeddings"] == [vector("a"), vector("b"), vector("a")]
    assert host.parts[1:] == [["a", "b"]]


@pytest.mark.parametrize("way", WAYS)
def test_what_another_call_has_stored_meanwhile_is_not_asked_for(way: str) -> None:
    class Shared(Host):
        @hookimpl
        def lmgateway_embed(self, request: EmbedRequest) -> Flow[Any]:
            if request.texts[0] == TEXTS[0] and not self.parts:
                other.embed(TEXTS[3:], cache=True)
            return (yield from Host.lmgateway_embed(self, request))

    host = Shared()
    with host.lm(cache=True) as lm, Host().lm() as other:
        answer = embed(lm, way, TEXTS, concurrency=1)
    assert answer["embeddings"] == [vector(text) for text in TEXTS]
    assert host.parts == [TEXTS[:3]]


def test_texts_of_the_cache_leave_an_event_loop_its_time() -> None:
    host, turns = Host(None), 0

    async def main(lm: LM) -> None:
        nonlocal turns
        call = asyncio.ensure_future(lm.aembed(map(str, range(1000)), cache=True))
        while not call.done():
            await asyncio.sleep(0)
            turns += 1

    with host.lm() as lm:
        lm.embed(map(str, range(1000)), cache=True)
        asyncio.run(main(lm))
    assert turns >= 4
    assert len(host.parts) == 1


def test_another_model_does_not_answer_for_some_of_the_texts() -> None:
    gathered = Gathered(2)
    gathered.put([0], {"embeddings": Vectors.of([[0.5]]), "model": "m"})
    failed = [{"provider": "host", "error": "ServerError"}]
    other = {"embeddings": Vectors.of([[0.5]]), "model": "n", "fallback_from": failed}
    gathered.put([1], other)
    with pytest.raises(errors.ResponseFormatError, match="by m and some by n, whose vectors do"):
        gathered.answer("m", "host")


# -- what stands behind ------------------------------------------------------------------------


def test_a_large_answer_may_be_large() -> None:
    with Host(None).lm() as lm:
        spec = spec_of(lm)
        most = 64 * 1024 * 1024

        def cap(texts: int, **more: Any) -> int | None:
            given = (str(number) for number in range(texts))
            return Embedding(spec, more, History(0), given)._call.max_body

        assert cap(1) is None
        assert cap(2048, dimensions=3072) >= 2048 * 3072 * 22 > most  # type: ignore[operator]
        assert cap(2048) > most  # type: ignore[operator]
        assert cap(2048, max_body=1000) is None


# -- over HTTP ---------------------------------------------------------------------------------


def _answering(request: Any) -> tuple[int, dict[str, str], str]:
    asked = json.loads(request.body)
    floats = [base64.b64encode(struct.pack("<2f", len(text), 1)) for text in asked["input"]]
    data = [
        {"object": "embedding", "index": place, "embedding": vector.decode()}
        for place, vector in enumerate(floats)
    ]
    usage = {"prompt_tokens": len(data), "total_tokens": len(data)}
    body = {"object": "list", "data": data, "model": asked["model"], "usage": usage}
    return 200, {"Content-Type": "application/json"}, json.dumps(body)


@responses.activate
def test_openai_is_asked_as_its_limits_say() -> None:
    responses.add_callback("POST", "https://api.openai.com/v1/embeddings", _answering)
    texts = [
        *(f"a text of number {number}" for number in range(2100)),
        "x" * 500_000,
        "y" * 500_000,
    ]
    with lmgateway.get_lm("openai/text-embedding-3-small", api_key="k") as lm:
        answer = lm.embed(texts, cache=True)
        again = lm.embed([*texts, "z"], cache=True)
    bodies = [json.loads(call.request.body) for call in responses.calls]
    assert {body["encoding_format"] for body in bodies} == {"base64"}
    assert sorted(len(body["input"]) for body in bodies) == [1, 1, 53, 2048]
    assert answer["embeddings"] == [[float(len(text)), 1.0] for text in texts]
    assert answer["usage"] == {"prompt_tokens": 2102, "total_tokens": 2102}
    assert again["usage"] == {"prompt_tokens": 1, "total_tokens": 1}
    assert again["embeddings"][:-1] == answer["embeddings"]


def test_a_request_of_before_is_found_in_the_cache_without_its_encoding() -> None:
    request = HTTPRequest("POST", None, "/embeddings", json={"model": "m", "input": ["a"]})
    asked = {"model": "m", "input": ["a"], "encoding_format": "base64"}
    now = HTTPRequest("POST", None, "/embeddings", json=asked, kept_as=request.json)
    assert describe_request(now) == describe_request(request)
