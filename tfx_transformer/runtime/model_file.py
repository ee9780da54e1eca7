"""TFLite files from any source: checked before they are compiled and run.

LiteRT's compiler follows the offsets of a file without checks, so a damaged file ends the process.
Its interpreter verifies them (flatbuffers' verifier), and the sizes of all weights. The rest is
checked here: the kinds of operations, and that each reads only tensors that were written before.

The format: https://github.com/google-ai-edge/LiteRT/blob/main/tflite/converter/schema/schema.fbs
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tfx_transformer.errors import InputError
from tfx_transformer.runtime import operations
from tfx_transformer.runtime.flatbuffer import Table, root
from tfx_transformer.runtime.operations import OPERATIONS, SEVERAL_OUTPUTS, Operation

# Inputs from this index on may be left out: the bias of a product or a convolution.
_OPTIONAL = 2

# Name and bits of each type of number, by its number in the schema.
_NUMBERS = {
    0: ("float32", 32),
    1: ("float16", 16),
    2: ("int32", 32),
    3: ("uint8", 8),
    4: ("int64", 64),
    6: ("bool", 8),
    7: ("int16", 16),
    9: ("int8", 8),
    17: ("int4", 4),
}

_FLOAT, _INT32, _BOOL = 0, 2, 6

# The largest tensors of known models are tables and caches of hundreds of megabytes.
_MAX_TENSOR_BYTES = 1 << 31


# Name of a tensor -> type of its numbers, and shape.
Tensors = dict[str, tuple[str, tuple[int, ...]]]


class Interface(NamedTuple):
    """Inputs and outputs of a signature."""

    inputs: Tensors
    outputs: Tensors


def read_signatures(file: str | os.PathLike) -> dict[str, Interface]:
    """Return the signatures of a TFLite file, by name; raise if LiteRT cannot compile and run it
    safely.

    Raises:
        InputError: the file is damaged, or has parts that `export.litert` never writes.
    """
    with (
        _verifying(file, model_path=os.fspath(file)),
        open(file, "rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        return _signatures(data)


def has_four_bits(file: str | os.PathLike) -> bool:
    """Return True if weights of a TFLite file that `read_signatures` accepts have 4 bits."""
    with (
        open(file, "rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        graph = next(root(data).tables(2))  # of any graph: the weights of all have the same format
        return any(_NUMBERS[tensor.byte(1)][0] == "int4" for tensor in graph.tables(0))


def check_content(content: bytes, name: str) -> dict[str, Interface]:
    """Return the signatures of a TFLite file inside another file, as `read_signatures`.

    Args:
        content: bytes of the TFLite file.
        name: of the part, for errors.
    """
    with _verifying(name, model_content=content):
        return _signatures(content)


@contextlib.contextmanager
def _verifying(name: str | os.PathLike, **model) -> Iterator[None]:
    """Let LiteRT's interpreter verify a model; turn its errors and the block's into InputErrors
    that name it."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        Interpreter(**model, experimental_op_resolver_type=resolver)
    except (ValueError, RuntimeError, MemoryError) as error:
        raise InputError(
            f"{name} cannot be read as a TFLite model: {error}\n"
            "  Copy the file again, or export the model again."
        ) from error
    try:
        yield
    except (ValueError, struct.error) as error:
        raise InputError(
            f"{name} is not a TFLite model that can be run: {error}.\n"
            "  Copy the file again, or export the model again."
        ) from error


def _signatures(data: bytes | mmap.mmap) -> dict[str, Interface]:
    """Return the signatures of a model with verified offsets; check its operations and tensors."""
    model = root(data)
    kinds = [_kind(max(code.byte(0), code.int(3))) for code in model.tables(1)]
    # A buffer without data in its table may point to data after the tables.
    buffers = [bool(buffer.vector(0)[1] or buffer.at(1)) for buffer in model.tables(4)]
    graphs = list(model.tables(2))
    for number, graph in enumerate(graphs):
        try:
            _check_graph(graph, kinds, buffers)
        except ValueError as error:
            raise ValueError(f"subgraph {number}: {error}") from error
    found = {}
    for signature in model.tables(7):
        name, number = signature.text(2), signature.int(4)
        if name in found or not 0 <= number < len(graphs):
            raise ValueError(f"signature {name!r} is there twice, or has no graph")
        graph = graphs[number]
        tensors = list(graph.tables(0))
        ends = (_ends(signature, field, graph.ints(1 + field), tensors) for field in (0, 1))
        found[name] = Interface(*ends)
    return found


def _ends(signature: Table, field: int, indices: Sequence[int], tensors: list[Table]) -> Tensors:
    """Return the inputs (field 0) or outputs (field 1) of a signature."""
    names = [(entry.text(0), entry.int(1)) for entry in signature.tables(field)]
    if sorted(index for _, index in names) != sorted(indices):
        raise ValueError(f"signature {signature.text(2)!r} does not fit the tensors of its graph")
    found = {}
    for name, index in names:
        kind = _NUMBERS[tensors[index].byte(1)][0]
        found[name] = (kind, tensors[index].ints(0))
    if len(found) != len(names):
        raise ValueError(f"signature {signature.text(2)!r} has a name twice")
    return found


