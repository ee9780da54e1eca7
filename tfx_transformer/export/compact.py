"""Smaller TFLite files that compute the same, to the bit."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

# Tables up to this wide get no zero points: these are 8 bytes of each row's 12 + width.
_NARROW = 128

# Data of at least so many bytes is not stored again if longer data begins with it.
_LONG = 1024

# Most bytes of data in a file of 2 GiB, next to its tables.
_MOST_INSIDE = 2**31 - 2**27

_OPS = schema.BuiltinOperator


def unpack(content: bytes) -> Any:
    """Return a TFLite file as a tree of objects: `ai_edge_litert.schema_py_generated.ModelT`."""
    model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:
        if buffer.size:  # data behind the tables, or a place in longer data
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0
    return model


def compact(model) -> None:
    """Remove what an unpacked file does not need. In small models, weights are the smaller part:

    Signatures repeat each other's shapes, settings, scales and whole operations; each string,
    vector and table is written once and pointed to. Names of a hundred bytes, several hundred in a
    signature, are dropped except for inputs and outputs. Position signals of short signatures are
    the beginning of those of long ones. Rows of int8 tables have zero points: see
    `_look_scales_up`.
    """
    for graph in model.subgraphs:
        outer = {*graph.inputs, *graph.outputs}
        for index, tensor in enumerate(graph.tensors):
            tensor.name = tensor.name if index in outer else b""
    _look_scales_up(model)
    _share_buffers(model)


def without_signatures(content: bytes, names: Collection[str]) -> bytes:
    """Return the same model without some of its signatures; the others compute the same.

    Raises:
        ValueError: an operation calls another subgraph, whose number would change.
    """
    model = unpack(content)
    options = (o.builtinOptions for graph in model.subgraphs for o in graph.operators)
    if any(name.endswith("SubgraphIndex") for one in options if one for name in vars(one)):
        raise ValueError("an operation calls another subgraph")
    kept = [s for s in model.signatureDefs if s.signatureKey.decode() not in names]
    graphs = []
    for signature in kept:
        graphs.append(model.subgraphs[signature.subgraphIndex])
        signature.subgraphIndex = len(graphs) - 1
    model.signatureDefs, model.subgraphs = kept, graphs
    used = {tensor.buffer for graph in graphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or ()}
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None
    _share_buffers(model)
    return pack(model)


def _look_scales_up(model) -> None:
    """Turn table[ids], of an int8 table with one scale per row, into table'[ids] * scales[ids].

    table' has the same numbers with the single scale 1. A tensor with one scale per row must also
    have one zero point per row, 8 bytes each; `scales` is plain data.
    """
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    if _OPS.EMBEDDING_LOOKUP not in codes:
        return
    lookup = codes.index(_OPS.EMBEDDING_LOOKUP)
    tables = _narrow_tables(model, lookup)
    places = {}
    for number, scales in tables.items():
        places[number] = len(model.buffers)
        model.buffers.append(schema.BufferT(scales.view(np.uint8)))
    plain = schema.QuantizationParametersT(scale=np.ones(1, "f"), zeroPoint=np.zeros(1, "int64"))
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.buffer in tables:
                tensor.quantization = plain
        operators = []
        for operator in graph.operators:
            looked_up = operator.opcodeIndex == lookup
            table = graph.tensors[operator.inputs[1]].buffer if looked_up else 0
            if table in tables:
                operators += _by_scales(model, graph, operator, places[table])
            else:
                operators.append(operator)
        graph.operators = operators


def _narrow_tables(model, lookup: int) -> dict[int, np.ndarray]:
    """Return the scales, float32 (rows,), of each buffer that is a narrow int8 table and is only
    used in look-ups."""
    found, others = {}, set()
    for graph in model.subgraphs:
        for operator in graph.operators:
            for place, index in enumerate(operator.inputs):
                tensor = graph.tensors[index]
                if (operator.opcodeIndex, place) == (lookup, 1) and _is_narrow(tensor):
                    found[tensor.buffer] = tensor.quantization.scale
                elif index >= 0:  # -1: an input that is left out
                    others.add(tensor.buffer)
    return {number: scales for number, scales in found.items() if number not in others}


def _is_narrow(table) -> bool:
    rows, width = table.shape
    return (
        table.type == schema.TensorType.INT8
        and width <= _NARROW
        and np.size(table.quantization.scale) == rows > 1
        and not np.any(table.quantization.zeroPoint)
    )


def _by_scales(model, graph, lookup, scales: int) -> list:
    """Return the operations that replace a look-up: the look-ups of the numbers and of the rows'
    scales, and their product. GPUs read int8 rows by GATHER; with EMBEDDING_LOOKUP they compute
    garbage if the table has a single scale.

    Args:
        scales: number of the buffer with the rows' scales.
    """
    ids, table = lookup.inputs
    (result,) = lookup.outputs
    (count,), (rows, width) = graph.tensors[ids].shape, graph.tensors[table].shape

    def new_tensor(like, shape, buffer=0):
        tensor = copy.copy(graph.tensors[like])
        tensor.shape, tensor.buffer = np.array(shape, "int32"), buffer
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    def operator(code, inputs, output, *options, version=1):
        arrays = np.array(inputs, "int32"), np.array([output], "int32")
        return schema.OperatorT(operation(model, code, version), *arrays, *options)

    numbers, unscaled = (new_tensor(like, [count, width]) for like in (table, result))
    column, scales = new_tensor(result, [count, 1]), new_tensor(result, [rows, 1], scales)
    kinds = schema.BuiltinOptions
    return [
        operator(
            _OPS.GATHER,
            [table, ids],
            numbers,
            kinds.GatherOptions,
            schema.GatherOptionsT(),
            version=2,
        ),
        operator(_OPS.DEQUANTIZE, [numbers], unscaled, version=2),
        operator(_OPS.EMBEDDING_LOOKUP, [ids, scales], column),
        operator(_OPS.MUL, [unscaled, column], result, kinds.MulOptions, schema.MulOptionsT()),
    ]


def operation(model, code: int, version: int = 1) -> int:
    """Return the index of a `BuiltinOperator` in the model's operator codes; add it if missing."""
    for index, entry in enumerate(model.operatorCodes):
        if max(entry.builtinCode, entry.deprecatedBuiltinCode) == code:
            entry.version = max(entry.version, version)
            return index
    # The older field is one byte.
    model.operatorCodes.append(schema.OperatorCodeT(min(code, 127), None, version, code))
    return len(model.operatorCodes) - 1


