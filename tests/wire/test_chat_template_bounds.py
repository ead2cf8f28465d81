"""What a template cannot ask for: too long a text, and single operations that make much of little.

What is not stopped stands in SECURITY.md: a template is a program of the operator's own.
"""

from __future__ import annotations

import threading
import tracemalloc

import pytest

from lmgateway.errors import InputError
from lmgateway.wire.chat_template import render, sandbox

USER = [{"role": "user", "content": "hi"}]
LOOP = "{% for i in range(100000) %}"
MEBIBYTE = 2**20

#: A single operation that would take gigabytes, or minutes.
LARGE = {
    "repeat": "{{ 'x' * 300000000 }}",
    "repeat-from-the-left": "{{ 300000000 * 'x' }}",
    "repeat-letters-of-four-bytes": "{{ '\U0001f999' * 30000000 }}",
    "repeat-a-list": "{{ [1] * 300000000 }}",
    "repeat-a-tuple": "{{ (1, 2) * 300000000 }}",
    "repeat-bytes": "{{ 'x'.encode() * 300000000 }}",
    "repeat-escaped-text": "{{ ('x' | safe) * 300000000 }}",
    "range": "{{ range(10 ** 12) | list }}",
    "power": "{{ 10 ** 1000000 }}",
    "negative-power": "{{ (-10) ** 1000000 }}",
    "squares": "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}"
    "{% endfor %}",
    "round": "{{ 5 | round(-1000000000) }}",
    "center": "{{ 'x' | center(1000000000) }}",
    "center-by-name": "{{ 'x' | center(width=1000000000) }}",
    "center-in-a-map": "{{ ['x'] | map('center', 1000000000) | list }}",
    "center-in-a-block": "{% filter center(1000000000) %}x{% endfilter %}",
    "center-while-compiling": "{% autoescape 'x' | center(1000000000) %}{% endautoescape %}",
    "center-method": "{{ 'x'.center(1000000000) }}",
    "center-by-subscript": "{{ 'x'['center'](1000000000) }}",
    "center-by-attr": "{{ ('x' | attr('center'))(1000000000) }}",
    "center-behind-its-check": "{{ 'x'.center.__wrapped__(1000000000) }}",
    "center-escaped-text": "{{ ('x' | safe).center(1000000000) }}",
    "center-in-a-loop": "{% for i in [1] %}{{ 'x'.center(1000000000) }}{% endfor %}",
    "ljust": "{{ 'x'.ljust(1000000000) }}",
    "rjust": "{{ 'x'.rjust(1000000000) }}",
    "zfill": "{{ 'x'.zfill(1000000000) }}",
    "expandtabs": "{{ '\t'.expandtabs(tabsize=1000000000) }}",
    "to-bytes": "{{ (5).to_bytes(1000000000, 'big') }}",
    "percent": "{{ '%1000000000s' % 'x' }}",
    "percent-flags": "{{ '%-01000000000d' % 1 }}",
    "percent-precision": "{{ '%.1000000000f' % 1 }}",
    "percent-name": "{{ '%(a(b)%c)1000000000s' % {'a(b)%c': 1} }}",
    "percent-star": "{{ '%*d' % (1000000000, 1) }}",
    "percent-star-precision": "{{ '%1.*f' % (1000000000, 1) }}",
    "percent-bytes": "{{ '%1000000000d'.encode() % 1 }}",
    "format-filter": "{{ '%1000000000s' | format('x') }}",
    "format": "{{ '{:>1000000000}'.format('x') }}",
    "format-nested": "{{ '{:>{}}'.format('x', 1000000000) }}",
    "format-map": "{{ '{a:>1000000000}'.format_map({'a': 1}) }}",
    "format-escaped-text": "{{ ('{:>1000000000}' | safe).format('x') }}",
    "indent": "{{ 'a\\nb' | indent(1000000000) }}",
    "tojson-indent": "{{ [1, [2]] | tojson(indent=1000000000) }}",
    "batch": "{{ [1] | batch(1000000000, 'x') | list }}",
    "slice": "{{ [1] | slice(1000000000) | list }}",
    "quadratic-codec": "{{ messages[0].content.encode('punycode') }}",
    "quadratic-codec-by-name": "{{ messages[0].content.encode(encoding='idna') }}",
    "quadratic-decoding": "{{ messages[0].content.encode().decode('punycode') }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
}

