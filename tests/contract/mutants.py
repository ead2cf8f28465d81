"""A right provider, and the wrong ones made of it, with the checks that must notice."""

from __future__ import annotations

from dataclasses import dataclass, field

GOOD = """
import asyncio, json, logging, re, socket, threading
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, SecretStr

from lmgateway import hookimpl
from lmgateway.errors import *
from lmgateway.errors import api_error, is_retryable_status
from lmgateway.types import Emit, HTTPRequest, Info, send
from lmgateway.wire import openai as wire

CHAT = "chat/completions"
memo = {}


class Settings(BaseModel):
    api_base: str = "https://mutant.example/v1"
    api_key: SecretStr


@hookimpl
def lmgateway_settings():
    return Settings


@hookimpl
def lmgateway_info():
    return Info(
        capabilities=frozenset({"messages", "system"}),
        params=frozenset({"temperature", "max_tokens", "n", "stop"}),
    )


def build(request, settings):
    return wire.chat_request(request, wire.Service(settings.api_base, settings.api_key))


def parse(request, response):
    wire.check(response, request)
    return wire.parse(request, response, CHAT)


@hookimpl
def lmgateway_complete(request, settings):
    response = yield from send(build(request, settings))
    return parse(request, response)


def read(request, http, head):
    return (yield from wire.read_stream(request, http, head, needs_done=True))


@hookimpl
def lmgateway_stream(request, settings):
    http = build(request, settings)
    head = yield from send(http)
    return (yield from read(request, http, head))
"""

_PARSE = "    wire.check(response, request)\n    return wire.parse(request, response, CHAT)\n"
_READ = "    return (yield from wire.read_stream(request, http, head, needs_done=True))\n"
_BUILD = (
    "    return wire.chat_request(request, wire.Service(settings.api_base, settings.api_key))\n"
)
_SEND = "    response = yield from send(build(request, settings))\n"
_KEY = "settings.api_key.get_secret_value()"
_REQUEST = "request = wire.chat_request(request, wire.Service(settings.api_base))"
_INFO = (
    '        capabilities=frozenset({"messages", "system"}),\n'
    '        params=frozenset({"temperature", "max_tokens", "n", "stop"}),\n    )\n'
)
_TOOLS = (
    _INFO.replace("        cap", "        api=2,\n        cap")
    .replace('"system"', '"system", "tools"')
    .replace('"stop"', '"stop", "tools"')
)
#: Stands between the stream of a call of a tool and who reads it.
_BETWEEN = """

from types import SimpleNamespace


def between(*given, **named):
    held, told, flow = [], None, right.read_stream(*given, **named)
    while True:
        try:
            effect = flow.send(told)
        except StopIteration as end:
            {end}
            return end.value
        if isinstance(effect, Emit) and {held}:
            held.append(effect)
            told = None
        else:
            told = yield effect


right, wire = wire, SimpleNamespace(**{{**vars(wire), "read_stream": between}})
"""


@dataclass(frozen=True)
class Mutant:
    """A wrong provider: ``old`` is replaced by ``new`` in the right one.

    Attributes:
        check: The check that is for this.
        also: Others that notice it as well.
        attributes: Of its test class, beside those of the right one.
    """

    name: str
    check: str
    old: str = ""
    new: str = ""
    also: frozenset[str] = frozenset()
    attributes: dict[str, str] = field(default_factory=dict)


def _wrong(name: str, check: str, old: str, new: str, *also: str, **attributes: str) -> Mutant:
    assert old in GOOD, name
    return Mutant(name, check, old, new, frozenset(also), attributes)


