"""TFLite graphs in a form that LiteRT's GPU delegates compute correctly, and completely.

A delegate lays out every tensor as (batch, height, width, channels) and takes the first axis as
the batch, whatever the rank: (16, 48) is sixteen examples, (1, 16, 48) is one of width 16. It
broadcasts tensors of different ranks along the wrong axis, ignores the batch of constants, and does
not multiply one matrix with a batch of others: it computes garbage without an error. Operations
that it does not have run on the CPU, and copying costs more than the operation.
"""

from __future__ import annotations

import copy
import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfx_transformer.export.compact import operation

_OPS = schema.BuiltinOperator
_NAMES = {code: name for name, code in vars(_OPS).items() if isinstance(code, int)}

# Operations that broadcast their inputs.
_BROADCASTING = {
    getattr(_OPS, name)
    for name in (
        "ADD",
        "SUB",
        "MUL",
        "DIV",
        "POW",
        "MAXIMUM",
        "MINIMUM",
        "SQUARED_DIFFERENCE",
        "FLOOR_DIV",
        "FLOOR_MOD",
        "EQUAL",
        "NOT_EQUAL",
        "LESS",
        "LESS_EQUAL",
        "GREATER",
        "GREATER_EQUAL",
        "LOGICAL_AND",
        "LOGICAL_OR",
        "SELECT_V2",
    )
}


def problems(model) -> list[str]:
    """Return the faults of an unpacked TFLite file: what a GPU computes wrongly or not at all.

    Args:
        model: `ai_edge_litert.schema_py_generated.ModelT`.

    Returns: one line for each kind of fault in each signature, such as "decode: ADD of shapes
        (1, 1, 48) and (1, 48): their ranks differ".
    """
    signatures = {entry.subgraphIndex: entry.signatureKey.decode() for entry in model.signatureDefs}
    found: dict[str, None] = {}
    for index, graph in enumerate(model.subgraphs):
        name = signatures.get(index, f"subgraph {index}")
        for operator in graph.operators:
            fault = _fault(model, graph, operator)
            if fault:
                found[f"{name}: {fault}"] = None
    return list(found)


def _fault(model, graph, operator) -> str | None:
    """Return the fault of an operation, or None."""
    code = _code(model, operator)
    name = _NAMES[code]
    inputs = [index for index in operator.inputs if index >= 0]
    shapes = [_shape(graph, index) for index in inputs]
    if code == _OPS.CUSTOM:
        custom = model.operatorCodes[operator.opcodeIndex].customCode.decode()
        return f"{custom} is not an operation of LiteRT"
    if code in (_OPS.GATHER_ND, _OPS.SCATTER_ND):
        return f"{name} does not run there"
    if code in _BROADCASTING:
        return _broadcasting_fault(model, graph, inputs, name)
    if code == _OPS.STRIDED_SLICE and operator.builtinOptions.shrinkAxisMask:
        return f"{name} that drops an axis of {shapes[0]}"
    if code == _OPS.GATHER and len(shapes[1]) != 1:
        return f"{name} at indices of shape {shapes[1]}, which is not a vector"
    if code == _OPS.BATCH_MATMUL and shapes[0][:-2] != shapes[1][:-2]:
        return f"{name} of shapes {shapes[0]} and {shapes[1]}: one serves a batch of the other"
    if code == _OPS.EMBEDDING_LOOKUP and _has_one_scale(graph.tensors[inputs[1]]):
        return f"{name} in an int8 table of shape {shapes[1]} that has one scale"
    floating = graph.tensors[inputs[0]].type == schema.TensorType.FLOAT32
    if code in (_OPS.PAD, _OPS.PADV2) and not (floating and len(shapes[0]) >= 3):
        return f"{name} of shape {shapes[0]}: of integers, or of fewer than three axes"
    if code == _OPS.CUMSUM and not floating:
        return f"{name} of integers"
    return None


def _has_one_scale(table) -> bool:
    scales = None if table.quantization is None else table.quantization.scale
    return table.type == schema.TensorType.INT8 and np.size(scales) == 1 < len(table.shape)


def _broadcasting_fault(model, graph, inputs, name: str) -> str | None:
    shapes = [_shape(graph, index) for index in inputs]
    if len({len(shape) for shape in shapes if shape}) > 1:
        return f"{name} of shapes {' and '.join(map(str, shapes))}: their ranks differ"
    for index, shape in zip(inputs, shapes, strict=True):
        if shape and shape[0] != 1 and _data(model, graph, index) is not None:
            return f"{name} with a constant of shape {shape}, whose first axis is a batch"
    return None


def adapt(model) -> None:
    """Rewrite an unpacked TFLite file so that `problems` finds fewer faults; it computes the same.

    Constants and results get axes of 1 in front until the inputs of an operation have equal ranks
    and no constant has a batch. Slices that drop axes, look-ups at a matrix of indices, padding of
    matrices and products of many matrices with one become reshapings and operations of the
    delegates. Consecutive reshapings become one, and slices of a whole tensor are removed.

    Args:
        model: `ai_edge_litert.schema_py_generated.ModelT`.
    """
    for graph in model.subgraphs:
        _Rewriting(model, graph).run()
        _tidy(model, graph)


