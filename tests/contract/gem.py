"""A provider with a wire format unlike OpenAI's; faults are planted in it."""

from __future__ import annotations

import json

from pydantic import BaseModel, SecretStr

from lmgateway import hookimpl
from lmgateway.errors import InputError, ResponseFormatError, StreamInterruptedError
from lmgateway.types import Delta, Emit, HTTPRequest, Info, derived_id, send
from lmgateway.wire.openai import check, load
from lmgateway.wire.sse import Decoder, opened


class Settings(BaseModel):
    api_base: str = "https://gem.example/v1beta"
    api_key: SecretStr


@hookimpl
def lmgateway_settings():
    return Settings


PARAMS = {
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "stop",
    "seed",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "presence_penalty",
}


@hookimpl
def lmgateway_info():
    return Info(
        api=2,
        capabilities=frozenset(
            {"messages", "system", "schema", "tools", "images", "files", "audio"}
        ),
        params=frozenset(PARAMS),
        default_model="gem-pro",
    )


NAMES = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "max_tokens": "maxOutputTokens",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
}


def auth(settings):
    return lambda: {"x-goog-api-key": settings.api_key.get_secret_value()}


def build(request, settings, stream=False):
    body = {}
    contents, system = [], []
    if request.system is not None:
        system.append(request.system)
    if request.prompt is not None:
        contents.append({"role": "user", "parts": [{"text": request.prompt}]})
    names = {}
    for message in request.messages or ():
        role = message["role"]
        if role in ("system", "developer"):
            system.append(text_of(message))
        elif role == "tool":
            part = {
                "functionResponse": {
                    "name": names.get(message["tool_call_id"], "unknown"),
                    "id": message["tool_call_id"],
                    "response": {"result": text_of(message)},
                }
            }
            if message.get("is_error"):
                part["functionResponse"]["response"] = {"error": text_of(message)}
            if (
                contents
                and contents[-1]["role"] == "user"
                and "functionResponse" in contents[-1]["parts"][-1]
            ):
                contents[-1]["parts"].append(part)
            else:
                contents.append({"role": "user", "parts": [part]})
        elif role == "assistant":
            for call in message.get("tool_calls") or ():
                names[call["id"]] = call["function"]["name"]
            contents.append({"role": "model", "parts": said(message)})
        else:
            contents.append({"role": "user", "parts": parts_of(message)})
    body["contents"] = contents
    if system:
        body["systemInstruction"] = {"parts": [{"text": text} for text in system]}
    config = {}
    for name, value in request.params.items():
        if name in NAMES:
            config[NAMES[name]] = value
    if "stop" in request.params:
        stop = request.params["stop"]
        config["stopSequences"] = [stop] if isinstance(stop, str) else list(stop)
    if request.schema is not None:
        config["responseMimeType"] = "application/json"
        config["responseJsonSchema"] = dict(request.schema)
    if config:
        body["generationConfig"] = config
    if request.params.get("tools"):
        body["tools"] = [
            {"functionDeclarations": [declared(tool) for tool in request.params["tools"]]}
        ]
    if "parallel_tool_calls" in request.params:
        body["disableParallelCalls"] = not request.params["parallel_tool_calls"]
    if "tool_choice" in request.params:
        body["toolConfig"] = {"functionCallingConfig": chosen(request.params["tool_choice"])}
    method = "streamGenerateContent" if stream else "generateContent"
    query = {"alt": "sse"} if stream else {}
    return HTTPRequest(
        "POST",
        settings.api_base,
        f"/models/{request.model}:{method}",
        query=query,
        json=body,
        auth=auth(settings),
        stream=stream,
    )


def declared(tool):
    function = tool["function"]
    made = {"name": function["name"]}
    if "description" in function:
        made["description"] = function["description"]
    if "parameters" in function:
        made["parametersJsonSchema"] = function["parameters"]
    return made


def chosen(choice):
    if isinstance(choice, str):
        modes = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
        if choice not in modes:
            raise InputError("no such tool_choice")
        return {"mode": modes[choice]}
    return {"mode": "ANY", "allowedFunctionNames": [choice["function"]["name"]]}


def text_of(message):
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def said(message):
    state = message.get("state")
    if state and state["format"] == "gem.contents":
        return list(state["turn"])
    parts = parts_of(message)
    for call in message.get("tool_calls") or ():
        arguments = load_arguments(call["function"]["arguments"])
        parts.append(
            {
                "functionCall": {
                    "id": call["id"],
                    "name": call["function"]["name"],
                    "args": arguments,
                }
            }
        )
    return parts


