"""A canary key is nowhere but in the header of the request that needs it."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import pickle
import traceback
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from support.exposed import exposed
from support.fault_server import FaultServer, close, head, receive, reply, reset, send

import lmgateway
from lmgateway import LM, get_lm
from lmgateway.cli.effective import effective
from lmgateway.lm import spec_of

pytestmark = pytest.mark.loopback

CANARY = "sk-canary-0123456789abcdef"
ANSWER = json.dumps(
    {"choices": [{"index": 0, "text": "hi", "finish_reason": "stop"}], "model": "m"}
).encode()
JSON = {"Content-Type": "application/json"}
PROVIDERS = ["anyscale", "openai"]


def walk(value: Any, seen: set[int], depth: int = 0) -> Iterator[str]:
    """The repr of a value and of everything that hangs on it."""
    if id(value) in seen or depth > 12:
        return
    seen.add(id(value))
    yield repr(value)
    if isinstance(value, (str, bytes, int, float, type(None))):
        return
    if isinstance(value, dict):
        children = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        children = list(value)
    else:
        if type(value).__module__.startswith(("pydantic", "builtins")):
            return  # SecretStr is where a secret may be
        slots = [s for k in type(value).__mro__ for s in getattr(k, "__slots__", ()) or ()]
        children = [getattr(value, name, None) for name in slots]
        children += list(getattr(value, "__dict__", {}).values())
    for child in children:
        yield from walk(child, seen, depth + 1)


def assert_clean(*texts: object) -> None:
    for text in texts:
        assert CANARY not in str(text), "the key is shown"


def traces(error: BaseException) -> str:
    """The traceback with every local of every frame, causes and contexts included."""
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    text = "".join(whole.format())
    if error.__context__ is not None:  # suppressed ones too
        text += traces(error.__context__)
    return text


@pytest.fixture(params=["argument", "environment", ".env"])
def keyed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The canary, given in each of the ways there are."""
    if request.param == "argument":
        return {"api_key": CANARY}
    if request.param == "environment":
        for provider in PROVIDERS:
            monkeypatch.setenv(f"{provider.upper()}_API_KEY", CANARY)
    else:
        lines = [f"{provider.upper()}_API_KEY={CANARY}\n" for provider in PROVIDERS]
        Path(".env").write_text("".join(lines), encoding="utf-8")
    return {}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_no_look_at_an_lm_shows_its_key(provider: str, keyed: dict[str, str]) -> None:
    lm = get_lm(provider, model="m", api_base="http://127.0.0.1:9/v1", **keyed)
    assert_clean(*walk(lm, set()), *walk(vars(lm), set()))
    assert_clean(lm, lm.options, lm.settings, lm.params)
    assert_clean(lm.preview("hi"), json.dumps(lm.preview("hi")))
    assert CANARY.encode() not in pickle.dumps(lm)
    assert_clean(*walk(lm.copy(temperature=1), set()))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_pickled_lm_resolves_its_key_anew(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = get_lm(provider, model="m", api_key=CANARY, api_base="http://127.0.0.1:9/v1")
    monkeypatch.setenv(f"{provider.upper()}_API_KEY", "another-key")
    revived: Any = pickle.loads(pickle.dumps(lm))
    assert revived.settings.api_key.get_secret_value() == "another-key"


@pytest.mark.parametrize("given", ["", " ", SecretStr(""), SecretStr("\t")])
def test_a_blank_key_hides_none(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    settings: Any = get_lm("openai", model="m", api_key=given).settings
    assert settings.api_key.get_secret_value() == CANARY


HEADERS = ["Cookie", "X-Client-Secret", "X-Password", "Session-Id", "x-goog-api-key", "X-Auth-User"]


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_may_be_secret_is_shown_nowhere(
    name: str,
) -> None:
    lm = get_lm("openai", model="m", api_base="http://127.0.0.1:9/v1", headers={name: CANARY})
    assert_clean(lm.preview("hi"), *(row.value for row in effective(lm)))
    assert CANARY.encode() not in pickle.dumps(lm)


@pytest.mark.parametrize("key", ["ollama", "x", "model", "EMPTY", "a1"])
def test_a_word_in_place_of_a_key_masks_nothing(key: str) -> None:
    refused = b'{"error": {"message": "no model of ollama: try another", "code": "x"}}'
    with FaultServer([reply(refused, 404, JSON)]) as server:
        lm = get_lm("ollama", model="m", api_base=server.url, api_key=key, retries=0)
        with pytest.raises(lmgateway.LMGatewayError, match="no model of ollama: try") as caught:
            lm("hi")
    assert (caught.value.provider, caught.value.model) == ("ollama", "m")
    assert "***" not in str(caught.value)


def test_a_short_key_is_masked_where_it_stands_alone() -> None:
    with FaultServer([reply(b'{"error": "key pa55 is not for pa555"}', 401, JSON)]) as server:
        lm = get_lm("openai", model="m", api_base=server.url, api_key="pa55", retries=0)
        with pytest.raises(lmgateway.LMGatewayError, match=r"key \*\*\* is not for pa555"):
            lm("hi")


def test_the_text_that_came_before_a_stream_broke_is_left_as_it_was() -> None:
    piece = b'data: {"choices": [{"index": 0, "delta": {"content": "lm-studio it is"}}]}\n\n'
    streamed = head(200, {"Content-Type": "text/event-stream"}) + piece
    with FaultServer([receive(), send(streamed)]) as server:
        lm = get_lm("openai", model="m", api_base=server.url, api_key="lm-studio", retries=0)
        with pytest.raises(lmgateway.LMGatewayError) as caught:
            list(lm.stream("hi"))
    assert caught.value.partial == "lm-studio it is"


def call_sync(lm: LM) -> None:
    lm("hi", retries=0)


def call_async(lm: LM) -> None:
    asyncio.run(lm.acall("hi", retries=0))


def call_stream(lm: LM) -> None:
    list(lm.stream("hi", retries=0))


FAULTS = {
    "reset": [receive(), reset()],
    "closed": [receive(), close()],
    "401 that repeats the key": [
        reply(json.dumps({"error": f"bad key {CANARY}"}).encode(), 401, JSON)
    ],
    "500 with the key as text": [reply(CANARY.encode() * 3, 500)],
    "garbage": [reply(f'{{"choices": "{CANARY}"}}'.encode(), 200, JSON)],
    "redirect": [reply(b"", 307, {"Location": f"http://other.example/{CANARY}"})],
}


@pytest.mark.parametrize("call", [call_sync, call_async, call_stream])
@pytest.mark.parametrize("fault", FAULTS)
def test_no_error_log_or_traceback_shows_the_key(
    fault: str, call: Any, caplog: pytest.LogCaptureFixture
) -> None:
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    caplog.set_level(logging.DEBUG)
    try:
        with FaultServer(*[FAULTS[fault]] * 4) as server:
            lm = get_lm("anyscale", model="m", api_base=server.url, api_key=CANARY)
            with pytest.raises(lmgateway.LMGatewayError) as caught:
                call(lm)
    finally:
        logging.getLogger().removeHandler(handler)
    error = caught.value
    assert_clean(error, repr(error), traces(error), log.getvalue(), *walk(error, set()))
    assert_clean(*walk(list(lm.history), set()))
    assert CANARY.encode() not in pickle.dumps(error)
    gc.collect()


@pytest.mark.parametrize("call", [call_sync, call_async])
def test_a_netrc_entry_does_not_replace_the_key(
    call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password something\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    (tmp_path / "home" / ".netrc").write_bytes(netrc.read_bytes())
    with FaultServer([reply(ANSWER, 200, JSON)]) as server:
        call(get_lm("anyscale", model="Llama-2-7b-chat", api_base=server.url, api_key=CANARY))
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"


# -- headers of the user's own -----------------------------------------------------------------

HIDDEN = {
    "wrapped": {"X-Weird": SecretStr(CANARY)},
    "by its scheme": {"X-Weird": f"bearer {CANARY}"},
    "by another scheme": {"X-Vault": f"ApiKey {CANARY}"},
    "by its name": {"Ocp-Apim-Subscription-Key": CANARY},
    "by a gateway's name": {"cf-aig-authorization": f"Bearer {CANARY}"},
    "by another's": {"X-Portkey-Api-Key": CANARY},
    "by a third's": {"Helicone-Auth": f"Bearer {CANARY}"},
    "the key under another name": {"X-Weird": CANARY},
    "the key after a scheme": {"X-Weird": f"Token {CANARY}"},
    "the key in base64": {"X-Weird": "Basic " + b64encode(f"me:{CANARY}".encode()).decode()},
    "the secret of another header": {"Authorization": f"Bearer {CANARY}", "X-Weird": CANARY},
}


def shown(lm: LM) -> list[object]:
    """Whatever an LM shows without being asked for a secret."""
    rows = [row.as_json() for row in effective(lm)]
    looks = [lm, lm.options, lm.options.headers, lm.settings, spec_of(lm), spec_of(lm).arguments]
    return [*looks, lm.preview("hi"), lm.preview("hi", stream=True), rows, vars(lm)]


@pytest.mark.parametrize("transport", ["aiohttp", "threads"])
@pytest.mark.parametrize("given", HIDDEN)
def test_a_secret_header_is_hidden_and_sent(given: str, transport: str) -> None:
    encoded = b64encode(f"me:{CANARY}".encode()).decode()
    options = {"retries": 0, "cache": False, "use_chat_api": False, "transport": transport}
    if given.startswith("the key"):
        options["api_key"] = CANARY
    headers = {**HIDDEN[given], "X-Plain": "shown"}
    refused = json.dumps({"error": f"no {CANARY} nor {encoded}"}).encode()
    with (
        FaultServer([reply(ANSWER, 200, JSON)], [reply(refused, 401, JSON)]) as server,
        get_lm("openai", model="m", api_base=server.url, headers=headers, **options) as lm,
    ):
        assert_clean(*shown(lm), *walk(lm, set()))
        asyncio.run(lm.acall("hi"))
        with pytest.raises(lmgateway.AuthenticationError) as caught:
            lm("hi")
        assert_clean(*shown(lm), *exposed(caught.value, __file__))
        assert given != "the key in base64" or encoded not in f"{shown(lm)} {caught.value}"
        frozen = pickle.dumps(lm)
        assert CANARY.encode() not in frozen
        assert encoded.encode() not in frozen
        assert lm.preview("hi")["headers"]["X-Plain"] == "shown"
        assert pickle.loads(frozen).options.headers == {"X-Plain": "shown"}
        assert lm.copy(temperature=1).options.headers == lm.options.headers
    for request in server.requests:
        for name, value in HIDDEN[given].items():
            wanted = value.get_secret_value() if isinstance(value, SecretStr) else value
            assert request.headers[name.lower()] == wanted


def test_two_lms_with_different_wrapped_headers_do_not_share_a_flight() -> None:
    first, second = (
        spec_of(get_lm("openai", model="m", headers={"X-Weird": SecretStr(secret)}))
        for secret in ("one-secret", "another-secret")
    )
    assert first.endpoint.identity() != second.endpoint.identity()


def test_a_header_of_a_file_that_holds_the_key_is_no_part_of_a_pickle() -> None:
    text = f'[models.x]\nprovider = "openai"\nmodel = "m"\nheaders = {{ X-Weird = "{CANARY}" }}\n'
    Path("lmgateway.toml").write_text(text, encoding="utf-8")
    lm = get_lm("x", api_key=CANARY)
    assert CANARY.encode() not in pickle.dumps(lm)
    assert_clean(lm.preview("hi"))


def test_a_preview_shows_no_secret_in_url_or_body(monkeypatch: pytest.MonkeyPatch) -> None:
    base = f"http://127.0.0.1:9/{CANARY}"
    body = {"k": [CANARY], CANARY: {"k": CANARY}}
    lm = get_lm("openai", model="m", api_key=CANARY, api_base=base, extra_body=body)
    assert_clean(lm.preview(f"hi {CANARY}"))


@pytest.mark.parametrize("body", [{"api_key": CANARY}, {"auth": [f"Bearer {CANARY}"]}, {CANARY: 1}])
def test_a_key_in_the_body_is_in_no_pickle_and_no_look_at_an_lm(body: dict[str, Any]) -> None:
    lm = get_lm("openai", model="m", api_key=CANARY, extra_body=body, user="me")
    assert lm.params["extra_body"] == body
    assert_clean(lm, spec_of(lm), vars(lm))
    frozen = pickle.dumps(lm)
    assert CANARY.encode() not in frozen
    revived = pickle.loads(frozen)
    assert revived.params == {"user": "me"}
    assert spec_of(revived).left_behind == ("api_key", "extra_body")


def test_a_body_without_the_key_goes_along() -> None:
    lm = get_lm("openai", model="m", api_key="placeholder", extra_body={"k": "a placeholder"})
    assert pickle.loads(pickle.dumps(lm)).params == lm.params


# -- embed and models --------------------------------------------------------------------------

VECTORS = json.dumps({"data": [{"index": 0, "embedding": [0.5]}]}).encode()
MODELS = json.dumps({"data": [{"id": "m"}]}).encode()


def embed_sync(lm: LM, **keywords: Any) -> Any:
    return lm.embed("hi", **keywords)


def embed_async(lm: LM, **keywords: Any) -> Any:
    return asyncio.run(lm.aembed("hi", **keywords))


def models_sync(lm: LM, **keywords: Any) -> Any:
    return lm.models(**keywords)


def models_async(lm: LM, **keywords: Any) -> Any:
    return asyncio.run(lm.amodels(**keywords))


BESIDE = [embed_sync, embed_async, models_sync, models_async]


@pytest.mark.parametrize("ask", BESIDE)
@pytest.mark.parametrize(
    "name", ["api_key", "api_base", "headers", "verify", "config", "history", "auth_token",
             "x_api_key", "messages", "schema", "model", "stream", "nonsense"],
)  # fmt: skip
def test_what_belongs_to_the_lm_is_refused_beside_answers_too(ask: Any, name: str) -> None:
    with get_lm("openai", model="m", api_base="http://127.0.0.1:9") as lm:
        with pytest.raises(lmgateway.InputError, match=name) as caught:
            ask(lm, **{name: CANARY})
        if name in ("api_key", "api_base", "headers", "verify", "config", "history"):
            with pytest.raises(lmgateway.InputError) as of_complete:
                lm.complete("hi", **{name: CANARY})
            assert str(caught.value) == str(of_complete.value)
    assert_clean(*exposed(caught.value, __file__))


@pytest.mark.parametrize("ask", BESIDE)
def test_a_core_option_holds_for_a_call_beside_answers(ask: Any) -> None:
    body = VECTORS if ask in (embed_sync, embed_async) else MODELS
    busy = reply(b"{}", 503, {**JSON, "retry-after-ms": "1"})
    with (
        FaultServer([busy, reply(body, 200, JSON)]) as server,
        get_lm("openai", model="m", api_base=server.url, retries=0) as lm,
    ):
        ask(lm, retries=1, timeout=20, cache=False, sample=3, transport="threads")
    assert [request.body for request in server.requests] == [server.requests[0].body] * 2
    for name in (b"retries", b"timeout", b"cache", b"sample", b"transport"):
        assert name not in server.requests[0].body


def test_what_shapes_vectors_is_sent_and_the_parameters_of_the_lm_are_not() -> None:
    given = {"dimensions": 2, "input_type": "query", "user": "u", "extra_body": {"odd": 1}}
    with (
        FaultServer([reply(VECTORS, 200, JSON)]) as server,
        get_lm("openai", model="m", api_base=server.url, temperature=0.5, system="be brief") as lm,
    ):
        lm.embed("hi", **given, encoding_format=None)
    assert json.loads(server.requests[0].body) == {
        "model": "m", "input": ["hi"], "dimensions": 2, "input_type": "query", "user": "u",
        "odd": 1, "encoding_format": "base64",
    }  # fmt: skip


@pytest.mark.parametrize("where", ["key", "base"])
def test_quotation_marks_around_a_value_are_told(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "base":
        monkeypatch.setenv("OPENAI_API_BASE", "'http://127.0.0.1:9'")
        with pytest.raises(lmgateway.ConfigError, match="quotation marks"):
            get_lm("openai", model="m")
        return
    monkeypatch.setenv("OPENAI_API_KEY", f'"{CANARY}"')
    with (
        FaultServer([reply(b'{"error": "no"}', 401, JSON)]) as server,
        get_lm("openai", model="m", api_base=server.url) as lm,
        pytest.raises(lmgateway.AuthenticationError, match="quotation marks") as caught,
    ):
        lm("hi")
    assert_clean(caught.value)