def _share_buffers(model) -> None:
    """Keep one buffer of each content, the empty one first."""
    places: dict[tuple[str, bytes], int] = {}
    numbers, kept = [], []
    for buffer in model.buffers:
        data = np.zeros(0, np.uint8) if buffer.data is None else buffer.data
        key = _key(np.asarray(data, np.uint8))
        if key not in places:
            places[key] = len(kept)
            kept.append(buffer)
        numbers.append(places[key])
    model.buffers = kept
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = numbers[tensor.buffer]
    for entry in model.metadata or ():
        entry.buffer = numbers[entry.buffer]


def pack(model) -> bytes:
    """Return an unpacked model as a file.

    Data that is the beginning of longer data is given by its place in the file, which is known
    after everything else is packed. If a model is too large for 32-bit offsets, its data is behind
    the tables and given in the same way.
    """
    if sum(np.size(buffer.data) for buffer in model.buffers) > _MOST_INSIDE:
        return _pack_outside(model)
    longer = _longer(model.buffers)
    for short in longer:
        _set_aside(model.buffers[short], 2 + short)
    content, builder = _write(model)
    for short, long in longer.items():
        model.buffers[short].offset = builder.place(model.buffers[long].data)
    return _write(model)[0] if longer else content


def _set_aside(buffer, placeholder: int) -> np.ndarray:
    """Take the data out of a buffer. The placeholder of its place is packed into as many bytes as
    the place will be, and differs for each buffer, so that none are shared."""
    data = buffer.data
    buffer.offset, buffer.size, buffer.data = placeholder, len(data), None
    return data


