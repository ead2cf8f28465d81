"""A provider that offers every kind of call."""

from __future__ import annotations

import json
from typing import Any

from lmgateway import hookimpl
from lmgateway._plugins import openai
from lmgateway.types import Flow, HTTPRequest, Request, RerankRequest, send
from lmgateway.wire.openai.faults import check


class Service:
    """OpenAI, and the kinds of call that it does not offer."""

    def __init__(self) -> None:
        for name in openai.__all__:
            setattr(self, name, getattr(openai, name))

    @hookimpl
    def lmgateway_rerank(self, request: RerankRequest, settings: openai.Settings) -> Flow[Any]:
        body = {**request.input, **request.params}
        return (yield from self._ask("/rerank", request, body, settings))

    @hookimpl
    def lmgateway_count(self, request: Request, settings: openai.Settings) -> Flow[Any]:
        return (yield from self._ask("/count", request, {"input": request.input}, settings))

    def _ask(self, path: str, request: Any, body: Any, settings: openai.Settings) -> Flow[Any]:
        where = openai.service(settings)
        body = {"model": request.model, **body}
        asked = HTTPRequest("POST", where.base_url, path, json=body, auth=where.auth)
        response = yield from send(asked)
        check(response)
        return json.loads(response.body)
