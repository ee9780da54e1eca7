"""SavedModels from anywhere: a SavedModel is a program, so what it could do is checked before it is
loaded.

TensorFlow runs whatever operations are in the graph, and some read or write files, start Python or
talk to other machines. Ours compute tensors from tensors, and hold nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from tfx_transformer.errors import InputError

GRAPH = "saved_model.pb"

# What is computed, and the structure around it: calls, branches, loops, tables that are held in
# memory. Anything else is refused, whatever it does.
_NAMES = """
Abs Acos Add AddN AddV2 All Any ArgMax ArgMin AsString Asin Assert AssignVariableOp Atan AvgPool
BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchToSpaceND BiasAdd Bitcast BitwiseAnd BitwiseOr
BitwiseXor BroadcastArgs BroadcastTo Bucketize Case Cast Ceil CheckNumerics ClipByValue
ConcatOffset ConcatV2 Const Conv2D Cos Cosh CropAndResize Cumprod Cumsum DecodeBmp DecodeGif
DecodeImage DecodeJpeg DecodePng DecodeRaw DenseBincount DepthwiseConv2dNative DisableCopyOnRead
DivNoNan DynamicPartition DynamicStitch Einsum Elu Empty EmptyTensorList EnsureShape Equal Erf
Erfc Exp ExpandDims Expm1 ExtractJpegShape Fill Floor FloorDiv FloorMod FusedBatchNormV3 Gather
GatherNd GatherV2 Greater GreaterEqual HashTableV2 Identity IdentityN If InvertPermutation
IsFinite IsInf IsNan L2Loss LeakyRelu LeftShift Less LessEqual LinSpace Log Log1p LogSoftmax
LogicalAnd LogicalNot LogicalOr LookupTableFindV2 LookupTableImportV2 LookupTableSizeV2
LowerBound MatMul MatrixBandPart MatrixDiagV3 MatrixSetDiagV3 Max MaxPool Maximum Mean Min
Minimum MirrorPad Mod Mul MulNoNan Neg NoOp NotEqual OneHot OnesLike Pack Pad PadV2
ParallelDynamicStitch PartitionedCall Placeholder PlaceholderWithDefault Pow PreventGradient
Prod RaggedGather RaggedRange RaggedTensorFromVariant RaggedTensorToTensor RaggedTensorToVariant
Range Rank ReadVariableOp RealDiv Reciprocal ReduceJoin RegexFullMatch RegexReplace Relu Relu6
Reshape ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor ResourceGather
ReverseSequence ReverseV2 RightShift Rint Roll Round Rsqrt ScaleAndTranslate ScatterNd
SegmentMax SegmentMean SegmentMin SegmentProd SegmentSum Select SelectV2 Selu Shape ShapeN
Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SparseToDense Split SplitV Sqrt
Square SquaredDifference Squeeze StatefulPartitionedCall StatelessCase StatelessIf
StatelessWhile StaticRegexFullMatch StaticRegexReplace StopGradient StridedSlice StringJoin
StringLength StringLower StringNGrams StringSplit StringSplitV2 StringStrip StringToNumber
StringUpper Sub Substr Sum Tan Tanh TensorListConcatV2 TensorListElementShape
TensorListFromTensor TensorListGather TensorListGetItem TensorListLength TensorListPopBack
TensorListPushBack TensorListReserve TensorListSetItem TensorListStack TensorScatterAdd
TensorScatterUpdate Tile TopKV2 Transpose TruncateDiv TruncateMod UnicodeDecode
UnicodeDecodeWithOffsets UnicodeEncode UnicodeTranscode Unique UniqueV2 UniqueWithCounts Unpack
UnravelIndex UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum
UpperBound VarHandleOp VarIsInitializedOp Where While Xdivy XlaDynamicUpdateSlice Xlogy
ZerosLike
"""
_OPERATIONS = frozenset(_NAMES.split())

# What saves and restores the variables, in functions that nothing else calls. Loading brings its
# own.
_SAVING = frozenset({"MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"})

# Objects that TensorFlow makes of a SavedModel; other names would make other Python objects.
_OBJECTS = frozenset(
    {
        "_generic_user_object",
        "signature_map",
        "trackable_dict_wrapper",
        "trackable_list_wrapper",
        "trackable_tuple_wrapper",
    }
)


def add_endpoint(archive: Any, name: str, function: Callable, specs: Sequence) -> None:
    """Add a function to a `keras.export.ExportArchive`.

    TensorFlow traces an endpoint once more while it saves it. The endpoint only calls the function,
    which is traced once, here.

    Args:
        specs: `tf.TensorSpec`, or dictionaries of them: the arguments.
    """
    graph = tf.function(function, autograph=False).get_concrete_function(*specs)

    @functools.wraps(function)
    def endpoint(*arguments, **named):
        return graph(*arguments, **named)

    archive.add_endpoint(name, endpoint, specs)


def write(archive: Any, folder: str | os.PathLike) -> None:
    """Write a `keras.export.ExportArchive` as a SavedModel. What Keras prints goes to standard
    error.

    Args:
        folder: to make, in an unfinished bundle. TensorFlow's AutoGraph writes temporary files;
            beside it they go when that bundle goes, even if the process is killed.
    """
    usual = tempfile.tempdir
    with (
        tempfile.TemporaryDirectory(dir=Path(folder).parent) as temporary,
        contextlib.redirect_stdout(sys.stderr),
    ):
        tempfile.tempdir = temporary
        try:
            archive.write_out(str(folder), verbose=False)
        finally:
            tempfile.tempdir = usual


def load(folder: Path):
    """The SavedModel in a folder, checked; it answers by `serve`.

    Raises:
        InputError: see `check`; or TensorFlow cannot load it.
    """
    check(folder)
    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as error:  # a damaged file can make the loader fail in any way
        raise InputError(
            f"{folder} cannot be loaded: {error}.\n  Copy the whole folder again."
        ) from error
    if not callable(getattr(loaded, "serve", None)):
        raise InputError(f"{folder} has no signature 'serve'.\n  Copy the whole folder again.")
    return loaded


def check(folder: Path) -> None:
    """Refuses a SavedModel that holds anything but what our exports compute with.

    Args:
        folder: of `saved_model.pb`.

    Raises:
        InputError: it cannot be read, or holds operations, files or objects of another kind; they
            are named.
    """
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        known = name in (GRAPH, "fingerprint.pb") or name.startswith("variables/variables.")
        if file.is_file() and not known:
            raise _refusal(folder, f"the file {name}")
    try:
        content = (folder / GRAPH).read_bytes()
        model = saved_model_pb2.SavedModel.FromString(content)
    except (OSError, DecodeError) as error:
        raise InputError(
            f"{folder / GRAPH} cannot be read: {error}.\n  Copy the whole folder again."
        ) from error
    if len(model.meta_graphs) != 1 or not model.meta_graphs[0].object_graph_def.nodes:
        raise _refusal(folder, "graphs of an older TensorFlow")
    (graph,) = model.meta_graphs
    if graph.asset_file_def:
        raise _refusal(folder, "files that it reads")
    objects = graph.object_graph_def
    for node in objects.nodes:
        kind = node.WhichOneof("kind")
        name = node.user_object.identifier if kind == "user_object" else kind
        if kind == "asset" or (kind == "user_object" and name not in _OBJECTS):
            raise _refusal(folder, f"an object of the kind {name}")
    parts = {field.name: value for field, value in graph.graph_def.ListFields()}
    functions = {}
    if "library" in parts:
        functions = {f.signature.name: f.node_def for f in parts["library"].function}
    called = _reachable_functions(functions, objects)
    for name, nodes in functions.items():
        allowed = _OPERATIONS if name in called else _OPERATIONS | _SAVING
        _check_operations(folder, nodes, allowed)
    _check_operations(folder, graph.graph_def.node, _OPERATIONS)


def _check_operations(folder: Path, nodes, allowed: frozenset[str]) -> None:
    if others := sorted({node.op for node in nodes} - allowed):
        raise _refusal(folder, f"the operation{'s' * (len(others) > 1)} {', '.join(others[:9])}")


def _reachable_functions(functions, objects) -> set[str]:
    """Names of the functions that a loaded model can run."""
    waiting = [*objects.concrete_functions]
    for node in objects.nodes:
        waiting += node.function.concrete_functions
        waiting.append(node.bare_concrete_function.concrete_function_name)
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in functions and name not in reached:
            reached.add(name)
            waiting += [called for node in functions[name] for called in _functions_called(node)]
    return reached


def _functions_called(node) -> Iterator[str]:
    """Names of the functions in an operation's attributes."""
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        yield from (function.name for function in value.list.func)


def _refusal(folder: Path, what: str) -> InputError:
    return InputError(
        f"{folder} holds {what}, which no SavedModel of this program does.\n"
        "  A SavedModel is a program: it is not loaded. Make a new one of the bundle's weights:\n"
        f"  tfx-transformer export {folder.parent} --to saved_model"
    )
