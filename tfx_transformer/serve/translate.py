"""The endpoint of translators."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from tfx_transformer.serve import sampling
from tfx_transformer.serve.completions import read_prompts, usage
from tfx_transformer.serve.endpoints import MODEL, Endpoint, listing
from tfx_transformer.serve.errors import JSON
from tfx_transformer.serve.fields import Field
from tfx_transformer.serve.limits import MOST_TEXTS
from tfx_transformer.serve.service import Call, Service
from tfx_transformer.serve.writing import Prompt

_TEXT = {"type": "string"}
_NAMES = ("max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop")


async def _translate(service: Service, call: Call) -> Response:
    given, beams = call.body["input"], call.body.get("beams", 1)
    options = sampling.options_of(call.body, beams=beams)
    all_ids, _ = await read_prompts(call, [given] if isinstance(given, str) else given, options)
    events: asyncio.Queue = asyncio.Queue()
    works = [
        Prompt(index, call.client, call.deadline, events, ids, options)
        for index, ids in enumerate(all_ids)
    ]
    written = await service.results(call, works, events)
    data = [
        {"index": index, "text": one.text, "finish_reason": one.reason}
        for index, one in enumerate(written)
    ]
    read = sum(map(len, all_ids))
    return JSON(
        {
            "object": "list",
            "model": call.served.id,
            "data": data,
            "usage": usage(read, written),
        }
    )


TRANSLATE = Endpoint(
    "/translate",
    "Translate a text, or several.",
    {
        "model": MODEL,
        "input": Field(
            {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "maxItems": MOST_TEXTS,
                               "items": _TEXT}]},
            "A text, or several.",
            needed=True,
        ),
        "beams": Field(
            {"type": "integer", "minimum": 1, "maximum": 64},
            "Width of beam search: 1, or the width for which the file was exported.",
        ),
        **{name: sampling.OPTIONS[name] for name in _NAMES},
    },
    listing(
        {
            "type": "object",
            "required": ["index", "text", "finish_reason"],
            "properties": {
                "index": {"type": "integer"},
                "text": {"type": "string"},
                "finish_reason": {"enum": ["stop", "length"]},
            },
        }
    ),
    _translate,
)  # fmt: skip
