"""Metadata in a TFLite file, from which MediaPipe Tasks learns the vocabulary, the kind of images
and the names of labels.

A flatbuffer in the file, and a zip archive of vocabulary and labels at its end. The numbers of
fields and values are those of
https://github.com/google-ai-edge/mediapipe/blob/master/mediapipe/tasks/metadata/metadata_schema.fbs
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from tfx_transformer.export import compact

_NAME = b"TFLITE_METADATA"
_IDENTIFIER = b"M001"
_WRITTEN = (2000, 1, 1, 0, 0, 0)  # so that the same model makes the same bytes

# Kinds of files, of options and of contents.
_LABELS, _VOCABULARY = 2, 5
_BERT_TOKENIZER = 4
_IMAGE, _RGB = 2, 1

# A table: number of a field -> its value. Lists of numbers do not occur.
Table = dict[int, Any]


def add_metadata(
    content: bytes, name: str, subgraph: Table, attached: Mapping[str, str], minimum: str = "1.3.0"
) -> bytes:
    """Return a TFLite file with metadata.

    Args:
        content: the file, of one subgraph.
        name: of the model.
        subgraph: a `SubGraphMetadata`: see `subgraph_metadata`.
        attached: the files at its end: their texts by name.
        minimum: oldest version of the reader.
    """
    model = compact.unpack(content)
    builder = flatbuffers.Builder(1024)
    root = _write(builder, {0: name, 3: [subgraph], 7: minimum})
    builder.Finish(root, _IDENTIFIER)
    model.buffers.append(schema.BufferT(bytearray(builder.Output())))
    model.metadata = [entry for entry in model.metadata or () if entry.name != _NAME]
    model.metadata.append(schema.MetadataT(name=_NAME, buffer=len(model.buffers) - 1))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        for file, text in attached.items():
            made.writestr(zipfile.ZipInfo(file, _WRITTEN), text)
    return compact.pack(model) + archive.getvalue()


def subgraph_metadata(
    inputs: Sequence[Table], outputs: Sequence[Table], units: Sequence[Table] = ()
) -> Table:
    """Return a `SubGraphMetadata`.

    Args:
        inputs, outputs: see `tensor`, in their order in the file.
        units: the steps that make the inputs, see `bert_tokenizer`.
    """
    return {2: list(inputs), 3: list(outputs)} | ({5: list(units)} if units else {})


def tensor(name: str, labels: str | None = None, is_image: bool = False) -> Table:
    """Return the `TensorMetadata` of an input or an output.

    Args:
        name: by which MediaPipe knows it.
        labels: name of the attached file of labels, one a line.
        is_image: True for pixels in RGB.
    """
    table: Table = {0: name}
    if is_image:
        table[3] = {0: _IMAGE, 1: {0: _RGB}}
    if labels is not None:
        table[6] = [{0: labels, 2: _LABELS}]
    return table


def bert_tokenizer(vocabulary: str) -> Table:
    """Return the `ProcessUnit` that turns a text into ids; `vocabulary` is the attached file."""
    return {0: _BERT_TOKENIZER, 1: {0: [{0: vocabulary, 2: _VOCABULARY}]}}


def _write(builder: flatbuffers.Builder, value: Table | Sequence | str) -> int:
    """Write a table, a list of tables or a text; return its place."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if not isinstance(value, dict):
        places = [_write(builder, item) for item in value]
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()
    places = {n: _write(builder, part) for n, part in value.items() if not isinstance(part, int)}
    builder.StartObject(max(value) + 1)
    for number, part in value.items():
        if isinstance(part, int):  # all of them are enumerations of one byte
            builder.PrependInt8Slot(number, part, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(number, places[number], 0)
    return builder.EndObject()
