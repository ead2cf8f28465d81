from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lmgateway.errors import ConfigError, InputError, UnsupportedError
from lmgateway.wire.chat_template import (
    FAMILIES,
    ControlTokenWarning,
    check_control_tokens,
    family_for,
    find_control_tokens,
    holds_bos,
    merge_system,
    render,
    resolve,
)

ORACLE = json.loads(
    (Path(__file__).parent.parent / "data" / "template_oracle.json").read_text("utf-8")
)
BUNDLED = {
    "llama2": "llama-2",
    "llama3": "llama-3",
    "llama3_1": "llama-3.1",
    "mistral": "mistral",
    "gemma": "gemma",
    "gemma3": "gemma-3",
    "qwen2_5": "qwen-2.5",
    "chatml_vllm": "chatml",
}
CASES = [
    pytest.param(name, family, key, id=f"{family}-{key}")
    for name, family in BUNDLED.items()
    for key in ORACLE["renderings"][name]
]
USER = [{"role": "user", "content": "hi"}]
CHAT = [
    {"role": "system", "content": "Be terse."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]


# -- what transformers renders -----------------------------------------------------------------


@pytest.mark.parametrize("name,family,key", CASES)
def test_a_family_renders_what_transformers_does(name: str, family: str, key: str) -> None:
    conversation, _, prompted = key.partition("|agp=")
    expected = ORACLE["renderings"][name][key]
    messages = ORACLE["conversations"][conversation]

    def rendered() -> str:
        return render(
            family, messages, add_generation_prompt=prompted == "True", date_string="26 Jul 2024"
        )

    if expected.startswith("!"):
        with pytest.raises(InputError) as caught:
            rendered()
        assert expected.partition(": ")[2] in caught.value.message
    else:
        assert rendered() == expected


def test_every_family_has_its_rows_in_the_oracle() -> None:
    assert {family.name for family in FAMILIES} == set(BUNDLED.values())


TOOL = {"type": "function", "function": {"name": "f", "description": 'é <b> "x"'}}

# Each expectation is what transformers 5.23 rendered for the same source.
SEMANTICS: list[tuple[str, str, dict[str, Any], str]] = [
    ("trim-blocks", "{% if true %}\na\n{% endif %}\nb", {}, "a\nb"),
    ("lstrip-blocks", "x\n   {% if true %}y{% endif %}", {}, "x\ny"),
    ("undefined-prints-nothing", "[{{ nothing }}]", {}, "[]"),
    ("none-prints-None", "{{ none }}", {}, "None"),
    ("tools-are-none", "{{ tools is none }}{{ documents is none }}", {}, "TrueTrue"),
    ("break", "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}",
     {}, "01"),
    ("continue", "{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}"
     "{% endfor %}", {}, "02"),
    ("namespace", "{% set n = namespace(a=1) %}{% for i in range(3) %}{% set n.a = n.a + i %}"
     "{% endfor %}{{ n.a }}", {}, "4"),
    ("macro", "{% macro f(a, b='x') %}{{ a ~ b }}{% endmacro %}{{ f(1) }}{{ f(1, b=2) }}",
     {}, "1x12"),
    ("caller", "{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}in{% endcall %}",
     {}, "<in>"),
    ("generation", "{% generation %}a{% set x = 1 %}{% endgeneration %}{{ x }}", {}, "a"),
    ("tojson-keeps-html", "{{ tools[0] | tojson }}", {"tools": [TOOL]},
     '{"type": "function", "function": {"name": "f", "description": "é <b> \\"x\\""}}'),
    ("tojson-indent", "{{ {'b': [1], 'a': 'é'} | tojson(indent=2, sort_keys=true) }}", {},
     '{\n  "a": "é",\n  "b": [\n    1\n  ]\n}'),
    ("tojson-ascii", "{{ 'é' | tojson(ensure_ascii=true) }}", {}, '"\\u00e9"'),
    ("tojson-separators", "{{ {'a': [1, 2]} | tojson(separators=(',', ':')) }}", {},
     '{"a":[1,2]}'),
    ("slices", "{{ messages[1:] }}{{ 'abc'[::-1] }}", {}, "[]cba"),
    ("string-methods", "{{ ' a,b '.strip().split(',')[-1].upper() }}", {}, "B"),
    ("format", "{{ '{:>3}|{a}'.format(1, a='x') }}{{ '%s-%02d' % ('a', 4) }}", {}, "  1|xa-04"),
    ("filters", "{{ messages | map(attribute='role') | join(', ') }}", {}, "user"),
    ("selectattr", "{{ (messages | selectattr('role', 'equalto', 'user') | list)[0].content }}",
     {}, "hi"),
    ("loop", "{% for i in [1, 2] %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}"
     "{% endfor %}", {}, "1/2,2/2"),
    ("loop-filter", "{% for i in range(5) if i is odd %}{{ i }}{% else %}none{% endfor %}",
     {}, "13"),
    ("recursive-loop", "{% for a in [[1, []]] recursive %}{{ a[0] }}{{ loop([[2, []]]) if "
     "loop.depth < 2 }}{% endfor %}", {}, "12"),
    ("dict", "{% for k, v in dict(a=1).items() %}{{ k }}{{ v }}{% endfor %}", {}, "a1"),
    ("compare", "{{ 'a' in messages[0] }}{{ 'role' in messages[0] }}{{ 1 < 2 < 3 }}",
     {}, "FalseTrueTrue"),
    ("autoescape", "{% autoescape true %}{{ '<' }}{{ '<' ~ '>' }}{% endautoescape %}{{ '<' }}",
     {}, "&lt;&lt;&gt;<"),
    ("no-last-newline", "{{ 'a' }}\n", {}, "a"),
    ("reasoning-has-one-name", "{{ messages[0].reasoning_content }}", {}, ""),
]  # fmt: skip


@pytest.mark.parametrize(
    "source,variables,expected", [pytest.param(s, v, e, id=i) for i, s, v, e in SEMANTICS]
)
def test_jinja_means_what_it_means_to_transformers(
    source: str, variables: dict[str, Any], expected: str
) -> None:
    assert render(source, USER, **variables) == expected


@pytest.mark.parametrize("name", ["reasoning", "thinking", "reasoning_content"])
def test_reasoning_is_read_by_any_of_its_names(name: str) -> None:
    message = {"role": "assistant", "content": "x", name: "because"}
    assert render("{{ messages[0].reasoning_content }}", [message]) == "because"


@pytest.mark.parametrize(
    "date,form,expected",
    [
        pytest.param("26 Jul 2024", "%Y-%m-%d", "2024-07-26", id="as-llama-writes-it"),
        pytest.param("2024-07-26", "%d %b %Y", "26 Jul 2024", id="iso"),
        pytest.param("July 26, 2024", "%d/%m", "26/07", id="american"),
        pytest.param("last Tuesday", "%Y", "last Tuesday", id="not-a-date"),
    ],
)
def test_date_string_sets_the_clock(date: str, form: str, expected: str) -> None:
    assert render(f"{{{{ strftime_now('{form}') }}}}", USER, date_string=date) == expected


def test_the_conversation_given_is_not_changed() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "a"}], "reasoning": "b"}]
    before = json.dumps(messages)
    render("llama-3", messages)
    assert json.dumps(messages) == before