def _pack_outside(model) -> bytes:
    """Return the tables, then the data of all larger buffers, each at a multiple of 16 bytes."""
    data = {
        number: _set_aside(buffer, 2 + number)
        for number, buffer in enumerate(model.buffers)
        if np.size(buffer.data) >= _LONG
    }
    parts = [_write(model)[0]]
    end = len(parts[0])
    for number, values in data.items():
        parts.append(bytes(-end % 16))
        end += len(parts[-1])
        model.buffers[number].offset = end
        parts.append(values)
        end += len(values)
    parts[0] = _write(model)[0]
    return b"".join(parts)


def _longer(buffers) -> dict[int, int]:
    """Return, for each buffer whose long data is the beginning of longer data, the longer one."""
    alike: dict[bytes, list[int]] = {}
    for number, buffer in enumerate(buffers):
        if np.size(buffer.data) >= _LONG:
            alike.setdefault(buffer.data[:_LONG].tobytes(), []).append(number)
    found = {}
    for numbers in alike.values():
        *shorter, longest = sorted(numbers, key=lambda i: len(buffers[i].data))
        data = buffers[longest].data
        for number in shorter:
            short = buffers[number].data
            if len(short) < len(data) and np.array_equal(data[: len(short)], short):
                found[number] = longest
    return found


def _write(model) -> tuple[bytes, _SharingBuilder]:
    size = sum(np.size(buffer.data) for buffer in model.buffers)
    builder = _SharingBuilder(size + 2**20)  # growing would copy it
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), builder


class _SharingBuilder(flatbuffers.Builder):
    """Writes equal strings, vectors of numbers and tables once, wherever they are pointed to."""

    def __init__(self, size):
        super().__init__(size)
        self._written = {}
        self._targets = {}

    def place(self, vector) -> int:
        """Return the place in the file where the numbers of a vector begin."""
        return len(self.Output()) - self._written[_key(vector)] + 4

    def CreateString(self, s, *options):
        if ("string", s) not in self._written:
            self._written["string", s] = super().CreateString(s, *options)
        return self._written["string", s]

    def CreateNumpyVector(self, x):
        if _key(x) not in self._written:
            self._written[_key(x)] = (
                self._create(x) if x.itemsize == 1 else super().CreateNumpyVector(x)
            )
        return self._written[_key(x)]

    def _create(self, data):
        """Write bytes at a multiple of 16, as the converter does."""
        self.StartVector(1, data.size, 16)
        self.head -= data.size
        self.Bytes[self.head : self.head + data.size] = data.tobytes()
        return self.EndVector()

    def StartObject(self, numfields):
        super().StartObject(numfields)
        self._targets = {}

    def PrependUOffsetTRelativeSlot(self, o, x, d):
        super().PrependUOffsetTRelativeSlot(o, x, d)
        if x != d:
            self._targets[o] = x

    def EndObject(self):
        """End a table; remove it again if it equals an earlier one."""
        here, end = self.Offset(), len(self.Bytes) - self.objectEnd
        # Fields that are not written have the place None; the last written field has 0.
        places = tuple(here - field if field else None for field in self.current_vtable or ())
        fields = self.Bytes[self.head : end]
        for slot in self._targets:  # pointers are relative to their own place
            fields[places[slot] : places[slot] + 4] = bytes(4)
        key = (places, tuple(self._targets.items()), bytes(fields))
        if key in self._written:
            self.head, self.nested, self.current_vtable = end, False, None
        else:
            self._written[key] = super().EndObject()
        return self._written[key]


def _key(vector: np.ndarray) -> tuple[str, bytes]:
    """Return the type and size of a vector, and its bytes, or their hash if there are many."""
    data = vector.tobytes() if vector.nbytes < _LONG else hashlib.sha256(vector).digest()
    return f"{vector.dtype.str} {vector.nbytes}", data