def _tidy(model, graph) -> None:
    """Remove operations that change nothing, and reshapings that nothing reads."""
    outputs = {int(index) for index in graph.outputs}
    sources: dict[int, int] = {}  # result of a reshaping -> its input
    equal: dict[int, int] = {}
    kept = []
    for operator in graph.operators:
        operator.inputs = np.array([equal.get(int(i), int(i)) for i in operator.inputs], "int32")
        if _code(model, operator) == _OPS.RESHAPE:
            operator.inputs[0] = sources.get(int(operator.inputs[0]), operator.inputs[0])
            sources[int(operator.outputs[0])] = int(operator.inputs[0])
        source, result = int(operator.inputs[0]), int(operator.outputs[0])
        if result not in outputs and _changes_nothing(model, graph, operator):
            equal[result] = source
        else:
            kept.append(operator)
    used, needed = set(outputs), []
    for operator in reversed(kept):
        if _code(model, operator) != _OPS.RESHAPE or used & {int(i) for i in operator.outputs}:
            needed.append(operator)
            used |= {int(index) for index in operator.inputs}
    graph.operators = needed[::-1]


def _changes_nothing(model, graph, operator) -> bool:
    """Return True for a reshaping to the same shape, or a slice of the whole tensor."""
    code = _code(model, operator)
    if code == _OPS.STRIDED_SLICE:
        strides = _integers(model, graph, operator.inputs[3])
        if strides is None or (strides != 1).any():
            return False
    elif code != _OPS.RESHAPE:
        return False
    return _shape(graph, operator.inputs[0]) == _shape(graph, operator.outputs[0])


def _code(model, operator) -> int:
    entry = model.operatorCodes[operator.opcodeIndex]
    return max(entry.builtinCode, entry.deprecatedBuiltinCode)


def _shape(graph, index: int) -> tuple[int, ...]:
    shape = graph.tensors[index].shape
    return () if shape is None else tuple(int(size) for size in shape)


def _data(model, graph, index: int) -> np.ndarray | None:
    """Return the bytes of a constant, None for a computed tensor."""
    data = model.buffers[graph.tensors[index].buffer].data
    return None if data is None or not len(data) else np.asarray(data, np.uint8)


def _integers(model, graph, index: int) -> np.ndarray | None:
    """Return the numbers of an int32 constant, None for a computed tensor."""
    data = _data(model, graph, index)
    return None if data is None else data.view("int32").reshape(_shape(graph, index))


