"""Vectors of OpenAI-compatible hosts: in base64 where they may be asked for so, read either way."""

from __future__ import annotations

import base64
import json
import sys
from array import array

import pytest

from lmgateway import errors, get_lm
from lmgateway.types import EmbedLimits, EmbedRequest, HTTPResponse
from lmgateway.wire.openai import Embedding, Service, embed_request, parse_embeddings
from lmgateway.wire.openai.vectors import cut

BASE64 = Embedding(base64=True)


def encoded(*floats):
    made = array("f", floats)
    if sys.byteorder == "big":
        made.byteswap()
    return base64.b64encode(made.tobytes()).decode()


def body(*vectors, pretty=False, **more):
    data = [
        {"object": "embedding", "index": place, "embedding": vector}
        for place, vector in enumerate(vectors)
    ]
    whole = {"object": "list", "data": data, "model": "m", **more}
    return json.dumps(whole, indent=1 if pretty else None).encode()


def parsed(raw, texts=2, **params):
    request = EmbedRequest("m", ["x"] * texts, params)
    return parse_embeddings(request, HTTPResponse(200, {"Content-Type": "application/json"}, raw))


ROWS = [[0.5, -1.0, 2.0], [3.0, 0.25, -0.125]]


@pytest.mark.parametrize("raw", [
    body(*ROWS), body(*(encoded(*row) for row in ROWS)), body(ROWS[0], encoded(*ROWS[1])),
    body(*ROWS, pretty=True), body(encoded(*ROWS[0]), ROWS[1], pretty=True),
    b"\xef\xbb\xbf" + body(*ROWS),
    body(*(encoded(*row) for row in ROWS)).replace(b"/", b"\\/"),
    body(*(encoded(*row) for row in ROWS), note='an "embedding": "AAAA", and an "embedding": [1]'),
    body(*ROWS, embedding="AAAA", other={"embedding": [1, 2]}),
    body(*ROWS, usage={"prompt_tokens": 1}), body(*ROWS, model='"embedding"'),
    json.dumps({"data": [{"embedding": row} for row in ROWS]}).encode(),
    json.dumps({"data": [{"index": None, "embedding": row} for row in ROWS]}),
    json.dumps({"data": [{"index": 1, "embedding": ROWS[1]}, {"index": 0, "embedding": ROWS[0]}]}),
], ids=range(14))  # fmt: skip
def test_floats_are_read_as_a_host_writes_them(raw):
    raw = raw if isinstance(raw, bytes) else raw.encode()
    vectors = parsed(raw)["embeddings"]
    assert vectors == ROWS
    assert vectors.shape == (2, 3)


@pytest.mark.parametrize("vector", [
    "", "A", "AAA=", "*AAA", "AAAA BBB", "zzzz", [], None, {}, 0.5, True, [[0.5]],
    ["0.5"], [None], [True], [float("nan")], [float("inf")], [1e39], [10**400], "0", "1",
    encoded(float("nan")), encoded(float("inf")), encoded(0.5, -float("inf")),
    encoded(0.5)[:-1], encoded(0.5) + "=", [0.5, 0.5],
], ids=lambda value: repr(value)[:20])  # fmt: skip
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_no_vector_of_finite_numbers_is_told(vector, place):
    both = [[0.5], [0.5]]
    both[place] = vector
    with pytest.raises(errors.ResponseFormatError, match="data"):
        parsed(body(*both))


@pytest.mark.parametrize("vector, said", [
    ([float("nan")], "is a list, but not one of finite floats"),
    ("AAA", "is a text, but not one of finite floats"), (None, "is missing in the answer"),
    ({}, "is an object, a list of numbers, or floats in base64 was expected"),
])  # fmt: skip
def test_what_came_is_said(vector, said):
    with pytest.raises(errors.ResponseFormatError, match=rf"data\[0\]\.embedding .*{said}"):
        parsed(body(vector), 1)


@pytest.mark.parametrize("raw", [
    b'{"data": [{"embedding": "AAAA', b'{"data": [{"embedding": [0.5, 1',
    b'{"data": [{"embedding": "\\u0041AAA"}]}', b'{"data": [{"embedding": [0.5, [1]]}]}',
    b'{"data": []}', b"{}", b"[]", b'{"embedding": [1]}', b'{"data": {"embedding": [1]}}',
], ids=repr)  # fmt: skip
def test_an_answer_that_is_cut_or_odd_is_told(raw):
    with pytest.raises(errors.ResponseFormatError):
        parsed(raw, 1)


