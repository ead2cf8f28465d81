"""Faults of the plugin ``anthropic``: a wire format of its own."""

from __future__ import annotations

from .faults import Fault, Target

__all__ = ["ANTHROPIC"]

_SOURCE = "plugins/anthropic/src/lmgateway_anthropic/"


def _fault(kind: str, name: str, file: str, old: str, new: str, **why: str) -> Fault:
    return Fault(kind, name, f"{_SOURCE}{file}.py", old, new, **why)


_SENT = "conversation.messages = list(_sent(turns))"
_USE = 'return {"type": "tool_use", "id": id_, "name": name, "input": arguments}'
_IMAGE = '''    source = {"type": "base64", "media_type": media_type, "data": data}
    return {"type": "image", "source": source, **_marks(part)}'''
_TAKEN = "body[name] = _taken(name, request.params[name], settings)"
_EMIT = """                for delta in message.take(_payload(event, request, head)):
                    yield Emit(delta)
        if not message.ended:"""

HISTORY = [
    _fault("history", "only the last turn is sent", "messages", _SENT, _SENT[:-1] + ")[-1:]"),
    _fault("history", "the first turn is dropped", "messages", _SENT, _SENT[:-2] + "[1:] or turns))"),
    _fault(
        "history",
        "the results of tools are dropped",
        "messages",
        '        if turn.results:\n            yield {"role"',
        '        if False:\n            yield {"role"',
    ),
    _fault(
        "history",
        "the calls of earlier turns are dropped",
        "messages",
        'turn.content = [*blocks, *(_noted(use, turn, calls) for use in uses if use["id"] not in known)]',
        '[_noted(use, turn, calls) for use in uses if use["id"] not in known]\n'
        '    turn.content = [*blocks] or "I called."',
    ),
    _fault(
        "history", "the arguments of calls are dropped", "messages", _USE, _USE.replace(": arguments", ": {}")
    ),
    _fault(
        "history",
        "the name of a call is lost",
        "messages",
        _USE,
        _USE.replace('"name": name', '"name": "tool"'),
    ),
    _fault(
        "history",
        "the text beside calls is dropped",
        "messages",
        'content = [{"type": "text", "text": content}] if content.strip() else []',
        "content = []",
    ),
    _fault(
        "history",
        "a result is sent empty",
        "messages",
        '"content": content or "",',
        '"content": "",',
    ),
    _fault(
        "history",
        "a tool that failed is sent as one that did not",
        "messages",
        'if message.get("is_error"):',
        "if False:",
    ),
    _fault(
        "history",
        "the turns are sent in reverse",
        "messages",
        'for turn in turns:\n        yield {"role"',
        'for turn in reversed(turns):\n        yield {"role"',
    ),
    _fault(
        "history",
        "all results are those of the first call",
        "messages",
        '"tool_use_id": call.sent,',
        '"tool_use_id": turn.calls[0].sent,',
    ),
    _fault(
        "history",
        "of several parts only the first is sent",
        "content",
        "for n, part in enumerate(parts)]\n    return",
        "for n, part in enumerate(parts[:1])]\n    return",
    ),
    _fault(
        "history",
        "the texts of a conversation are trimmed",
        "messages",
        'turns.append({"role": role, "content": content})',
        'turns.append({"role": role, "content": content.strip()})',
    ),
]

