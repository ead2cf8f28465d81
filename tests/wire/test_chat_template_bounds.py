"""Templates that ask for too much: refused in time, in any thread, and memory stays flat."""

from __future__ import annotations

import threading
import time
import tracemalloc

import pytest

from lmgateway.errors import InputError
from lmgateway.wire.chat_template import render

USER = [{"role": "user", "content": "hi"}]
LOOP = "{% for i in range(100000) %}"
NESTS = "{% set a = [a, a] %}" * 60
BIG = "{% set x = 'x' * 1000000 %}"

SLOW = {
    "nested-loops": f"{LOOP}{LOOP}{{% endfor %}}{{% endfor %}}",
    "loop-that-filters-all": f"{LOOP}{{% for b in range(100000) if false %}}"
    "{% endfor %}{% endfor %}",
    "recursive-loop": "{% for a in [[1]] recursive %}{{ loop([[1], [1]]) }}{% endfor %}",
    "macro-tree": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "macro-without-end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "callers": "{% macro f() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call f() %}" * 60
    + "x"
    + "{% endcall %}" * 60,
    "arguments": "{% macro f() %}{{ varargs | length }}{% endmacro %}"
    + LOOP
    + "{{ f(*range(100000)) }}{% endfor %}",
    "select": f"{LOOP}{{{{ range(100000) | select('eq', 1) | list }}}}{{% endfor %}}",
    "sort": f"{LOOP}{{{{ range(100000) | sort | length }}}}{{% endfor %}}",
    "compare": BIG
    + "{% set y = 'x' * 1000000 %}"
    + LOOP
    + "{% if x == y %}{% endif %}{% endfor %}",
    "search": BIG + LOOP + "{% if 'y' in x %}{% endif %}{% endfor %}",
    "search-from-the-right": BIG + "{{ x.rfind('y' + 'x' * 500000) }}",
    "strip": BIG + "{{ x.strip('y' * 1000000) }}",
    "wordwrap": BIG + "{{ x | wordwrap(1) }}",
    "power": "{{ 10 ** 1000000 }}",
    "squares": "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}"
    "{% endfor %}",
    "round": "{{ 5 | round(-1000000000) }}",
}

LARGE = {
    "repeat": "{{ 'x' * 300000000 }}",
    "repeat-a-list": "{{ [1] * 300000000 }}",
    "double": "{% set x = 'x' %}" + "{% set x = x ~ x %}" * 40,
    "double-by-plus": "{% set n = namespace(x='x') %}{% for i in range(40) %}"
    "{% set n.x = n.x + n.x %}{% endfor %}",
    "center": "{{ 'x' | center(1000000000) }}",
    "center-method": "{{ 'x'.center(1000000000) }}",
    "center-in-a-map": "{{ ['x'] | map('center', 1000000000) | list }}",
    "center-in-a-block": "{% filter center(1000000000) %}x{% endfilter %}",
    "center-while-compiling": "{% autoescape 'x' | center(1000000000) %}{% endautoescape %}",
    "percent": "{{ '%1000000000s' % 'x' }}",
    "percent-star": "{{ '%*d' % (1000000000, 1) }}",
    "format": "{{ '{:>1000000000}'.format('x') }}",
    "format-nested": "{{ '{:>{}}'.format('x', 1000000000) }}",
    "format-many": BIG + "{% set n = namespace(a=x) %}{{ ('{0.a}' * 10000).format(n) }}",
    "format-filter": "{{ '%1000000000s' | format('x') }}",
    "indent": "{{ 'a\nb' | indent(1000000000) }}",
    "tojson-indent": "{{ [1, [2]] | tojson(indent=1000000000) }}",
    "join": BIG + "{{ range(100000) | join(x) }}",
    "join-lazily": "{% set d = {'a': 'x' * 1000000} %}"
    "{{ ([d] * 100000) | map(attribute='a') | join }}",
    "replace": "{{ ('x' * 100000) | replace('x', 'y' * 100000) }}",
    "translate": BIG + "{{ x.translate({120: x}) }}",
    "expandtabs": "{{ ('\t' * 10000).expandtabs(1000000) }}",
    "to-bytes": "{{ (5).to_bytes(1000000000, 'big') }}",
    "batch": "{{ [1] | batch(1000000000, 'x') | list }}",
    "slice": "{{ [1] | slice(1000000000) | list }}",
    "lipsum": "{{ lipsum(n=1000000) }}",
    "literal": LOOP + "y" * 60_000 + "{% endfor %}",
    "literal-in-a-macro": "{% macro f() %}" + LOOP + "y" * 60_000 + "{% endfor %}{% endmacro %}"
    "{% set x = f() %}",
    "keeping-all": "{% set n = namespace(l=[]) %}" + BIG + LOOP + "{% set n.l = [n.l, x[1:]] %}"
    "{% endfor %}",
    "shared-print": "{% set a = [1] %}" + NESTS + "{{ a }}",
    "shared-json": "{% set a = [1] %}" + NESTS + "{{ a | tojson }}",
    "shared-compare": "{% set a = [1] %}" + NESTS + "{% set b = a[:] %}{{ a == b }}",
    "shared-key": "{% set a = (1,) %}" + "{% set a = (a, a) %}" * 60 + "{{ {a: 1} }}",
    "shared-lookup": "{% set a = (1,) %}" + "{% set a = (a, a) %}" * 60 + "{{ {}[a] }}",
}


@pytest.mark.parametrize("source", SLOW.values(), ids=SLOW)
def test_a_slow_template_is_stopped(source: str) -> None:
    began = time.process_time()
    with pytest.raises(InputError, match="was stopped at line"):
        render(source, USER)
    assert time.process_time() - began < 8  # about half a second; a machine under load takes more


@pytest.mark.parametrize("source", LARGE.values(), ids=LARGE)
def test_a_large_template_is_stopped_before_it_takes_the_memory(source: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="was stopped at line"):
            render(source, USER)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 * 2**20


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
