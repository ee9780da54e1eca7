"""The process of `converter.Converter`: it reads JSON requests, one a line, and answers "done"."""

import ctypes
import json
import os
import signal
import sys

import numpy as np
import tensorflow as tf

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Convert the files that standard input requests. Libraries print to standard error."""
    if sys.platform == "linux":  # end with the parent, which may be killed
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        write_file(json.loads(line))
        print("done", file=answers, flush=True)


def write_file(request: dict) -> None:
    """Convert one SavedModel; see `Converter.submit`."""
    converter = tf.lite.TFLiteConverter.from_saved_model(
        request["saved_model"], signature_keys=request["names"]
    )
    if request["quantize"] in ("int8", "full_int8"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if request["quantize"] == "full_int8":
        images = np.load(request["calibration"])
        (name,) = request["names"]
        converter.representative_dataset = lambda: (
            (name, {"images": image[None]}) for image in images
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    content = converter.convert()
    if request["quantize"] == "int4":
        content = in_four_bits(content)
    with open(request["path"], "wb") as file:
        file.write(content)


def in_four_bits(content: bytes) -> bytes:
    """Return a float32 TFLite file with all weight matrices in 4 bits, one scale for 32 numbers."""
    from litert_quantizer import quantizer, recipe

    return quantizer.Quantizer(content, recipe.dynamic_wi4b32_afp32()).quantize().quantized_model


if __name__ == "__main__":
    main()
