"""TFLite files in fewer bytes that compute the same, to the bit."""

from __future__ import annotations

import copy
from collections.abc import Collection

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

# Of tables up to this wide the zero points are left out: 8 bytes of each row's 12 + width.
_NARROW = 128

# Bytes from which data that other data begins with is not stored again.
_LONG = 1024

_LOOKUP = schema.BuiltinOperator.EMBEDDING_LOOKUP
_MUL = schema.BuiltinOperator.MUL


def compacted(content: bytes) -> bytes:
    """The same model in fewer bytes. In files of small models, weights are the lesser part:

    Signatures repeat shapes, settings, scales and whole operations of each other; every string,
    vector and table is written once and pointed to. Names of a hundred bytes, several hundred to a
    signature, are dropped but for inputs and outputs. Position signals of short signatures are the
    beginning of those of long ones. Rows of int8 tables have zero points: see `_look_scales_up`.
    """
    model = _unpacked(content)
    for graph in model.subgraphs:
        outer = {*graph.inputs, *graph.outputs}
        for index, tensor in enumerate(graph.tensors):
            tensor.name = tensor.name if index in outer else b""
    _look_scales_up(model)
    _share_buffers(model)
    return _pack(model)


def _unpacked(content: bytes):
    """Return the tables of a file, with the data of each buffer in it."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:
        if buffer.size:  # data behind the tables, or a place in longer data
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0
    return model


def without_signatures(content: bytes, names: Collection[str]) -> bytes:
    """Return the same model without some of its signatures; the others compute the same.

    Raises:
        ValueError: an operation calls another subgraph, whose number would change.
    """
    model = _unpacked(content)
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
    return _pack(model)


def _look_scales_up(model) -> None:
    """Turns table[ids], of an int8 table with a scale a row, into table'[ids] * scales[ids].

    table' is the same numbers with the one scale 1. Of a tensor with a scale a row readers demand a
    zero point a row, 8 bytes each; `scales` is plain data.
    """
    codes = {max(c.builtinCode, c.deprecatedBuiltinCode): c for c in model.operatorCodes}
    if _LOOKUP not in codes:
        return
    lookup = model.operatorCodes.index(codes[_LOOKUP])
    tables = _narrow_tables(model, lookup)
    if tables and _MUL not in codes:
        codes[_MUL] = schema.OperatorCodeT(_MUL, builtinCode=_MUL)
        model.operatorCodes.append(codes[_MUL])
    places = {}
    for number, scales in tables.items():
        places[number] = len(model.buffers)
        model.buffers.append(schema.BufferT(scales.view(np.uint8)))
    for graph in model.subgraphs:
        operators = []
        for operator in graph.operators:
            table = (
                graph.tensors[operator.inputs[1]].buffer if operator.opcodeIndex == lookup else 0
            )
            operators.append(operator)
            if table in tables:
                mul = model.operatorCodes.index(codes[_MUL])
                operators += _by_scales(graph, operator, places[table], mul)
        graph.operators = operators
        for tensor in graph.tensors:
            if tensor.buffer in tables:
                tensor.quantization = schema.QuantizationParametersT(
                    scale=np.ones(1, "float32"), zeroPoint=np.zeros(1, "int64")
                )


def _narrow_tables(model, lookup: int) -> dict[int, np.ndarray]:
    """Buffers that are narrow int8 tables, and nothing but looked up: float32 scales (rows,)."""
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


def _by_scales(graph, lookup, scales: int, mul: int) -> list:
    """Two operations behind a look-up: that of the rows' scales, in a buffer, and the product."""

    def new_tensor(shape, buffer=0):
        tensor = copy.copy(graph.tensors[result])
        tensor.shape, tensor.buffer = np.array(shape, "int32"), buffer
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    ids, table = lookup.inputs
    (result,) = lookup.outputs
    (count,), (rows, _) = graph.tensors[ids].shape, graph.tensors[table].shape
    unscaled = new_tensor(graph.tensors[result].shape)
    column = new_tensor([count, 1])
    second = copy.copy(lookup)
    second.inputs = np.array([ids, new_tensor([rows, 1], scales)], "int32")
    second.outputs = np.array([column], "int32")
    lookup.outputs = np.array([unscaled], "int32")
    product = schema.OperatorT(
        mul,
        np.array([unscaled, column], "int32"),
        np.array([result], "int32"),
        schema.BuiltinOptions.MulOptions,
        schema.MulOptionsT(),
    )
    return [second, product]


def _share_buffers(model) -> None:
    """Leaves one buffer of each content, the empty one first."""
    places: dict[bytes, int] = {}
    numbers, kept = [], []
    for buffer in model.buffers:
        data = b"" if buffer.data is None else np.asarray(buffer.data, np.uint8).tobytes()
        if data not in places:
            places[data] = len(kept)
            kept.append(buffer)
        numbers.append(places[data])
    model.buffers = kept
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = numbers[tensor.buffer]
    for entry in model.metadata or ():
        entry.buffer = numbers[entry.buffer]


def _pack(model) -> bytes:
    """The file; data that other data begins with is told by its place there, known when all the
    rest is packed."""
    longer = _longer(model.buffers)
    for short in longer:
        buffer = model.buffers[short]
        # Not yet the place, but as many bytes, and no two alike.
        buffer.offset, buffer.size, buffer.data = 2 + short, len(buffer.data), None
    content, builder = _packed(model)
    for short, long in longer.items():
        model.buffers[short].offset = builder.place(model.buffers[long].data)
    return _packed(model)[0] if longer else content


def _longer(buffers) -> dict[int, int]:
    """Of buffers with long data: one that begins with all of it and has more."""
    data = {
        i: buffer.data.tobytes()
        for i, buffer in enumerate(buffers)
        if np.size(buffer.data) >= _LONG
    }
    found = {}
    for number in sorted(data, key=lambda i: len(data[i])):
        others = [
            i for i in data if len(data[i]) > len(data[number]) and data[i].startswith(data[number])
        ]
        if others:
            found[number] = max(others, key=lambda i: len(data[i]))
    return found


def _packed(model) -> tuple[bytes, _SharingBuilder]:
    builder = _SharingBuilder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), builder


class _SharingBuilder(flatbuffers.Builder):
    """Writes equal strings, vectors of numbers and tables once, wherever they are pointed to."""

    def __init__(self, size):
        super().__init__(size)
        self._written = {}
        self._targets = {}

    def place(self, vector) -> int:
        """Where in the file the numbers of a vector begin."""
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
        """Bytes at a multiple of 16, as the converter writes them."""
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
        """Ends a table; one equal to an earlier one is taken back."""
        here, end = self.Offset(), len(self.Bytes) - self.objectEnd
        # Fields that are not written have the place None, the last one written has 0.
        places = tuple(here - field if field else None for field in self.current_vtable)
        fields = self.Bytes[self.head : end]
        for slot in self._targets:  # pointers are relative to where they stand
            fields[places[slot] : places[slot] + 4] = bytes(4)
        key = (places, tuple(self._targets.items()), bytes(fields))
        if key in self._written:
            self.head, self.nested, self.current_vtable = end, False, None
        else:
            self._written[key] = super().EndObject()
        return self._written[key]


def _key(vector: np.ndarray) -> tuple[str, bytes]:
    return vector.dtype.str, vector.tobytes()