def load_arguments(text):
    try:
        return json.loads(text or "{}")
    except ValueError:
        return {"arguments": text}


def parts_of(message):
    content = message.get("content")
    if content is None:
        return []
    if isinstance(content, str):
        return [{"text": content}]
    return [part_of(part) for part in content]


def part_of(part):
    kind = part["type"]
    if kind == "text":
        return {"text": part["text"]}
    if kind == "image_url":
        return inline(part["image_url"]["url"])
    if kind == "file":
        if "file" not in part:  # as answers have it
            data = {"mimeType": part["media_type"], "data": part["data"]}
            return {"inlineData": data}
        made = inline(part["file"]["file_data"])
        made["inlineData"]["displayName"] = part["file"]["filename"]
        return made
    if kind == "input_audio":
        return {
            "inlineData": {
                "mimeType": "audio/" + part["input_audio"]["format"],
                "data": part["input_audio"]["data"],
            }
        }
    raise InputError("unknown part")


def inline(url):
    if not url.startswith("data:"):
        raise InputError("give it as data")
    head, _, data = url.partition(",")
    return {"inlineData": {"mimeType": head[5:].partition(";")[0], "data": data}}


REASONS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
}


def parse(request, response):
    check(response, request)
    return read_all(request, load(response.body))


def read_all(request, answer):
    if (
        not isinstance(answer, dict)
        or not isinstance(answer.get("candidates"), list)
        or not answer["candidates"]
    ):
        raise ResponseFormatError("no candidates")
    candidate = answer["candidates"][0]
    given = (candidate.get("content") or {}).get("parts") or []
    parts, calls, hidden = [], 0, False
    for part in given:
        if "functionCall" in part:
            call = part["functionCall"]
            made = {"type": "tool_call", "name": call["name"], "input": call.get("args", {})}
            made["id"] = call.get("id") or derived_id(request, 0, calls)
            calls += 1
            parts.append(made)
        elif part.get("thought"):
            parts.append({"type": "reasoning", "text": part["text"]})
        elif "text" in part:
            if part["text"]:
                parts.append({"type": "text", "text": part["text"]})
        elif "inlineData" in part:
            parts.append(
                {
                    "type": "file",
                    "media_type": part["inlineData"]["mimeType"],
                    "data": part["inlineData"]["data"],
                }
            )
        else:
            parts.append({"type": "custom", "kind": "gem.part", "value": part})
        hidden = hidden or "thoughtSignature" in part
    word = candidate.get("finishReason")
    if word is None and not given:
        raise ResponseFormatError("nothing")
    choice = {"parts": parts, "index": 0}
    if word is not None:
        reason = REASONS.get(word, "other")
        choice["finish_reason"] = "tool_calls" if calls and reason == "stop" else reason
        choice["finish_reason_raw"] = word
    if hidden:
        choice["state"] = {"format": "gem.contents", "turn": given}
    extra = {k: v for k, v in candidate.items() if k not in ("content", "finishReason", "index")}
    if extra:
        choice["extra"] = extra
    made = {"prompt": request.input, "choices": [choice]}
    usage = answer.get("usageMetadata")
    if isinstance(usage, dict):
        made["usage"] = counts(usage)
    if isinstance(answer.get("modelVersion"), str):
        made["model"] = answer["modelVersion"]
    if isinstance(answer.get("responseId"), str):
        made["id"] = answer["responseId"]
    extra = {
        k: v
        for k, v in answer.items()
        if k not in ("candidates", "usageMetadata", "modelVersion", "responseId")
    }
    if extra:
        made["extra"] = extra
    return made


def counts(usage):
    made = {"details": usage}
    thought = usage.get("thoughtsTokenCount", 0)
    if "promptTokenCount" in usage:
        made["prompt_tokens"] = usage["promptTokenCount"]
    if "candidatesTokenCount" in usage or thought:
        made["completion_tokens"] = usage.get("candidatesTokenCount", 0) + thought
    if "totalTokenCount" in usage:
        made["total_tokens"] = usage["totalTokenCount"]
    if thought:
        made["reasoning_tokens"] = thought
    if usage.get("cachedContentTokenCount"):
        made["cached_tokens"] = usage["cachedContentTokenCount"]
    return made


@hookimpl
def lmgateway_complete(request, settings):
    response = yield from send(build(request, settings))
    return parse(request, response)


