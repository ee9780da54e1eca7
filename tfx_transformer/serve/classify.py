"""The endpoint of classifiers of texts and images."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from starlette.responses import Response

from tfx_transformer.errors import InputError
from tfx_transformer.prediction.image import ImageClassifier
from tfx_transformer.reprs import quantity
from tfx_transformer.serve.endpoints import MODEL, Endpoint, listing
from tfx_transformer.serve.errors import JSON, Refusal, shown
from tfx_transformer.serve.fields import Field
from tfx_transformer.serve.limits import MOST_INPUTS
from tfx_transformer.serve.reading import read_inputs
from tfx_transformer.serve.service import Call, Service

_TEXT = {"type": "string"}
# The texts of several columns of a row.
_ROW = {"type": "array", "minItems": 1, "maxItems": 64, "items": _TEXT}
INPUT = {
    "anyOf": [
        _TEXT,
        {
            "type": "array",
            "minItems": 1,
            "maxItems": MOST_INPUTS,
            "items": {"anyOf": [_TEXT, _ROW]},
        },
    ]
}


async def _classify(service: Service, call: Call) -> Response:
    model, given = call.served.model, call.body["input"]
    inputs = [given] if isinstance(given, str) else given
    rows, outputs = await read_inputs(service, call, inputs, row_reader(call))
    found = model.labels.classifications(model.labels.probabilities(np.stack(outputs)))
    data = [
        {
            "index": index,
            "label": one.label,
            "probability": one.probability,
            "labels": list(one.labels),
            "probabilities": one.probabilities,
        }
        for index, one in enumerate(found)
    ]
    tokens = 0 if isinstance(model, ImageClassifier) else sum(map(len, rows))
    counted = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSON({"object": "list", "model": call.served.id, "data": data, "usage": counted})


def row_reader(call: Call) -> Callable[[Sequence[Any]], list[Any]]:
    """Return a function that makes the model's rows of the inputs of a request."""
    model = call.served.model
    if isinstance(model, ImageClassifier):
        return lambda inputs: [model.read(_image(one)) for one in inputs]
    columns = call.served.config.get("text_columns", 1)

    def read(inputs: Sequence[Any]) -> list[Any]:
        for number, one in enumerate(inputs, start=1):
            count = 1 if isinstance(one, str) else len(one)
            if count != columns:
                row = json.dumps([columns * ["text"]])
                raise Refusal(
                    400,
                    f"Item {number} of 'input' has {quantity(count, 'text')}; the model reads "
                    f"{columns} of each row, such as {row} for one row.",
                    "invalid_value",
                    "input",
                )
        return model.rows(inputs)

    return read


def _image(text: Any) -> bytes:
    """Return the bytes of an image that a request holds as base64 or as a data: URL."""
    if not isinstance(text, str):
        raise Refusal(400, "Each input must be one image, in base64.", "invalid_value", "input")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(
            400,
            f"An input, {shown(text)}, is not an image in base64. Send its bytes as base64, or as "
            'a URL such as "data:image/png;base64,…". No other address is fetched.',
            "invalid_value",
            "input",
        ) from error
    if not data:
        raise InputError("an image is empty.")
    return data


CLASSIFY = Endpoint(
    "/classify",
    "Labels of texts, of rows of several texts, or of images in base64.",
    {
        "model": MODEL,
        "input": Field(
            INPUT,
            "A text, or several; if the model reads several text columns, a list of rows, each a "
            "list of texts; an image as base64 or a data: URL, or several.",
            needed=True,
        ),
    },
    listing(
        {
            "type": "object",
            "required": ["index", "label", "probability", "labels", "probabilities"],
            "properties": {
                "index": {"type": "integer"},
                "label": {"type": "string"},
                "probability": {"type": "number"},
                "labels": {"type": "array", "items": {"type": "string"}},
                "probabilities": {
                    "type": "object",
                    "additionalProperties": {"type": "number"},
                },
            },
        }
    ),
    _classify,
    images=True,
)