def test_a_template_meets_no_method_of_a_foreign_object() -> None:
    class Image:
        def save(self) -> str:
            return "written"

    message = {"role": "user", "content": [{"type": "image", "image": Image()}]}
    assert render("{{ messages[0].content[0].image }}", [message]) == "<Image>"


def test_text_parts_become_one_text_for_a_family() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert "[INST] a\nb [/INST]" in render("llama-2", [{"role": "user", "content": parts}])


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "template,messages,says",
    [
        pytest.param("gemma", CHAT, "merge_system=True", id="system-role"),
        pytest.param("llama-2", [*USER, *USER], "join messages[1]", id="roles-alternate"),
        pytest.param("mistral", CHAT[2:], "begin with a user turn", id="assistant-first"),
        pytest.param("a\n{{ messages[0].x.y }}", USER, "line 2", id="undefined"),
        pytest.param("{{ messages[0] + 1 }}", USER, "line 1", id="type-error"),
        pytest.param("llama-2", [], "line", id="no-messages"),
        pytest.param("llama-3", ["hi"], "messages[0]", id="not-a-mapping"),
        pytest.param("none", CHAT, "one user message", id="none-and-a-conversation"),
        pytest.param("{% include 'x' %}", USER, "no loader", id="include"),
    ],
)
def test_a_refused_conversation_is_an_input_error_that_helps(
    template: str, messages: Any, says: str
) -> None:
    with pytest.raises(InputError) as caught:
        render(template, messages)
    assert says in caught.value.message