def test_a_number_may_be_nearly_infinite():
    assert parsed(body([3e38, -3e38]), 1)["embeddings"] == [[3e38, -3e38]]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_each_text_has_a_vector(count):
    with pytest.raises(errors.ResponseFormatError, match=r"vectors for 2 texts|each number below"):
        parsed(body(*[[0.5]] * count))


@pytest.mark.parametrize("params, good", [
    ({"dimensions": 3}, True), ({"dimensions": 2}, False), ({"output_dimension": 2}, False),
    ({"dimensions": 24, "output_dtype": "binary"}, True), ({"dimensions": None}, True),
])  # fmt: skip
def test_vectors_have_the_dimensions_that_were_asked_for(params, good):
    if good:
        assert parsed(body(*ROWS), **params)["embeddings"] == ROWS
    else:
        with pytest.raises(errors.ResponseFormatError, match="2 dimensions were asked for"):
            parsed(body(*ROWS), **params)


def test_an_error_in_an_answer_is_raised_as_before():
    with pytest.raises(errors.RateLimitError):
        parsed(b'{"error": {"message": "slow", "type": "rate_limit_error", "code": 429}}')


def test_the_vectors_are_cut_out_of_the_bytes():
    raw = body(*(encoded(*row) for row in ROWS))
    assert len(cut(raw).rest) < len(raw)
    assert cut(b'{"data": []}') is None


# -- requests ----------------------------------------------------------------------------------


@pytest.mark.parametrize("params, sent", [
    ({}, "base64"),
    ({"encoding_format": "float"}, "float"),
    ({"encoding_format": "base64"}, "base64"),
    ({"output_dtype": "int8"}, None),
    ({"output_dtype": "float"}, "base64"),
    ({"extra_body": {"encoding_format": "float"}}, "float"),
    ({"extra_body": {"embed_dtype": "float16"}}, None),
])  # fmt: skip
def test_base64_is_asked_for_where_it_is_known(params, sent):
    request = embed_request(EmbedRequest("m", ["a"], params), Service("http://x", embedding=BASE64))
    assert request.json.get("encoding_format") == sent
    kept = {name: value for name, value in request.json.items() if name != "encoding_format"}
    assert request.kept_as == (kept if sent == "base64" else None)


def test_a_host_that_is_not_known_is_asked_for_numbers():
    request = embed_request(EmbedRequest("m", ["a"]), Service("http://x"))
    assert request.json == {"model": "m", "input": ["a"]}


@pytest.mark.parametrize("words, given, sent", [
    (None, "query", "query"), ({"query": "q", "document": "passage"}, "document", "passage"),
    ({"query": "q"}, "classification", "classification"),
])  # fmt: skip
def test_what_a_text_is_for_is_said_in_the_hosts_word(words, given, sent):
    service = Service("http://x", embedding=Embedding(input_types=words))
    request = embed_request(EmbedRequest("m", ["a"], {"input_type": given}), service)
    assert request.json["input_type"] == sent


def test_a_host_without_input_type_says_so():
    service = Service("http://x", embedding=Embedding(input_types={}))
    with pytest.raises(errors.UnsupportedError) as caught:
        embed_request(EmbedRequest("m", ["a"], {"input_type": "query"}), service)
    assert caught.value.param == "input_type"


def test_dimensions_and_images_go_out_in_the_hosts_form():
    parts = [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]
    service = Service("http://x", embedding=Embedding(dimensions="output_dimension"))
    request = embed_request(EmbedRequest("m", [parts], {"dimensions": 2}), service)
    assert request.json == {
        "model": "m", "output_dimension": 2, "messages": [{"role": "user", "content": parts}],
    }  # fmt: skip


OPENAI = EmbedLimits(2048, 300_000, 8192, empty=False)


@pytest.mark.parametrize("name, options, limits", [
    ("openai/text-embedding-3-small", {}, OPENAI),
    ("openai/text-embedding-3-small", {"api_base": "http://localhost:1/v1"}, OPENAI),
    ("openai/bge", {"api_base": "http://localhost:1/v1"}, EmbedLimits(2048, 300_000)),
    ("openai/bge", {"embeddings": {"texts": 5}}, EmbedLimits(5)),
    ("mistral/mistral-embed", {}, EmbedLimits(256)),
    ("vllm/m", {}, EmbedLimits(2048, images=True)),
    ("groq/m", {}, EmbedLimits(2048)),
])  # fmt: skip
def test_the_catalogue_knows_what_a_host_takes(name, options, limits):
    from lmgateway.lm import spec_of

    with get_lm(name, api_key="k", **options) as lm:
        spec = spec_of(lm)
        assert spec.info.embed(spec.settings.values, spec.model) == limits
