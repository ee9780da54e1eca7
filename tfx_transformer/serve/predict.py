"""The endpoint of regressors."""

from __future__ import annotations

from starlette.responses import Response

from tfx_transformer.serve.classify import INPUT, row_reader
from tfx_transformer.serve.endpoints import MODEL, Endpoint, listing
from tfx_transformer.serve.errors import JSON
from tfx_transformer.serve.fields import Field
from tfx_transformer.serve.reading import read_inputs
from tfx_transformer.serve.service import Call, Service


async def _predict(service: Service, call: Call) -> Response:
    given = call.body["input"]
    inputs = [given] if isinstance(given, str) else given
    rows, outputs = await read_inputs(service, call, inputs, row_reader(call))
    data = [
        {"index": index, "prediction": float(output[0])} for index, output in enumerate(outputs)
    ]
    tokens = sum(map(len, rows))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSON({"object": "list", "model": call.served.id, "data": data, "usage": usage})


PREDICT = Endpoint(
    "/predict",
    "Numbers of texts, or of rows of several texts, in the unit of the data.",
    {
        "model": MODEL,
        "input": Field(
            INPUT,
            "A text, or several; if the model reads several text columns, a list of rows, each a "
            "list of texts.",
            needed=True,
        ),
    },
    listing(
        {
            "type": "object",
            "required": ["index", "prediction"],
            "properties": {
                "index": {"type": "integer"},
                "prediction": {"type": "number"},
            },
        }
    ),
    _predict,
)