#: Text that would come out without an end, or nearly so, a little at a time or in one piece.
LONG = {
    "numbers": f"{LOOP}{LOOP}{{{{ i }}}}{{% endfor %}}{{% endfor %}}",
    "literal": LOOP + "y" * 60_000 + "{% endfor %}",
    "letters-of-four-bytes": LOOP + "\U0001f999" * 15_000 + "{% endfor %}",
    "in-generation": f"{{% generation %}}{LOOP}{LOOP}yy{{% endfor %}}{{% endfor %}}"
    "{% endgeneration %}",
    "one-piece": "{% set x = 'x' * 10000 * 60 %}{{ x ~ x }}",
}

#: What a template may well do.
MODEST = {
    "repeat": ("{{ '=' * 80 }}", "=" * 80),
    "repeat-a-list": ("{{ [0] * 3 }}", "[0, 0, 0]"),
    "repeat-what-is-said": ("{{ (messages[0].content ~ ' ') * 2 }}", "hi hi "),
    "repeat-by-a-negative-number": ("{{ 'x' * -1000000000000 }}", ""),
    "multiply": ("{{ 2.5 * 4000000000 }} {{ 3000000 * 3000000 }}", "10000000000.0 9000000000000"),
    "power": ("{{ 2 ** 64 }} {{ 2 ** -1 }} {{ 9.0 ** 2 }}", "18446744073709551616 0.5 81.0"),
    "modulo": ("{{ 7 % 4 }} {{ 7.5 % 4 }}", "3 3.5"),
    "percent": ("{{ '%-4s|%5.2f%%|%05d' % (1, 2, 3) }}", "1   | 2.00%|00003"),
    "percent-name": ("{{ '%(a)4s (12 3456) * %(a)s' % {'a': 1} }}", "   1 (12 3456) * 1"),
    "percent-and-long-numbers": (
        "{{ 'call (555) 123456789 for %s * 2' % 'a' }}",
        "call (555) 123456789 for a * 2",
    ),
    "format-filter": ("{{ '%s-%s' | format('a', 123456) }}", "a-123456"),
    "format": ("{{ '{:>4}|{a:{w}}|10000000'.format(1, a='x', w=3) }}", "   1|x  |10000000"),
    "format-map": ("{{ '{a}'.format_map({'a': 123456}) }}", "123456"),
    "format-escaped-text": ("{{ ('<{}>' | safe).format('<') }}", "<&lt;>"),
    "center": ("{{ 'x' | center(3) }}{{ 'x'.center(3) }}", " x  x "),
    "indent": ("{{ 'a\nb' | indent(2) }}{{ 'a\nb' | indent('> ') }}", "a\n  ba\n> b"),
    "batch-and-slice": (
        "{{ [1, 2, 3] | batch(2, 0) | list }}{{ [1, 2] | slice(2) | list }}",
        "[[1, 2], [3, 0]][[1], [2]]",
    ),
    "round": ("{{ 123456789.126 | round(2) }}", "123456789.13"),
    "encode": ("{{ 'é'.encode() }}{{ 'é'.encode('latin-1') }}", r"b'\xc3\xa9'b'\xe9'"),
    "encode-in-a-loop": (
        "{% for m in messages %}{{ m.content.encode('ascii', errors='ignore').decode('UTF8') }}"
        "{% endfor %}",
        "hi",
    ),
    "to-bytes": ("{{ (5).to_bytes(2, 'big') }}", r"b'\x00\x05'"),
}


@pytest.mark.parametrize("source", LARGE.values(), ids=LARGE)
def test_a_single_operation_that_makes_much_of_little_is_refused(source: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="was stopped at line 1") as caught:
            render(source, USER)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 * MEBIBYTE
    assert "use another template, or a shorter conversation" in caught.value.message
    assert "more memory than there is" not in caught.value.message  # nobody tried


