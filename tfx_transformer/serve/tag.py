"""The endpoint of taggers."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response

from tfx_transformer.serve.endpoints import MODEL, Endpoint, listing
from tfx_transformer.serve.errors import JSON
from tfx_transformer.serve.fields import Field
from tfx_transformer.serve.limits import MOST_TEXTS
from tfx_transformer.serve.reading import read_inputs
from tfx_transformer.serve.service import Call, Service

# A long text is read to its end, in windows, so its length needs a bound.
_TEXT = {"type": "string", "maxLength": 20_000}
_TEXTS = {"type": "array", "minItems": 1, "maxItems": MOST_TEXTS, "items": _TEXT}


async def _tag(service: Service, call: Call) -> Response:
    given = call.body["input"]
    texts = [given] if isinstance(given, str) else given
    tokenizer = call.served.model.tokenizer
    counts: list[int] = []

    def read(texts: Sequence[str]) -> list[str]:
        counts.extend(map(tokenizer.count, texts))
        return list(texts)

    _, outputs = await read_inputs(service, call, texts, read, piece=1)
    data = [
        {"index": index, "spans": [one._asdict() for one in entities]}
        for index, entities in enumerate(outputs)
    ]
    usage = {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
    return JSON({"object": "list", "model": call.served.id, "data": data, "usage": usage})


TAG = Endpoint(
    "/tag",
    "Marked spans of texts, such as names, places and dates.",
    {
        "model": MODEL,
        "input": Field({"anyOf": [_TEXT, _TEXTS]}, "A text, or several.", needed=True),
    },
    listing(
        {
            "type": "object",
            "required": ["index", "spans"],
            "properties": {
                "index": {"type": "integer"},
                "spans": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["start", "end", "label", "text", "probability"],
                        "properties": {
                            "start": {"type": "integer", "description": "First character, from 0."},
                            "end": {
                                "type": "integer",
                                "description": "The character after the last one.",
                            },
                            "label": {"type": "string"},
                            "text": {"type": "string"},
                            "probability": {"type": "number"},
                        },
                    },
                },
            },
        }
    ),
    _tag,
)
