"""A secret is masked in every form, and where a text was cut in the middle of it."""

from __future__ import annotations

import html
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from time import monotonic
from urllib.parse import quote

import pytest

from lmgateway._base.masking import Plain, masker, words
from lmgateway._call.spec import resolve
from lmgateway._guard.tracebacks import masked
from lmgateway.errors import ConfigError, LMGatewayError, api_error, excerpt

KEY = 'sk-live/ABCDEF+GHIJ=KLMN"OPQR\\STUV&0123456789-é'
PLAIN = "sk-live-ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnop"


def base64_of(text: str) -> str:
    return b64encode(text.encode()).decode()


FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda key: key,
    "after a scheme": lambda key: f"Bearer {key}",
    "in JSON": lambda key: json.dumps({"key": key}),
    "in JSON that escapes slashes": lambda key: json.dumps(key).replace("/", "\\/"),
    "in a repr": lambda key: repr({"Authorization": key}),
    "in a URL": lambda key: f"?key={quote(key, safe='')}",
    "in a path": lambda key: quote(key),
    "in HTML": lambda key: f"<b>{html.escape(key)}</b>",
    "in base64": base64_of,
    "as a user in base64": lambda key: base64_of(f"{key}:"),
    "as a password in base64": lambda key: base64_of(f"someone:{key}"),
    "in base64 for URLs": lambda key: urlsafe_b64encode(f"user:{key}".encode()).decode(),
    "in capitals": lambda key: key.upper(),
    "in small letters": lambda key: key.lower(),
    "twice": lambda key: f"{key}{key}",
}


@pytest.mark.parametrize("key", [KEY, PLAIN], ids=["odd", "plain"])
@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_masked_in_every_form(form: str, key: str) -> None:
    shown = masker([key])(f"no key {FORMS[form](key)} here")
    assert "***" in shown
    assert shown.startswith("no key ")
    assert shown.endswith(" here")
    assert not parts_of(key) & {shown[start : start + 5] for start in range(len(shown))}


def parts_of(key: str) -> set[str]:
    """Every five characters in a row of a key, in capitals and not, and in base64."""
    whole = [key, key.upper(), key.lower(), *(base64_of(f"{'x' * n}{key}")[4:-4] for n in range(3))]
    return {text[start : start + 5] for text in whole for start in range(len(text) - 4)}


@pytest.mark.parametrize("form", ["plain", "in a URL", "in base64", "in capitals", "in JSON"])
@pytest.mark.parametrize("length", [20, 60, 300])
def test_no_part_is_left_wherever_a_text_is_cut(form: str, length: int) -> None:
    echoed = FORMS[form](PLAIN)
    for before in range(max(0, length - len(echoed) - 2), length + 1):
        cut = excerpt("x" * before + " " + echoed + " is no key" + "y" * length, length)
        assert len(cut) <= length
        shown = masker([PLAIN])(cut)
        assert len(shown) <= length
        assert not parts_of(PLAIN) & {shown[start : start + 5] for start in range(len(shown))}


@pytest.mark.parametrize("cut", ["…", "x…", "…x", "tas… and …k"])
def test_a_cut_with_nothing_of_the_secret_before_it_is_left(cut: str) -> None:
    assert masker([PLAIN])(cut) == cut


def test_white_space_that_is_folded_away_hides_no_cut() -> None:
    text = "\n" * 1190 + PLAIN
    assert "sk-l" not in masker([PLAIN])(excerpt(text))
    assert "sk-l" not in masker([PLAIN])(excerpt(text.encode()))


@pytest.mark.parametrize(
    "echoed",
    [PLAIN[:30], PLAIN[30:], f"{PLAIN[:20]}\n{PLAIN[20:]}", PLAIN[:-1].upper(), f"{PLAIN[:40]}..."],
    ids=["its beginning", "its end", "wrapped", "a character less, in capitals", "with dots"],
)
def test_a_long_part_is_masked_that_a_service_cut_itself(echoed: str) -> None:
    shown = masker([PLAIN])(f"no key {echoed} here")
    assert not parts_of(PLAIN) & {shown[start : start + 5] for start in range(len(shown))}


def test_a_short_part_as_services_show_it_is_left() -> None:
    assert masker([PLAIN])("no key sk-l****mnop here") == "no key sk-l****mnop here"


