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
    temporary = request["path"] + ".tmp"
    with open(temporary, "wb") as file:
        file.write(converter.convert())
    os.replace(temporary, request["path"])


if __name__ == "__main__":
    main()