@hookimpl
def lmgateway_stream(request, settings):
    head = yield from send(build(request, settings, stream=True))
    check(head, request)
    head = yield from opened(head)
    if head.source is None:
        answer = parse(request, head)
        for part in answer["choices"][0]["parts"]:
            if part["type"] == "text":
                yield Emit(part["text"])
            elif part["type"] == "reasoning":
                yield Emit(Delta(reasoning=part["text"]))
        return answer
    decoder = Decoder()
    whole, parts, calls = {}, [], 0
    ended = False
    while events := (yield from decoder.read(head)):
        for event in events:
            chunk = load(event.data)
            if "error" in chunk:
                raise StreamInterruptedError(str(chunk["error"].get("message")))
            candidate = (chunk.get("candidates") or [{}])[0]
            for part in (candidate.get("content") or {}).get("parts") or ():
                parts.append(part)
                if "functionCall" in part:
                    call = part["functionCall"]
                    fragment = {
                        "index": calls,
                        "id": call.get("id") or derived_id(request, 0, calls),
                        "type": "function",
                        "function": {
                            "name": call["name"],
                            "arguments": json.dumps(call.get("args", {})),
                        },
                    }
                    calls += 1
                    yield Emit(Delta(tool_calls=[fragment]))
                elif part.get("thought"):
                    yield Emit(Delta(reasoning=part["text"]))
                elif part.get("text"):
                    yield Emit(part["text"])
            whole = {
                **whole,
                **chunk,
                "candidates": [{**(whole.get("candidates") or [{}])[0], **candidate}],
            }
            ended = ended or "finishReason" in candidate
    if not ended:
        raise StreamInterruptedError("no finishReason came")
    whole["candidates"][0]["content"] = {"role": "model", "parts": parts}
    answer = read_all(request, whole)
    yield Emit(Delta(finish_reason=answer["choices"][0].get("finish_reason")))
    return answer


@hookimpl
def lmgateway_models(settings):
    cards, token = [], None
    while True:
        query = {"pageToken": token} if token else {}
        response = yield from send(
            HTTPRequest("GET", settings.api_base, "/models", query=query, auth=auth(settings))
        )
        check(response)
        page = load(response.body)
        if not isinstance(page, dict):
            raise ResponseFormatError("no listing")
        for each in page.get("models", ()):
            card = {"id": each["name"].removeprefix("models/")}
            if "inputTokenLimit" in each:
                card["context_length"] = each["inputTokenLimit"]
            cards.append(card)
        token = page.get("nextPageToken")
        if not token:
            return cards


@hookimpl
def lmgateway_embed(request, settings):
    requests = [
        {"model": f"models/{request.model}", "content": {"parts": [{"text": text}]}}
        for text in request.texts
    ]
    if "dimensions" in request.params:
        for each in requests:
            each["outputDimensionality"] = request.params["dimensions"]
    response = yield from send(
        HTTPRequest(
            "POST",
            settings.api_base,
            f"/models/{request.model}:batchEmbedContents",
            json={"requests": requests},
            auth=auth(settings),
        )
    )
    check(response)
    answer = load(response.body)
    if not isinstance(answer, dict) or not isinstance(answer.get("embeddings"), list):
        raise ResponseFormatError("no embeddings")
    try:
        vectors = [each["values"] for each in answer["embeddings"]]
        return {"embeddings": vectors, "usage": counts(answer.get("usageMetadata", {}))}
    except (KeyError, TypeError):
        raise ResponseFormatError("no values") from None


@hookimpl
def lmgateway_count(request, settings):
    asked = build(request, settings)
    response = yield from send(
        HTTPRequest(
            "POST",
            settings.api_base,
            f"/models/{request.model}:countTokens",
            json={"generateContentRequest": asked.json},
            auth=auth(settings),
        )
    )
    check(response, request)
    answer = load(response.body)
    if not isinstance(answer, dict) or not isinstance(answer.get("totalTokens"), int):
        raise ResponseFormatError("no totalTokens")
    return {"prompt_tokens": answer["totalTokens"]}


@hookimpl
def lmgateway_rerank(request, settings):
    body = {"model": request.model, "query": request.query, "documents": list(request.documents)}
    base, own = settings.api_base, auth(settings)
    response = yield from send(HTTPRequest("POST", base, "/rank", json=body, auth=own))
    check(response)
    answer = load(response.body)
    if not isinstance(answer, dict) or not isinstance(answer.get("results"), list):
        raise ResponseFormatError("no results")
    scores = [(each["index"], each["relevance_score"]) for each in answer["results"]]
    return {"results": [{"index": place, "score": score} for place, score in scores]}