class _Rewriting:
    """The rewriting of one signature."""

    def __init__(self, model, graph) -> None:
        self.model, self.graph = model, graph
        self.operators: list = []
        self._reshaped: dict[tuple[int, tuple[int, ...]], int] = {}

    def run(self) -> None:
        rewrite = {
            _OPS.STRIDED_SLICE: self._slice,
            _OPS.GATHER: self._gather,
            _OPS.PAD: self._pad,
            _OPS.PADV2: self._pad,
            _OPS.BATCH_MATMUL: self._multiply,
            **dict.fromkeys(_BROADCASTING, self._broadcast),
        }
        for operator in self.graph.operators:
            operator.inputs = np.array(operator.inputs, "int32")
            code = _code(self.model, operator)
            rewrite.get(code, self.operators.append)(operator)
        self.graph.operators = self.operators

    def _broadcast(self, operator) -> None:
        shapes = [_shape(self.graph, index) for index in operator.inputs]
        rank = max(map(len, shapes))
        if any(
            len(shape) == rank > 0 and shape[0] != 1 and self._is_constant(index)
            for index, shape in zip(operator.inputs, shapes, strict=True)
        ):
            rank += 1
        for place, shape in enumerate(shapes):
            if shape:
                padded = (1,) * (rank - len(shape)) + shape
                operator.inputs[place] = self._reshape(operator.inputs[place], padded)
        result = _shape(self.graph, operator.outputs[0])
        self._write(operator, (1,) * (rank - len(result)) + result)

    def _slice(self, operator) -> None:
        options = operator.builtinOptions
        shape = _shape(self.graph, operator.inputs[0])
        dropped = [axis for axis in range(len(shape)) if options.shrinkAxisMask >> axis & 1]
        begin, end = (_integers(self.model, self.graph, i) for i in operator.inputs[1:3])
        if not dropped or options.newAxisMask or options.ellipsisMask or begin is None:
            self.operators.append(operator)
            return
        # A dropped axis is read at `begin`, whatever `end` is.
        end = end.copy()
        end[dropped] = begin[dropped] + 1
        end[dropped] += np.where(end[dropped] == 0, np.array(shape)[dropped], 0)  # after -1
        operator.inputs[2] = self._new_constant(end)
        operator.builtinOptions = copy.copy(options)
        operator.builtinOptions.shrinkAxisMask = 0
        kept = list(_shape(self.graph, operator.outputs[0]))
        for axis in dropped:
            kept.insert(axis, 1)
        self._write(operator, tuple(kept))

    def _gather(self, operator) -> None:
        options = operator.builtinOptions
        table, indices = (_shape(self.graph, index) for index in operator.inputs)
        if options.axis or options.batchDims:
            self.operators.append(operator)
            return
        count = math.prod(indices)
        operator.inputs[1] = self._reshape(operator.inputs[1], (count,))
        self._write(operator, (count, *table[1:]))

    def _pad(self, operator) -> None:
        shape = _shape(self.graph, operator.inputs[0])
        paddings = _integers(self.model, self.graph, operator.inputs[1])
        axes = max(3 - len(shape), 0)
        if axes and paddings is not None:
            operator.inputs[0] = self._reshape(operator.inputs[0], (1,) * axes + shape)
            paddings = np.concatenate([np.zeros((axes, 2), "int32"), paddings])
            operator.inputs[1] = self._new_constant(paddings)
        self._write(operator, (1,) * axes + _shape(self.graph, operator.outputs[0]))

    def _multiply(self, operator) -> None:
        """Multiply (rows, heads, n, k) by (1, heads, k, m), with the rows laid along n."""
        left, right = (_shape(self.graph, index) for index in operator.inputs)
        options = operator.builtinOptions
        if left[:-2] == right[:-2] or len(left) != 4 or right[0] != 1 or options.adjX:
            self.operators.append(operator)
            return
        rows, heads, count, width = left
        swapped = self._transpose(operator.inputs[0], (1, 0, 2, 3))
        operator.inputs[0] = self._reshape(swapped, (1, heads, rows * count, width))
        (result,) = operator.outputs
        last = _shape(self.graph, result)[-1]
        product = self._new_tensor(result, (1, heads, rows * count, last))
        operator.outputs = np.array([product], "int32")
        self.operators.append(operator)
        self._transpose(self._reshape(product, (heads, rows, count, last)), (1, 0, 2, 3), result)

    def _write(self, operator, shape: tuple[int, ...]) -> None:
        """Add an operation whose result has this new shape, and a reshaping to the old one."""
        (result,) = operator.outputs
        if _shape(self.graph, result) == shape:
            self.operators.append(operator)
            return
        between = self._new_tensor(result, shape)
        operator.outputs = np.array([between], "int32")
        self.operators.append(operator)
        self._write_reshape(between, result)

    def _reshape(self, index: int, shape: tuple[int, ...]) -> int:
        """Return a tensor with the same numbers in another shape; constants are not copied."""
        index = int(index)
        if _shape(self.graph, index) == shape:
            return index
        if (index, shape) not in self._reshaped:
            new = self._new_tensor(index, shape)
            self._reshaped[index, shape] = new
            if self._is_constant(index):
                self.graph.tensors[new].buffer = self.graph.tensors[index].buffer
            else:
                self._write_reshape(index, new)
        return self._reshaped[index, shape]

    def _write_reshape(self, source: int, result: int) -> None:
        shape = np.array(_shape(self.graph, result), "int32")
        inputs = [source]
        if len(shape):  # an empty constant would be read as an unknown shape
            inputs.append(self._new_constant(shape))
        options = schema.BuiltinOptions.ReshapeOptions, schema.ReshapeOptionsT(shape)
        self._add(_OPS.RESHAPE, inputs, result, options)

    def _transpose(self, source: int, order: tuple[int, ...], result: int | None = None) -> int:
        shape = _shape(self.graph, source)
        if result is None:
            result = self._new_tensor(source, tuple(shape[axis] for axis in order))
        inputs = [source, self._new_constant(np.array(order, "int32"))]
        options = schema.BuiltinOptions.TransposeOptions, schema.TransposeOptionsT()
        self._add(_OPS.TRANSPOSE, inputs, result, options)
        return result

    def _add(self, code: int, inputs: list[int], result: int, options: tuple) -> None:
        arrays = np.array(inputs, "int32"), np.array([result], "int32")
        self.operators.append(schema.OperatorT(operation(self.model, code), *arrays, *options))

    def _new_tensor(self, like: int, shape: tuple[int, ...]) -> int:
        tensor = copy.copy(self.graph.tensors[like])
        tensor.shape, tensor.shapeSignature = np.array(shape, "int32"), None
        tensor.name, tensor.buffer = b"", 0
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def _new_constant(self, values: np.ndarray) -> int:
        values = np.ascontiguousarray(values, "int32")
        self.model.buffers.append(schema.BufferT(values.reshape(-1).view(np.uint8)))
        shape = np.array(values.shape, "int32")
        kind = {"type": schema.TensorType.INT32, "name": b"", "hasRank": True}
        self.graph.tensors.append(schema.TensorT(shape, buffer=len(self.model.buffers) - 1, **kind))
        return len(self.graph.tensors) - 1

    def _is_constant(self, index: int) -> bool:
        return _data(self.model, self.graph, index) is not None