ROLES = [
    _fault(
        "roles",
        "all that was said is the user's, in a conversation of texts",
        "messages",
        'turns.append({"role": role, "content": content})',
        'turns.append({"role": "user", "content": content})',
    ),
    _fault(
        "roles",
        "all that was said is the user's",
        "messages",
        'yield {"role": turn.role, "content": turn.content}',
        'yield {"role": "user", "content": turn.content}',
    ),
    _fault(
        "roles",
        "the results of tools are the assistant's",
        "messages",
        'yield {"role": "user", "content": turn.results}',
        'yield {"role": "assistant", "content": turn.results}',
    ),
    _fault(
        "roles",
        "user and assistant are swapped",
        "messages",
        'yield {"role": turn.role, "content": turn.content}',
        'yield {"role": {"user": "assistant"}.get(turn.role, "user"), "content": turn.content}',
    ),
    _fault(
        "roles",
        "a system text among texts is dropped",
        "messages",
        "before.append(content)",
        "pass",
    ),
    _fault(
        "roles",
        "a system text of a tool's conversation is dropped",
        "messages",
        "system.append(plain_text(message, where))",
        "plain_text(message, where)",
    ),
    _fault(
        "roles",
        "a system message replaces the LM's system text",
        "messages",
        "    system += before\n",
        "    system[:] = before or system\n",
    ),
    _fault(
        "roles",
        "of two system texts only the first is sent",
        "messages",
        'conversation.system = "\\n\\n".join(system)',
        'conversation.system = "".join(system[:1])',
    ),
    _fault(
        "roles",
        "the system text before a prompt is dropped",
        "messages",
        'return Conversation("\\n\\n".join(system), [turn])',
        'return Conversation("", [turn])',
    ),
    _fault(
        "roles",
        "a system text is sent as the user's turn",
        "build",
        '        body["system"] = conversation.system\n',
        '        conversation.messages.insert(0, {"role": "user", "content": conversation.system})\n',
    ),
]

IMAGES = [
    _fault("images", "every image is a JPEG", "content", _IMAGE, _IMAGE.replace(": media_type", ': "image/jpeg"')),
    _fault("images", "the data of an image is cut", "content", _IMAGE, _IMAGE.replace(": data}", ": data[:-4]}")),
    _fault(
        "images",
        "an image behind a URL is sent as data",
        "content",
        '"source": {"type": "url", "url": url}',
        '"source": {"type": "base64", "media_type": "image/png", "data": url}',
    ),
    _fault(
        "images",
        "an image becomes a word",
        "content",
        'return _image(image.get("url"), image, part, f"{where}.image_url.detail", where)',
        'return {"type": "text", "text": "(an image)"}',
    ),
    _fault(
        "images",
        "the whole data URL is sent as data",
        "content",
        "return (found[1].lower(), found[2]) if found",
        "return (found[1].lower(), url) if found",
    ),
    _fault(
        "images",
        "a PDF has the type of anything",
        "content",
        'return {"type": "base64", "media_type": media_type, "data": data}',
        'return {"type": "base64", "media_type": "application/octet-stream", "data": data}',
    ),
    _fault(
        "images",
        "a file's name is dropped",
        "content",
        'title = {"title": name} if isinstance(name, str) else {}',
        "title: Block = {}",
    ),
    _fault(
        "images",
        "the parts of a message are reversed",
        "content",
        "    return [block for block in blocks if not is_blank(block)]",
        "    return [block for block in blocks[::-1] if not is_blank(block)]",
    ),
]

PARAMETERS = [
    _fault(
        "parameters",
        "one parameter is dropped",
        "build",
        "        if name in request.params:\n",
        '        if name in request.params and name != "top_k":\n',
    ),
    _fault("parameters", "numbers are rounded", "build", _TAKEN, _TAKEN + "\n            if isinstance(body[name], float):\n                body[name] = round(body[name])"),
    _fault("parameters", "every temperature is 1", "build", _TAKEN, _TAKEN + '\n            if name == "temperature":\n                body[name] = 1'),
    _fault("parameters", "of several stops the first is sent", "build", "else list(stop)", "else list(stop)[:1]"),
    _fault("parameters", "a stop is sent letter by letter", "build", "[stop] if isinstance(stop, str) else list(stop)", "list(stop)"),
    _fault(
        "parameters",
        "only the first tool is offered",
        "build",
        "for place, tool in enumerate(tools)]",
        "for place, tool in enumerate(tools[:1])]",
    ),
    _fault(
        "parameters",
        "a tool's description is dropped",
        "build",
        'for name in ("description", "strict")',
        'for name in ("strict",)',
    ),
    _fault(
        "parameters",
        "a tool's parameters are dropped",
        "build",
        'function.get("parameters") or {"type"',
        '{"type"',
    ),
    _fault("parameters", "a call that is required is optional", "build", '"required": "any"', '"required": "auto"'),
    _fault(
        "parameters",
        "any tool is called for the one that was named",
        "build",
        'chosen = {"type": "tool", "name": name}',
        'chosen = {"type": "any"}',
    ),
    _fault(
        "parameters",
        "calls in parallel are asked for the wrong way round",
        "build",
        '= not parallel',
        '= parallel',
    ),
    _fault(
        "parameters",
        "every effort is high",
        "build",
        'output["effort"] = _effort(params["reasoning_effort"])',
        'output["effort"] = "high"',
    ),
    _fault(
        "parameters",
        "of a schema only the type is sent",
        "build",
        '"schema": dict(request.schema)',
        '"schema": {"type": "object"}',
    ),
    _fault("parameters", "one model is asked, whichever was named", "build", '"model": request.model', '"model": "claude"'),
    _fault("parameters", "extra_body is dropped", "build", "    body.update(extra)\n", ""),
]