@pytest.mark.parametrize("source", LONG.values(), ids=LONG)
def test_a_template_that_renders_too_much_is_stopped_where_it_does(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "MAX_TEXT", MEBIBYTE)
    tracemalloc.start()
    try:
        with pytest.raises(
            InputError, match=rf"stopped at line 2: it renders more than {MEBIBYTE}"
        ):
            render("\n" + source, USER)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 9 * MEBIBYTE  # small pieces too: a list of them would take more


@pytest.mark.parametrize("letter,width", [("x", 1), ("é", 2), ("\u20ac", 3), ("\ud800", 3)])
def test_the_limit_counts_bytes_and_not_characters(letter: str, width: int) -> None:
    text = letter * (sandbox.MAX_TEXT // width)
    message = [{"role": "user", "content": text}]
    assert render("{{ messages[0].content }}", message) == text
    with pytest.raises(InputError, match="was stopped at line 1"):
        render("{{ messages[0].content }}xxx", message)


@pytest.mark.parametrize("source,expected", MODEST.values(), ids=MODEST)
def test_what_a_template_may_well_do_is_left_alone(source: str, expected: str) -> None:
    assert render(source, USER) == expected


@pytest.mark.parametrize(
    "source", ["{{ lipsum() }}", "{{ messages[0].content.encode('no-such-codec') }}"]
)
def test_what_there_is_not_fails_as_any_mistake(source: str) -> None:
    with pytest.raises(InputError, match="failed at line 1"):
        render(source, USER)


@pytest.mark.parametrize(
    "expression",
    [
        "''.__class__",
        "''['__class__']",
        "('' | attr('__class__'))",
        "('' | safe).__class__",
        "(1).__class__",
        "namespace().__class__",
        "range.__globals__",
        "''.format.__globals__",
        "dict.__subclasses__",
        "raise_exception.__globals__",
        "loop.__class__",
        "loop._iterable",
        "messages.append",
        "messages[0].update",
    ],
)
def test_the_sandbox_hides_what_a_prompt_does_not_need(expression: str) -> None:
    source = f"{{% for i in [1] %}}{{{{ {expression} is defined }}}}{{% endfor %}}"
    assert render(source, USER) == "False"


def test_a_format_reaches_no_insides_either() -> None:
    assert render("{{ '<{0.__class__}>'.format('') }}", USER) == "<>"


def test_the_limit_holds_in_any_thread() -> None:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            render(LARGE["repeat"], USER)
        except InputError as error:
            caught.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(caught) == 4


def test_a_template_that_was_stopped_renders_the_next_conversation() -> None:
    source = "{{ 'x' * messages[0].content | int }}"
    with pytest.raises(InputError):
        render(source, [{"role": "user", "content": "1000000000"}])
    assert render(source, [{"role": "user", "content": "3"}]) == "xxx"


@pytest.mark.parametrize("family", ["llama-2", "llama-3.1", "qwen-2.5", "gemma-3", "chatml"])
def test_a_long_conversation_is_no_greed(family: str) -> None:
    turn = [{"role": "user", "content": "q" * 500}, {"role": "assistant", "content": "a" * 500}]
    assert len(render(family, turn * 1000)) > 1_000_000


@pytest.mark.parametrize("family", ["mistral", "llama-3"])
def test_a_prompt_of_ten_megabytes_and_a_nul_passes(family: str) -> None:
    text = "x\0" * 5_000_000
    assert text in render(family, [{"role": "user", "content": text}])


def test_a_template_that_gathers_its_text_is_no_greed() -> None:
    source = (
        "{% set n = namespace(out='') %}{% for m in messages %}"
        "{% set n.out = n.out ~ m.role ~ m.content %}{% endfor %}{{ n.out }}"
    )
    assert len(render(source, [{"role": "user", "content": "x" * 500}] * 400)) == 400 * 504
