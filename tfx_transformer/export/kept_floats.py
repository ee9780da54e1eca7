"""Float numbers in a TFLite file of integers that are rounded to integers and converted back."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_OPS = schema.BuiltinOperator


def keep_floats(model: Any) -> None:
    """Let operations in float32 read float32 numbers as they are, where an unpacked TFLite file
    rounds these to integers and converts them back at once.

    LiteRT's converter does so between operations that were to stay in float32, if their inputs and
    results would have the same scale as integers, such as a concatenation.

    Args:
        model: `ai_edge_litert.schema_py_generated.ModelT`.
    """
    for graph in model.subgraphs:
        origins: dict[int, int] = {}  # a number rounded -> the number in float32
        exact: dict[int, int] = {}  # a number converted back -> the same
        kept = []
        for operator in graph.operators:
            operator.inputs = np.array(
                [exact.get(int(i), int(i)) for i in operator.inputs], "int32"
            )
            source, result = int(operator.inputs[0]), int(operator.outputs[0])
            code = _code(model, operator)
            if code == _OPS.QUANTIZE:
                is_float = graph.tensors[source].type == schema.TensorType.FLOAT32
                if is_float or source in origins:
                    origins[result] = source if is_float else origins[source]
            is_back = code == _OPS.DEQUANTIZE and source in origins
            if is_back and result not in graph.outputs:
                exact[result] = origins[source]
            else:
                kept.append(operator)
        graph.operators = _read(model, graph, kept)


def _read(model: Any, graph: Any, operators: list[Any]) -> list[Any]:
    """Return the operations without roundings that nothing reads."""
    used, needed = {int(index) for index in graph.outputs}, []
    for operator in reversed(operators):
        if _code(model, operator) != _OPS.QUANTIZE or int(operator.outputs[0]) in used:
            needed.append(operator)
            used |= {int(index) for index in operator.inputs}
    return needed[::-1]


def _code(model: Any, operator: Any) -> int:
    entry = model.operatorCodes[operator.opcodeIndex]
    return max(entry.builtinCode, entry.deprecatedBuiltinCode)