USAGE = [
    _fault("usage", "cached tokens are not the prompt's", "parse", "asked + cached + written", "asked + written"),
    _fault("usage", "tokens written to the cache are not the prompt's", "parse", "asked + cached + written", "asked + cached"),
    _fault("usage", "the answer's tokens are dropped", "parse", 'usage["completion_tokens"] = answered', "pass"),
    _fault(
        "usage",
        "prompt and answer are swapped",
        "parse",
        'asked, answered = _tokens(fields, "input_tokens"), _tokens(fields, "output_tokens")',
        'answered, asked = _tokens(fields, "input_tokens"), _tokens(fields, "output_tokens")',
    ),
    _fault("usage", "the total is the prompt's", "parse", '= prompt + answered', '= prompt'),
    _fault("usage", "all usage is dropped", "parse", "if counted := read_usage(usage):", "if counted := read_usage(None):"),
    _fault("usage", "the last count of a stream is dropped", "growth", '                self._count(event.get("usage"))\n', ""),
    _fault(
        "usage",
        "the first count of a stream is dropped",
        "growth",
        'self._count(self._fields.pop("usage", None))',
        'self._fields.pop("usage", None)',
    ),
    _fault(
        "usage",
        "a stream's counts are added up",
        "growth",
        "self.usage.update({k: v for k, v in usage.items() if v is not None})",
        "self.usage.update(\n                {k: v + self.usage.get(k, 0) if type(v) is int else v for k, v in usage.items()}\n            )",
    ),
    _fault("usage", "cached tokens are not told", "parse", 'usage["cached_tokens"] = cached', "pass"),
    _fault("usage", "what else the service counts is dropped", "parse", "    if _holds_more(fields):\n", "    if False:\n"),
    _fault("usage", "tokens of thinking are dropped", "parse", 'usage["reasoning_tokens"] = thought', "pass"),
]

CALLS = [
    _fault("tool calls", "a call's arguments are lost", "blocks", 'text = given if isinstance(given, str) else write(given, "input")', 'text = "{}"'),
    _fault("tool calls", "a call's id is lost", "blocks", 'return {"id": part["id"], "type": "function"', 'return {"id": "call_0", "type": "function"'),
    _fault("tool calls", "a call's name is lost", "blocks", 'function = {"name": part["name"], "arguments"', 'function = {"name": "tool", "arguments"'),
    _fault("tool calls", "arguments are no JSON", "blocks", 'text = given if isinstance(given, str) else write(given, "input")', 'text = str(given)'),
    _fault("tool calls", "only the first call is told", "blocks", "[_call(part) for part in made]", "[_call(part) for part in made[:1]]"),
    _fault("tool calls", "calls are dropped", "blocks", "    if made:\n", "    if False:\n"),
    _fault("tool calls", "pieces of a call are doubled", "growth", 'function = {"arguments": piece}', 'function = {"arguments": piece * 2}'),
    _fault("tool calls", "a call is not shown as it comes", "growth", '            yield Delta(tool_calls=({"index": self._calls[place], "function": function},))', "            return"),
    _fault("tool calls", "the first piece of a call has no name", "growth", 'function = {"name": block["name"], "arguments": ""}', 'function = {"arguments": ""}'),
    _fault("tool calls", "the first piece of a call has no id", "growth", 'call = {"id": block["id"], "type"', 'call = {"type"'),
    _fault("tool calls", "pieces of a call have no index", "growth", 'yield Delta(tool_calls=({"index": self._calls[place], "function": function},))', 'yield Delta(tool_calls=({"function": function},))'),
    _fault("tool calls", "all calls of a stream are number 0", "growth", "self._calls[place] = len(self._calls)", "self._calls[place] = 0"),
    _fault("tool calls", "a stream's arguments are lost at its end", "growth", "    return value if isinstance(value, dict) else text\n", "    return {}\n"),
    _fault("tool calls", "a call is shown once more at its end", "growth", '        if self._blocks[place].get("type") not in tuple(SHOWN_AS_TEXT):', '        if place in self._calls:\n            yield from self._show(place, "input", str(self._pieces[place]))\n        if self._blocks[place].get("type") not in tuple(SHOWN_AS_TEXT):'),
]

