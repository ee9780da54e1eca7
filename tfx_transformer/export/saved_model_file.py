"""SavedModels, which may come from anywhere: a SavedModel is a program, so its operations are
checked before it is loaded.

TensorFlow runs all operations in the graph, and some read or write files, start Python or talk to
other machines. Ours only compute tensors from tensors.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from tfx_transformer.errors import InputError

GRAPH = "saved_model.pb"

# Operations that compute, and the structure around them: calls, branches, loops, tables in memory.
# All others are refused, whatever they do.
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

# Operations that save and restore the variables, in functions that nothing else calls. TensorFlow
# loads the variables with functions of its own.
_SAVING = frozenset({"MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"})

# Python objects that TensorFlow may make of a SavedModel; other names would make other objects.
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

    TensorFlow traces an endpoint again while it saves it. The endpoint only calls the function,
    which is traced once, here.

    Args:
        specs: the arguments as `tf.TensorSpec`, or dictionaries of them.
    """
    graph = tf.function(function, autograph=False).get_concrete_function(*specs)

    @functools.wraps(function)
    def endpoint(*arguments, **named):
        return graph(*arguments, **named)

    archive.add_endpoint(name, endpoint, specs)


def write(archive: Any, folder: str | os.PathLike) -> None:
    """Write a `keras.export.ExportArchive` as a SavedModel.

    Args:
        folder: the new folder, in an unfinished bundle; see `_writing`.
    """
    with _writing(folder):
        archive.write_out(str(folder), verbose=False)


def write_functions(
    model: keras.Model, functions: Mapping[str, tuple[Callable, Any]], folder: str | os.PathLike
) -> None:
    """Write functions as the signatures of a SavedModel that only LiteRT's converter reads.

    Without the endpoints of a `keras.export.ExportArchive` each function is in the file once, and
    is converted in two thirds of the time.

    Args:
        model: the model whose weights the functions read.
        functions: name -> (function of a dictionary of tensors, their `tf.TensorSpec`s by name).
        folder: the new folder, in an unfinished bundle; see `_writing`.
    """
    module: Any = tf.Module()
    module.variables_of_model = [variable.value for variable in model.variables]
    signatures = {
        name: tf.function(function, autograph=False).get_concrete_function(specs)
        for name, (function, specs) in functions.items()
    }
    with _writing(folder):
        tf.saved_model.save(module, str(folder), signatures=signatures)


@contextlib.contextmanager
def _writing(folder: str | os.PathLike) -> Iterator[None]:
    """In the block, print to standard error and write AutoGraph's temporary files next to a folder:
    they are removed with its unfinished bundle even if the process is killed."""
    usual = tempfile.tempdir
    with (
        tempfile.TemporaryDirectory(dir=Path(folder).parent) as temporary,
        contextlib.redirect_stdout(sys.stderr),
    ):
        tempfile.tempdir = temporary
        try:
            yield
        finally:
            tempfile.tempdir = usual


def load(folder: Path):
    """Return the SavedModel in a folder, checked; its `serve` answers.

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
    """Raise if a SavedModel has anything that our exports do not have.

    Args:
        folder: folder of `saved_model.pb`.

    Raises:
        InputError: it cannot be read, or has operations, files or objects of another kind; the
            message names them.
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
    """Return the names of the functions that a loaded model can run."""
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
    """Yield the names of the functions in an operation's attributes."""
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        yield from (function.name for function in value.list.func)


def _refusal(folder: Path, what: str) -> InputError:
    return InputError(
        f"{folder} holds {what}, which no SavedModel of this program does.\n"
        "  A SavedModel is a program: it is not loaded. Make a new one from the bundle's weights:\n"
        f"  tfx-transformer export {folder.parent} --to saved_model"
    )