MUTANTS = [
    # -- loading
    _wrong(
        "an_argument_with_a_default",
        "test_hooks_take_what_the_core_passes",
        "def lmgateway_complete(request, settings):",
        "def lmgateway_complete(request, settings, tries=3):",
        "test_it_loads",
    ),
    _wrong("an_import_that_fails", "test_it_loads", "memo = {}", "import not_there_at_all"),
    _wrong(
        "a_capability_nobody_knows",
        "test_info_is_of_this_api",
        '{"messages", "system"}',
        '{"messages", "system", "telepathy"}',
    ),
    _wrong(
        "a_base_missed_too_early",
        "test_nothing_is_needed_before_a_request_is_sent",
        'api_base: str = "https://mutant.example/v1"',
        "api_base: str | None = None\n\n"
        "    def model_post_init(self, context):\n"
        "        if self.api_base is None:\n"
        "            raise ValueError('give a base')\n",
        settings='{"api_base": "https://mutant.example/v1"}',
    ),
    _wrong(
        "a_setting_that_does_not_travel",
        "test_an_lm_of_it_is_pickled_and_copied",
        "    api_key: SecretStr\n",
        "    api_key: SecretStr\n    signer: Any = None\n",
        settings='{"signer": lambda: None}',
    ),
    # -- answers
    Mutant(
        "nothing_recorded",
        "test_an_answer_is_recorded_of_each_kind",
        attributes={"recordings": "()"},
        also=frozenset(
            {
                "test_an_answer_has_the_exact_shape",
                "test_sync_equals_async",
                "test_two_answers_share_nothing",
                "test_the_pieces_make_the_answer",
                "test_leaving_a_stream_ends_it",
                "test_a_host_that_does_not_stream_is_understood",
                "test_a_secret_is_sent_in_a_header",
                "test_a_secret_is_resolved_when_it_is_sent",
                "test_no_secret_is_kept",
            }
        ),
    ),
    _wrong(
        "a_field_of_its_own",
        "test_an_answer_has_the_exact_shape",
        _PARSE,
        _PARSE.replace("return ", "return {**")[:-1] + ', "text": "hello"}\n',
    ),
    _wrong(
        "another_answer_when_awaited",
        "test_sync_equals_async",
        _PARSE,
        "    completion = wire.parse(request, response, CHAT)\n"
        "    try:\n        asyncio.get_running_loop()\n"
        '        completion["choices"][0]["text"] += "!"\n'
        "    except RuntimeError:\n        pass\n    return completion\n",
    ),
    _wrong(
        "one_answer_for_all",
        "test_two_answers_share_nothing",
        _PARSE,
        "    wire.check(response, request)\n"
        "    answer = wire.parse(request, response, CHAT)\n"
        "    return memo.setdefault(response.body, answer)\n",
    ),
    _wrong(
        "another_request_than_recorded",
        "test_the_recorded_request_is_built",
        _BUILD,
        _BUILD.replace("return ", "asked = ")
        + '    return replace(asked, json={**asked.json, "seed": 7})\n',
    ),
    _wrong(
        "a_broken_answer_taken",
        "test_a_broken_answer_is_refused",
        _PARSE,
        "    wire.check(response, request)\n"
        "    try:\n        return wire.parse(request, response, CHAT)\n"
        "    except ResponseFormatError:\n"
        '        return {"prompt": request.input, "choices": [{"text": ""}]}\n',
        "test_an_answer_cut_short_is_refused",
        "test_an_answer_without_choices_is_no_answer",
    ),
    _wrong(
        "half_an_answer_taken",
        "test_an_answer_cut_short_is_refused",
        _PARSE,
        "    wire.check(response, request)\n"
        "    try:\n        return wire.parse(request, response, CHAT)\n"
        "    except ResponseFormatError:\n"
        "        if b'choices' not in response.body or b'NaN' in response.body:\n"
        "            raise\n"
        '        return {"prompt": request.input, "choices": [{"text": "half"}]}\n',
        "test_an_answer_without_choices_is_no_answer",
    ),
    # -- streams
    _wrong(
        "a_stream_read_chunk_by_chunk",
        "test_a_stream_may_be_cut_at_every_byte",
        _READ,
        "    if head.source is not None:\n"
        "        source, inner = head.source, head.source.read\n"
        "        def read():\n"
        "            chunk = yield from inner()\n"
        "            return chunk if chunk.startswith(b'data: ') else b''\n"
        "        source.read = read\n" + _READ,
        "test_no_secret_is_kept",
    ),
    _wrong(
        "a_piece_too_many",
        "test_the_pieces_make_the_answer",
        _READ,
        _READ.replace("return ", "completion = ") + '    yield Emit("!")\n    return completion\n',
        "test_a_host_that_does_not_stream_is_understood",
        "test_each_choice_is_streamed",
    ),
    _wrong(
        "another_answer_when_streamed",
        "test_a_stream_equals_the_plain_answer",
        _READ,
        _READ.replace("return ", "completion = ")
        + '    if head.source: completion["choices"][0]["finish_reason"] = "stop"\n'
        "    return completion\n",
    ),
    _wrong(
        "a_host_must_stream",
        "test_a_host_that_does_not_stream_is_understood",
        _READ,
        "    if head.source is None:\n        wire.check(head, request)\n"
        '        raise ResponseFormatError("no stream came")\n' + _READ,
    ),
    _wrong(
        "a_cut_stream_taken",
        "test_a_stream_cut_short_is_no_answer",
        _READ,
        "    try:\n    " + _READ + "    except StreamInterruptedError as error:\n"
        "        if error.__cause__ is not None:\n            raise\n"
        '        text = error.partial or "?"\n'
        '        return {"prompt": request.input, "choices": [{"text": text}]}\n',
    ),
    _wrong(
        "a_broken_stream_not_named",
        "test_a_stream_that_breaks_off_says_so",
        _READ,
        "    try:\n    " + _READ + "    except StreamInterruptedError as error:\n"
        '        raise RuntimeError("the stream is gone") from error\n',
        "test_a_stream_cut_short_is_no_answer",
    ),
    _wrong(
        "a_last_word_after_the_end",
        "test_leaving_a_stream_ends_it",
        _READ,
        "    try:\n    "
        + _READ
        + '    finally:\n        if head.source is not None:\n            yield Emit("")\n',
    ),
    _wrong(
        "an_interrupt_swallowed",
        "test_an_interrupt_passes_through",
        _SEND,
        "    try:\n    " + _SEND + "    except KeyboardInterrupt:\n"
        '        return {"prompt": request.input, "choices": [{"text": "interrupted"}]}\n',
    ),
    # -- choices and calls
    _wrong(
        "choices_turned",
        "test_each_choice_is_read",
        _PARSE,
        _PARSE.replace("return ", "answer = ")
        + '    answer["choices"].reverse()\n    return answer\n',
    ),
    _wrong(
        "streamed_choices_turned",
        "test_each_choice_is_streamed",
        _READ,
        _READ.replace("return ", "answer = ")
        + '    answer["choices"].reverse()\n    return answer\n',
    ),
    _wrong(
        "no_choices_taken",
        "test_an_answer_without_choices_is_no_answer",
        _PARSE,
        "    wire.check(response, request)\n"
        "    try:\n        return wire.parse(request, response, CHAT)\n"
        "    except ResponseFormatError:\n"
        "        if b'\"choices\": []' not in response.body:\n            raise\n"
        '        return {"prompt": request.input, "choices": [{"text": ""}]}\n',
    ),
    _wrong(
        "one_call_of_a_stream",
        "test_a_second_call_is_streamed",
        _INFO,
        _TOOLS
        + _BETWEEN.format(
            end='del end.value["choices"][0].get("tool_calls", [])[1:]', held="False"
        ),
        recordings='["calls.jsonl", "numbered.jsonl"]',
    ),
    _wrong(
        "arguments_held_back",
        "test_arguments_are_shown_as_they_come",
        _INFO,
        _TOOLS + _BETWEEN.format(end="yield from held", held="effect.delta.tool_calls"),
        recordings='["calls.jsonl", "numbered.jsonl"]',
    ),
    # -- failures
    _wrong(
        "403_taken_for_401",
        "test_a_status_is_its_error",
        _PARSE,
        "    if response.status == 403:\n"
        '        raise AuthenticationError("no", status=403)\n' + _PARSE,
    ),
    _wrong(
        "every_400_alike",
        "test_a_recorded_error_is_its_kind",
        _PARSE,
        '    if response.status == 400 and "x-should-retry" not in response.headers:\n'
        '        raise api_error(400, "no")\n' + _PARSE,
    ),
    _wrong(
        "a_wait_forgotten",
        "test_the_wait_that_a_service_asks_for_is_known",
        _PARSE,
        '    if response.status == 429:\n        raise api_error(429, "no")\n' + _PARSE,
    ),
    _wrong(
        "a_word_of_the_service_ignored",
        "test_a_service_may_say_whether_to_retry",
        _PARSE,
        "    try:\n        wire.check(response, request)\n    except APIError as error:\n"
        "        error.retryable = is_retryable_status(error.status)\n        raise\n" + _PARSE,
    ),
    _wrong(
        "models_whatever_comes",
        "test_the_other_hooks_fail_alike",
        "def build(",
        "@hookimpl\ndef lmgateway_models(settings):\n"
        '    yield from send(HTTPRequest("GET", settings.api_base, "/models"))\n'
        "    return []\n\n\ndef build(",
    ),
    # -- requests
    _wrong(
        "a_parameter_dropped",
        "test_a_parameter_is_sent_or_refused",
        _BUILD,
        '    params = {name: v for name, v in request.params.items() if name != "stop"}\n'
        "    request = replace(request, params=params)\n" + _BUILD,
    ),
    _wrong(
        "a_system_text_dropped",
        "test_a_capability_works_or_is_refused",
        _BUILD,
        "    request = replace(request, system=None)\n" + _BUILD,
    ),
    _wrong(
        "a_prompt_trimmed",
        "test_the_prompt_is_sent_unchanged",
        _BUILD,
        "    if request.prompt:\n"
        "        request = replace(request, prompt=request.prompt.strip())\n" + _BUILD,
    ),
    # -- secrets
    _wrong(
        "a_key_that_is_a_str",
        "test_secrets_are_secret_settings",
        "    api_key: SecretStr\n",
        '    token: str = "made-up"\n\n    @property\n'
        "    def api_key(self):\n        return SecretStr(self.token)\n",
    ),
    _wrong(
        "a_key_in_the_path",
        "test_a_secret_is_sent_in_a_header",
        _BUILD,
        f'    {_REQUEST}\n    return replace(request, path=f"{{request.path}}?key={{{_KEY}}}")\n',
        "test_the_recorded_request_is_built",
        "test_a_secret_is_resolved_when_it_is_sent",
        "test_no_secret_is_shown",
        "test_no_secret_is_kept",
    ),
    _wrong(
        "a_key_resolved_too_early",
        "test_a_secret_is_resolved_when_it_is_sent",
        _BUILD,
        f"    {_REQUEST}\n"
        f'    return replace(request, headers={{"Authorization": f"Bearer {{{_KEY}}}"}})\n',
    ),
    _wrong(
        "a_key_logged",
        "test_no_secret_is_shown",
        _BUILD,
        f'    logging.getLogger("mutant").debug("key %s", {_KEY})\n' + _BUILD,
    ),
    _wrong(
        "a_key_in_the_body",
        "test_no_secret_is_kept",
        _BUILD,
        f'    {_REQUEST}\n    return replace(request, json={{**request.json, "user": {_KEY}}})\n',
        "test_a_secret_is_sent_in_a_header",
        "test_a_secret_is_resolved_when_it_is_sent",
        "test_the_recorded_request_is_built",
    ),
]

#: It fails wherever it is asked for anything, so no check is for it alone.
SOCKET = _wrong(
    "a_socket_of_its_own",
    "test_sync_equals_async",
    _BUILD,
    "    socket.create_connection(('127.0.0.1', 9))\n" + _BUILD,
)
