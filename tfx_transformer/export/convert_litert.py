"""The process of `converter.Converter`: it reads JSON requests, one a line, and answers "done" or
"failed"."""

import ctypes
import json
import os
import re
import signal
import sys
import traceback
from typing import Any

if __name__ == "__main__":
    # A conversion does not need Keras, whose import takes half of TensorFlow's start. TensorFlow
    # starts without it too.
    sys.modules["keras"] = None  # pyright: ignore[reportArgumentType]

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow.lite.python.convert import convert_saved_model, mlir_quantize  # noqa: E402
from tensorflow.lite.python.lite import TFLiteConverterBaseV2  # noqa: E402

_PR_SET_PDEATHSIG = 1

# 4-bit weights in a row that share a scale.
_BLOCK = 32

# Weights of more bytes are quantized to int8 within the conversion, which needs less memory, and
# makes no float32 file, which may be at most 2 GB.
_MOST_IN_MEMORY = 2**30


def main() -> None:
    """Convert the files that standard input requests. Libraries print to standard error."""
    if sys.platform == "linux":  # end with the parent, which may be killed
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            write_files(json.loads(line))
            done = "done"
        except Exception:  # the next request may be possible
            traceback.print_exc()
            done = "failed"
        print(done, file=answers, flush=True)


def write_files(request: dict) -> None:
    """Convert one SavedModel to TFLite files; see `Converter.submit`.

    It is converted once, to float32, and the other variants are quantized from that; but a large
    model is converted to int8 at once.
    """
    paths = dict(request["files"])
    if "full_int8" in paths:
        _write(paths.pop("full_int8"), _convert_to_integers(request))
    if "int8" in paths and _weight_bytes(request["saved_model"]) > _MOST_IN_MEMORY:
        _write(paths.pop("int8"), _convert(request, int8=True))
    if not paths:
        return
    content = _convert(request)
    if "float32" in paths:
        _write(paths["float32"], content)
    if "int8" in paths:
        _write(paths["int8"], _quantize(content, 8))
    if "int4" in paths:
        _write(paths["int4"], _quantize(content, 4))


def _weight_bytes(saved_model: str) -> int:
    """Return the size of the variables of a SavedModel."""
    return sum(entry.stat().st_size for entry in os.scandir(os.path.join(saved_model, "variables")))


def _convert(request: dict, int8: bool = False) -> bytes:
    """Return a TFLite file in float32, or with weights in 8 bits if `int8`.

    Only the step of `tf.lite.TFLiteConverter` that converts is run, with its settings. The other
    steps take as long again: they load the SavedModel three times, for checks and messages, and
    unpack the file three times in Python, to add metadata that nothing reads and to store equal
    data once, which `compact` does.
    """
    converter = TFLiteConverterBaseV2()
    settings = converter._get_base_converter_args() | {
        "enable_tflite_resource_variables": converter.experimental_enable_resource_variables,
        "saved_model_dir": request["saved_model"],
        "saved_model_version": 1,
        "saved_model_tags": {tf.saved_model.SERVING},
        "saved_model_exported_names": request["names"],
    }
    if int8:
        settings |= {"post_training_quantize": True, "enable_mlir_dynamic_range_quantizer": True}
    return convert_saved_model(**settings)


def _convert_to_integers(request: dict) -> bytes:
    """Return a TFLite file of integers, whose scales are learnt from the images in the file
    "calibration"; with "byte_ends" its input and output are uint8 too. See `_linear_results`."""
    images = np.load(request["calibration"])
    converter = tf.lite.TFLiteConverter.from_saved_model(
        request["saved_model"], signature_keys=request["names"]
    )
    (name,) = request["names"]
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ((name, {"images": image[None]}) for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    end = tf.uint8 if request.get("byte_ends") else tf.float32
    converter.inference_input_type = converter.inference_output_type = end
    converter._experimental_calibrate_only = True
    calibrated = converter.convert()
    return mlir_quantize(
        calibrated,
        input_data_type=end,
        output_data_type=end,
        denylisted_nodes=_linear_results(calibrated),
    )


def _linear_results(content: bytes) -> list[str]:
    """Return the names of all results of the linear part of a classifier of images, which stays in
    float32: integers are too coarse for its quotients and roots, and LiteRT ends at some of them.
    """
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    names = {
        graph.tensors[index].name.decode()
        for graph in model.subgraphs
        for one in graph.operators
        for index in one.outputs
    }
    # TensorFlow numbers names that it sees again.
    return sorted(name for name in names if re.search(r"(^|/)linear(_\d+)?/", name))


def _quantize(content: bytes, bits: int) -> bytes:
    """Return a float32 TFLite file with its weight matrices in 8 bits, as LiteRT's converter
    quantizes them, with one scale for each row; or in 4 bits, with one scale for 32 numbers. In a
    file of 4 bits, kernels of convolutions and matrices whose rows do not divide into blocks of 32
    have 8 bits.
    """
    from litert_quantizer import quantizer, recipe

    rules = recipe.dynamic_legacy_wi8_afp32()
    if bits == 4:
        (eight_bits,) = rules
        # Of the rules that match, the last one holds that the operation can obey. A second rule for
        # the same expression would replace the first.
        rules = [{**eight_bits, "regex": ""}, *recipe.dynamic_wi4b32_afp32()]
        for operation, name in _undivided(content):
            # The whole scope of an operation: else "lookup1" would also mean "lookup10".
            scope = f"^{re.escape(name)};$"
            rules.append({**eight_bits, "regex": scope, "operation": operation})
    return quantizer.Quantizer(content, rules).quantize().quantized_model


def _undivided(content: bytes) -> set[tuple[str, str]]:
    """Return the operations of a TFLite file on matrices whose rows do not divide into 32 numbers:
    each operation's name, and that of its result."""
    from ai_edge_litert import schema_py_generated as schema

    operators = schema.BuiltinOperator
    names = {
        operators.FULLY_CONNECTED: "FULLY_CONNECTED",
        operators.EMBEDDING_LOOKUP: "EMBEDDING_LOOKUP",
    }
    model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    return {
        (names[codes[one.opcodeIndex]], graph.tensors[one.outputs[0]].name.decode())
        for graph in model.subgraphs
        for one in graph.operators
        if codes[one.opcodeIndex] in names and graph.tensors[one.inputs[1]].shape[-1] % _BLOCK
    }


def _write(path: str, content: bytes) -> None:
    """Write a file; under its name there is never a part of it."""
    with open(f"{path}.part", "wb") as file:
        file.write(content)
    os.replace(f"{path}.part", path)


if __name__ == "__main__":
    main()
