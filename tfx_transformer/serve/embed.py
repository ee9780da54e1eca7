"""The endpoint of embedders: OpenAI's embeddings."""

from __future__ import annotations

import base64

import numpy as np
from starlette.responses import Response

from tfx_transformer.errors import InputError
from tfx_transformer.serve.endpoints import MODEL, Endpoint, listing
from tfx_transformer.serve.errors import JSON, Refusal
from tfx_transformer.serve.fields import Field
from tfx_transformer.serve.limits import MOST_INPUTS
from tfx_transformer.serve.reading import read_inputs
from tfx_transformer.serve.sampling import NEUTRAL
from tfx_transformer.serve.service import Call, Service

_TEXT = {"type": "string"}
_IDS = {"type": "array", "items": {"type": "integer"}}
_LIST = {"type": "array", "minItems": 1, "maxItems": MOST_INPUTS}


async def _embed(service: Service, call: Call) -> Response:
    model, given = call.served.model, call.body["input"]
    inputs = [given] if isinstance(given, str) else given
    if not all(isinstance(one, str) for one in inputs):
        raise Refusal(
            400,
            "The field 'input' holds token ids, which are those of another tokenizer. Send texts "
            "(LangChain: check_embedding_ctx_length=False).",
            "invalid_value",
            "input",
        )
    prompt, width = call.body.get("prompt_name"), call.body.get("dimensions")
    try:
        model.check_width(width)
    except InputError as error:
        raise Refusal(400, str(error), "invalid_value", "dimensions") from error
    rows, outputs = await read_inputs(
        service, call, inputs, lambda texts: model.rows(model.add_prompts(texts, prompt))
    )
    as_text = call.body.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _base64(vector) if as_text else vector.tolist(),
        }
        for index, vector in enumerate(model.cut(np.array(outputs), width))
    ]
    tokens = sum(map(len, rows))
    counted = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSON({"object": "list", "model": call.served.id, "data": data, "usage": counted})


def _base64(vector: np.ndarray) -> str:
    """Return a vector in OpenAI's form: little-endian float32, in base64."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


EMBEDDINGS = Endpoint(
    "/v1/embeddings",
    "Vectors of texts.",
    {
        "model": MODEL,
        "input": Field(
            {"anyOf": [_TEXT, _LIST | {"items": {"anyOf": [_TEXT, {"type": "integer"}, _IDS]}}]},
            "A text, or several.",
            needed=True,
        ),
        "encoding_format": Field(
            {"type": "string", "enum": ["float", "base64"]}, "Format of vectors. Default: float."
        ),
        "dimensions": Field(
            {"type": "integer", "minimum": 1},
            "Numbers of each vector: all, or one of the widths that the model was trained for.",
        ),
        "prompt_name": Field(
            {"type": "string", "maxLength": 200},
            'Name of the model\'s prompt to put before each text, such as "query".',
        ),
        "user": NEUTRAL["user"],
    },
    listing(
        {
            "type": "object",
            "required": ["object", "index", "embedding"],
            "properties": {
                "object": {"const": "embedding"},
                "index": {"type": "integer"},
                "embedding": {
                    "anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]
                },
            },
        }
    ),
    _embed,
)