ENDINGS = [
    _fault("finish reasons", "a call ends with stop", "parse", '"tool_use": "tool_calls"', '"tool_use": "stop"'),
    _fault("finish reasons", "a cut ends with stop", "parse", '"max_tokens": "length"', '"max_tokens": "stop"'),
    _fault("finish reasons", "the service's word for a cut is handed on", "parse", '"max_tokens": "length"', '"max_tokens": "max_tokens"'),
    _fault("finish reasons", "the service's words are handed on", "parse", '_FINISH_REASONS.get(reason, "other")', "str(reason)"),
    _fault("finish reasons", "no reason is told", "parse", 'choice["finish_reason"] = finish_reason(reason)', 'choice["finish_reason"] = None'),
    _fault("finish reasons", "the last piece tells no reason", "growth", "yield Delta(finish_reason=finish_reason(reason))", "pass"),
    _fault("finish reasons", "the service's own word is lost", "parse", 'choice["finish_reason_raw"] = mend(reason)', "pass"),
    _fault("finish reasons", "a stream's end is not read", "growth", "self._fields.update(delta)", "pass"),
    _fault("finish reasons", "a word that is not known is a stop", "parse", 'get(reason, "other")', 'get(reason, "stop")'),
    _fault("finish reasons", "a refusal is an answer", "parse", 'if reason == "refusal":', "if False:"),
    _fault("finish reasons", "a stream's last piece has the service's word", "growth", "yield Delta(finish_reason=finish_reason(reason))", "yield Delta(finish_reason=reason)"),
]

TIMING = [
    _fault("stream timing", "all is kept until the end", "stream", _EMIT, """                held = [*locals().get("held", ()), *message.take(_payload(event, request, head))]
        for delta in locals().get("held", ()):
            yield Emit(delta)
        if not message.ended:"""),
    _fault("stream timing", "a text is kept until its block ends", "growth", '            yield Delta(piece)\n', '            if not self._pieces[place]._half and self._last is None:\n                yield Delta(str(self._pieces[place]))\n'),
    _fault("stream timing", "the body is read to its end first", "stream", "        decoder = Decoder()\n", "        from dataclasses import replace\n\n        from lmgateway.testing.wire import Pieces\n        from lmgateway.types import read_all\n\n        whole = yield from read_all(body)\n        body = replace(body, source=Pieces([whole]))\n        decoder = Decoder()\n"),
    _fault("stream timing", "no stream is asked for", "build", "        stream=request.stream,\n", ""),
    _fault("stream timing", "the service is not told to stream", "build", '        body["stream"] = True\n', "        pass\n"),
    _fault("stream timing", "nothing is shown until a call or the end", "growth", "            yield Delta(piece)\n", "            pass\n"),
    _fault("stream timing", "the pieces of a text are doubled", "growth", "            yield Delta(piece)\n", "            yield Delta(piece + piece)\n"),
    _fault("stream timing", "thoughts are shown as the text", "growth", "yield Delta(reasoning=piece)", "yield Delta(piece)"),
    _fault("stream timing", "thoughts are not shown", "growth", "yield Delta(reasoning=piece)", "pass"),
]