def test_letters_whose_small_form_is_longer_hide_no_key() -> None:
    assert masker([PLAIN])(f"\u0130 {PLAIN.upper()} \u0130") == "\u0130 *** \u0130"


@pytest.mark.parametrize("key", ["-", "1", "x", "abc", "ollama", "1.0"])
def test_what_stands_for_no_key_is_left_in_every_text(key: str) -> None:
    text = "HTTP/1.1 400 - at 1 x abc in version 1.0 of ollama"
    assert masker([key])(text) == text


@pytest.mark.parametrize(
    "value, text",
    [
        ("https://www.example.com/app", "see https://www.openai.com/docs"),
        ("gpt-4-turbo-preview", "no model gpt-4-turbo-2024-04-09"),
        ("application/json; v=2", "application/json expected"),
        ("my app's title", "in title, my app…"),
        ("team-1", "team-1"),
    ],
)
def test_of_what_need_be_no_secret_no_part_is_masked(value: str, text: str) -> None:
    mask = masker([Plain(value)])
    assert mask(text) == text
    if len(value) > 6:
        assert mask(f"no {value} here") == "no *** here"


def test_what_a_header_says_without_being_a_secret_leaves_other_words_alone() -> None:
    headers = {"HTTP-Referer": "https://www.example.com/app", "X-Weird": "Bearer-of-0123456789"}
    spec = resolve("openai", "m", {"api_key": PLAIN, "headers": headers})
    mask = masker(spec.endpoint.secrets())
    assert mask("see https://www.openai.com") == "see https://www.openai.com"
    assert mask("no Bearer-of-0123456789 here") == "no *** here"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"{PLAIN[:12]} " * 100_000, id="its beginning, again and again"),
        pytest.param(f"{PLAIN[-12:]} " * 100_000, id="its end"),
        pytest.param(f"{PLAIN} " * 10_000, id="the whole"),
        pytest.param("…" * 40_000, id="cuts"),
    ],
)
def test_masking_takes_no_quadratic_time(text: str) -> None:
    began = monotonic()
    assert PLAIN[:12] not in masker([PLAIN])(text)
    assert monotonic() - began < 5  # it was half a minute


def test_the_front_of_a_text_may_be_cut_too() -> None:
    assert masker([PLAIN])(f"…{PLAIN[20:]} and …{PLAIN[9:30]}…") == "…*** and …***…"


def test_an_excerpt_of_white_space_alone_is_empty() -> None:
    assert excerpt(" \n" * 5000) == ""


def test_code_request_id_and_notes_are_masked_before_they_are_cut() -> None:
    padding = "x" * 50
    error = api_error(
        401, "no", codes=[f"{padding}{PLAIN}"], request_id=f"{padding}{padding}{PLAIN}"
    )
    error.add_note(f"tried with {PLAIN}")
    error.redact([PLAIN])
    assert "sk-l" not in f"{error} {error.__notes__} {vars(error)}"


@pytest.mark.parametrize(
    "value, expected",
    [
        ("Bearer a-token", {"Bearer a-token", "Bearer", "a-token"}),
        (f"Basic {base64_of('user:pass')}", {"user", "pass"}),
        ("plain", {"plain"}),
    ],
)
def test_words_of_a_header(value: str, expected: set[str]) -> None:
    assert expected <= set(words(value))


class _Holds(Exception):  # noqa: N818
    def __init__(self) -> None:
        self.held = [PLAIN]


@pytest.mark.parametrize(
    "error",
    [
        ValueError(f"no {PLAIN}"),
        KeyError(PLAIN),
        OSError(2, "none", f"/keys/{PLAIN}"),
        UnicodeDecodeError("ascii", PLAIN.encode(), 0, 1, "odd"),
        _Holds(),
        ExceptionGroup("several", [ValueError(PLAIN)]),
        ConfigError(f"no {PLAIN}"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_not_ours_is_masked_or_replaced(error: Exception) -> None:
    shown = masked(error, [PLAIN])
    assert PLAIN not in f"{shown} {shown!r} {shown.args} {vars(shown)}"
    assert type(error).__name__ in f"{type(shown).__name__} {shown}"
    assert isinstance(shown, LMGatewayError) == isinstance(error, LMGatewayError)
