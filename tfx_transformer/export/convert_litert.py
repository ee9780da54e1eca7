"""The process that runs the TFLite converter: reads one JSON request from standard input."""

import json
import os
import sys

import tensorflow as tf


def main() -> None:
    request = json.load(sys.stdin)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        request["saved_model"], signature_keys=request["names"]
    )
    if request["quantize"] == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    content = converter.convert()
    if request["quantize"] == "int4":
        content = in_four_bits(content)
    temporary = request["path"] + ".tmp"
    with open(temporary, "wb") as file:
        file.write(content)
    os.replace(temporary, request["path"])


def in_four_bits(content: bytes) -> bytes:
    """A float32 TFLite file with every weight matrix in 4 bits, 32 numbers of a row to a scale."""
    from litert_quantizer import quantizer, recipe

    return quantizer.Quantizer(content, recipe.dynamic_wi4b32_afp32()).quantize().quantized_model


if __name__ == "__main__":
    main()
