"""Faults to plant in the provider of ``gem.py``, one for each check that they are for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GOOD = (Path(__file__).parent / "gem.py").read_text()


@dataclass(frozen=True)
class Fault:
    """A fault: each ``old`` is replaced by its ``new`` in the right provider.

    Attributes:
        check: The check that must notice it.
        edits: Pairs of old and new.
    """

    name: str
    check: str
    edits: tuple[tuple[str, str], ...]

    @property
    def code(self) -> str:
        """The wrong provider."""
        code = GOOD
        for old, new in self.edits:
            assert old in code, (self.name, old)
            code = code.replace(old, new, 1)
        return code


def _fault(name: str, check: str, *edits: tuple[str, str]) -> Fault:
    return Fault(name, f"test_{check}", edits)


_SAID = ('{"role": "model", "parts": said(message)}', '{"role": "user", "parts": said(message)}')
_SYSTEM = ('role in ("system", "developer")', 'role == "developer"')
_HELD = (
    ('yield Emit(part["text"])\n            whole', 'held.append(part["text"])\n            whole'),
    ("    ended = False\n", "    ended = False\n    held = []\n"),
    ("    if not ended:\n", '    yield Emit("".join(held))\n    if not ended:\n'),
)
_SIGNED = 'state["format"] == "gem.contents"'
_FRAGMENT = "yield Emit(Delta(tool_calls=[fragment]))"
_CHECKED = "    check(response, request)\n    return read_all"
_RAISED = (
    "    if response.status >= 400:\n        from lmgateway.errors import api_error\n"
    "        raise api_error({status}, {message})\n" + _CHECKED
)
_VECTORS = '[each["values"] for each in answer["embeddings"]]'
_BUILT = 'body["contents"] = contents'

# The core hands out objects that cannot be changed, so that a plugin must go far to do it.
_CHANGED = "TOOLS[0]['seen'] = TOOLS[0].get('seen', 0) + 1"

FAULTS = [
    # -- what may get lost
    _fault("usage_lost", "nothing_of_an_answer_is_lost", ('made["usage"] = counts(usage)', "pass")),
    _fault(
        "usage_of_the_other_side",
        "usage_means_what_it_says",
        ('= usage["promptTokenCount"]', '= usage["candidatesTokenCount"]'),
    ),
    _fault(
        "half_an_answer_is_whole",
        "an_end_at_the_limit_is_told",
        ('REASONS.get(word, "other")', '"stop"'),
    ),
    _fault(
        "any_end_is_good",
        "an_end_nobody_knows_is_no_good_end",
        ('REASONS.get(word, "other")', 'REASONS.get(word, "stop")'),
    ),
    _fault(
        "no_id",
        "the_id_of_an_answer_is_told",
        ('made["id"] = answer', 'made.setdefault("extra", {})["id"] = answer'),
    ),
    # -- streams
    _fault(
        "chunks_for_events",
        "a_stream_may_be_cut_anywhere",
        (
            "    while events := (yield from decoder.read(head)):\n",
            "    from lmgateway.types import read\n    feed = decoder.feed\n"
            "    decoder.feed = lambda data: feed(data) if data[-1:] == b'\\n' else feed(b'')\n"
            "    while events := (yield from decoder.read(head)):\n",
        ),
    ),
    _fault(
        "a_whole_answer_asked_for",
        "a_stream_is_asked_for",
        (" stream=stream,\n", " stream=False,\n"),
    ),
    _fault("texts_held_back", "pieces_arrive_as_they_come", *_HELD),
    _fault("nothing_early", "a_stream_need_not_be_at_its_end", *_HELD),
    _fault(
        "calls_doubled",
        "the_pieces_of_calls_make_the_calls",
        (_FRAGMENT, f"{_FRAGMENT}\n                    {_FRAGMENT}"),
    ),
    _fault(
        "another_end",
        "the_end_of_a_choice_is_told",
        ('finish_reason=answer["choices"][0].get("finish_reason")', 'finish_reason="length"'),
    ),
    _fault(
        "an_error_for_an_end",
        "an_error_within_a_stream_is_an_error",
        (
            'raise StreamInterruptedError(str(chunk["error"].get("message")))',
            "ended = True\n                continue",
        ),
    ),
    # -- calls of tools
    _fault(
        "arguments_lost",
        "calls_of_tools_are_read",
        ('"input": call.get("args", {})', '"input": {}'),
    ),
    _fault("names_not_streamed", "calls_of_tools_are_streamed", ('"name": call["name"],\n', "")),
    # -- turns
    _fault("state_not_sent", "a_turn_survives", (f"if state and {_SIGNED}", "if False")),
    _fault(
        "the_state_for_the_text",
        "an_edited_turn_is_sent_as_it_is_seen",
        ("NAMES = {", "MEMO = {}\nNAMES = {"),
        (
            f"if state and {_SIGNED}:\n        return list(state",
            "if MEMO:\n        return list(MEMO",
        ),
        ("    if hidden:\n", '    if hidden:\n        MEMO["turn"] = given\n'),
    ),
    _fault(
        "own_turns_only",
        "a_foreign_turn_is_sent_as_it_is_seen",
        (
            f"    if state and {_SIGNED}",
            f'    if not state:\n        raise InputError("no state")\n    if state and {_SIGNED}',
        ),
    ),
    _fault(
        "our_keys_sent",
        "none_of_our_keys_is_sent",
        ('contents.append({"role": "model",', 'contents.append({"state": 1, "role": "model",'),
    ),
    # -- errors
    _fault(
        "no_word_of_the_service",
        "the_message_of_the_service_is_kept",
        (_CHECKED, _RAISED.format(status="response.status", message='"it failed"')),
    ),
    _fault(
        "all_errors_alike",
        "an_error_in_the_services_form_is_its_status",
        (_CHECKED, _RAISED.format(status="500", message="response.body.decode()")),
    ),
    # -- parameters
    _fault(
        "always_4096",
        "two_values_are_two_requests",
        ("= value\n", '= 4096 if name == "max_tokens" else value\n'),
    ),
    _fault(
        "top_p_for_temperature",
        "each_parameter_has_its_own_place",
        ('"temperature": "temperature"', '"temperature": "topP"'),
    ),
    _fault(
        "a_call_not_required",
        "each_choice_of_tools_is_another_request",
        ('"required": "ANY"', '"required": "AUTO"'),
    ),
    _fault(
        "the_first_stop",
        "all_of_several_stops_are_sent",
        ("else list(stop)", "else list(stop)[:1]"),
    ),
    _fault(
        "one_model", "two_models_are_two_requests", ("{request.model}:{method}", "gem-pro:{method}")
    ),
    # -- histories
    _fault("roles_alike", "each_turn_says_whose_it_is", _SAID),
    _fault("a_system_text_of_the_users", "a_system_text_is_no_turn_of_the_users", _SYSTEM),
    _fault(
        "calls_forgotten",
        "calls_of_tools_and_their_results_are_sent",
        (
            'for call in message.get("tool_calls") or ():\n        arguments',
            "for call in ():\n        arguments",
        ),
    ),
    _fault(
        "the_first_system_text",
        "system_texts_go_with_calls_of_tools",
        ("for text in system]", "for text in system[:1]]"),
    ),
    _fault(
        "the_last_result",
        "two_calls_of_one_tool_stay_apart",
        ('contents[-1]["parts"].append(part)', 'contents[-1]["parts"] = [part]'),
    ),
    _fault(
        "the_first_text",
        "content_of_several_texts_is_sent_whole",
        ("[part_of(part) for part in content]", "[part_of(part) for part in content[:1]]"),
    ),
    _fault(
        "all_images_png",
        "what_is_no_text_is_sent_with_its_type",
        ('head[5:].partition(";")[0]', '"image/png"'),
    ),
    _fault(
        "addresses_left_out",
        "a_reference_to_an_image_is_sent_or_refused",
        ('raise InputError("give it as data")', 'return {"text": ""}'),
    ),
    _fault(
        "tools_without_parameters",
        "tools_are_sent_whole",
        ('made["parametersJsonSchema"] = function["parameters"]', "pass"),
    ),
    _fault(
        "answers_files_png",
        "a_file_of_an_answer_is_sent_with_its_type",
        ('"mimeType": part["media_type"]', '"mimeType": "image/png"'),
    ),
    _fault(
        "files_without_names",
        "a_file_is_sent_under_its_name",
        ('= part["file"]["filename"]', '= "file"'),
    ),
    _fault(
        "a_flag_turned",
        "a_flag_is_sent_the_right_way_round",
        ('= not request.params["parallel_tool_calls"]', '= request.params["parallel_tool_calls"]'),
    ),
    # -- what is left out, or moved
    _fault(
        "names_of_those_offered",
        "calls_are_named_where_no_tools_are_offered",
        (
            '"name": call["function"]["name"],\n                    "args"',
            '"name": "tool",\n                    "args"',
        ),
        ('names.get(message["tool_call_id"], "unknown")', '"unknown"'),
    ),
    _fault(
        "thirty_turns",
        "a_long_conversation_is_sent_whole",
        ("in request.messages or ()", "in (request.messages or ())[-30:]"),
    ),
    _fault(
        "the_last_of_one_side",
        "turns_of_one_side_are_all_sent",
        (
            '            contents.append({"role": "user", "parts": parts_of(message)})',
            '            if contents and contents[-1]["role"] == "user":\n'
            "                contents.pop()\n"
            '            contents.append({"role": "user", "parts": parts_of(message)})',
        ),
    ),
    _fault(
        "system_texts_turned",
        "system_texts_keep_their_order",
        ("system.append(text_of(message))", "system.insert(0, text_of(message))"),
    ),
    _fault(
        "results_without_ids",
        "results_in_any_order_find_their_calls",
        ('                    "id": message["tool_call_id"],\n', ""),
    ),
    _fault(
        "texts_before_images",
        "a_turn_keeps_its_order",
        (
            "    return [part_of(part) for part in content]",
            '    return sorted(map(part_of, content), key=lambda part: "text" not in part)',
        ),
    ),
    _fault(
        "odd_arguments_dropped",
        "odd_arguments_of_a_call_are_sent",
        ('return {"arguments": text}', "return {}"),
    ),
    _fault(
        "one_id_for_all_turns",
        "ids_that_are_made_differ",
        (
            'made["id"] = call.get("id") or derived_id(request, 0, calls)',
            'made["id"] = call.get("id") or f"call_{calls}"',
        ),
    ),
    # -- whose a turn is
    _fault(
        "roles_swapped",
        "a_conversation_is_told_as_a_prompt_is",
        (
            '{"role": "user", "parts": parts_of(message)}',
            '{"role": "m", "parts": parts_of(message)}',
        ),
        _SAID,
    ),
    _fault(
        "results_of_the_model",
        "calls_and_results_are_told_as_whose_they_are",
        (
            'contents.append({"role": "user", "parts": [part]})',
            'contents.append({"role": "model", "parts": [part]})',
        ),
    ),
    _fault(
        "system_texts_of_the_user",
        "a_system_text_comes_first",
        (
            '    body["contents"] = contents',
            "    for text in system:\n"
            "        contents.append({'role': 'user', 'parts': [{'text': text}]})\n"
            '    system = []\n    body["contents"] = contents',
        ),
    ),
    _fault(
        "failures_turned",
        "that_a_tool_failed_is_in_the_services_form",
        ('if message.get("is_error"):', 'if not message.get("is_error"):'),
    ),
    _fault(
        "said_twice",
        "a_turn_is_sent_once",
        ('return list(state["turn"])', 'return [*state["turn"], *parts_of(message)]'),
    ),
    _fault(
        "thoughts_said",
        "a_thought_is_not_sent_as_said",
        (
            "    parts = parts_of(message)\n    for call",
            "    parts = [{'text': message.get('reasoning', '')}]\n"
            "    parts += parts_of(message)\n    for call",
        ),
    ),
    # -- ends
    _fault(
        "calls_end_well",
        "an_end_with_calls_is_told",
        ('"tool_calls" if calls and reason == "stop" else reason', '"stop"'),
    ),
    _fault(
        "the_word_lost",
        "the_services_word_for_the_end_is_kept",
        ('        choice["finish_reason_raw"] = word\n', ""),
    ),
    # -- inputs
    _fault(
        "an_empty_text_breaks_it",
        "an_odd_text_is_sent_or_refused",
        ('[{"text": content}]', '[{"text": content, "first": content[0] * 0}]'),
    ),
    _fault(
        "a_clock_in_it",
        "the_same_call_is_the_same_request",
        (_BUILT, f"import time\n    {_BUILT}\n    body['at'] = int(time.time())"),
    ),
    _fault(
        "a_list_of_the_users",
        "nothing_of_the_users_is_changed",
        (
            _BUILT,
            f"from lmgateway.testing.conversations import TOOLS\n    {_CHANGED}\n    {_BUILT}",
        ),
    ),
    _fault(
        "a_second_call_differs",
        "defaults_stay_as_they_are",
        ("NAMES = {", "SEEN = []\nNAMES = {"),
        (_BUILT, f"{_BUILT}\n    SEEN.append(1)\n    body['call'] = len(SEEN)"),
    ),
    _fault(
        "developers_are_users",
        "a_developers_text_is_no_turn_of_the_users",
        ('role in ("system", "developer")', 'role == "system"'),
    ),
    _fault(
        "arguments_in_a_text",
        "arguments_are_written_once",
        ('"args": arguments,', '"args": json.dumps(json.dumps(arguments)),'),
    ),
    _fault(
        "thoughts_as_text",
        "thoughts_are_no_text",
        ('{"type": "reasoning", "text": part["text"]}', '{"type": "text", "text": part["text"]}'),
    ),
    _fault(
        "chunks_decoded_alone",
        "a_character_may_be_cut",
        (
            "    while events := (yield from decoder.read(head)):",
            "    from lmgateway.types import read\n\n"
            "    def chunks(head):\n"
            "        data = yield from read(head)\n"
            "        return decoder.feed(data.decode(errors='replace').encode())\n\n"
            "    while events := (yield from chunks(head)):",
        ),
    ),
    _fault(
        "the_first_call",
        "a_second_call_is_read",
        ("            parts.append(made)\n", "            parts += [made][: calls == 1]\n"),
    ),
    _fault(
        "the_first_block",
        "each_block_of_an_answer_is_read",
        ("    for part in given:\n", "    for part in given[:1]:\n"),
    ),
    _fault(
        "an_error_for_an_answer",
        "an_error_in_a_good_status_is_no_answer",
        (
            "def read_all(request, answer):\n",
            "def read_all(request, answer):\n"
            '    if isinstance(answer, dict) and "error" in answer:\n'
            '        answer = {"candidates": [{"content": {"parts": [{"text": "?"}]}}]}\n',
        ),
    ),
    # -- the other kinds
    _fault(
        "names_with_a_prefix",
        "a_model_is_listed_by_the_name_that_is_asked",
        ('each["name"].removeprefix("models/")', 'each["name"]'),
    ),
    _fault(
        "one_length_of_vectors",
        "what_shapes_vectors_is_sent_or_refused",
        ('= request.params["dimensions"]', "= 256"),
    ),
    _fault(
        "models_without_a_key",
        "every_kind_of_call_proves_who_asks",
        ('"/models", query=query, auth=auth(settings)', '"/models", query=query'),
    ),
    _fault(
        "free_vectors",
        "the_tokens_of_embeddings_are_counted",
        (', "usage": counts(answer.get("usageMetadata", {}))', ""),
    ),
    _fault("vectors_reversed", "each_text_gets_its_own_vector", (_VECTORS, f"{_VECTORS}[::-1]")),
    _fault("vectors_cut", "recorded_embeddings_are_read", ('each["values"]', 'each["values"][:1]')),
    _fault(
        "models_cut",
        "all_models_are_listed",
        ('page.get("models", ())', 'page.get("models", ())[:1]'),
    ),
    _fault(
        "the_first_page",
        "every_page_of_models_is_asked_for",
        ("        if not token:\n            return cards", "        return cards"),
    ),
    _fault(
        "scores_by_place",
        "each_document_gets_its_own_score",
        ("for place, score in scores]", "for place, (_, score) in enumerate(scores)]"),
    ),
    _fault(
        "the_last_turn_counted",
        "tokens_are_counted_of_all_that_is_sent",
        ('{"generateContentRequest": asked.json}', '{"contents": asked.json["contents"][-1:]}'),
    ),
    _fault(
        "one_model_for_vectors",
        "two_models_are_two_requests_of_each_kind",
        ('"model": f"models/{request.model}"', '"model": "models/gem"'),
        ("{request.model}:batchEmbedContents", "gem:batchEmbedContents"),
    ),
    _fault(
        "another_listing_when_awaited",
        "a_recorded_answer_of_each_kind_is_read",
        (
            "    cards, token = [], None\n",
            "    import asyncio\n    cards, token = [], None\n"
            "    try:\n        asyncio.get_running_loop()\n"
            "        cards.append({'id': 'awaited'})\n"
            "    except RuntimeError:\n        pass\n",
        ),
    ),
]
