"""The process that runs the TFLite converter: reads one JSON request from standard input."""

import json
import os
import sys
from unittest import mock

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema


def main() -> None:
    request = json.load(sys.stdin)
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
    if request["quantize"]:
        content = compacted(content)
    temporary = request["path"] + ".tmp"
    with open(temporary, "wb") as file:
        file.write(content)
    os.replace(temporary, request["path"])


def in_four_bits(content: bytes) -> bytes:
    """A float32 TFLite file with every weight matrix in 4 bits, 32 numbers of a row to a scale."""
    from litert_quantizer import quantizer, recipe

    return quantizer.Quantizer(content, recipe.dynamic_wi4b32_afp32()).quantize().quantized_model


def compacted(content: bytes) -> bytes:
    """The same file with equal scales stored once, and without names of inner tensors.

    Signatures share their weights, but each states the scale and the zero point of every row again:
    12 bytes a row, which of narrow models with many signatures is as much as the weights. Names of
    a hundred bytes, several hundred to a signature, come to a tenth of a small model.
    """
    written: dict[tuple, int] = {}
    pack = schema.QuantizationParametersT.Pack

    def pack_once(self, builder):
        fields = vars(self).values()
        key = tuple(x.tobytes() if isinstance(x, np.ndarray) else str(x) for x in fields)
        if key not in written:
            written[key] = pack(self, builder)
        return written[key]

    def pack_aligned(self, builder):
        """As the converter writes buffers: at multiples of 16 bytes."""
        place = None
        if self.data is not None or self.size:
            # The 4-bit quantizer has put the data of large models behind the tables.
            behind = content[self.offset : self.offset + self.size]
            data = behind if self.size else np.asarray(self.data, np.uint8).tobytes()
            builder.StartVector(1, len(data), 16)
            builder.head -= len(data)
            builder.Bytes[builder.head : builder.head + len(data)] = data
            place = builder.EndVector()
        schema.BufferStart(builder)
        if place is not None:
            schema.BufferAddData(builder, place)
        return schema.BufferEnd(builder)

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for graph in model.subgraphs:
        outer = {*graph.inputs, *graph.outputs}
        for index, tensor in enumerate(graph.tensors):
            tensor.name = tensor.name if index in outer else b""
    builder = flatbuffers.Builder(len(content))
    with (
        mock.patch.object(schema.QuantizationParametersT, "Pack", pack_once),
        mock.patch.object(schema.BufferT, "Pack", pack_aligned),
    ):
        builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


if __name__ == "__main__":
    main()