ERRORS = [
    _fault("errors", "a status is not looked at", "parse", "    check(response, request)\n    message: JSON", "    message: JSON"),
    _fault("errors", "a stream's status is not looked at", "stream", "        check(head, request)\n        body", "        body"),
    _fault("errors", "an error among the events is passed over", "stream", '    if event.event == "error":\n        raise service_error(payload, head.headers, request)\n', '    if event.event == "error":\n        return {}\n'),
    _fault("errors", "an error in a 200 is not seen", "parse", 'if message.get("type") == "error":', "if False:"),
    _fault("errors", "a stream without its end is an answer", "stream", '            raise _interrupted("the stream ended before the answer did", message)\n', "            pass\n"),
    _fault("errors", "a broken stream does not say what had come", "stream", "    error.partial = message.text or None\n    error.retryable = error.partial is None", "    error.partial = None\n    error.retryable = False"),
    _fault("errors", "a stream that breaks off keeps its own error", "stream", "elif isinstance(error, ConnectionFailedError):", "elif False:"),
    _fault("errors", "the wait that a service asks for is lost", "parse", "    check(response, request)\n    message: JSON", "    check(HTTPResponse(response.status, {}, response.body), request)\n    message: JSON"),
    _fault("errors", "an answer without content is an empty one", "parse", '        raise ResponseFormatError("content is missing in the answer, a list was expected")', "        blocks = []"),
    _fault("errors", "an answer that is no object is an empty one", "parse", '        raise ResponseFormatError("the answer is no object")', '        return {"prompt": request.input, "choices": [{"text": ""}]}'),
]

STATE = [
    _fault("state", "no state is given", "blocks", "if _is_needed(blocks, request) and", "if False and"),
    _fault("state", "a turn's state is not sent", "messages", "    return blocks or None\n", "    return None\n"),
    _fault("state", "of a turn only its calls are kept", "blocks", "        turn.append(block)\n", '        if part["type"] == "tool_call":\n            turn.append(block)\n'),
    _fault("state", "signatures are not kept", "blocks", "        turn.append(block)\n", '        turn.append({k: v for k, v in block.items() if k != "signature"})\n'),
    _fault("state", "a stream loses signatures", "growth", "            block[name] = before + value if goes_on else value", "            pass"),
    _fault("state", "thoughts are not kept", "blocks", "        turn.append(block)\n", '        if part["type"] != "reasoning":\n            turn.append(block)\n'),
    _fault("state", "a state is sent beside what can be seen", "messages", "        turn.content = [_noted(block, turn, calls) for block in given]\n        return turn\n", '        turn.content = [_noted(block, turn, calls) for block in given]\n        turn.content += [{"type": "text", "text": str(message.get("content"))}]\n        return turn\n'),
    _fault("state", "a foreign state is sent as its own", "messages", 'state.get("format") != FORMAT', "False", equivalent="the core takes states of other formats out before"),
    _fault("state", "the reasoning of a turn is sent as text", "messages", "    content = content_of(message, where)\n    refusal", '    content = message.get("reasoning", "") + str(content_of(message, where))\n    refusal'),
    _fault("state", "a turn without its state is refused", "messages", "    given = _given(message, where)\n    if given is not None:", '    given = _given(message, where)\n    if given is None and message.get("tool_calls"):\n        raise InputError(f"{where} has no state")\n    if given is not None:'),
]

MODELS = [
    _fault("models", "only the first model is listed", "__init__", "return parse_models((yield from send(models_request(settings))))", "return parse_models((yield from send(models_request(settings))))[:1]"),
    _fault("models", "no models are listed", "__init__", "return parse_models((yield from send(models_request(settings))))", "parse_models((yield from send(models_request(settings))))\n    return []"),
    _fault("models", "the models are asked for without a key", "build", '        headers=_headers(settings),\n        auth=_auth(settings),\n    )\n', '        headers=_headers(settings),\n    )\n'),
]

ANTHROPIC = Target(
    "anthropic",
    "plugins/anthropic/tests/test_contract.py",
    ("prompt", "prompt-stream", "tools", "tools-stream", "wrong-key"),
    (
        *(*HISTORY, *ROLES, *IMAGES, *PARAMETERS, *USAGE, *CALLS),
        *(*ENDINGS, *TIMING, *ERRORS, *STATE, *MODELS),
    ),
)