def _kind(number: int) -> Operation:
    if number not in OPERATIONS:
        raise ValueError(f"it has operation {number}, which no model here needs")
    return OPERATIONS[number]


def _check_graph(graph: Table, kinds: list[Operation], buffers: list[bool]) -> None:
    constants, types = [], []
    for number, tensor in enumerate(graph.tables(0)):
        _check_tensor(number, tensor)
        constants.append(buffers[tensor.int(2)])
        types.append(tensor.byte(1))
    # True for each tensor that may be read so far.
    known = list(constants)
    for index in graph.ints(1):
        if not 0 <= index < len(known) or known[index]:
            raise ValueError(f"tensor {index} cannot be an input")
        known[index] = True
    for number, operator in enumerate(graph.tables(3)):
        inputs, outputs = operator.ints(1), operator.ints(2)
        if not 0 <= operator.int(0) < len(kinds):
            raise ValueError(f"operation {number} is of a kind that is not listed")
        _check_kind(number, operator, kinds[operator.int(0)], inputs, outputs)
        for place, index in enumerate(inputs):
            left_out = index == -1 and place >= _OPTIONAL
            if not left_out and not (0 <= index < len(known) and known[index]):
                raise ValueError(f"operation {number} reads tensor {index} before it is written")
        for index in outputs:
            if not 0 <= index < len(known) or known[index]:
                raise ValueError(f"operation {number} cannot write tensor {index}")
            known[index] = True
        _check_types(number, operator, kinds[operator.int(0)], types)
    for index in graph.ints(2):
        if not 0 <= index < len(known) or not known[index]:
            raise ValueError(f"output {index} is never written")


def _check_kind(
    number: int, operator: Table, kind: Operation, inputs: Sequence[int], outputs: Sequence[int]
) -> None:
    """Check what LiteRT's kernels assume: the table of options, and the numbers of inputs and
    outputs."""
    options = operator.byte(3)
    if options != kind.options and (options or kind.needed):
        raise ValueError(f"operation {number} is a {kind.name} with options of another")
    parts = len(outputs)
    if kind.name == "SPLIT":  # its options have the number
        parts = operator.table(4).int(0) if operator.at(4) else 0
    several = kind.name in SEVERAL_OUTPUTS
    if not kind.fewest <= len(inputs) <= kind.most or not (several or len(outputs) == 1):
        raise ValueError(f"operation {number} is a {kind.name} with {len(inputs)} inputs")
    if not outputs or parts != len(outputs):
        raise ValueError(f"operation {number} is a {kind.name} with {len(outputs)} outputs")


def _check_types(number: int, operator: Table, kind: Operation, types: list[int]) -> None:
    """Check that the types of an operation's outputs are those that its kernel writes."""
    inputs = [types[index] for index in operator.ints(1) if index >= 0]
    outputs = [types[index] for index in operator.ints(2)]
    expected = inputs[operations.OUTPUT_AS_INPUT.get(kind.name, 0)]
    if kind.name in operations.BOOLEAN_OUTPUT:
        expected = _BOOL
    elif kind.name in operations.FLOAT_OUTPUT or (
        kind.name == "EMBEDDING_LOOKUP" and _NUMBERS[expected][1] <= 8
    ):
        expected = _FLOAT
    elif kind.name in operations.TYPE_AS_OPTION:
        expected = operator.table(4).byte(0) if operator.at(4) else -1
    elif kind.name in operations.CONVERTING:
        expected = outputs[0]
    wanted = [expected] * len(outputs)
    if kind.name == "TOPK_V2":
        wanted[1:] = [_INT32]
    is_right = outputs == wanted
    if kind.name in operations.INPUTS_ALIKE:
        is_right = is_right and len(set(inputs)) == 1
    if not is_right:
        read, made = (", ".join(_NUMBERS[t][0] for t in some) for some in (inputs, outputs))
        raise ValueError(f"operation {number} is a {kind.name} of {read} that makes {made}")


def _check_tensor(number: int, tensor: Table) -> None:
    if tensor.byte(1) not in _NUMBERS:
        raise ValueError(f"tensor {number} has numbers of type {tensor.byte(1)}")
    _, bits = _NUMBERS[tensor.byte(1)]
    if tensor.at(5) or tensor.at(6) or tensor.at(9):
        raise ValueError(f"tensor {number} is a variable, sparse or a variant")
    shape = tensor.ints(0)
    if any(size < 0 for size in shape) or math.prod(shape) * bits > 8 * _MAX_TENSOR_BYTES:
        raise ValueError(f"tensor {number} has the shape {list(shape)}")