@pytest.mark.parametrize(
    "source,says",
    [
        pytest.param("a\nb{% for %}", "line 2", id="syntax"),
        pytest.param("\n\n{{ x | nope }}", "line 3: No filter named 'nope'", id="filter"),
        pytest.param("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "compiled", id="nesting"),
        pytest.param("{{ " + "9" * 9000 + " }}", "compiled", id="number"),
        pytest.param("{{ x }}" + " " * 200_000, "too long", id="long"),
    ],
)
def test_a_broken_template_is_a_config_error(source: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        render(source, USER)
    assert says in caught.value.message


@pytest.mark.parametrize(
    "template,messages,variables",
    [
        pytest.param("gemma", USER, {"tools": [TOOL]}, id="tools"),
        pytest.param("llama-2", [{"role": "user", "content": [{"type": "image"}]}], {}, id="image"),
    ],
)
def test_what_a_family_cannot_carry_is_refused(
    template: str, messages: Any, variables: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedError, match="use_chat_api=True"):
        render(template, messages, **variables)


def test_a_conversation_that_holds_itself_is_refused() -> None:
    message: dict[str, Any] = {"role": "user", "content": "a"}
    message["self"] = message
    with pytest.raises(InputError, match="nested"):
        render("{{ messages }}", [message])


@pytest.mark.parametrize("name", ["a", "__class__", "_x"])
def test_the_sandbox_hides_pythons_insides(name: str) -> None:
    with pytest.raises(InputError):
        render(f"{{{{ messages.{name}.mro() }}}}", USER)


def test_without_jinja_the_error_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from lmgateway.wire.chat_template import render, family_for\n"
        "assert family_for('Llama-2-7b-chat-hf').name == 'llama-2'\n"
        "try: render('llama-2', [{'role': 'user', 'content': 'x'}])\n"
        "except Exception as e: print(type(e).__name__, e)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "UnsupportedError" in done.stdout, done.stderr
    assert "pip install 'lmgateway-core[templates]'" in done.stdout


def test_jinja_is_not_loaded_before_a_template_is_rendered() -> None:
    script = (
        "import sys\nfrom lmgateway.wire.chat_template import resolve, find_control_tokens\n"
        "find_control_tokens(resolve('gemma'), 'x')\nprint('jinja2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


# -- finding a template ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [n for f in FAMILIES for n in (f.name, f.name.upper(), *f.aliases)]
)
def test_a_family_answers_to_its_names(name: str) -> None:
    family = resolve(name).family
    assert family is not None
    assert name.lower() in (family.name, *family.aliases)


def test_a_path_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("é{{ messages[0].content }}", encoding="utf-8")
    assert render(str(path), USER) == "éhi"


def test_a_tokenizer_config_says_bos_and_eos(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer_config.json"
    config = {
        "chat_template": "{{ bos_token ~ messages[0].content ~ eos_token }}",
        "bos_token": {"content": "<s>"},
        "eos_token": "</s>",
    }
    path.write_text(json.dumps(config))
    assert render(str(path), USER) == "<s>hi</s>"
    assert resolve(str(path)).bos_token == "<s>"


@pytest.mark.parametrize(
    "name,content,says",
    [
        pytest.param("a.jinja", b"\xff{{ x }}", "not UTF-8 at byte 0", id="latin-1"),
        pytest.param("a.json", b"{}", "no chat_template", id="no-template"),
        pytest.param("a.json", b"[", "no chat_template", id="no-json"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_config_error(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        resolve(str(path))


@pytest.mark.parametrize("given", ["lama-2", "", "no/such/file.jinja", "a\0b", "x" * 5000])
def test_an_unknown_template_lists_the_families(given: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(given)
    assert all(family.name in caught.value.message for family in FAMILIES)


def test_the_nearest_family_is_offered() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'llama-2'\?"):
        resolve("lama-2")


def test_none_sends_the_text_as_it_is() -> None:
    assert render("none", [{"role": "user", "content": " a <s> "}]) == " a <s> "


@pytest.mark.parametrize(
    "model,family",
    [
        ("meta-llama/Llama-2-70b-chat-hf", "llama-2"),
        ("meta-llama/Llama-2-70b-hf", None),
        ("codellama/CodeLlama-34b-Instruct-hf", "llama-2"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama-3"),
        ("meta-llama/Llama-3-8b-chat-hf", "llama-3"),
        ("meta-llama/Meta-Llama-3-8B", None),
        ("meta-llama/Meta-Llama-3.1-70B-Instruct", "llama-3.1"),
        ("meta-llama/Llama-3.2-1B-Instruct", "llama-3.1"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.1"),
        ("meta-llama/Llama-3.1-8B", None),
        ("mistralai/Mistral-7B-Instruct-v0.1", "mistral"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mistral"),
        ("mistralai/Mistral-7B-v0.1", None),
        ("google/gemma-7b-it", "gemma"),
        ("google/gemma-2-9b-it", "gemma"),
        ("google/gemma-7b", None),
        ("google/gemma-3-27b-it", "gemma-3"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen-2.5"),
        ("Qwen/Qwen2.5-Coder-7B-Instruct-AWQ", "qwen-2.5"),
        ("Qwen/Qwen2.5-7B", None),
        ("meta-llama/Llama-2-7b-chat-hf:my-adapter:1", "llama-2"),
        ("my-base:Llama-2-7b-chat-hf", "llama-2"),
        ("/mnt/models/Llama-2-7b-chat-hf/", "llama-2"),
        ("smollm2-135m-instruct", "chatml"),
        ("my-finetune", None),
        ("", None),
    ],
)
def test_a_model_id_says_its_family(model: str, family: str | None) -> None:
    found = family_for(model)
    assert (found.name if found else None) == family


# -- system text, control tokens, BOS ----------------------------------------------------------


def test_merge_system_puts_the_text_before_the_first_user_turn() -> None:
    merged = merge_system(CHAT)
    assert [message["role"] for message in merged] == ["user", "assistant", "user"]
    assert merged[0]["content"] == "Be terse.\n\nHi"
    assert CHAT[1]["content"] == "Hi"


def test_merge_system_keeps_parts() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
    merged = merge_system([CHAT[0], {"role": "user", "content": [image]}])
    assert merged[0]["content"] == [{"type": "text", "text": "Be terse.\n\n"}, image]


def test_merge_system_without_a_user_turn_is_refused() -> None:
    with pytest.raises(InputError):
        merge_system([CHAT[0]])


def test_a_merged_conversation_renders_where_the_system_role_is_refused() -> None:
    assert "user\nBe terse.\n\nHi<end_of_turn>" in render("gemma", merge_system(CHAT))


@pytest.mark.parametrize(
    "template,text,found",
    [
        ("llama-2", "x [/INST] <<SYS>>", ["[/INST]", "<<SYS>>"]),
        ("chatml", "a<|im_end|>\n<|im_start|>system", ["<|im_start|>", "<|im_end|>"]),
        ("gemma", "<b>bold</b> [INST]", []),
        ("{{ '<|turn|>' }}[TOOL_CALLS]", "a <|turn|> b", ["<|turn|>"]),
    ],
)
def test_control_tokens_are_found(template: str, text: str, found: list[str]) -> None:
    assert find_control_tokens(template, text) == found


def test_control_tokens_are_found_in_parts_and_tool_calls() -> None:
    calls = [{"function": {"name": "f", "arguments": {"a": ["<|im_end|>"]}}}]
    messages = [{"role": "assistant", "content": None, "tool_calls": calls}]
    assert find_control_tokens("chatml", messages) == ["<|im_end|>"]


def test_control_tokens_are_warned_about() -> None:
    with pytest.warns(ControlTokenWarning, match="im_end"):
        check_control_tokens(["<|im_end|>"], "warn")


def test_control_tokens_can_be_forbidden() -> None:
    with pytest.raises(InputError, match="im_end"):
        check_control_tokens(["<|im_end|>"], "forbid")


@pytest.mark.parametrize("policy", ["warn", "forbid", "allow"])
def test_a_clean_text_passes_every_policy(policy: Any) -> None:
    check_control_tokens([], policy)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(InputError, match="'warn', 'forbid', 'allow'"):
        check_control_tokens([], "maybe")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text,bos,holds",
    [("<s>[INST]", "<s>", True), ("[INST]", "<s>", False), ("x", "", False), ("x", None, False)],
)
def test_bos_is_seen(text: str, bos: str | None, holds: bool) -> None:
    assert holds_bos(text, bos) is holds
