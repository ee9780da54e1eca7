"""TFLite files for MediaPipe Tasks: TextClassifier, TextEmbedder and ImageClassifier."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from tfx_transformer import bundle, files
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.export.calibration import read_inputs
from tfx_transformer.export.converter import Converter
from tfx_transformer.export.mediapipe_metadata import (
    add_metadata,
    bert_tokenizer,
    subgraph_metadata,
    tensor,
)
from tfx_transformer.export.tensorflow_process import on_tensorflow
from tfx_transformer.export.to_litert import Conversion, calibration_images, check_calibration
from tfx_transformer.models.saving import load
from tfx_transformer.text.hugging_face import vocabulary_of
from tfx_transformer.text.tokenizer import Tokenizer

_VARIANTS = ("float32", "int8", "int4", "full_int8")
_LABELS, _VOCABULARY = "labels.txt", "vocab.txt"
_REMEDY = "Start from a checkpoint of BERT in lower case (--base minilm), or export it --to litert."


@on_tensorflow
def mediapipe(
    path: str | os.PathLike, variant: str = "float32", calibration: Sequence = ()
) -> None:
    """Add `model.mediapipe.tflite` to the bundle of a classifier of texts or images, or of an
    embedder: MediaPipe's TextClassifier, ImageClassifier and TextEmbedder read it, in apps too.

    MediaPipe turns texts into ids by WordPiece, in its own way: ASCII letters become lower case,
    accents stay. It scales images without smoothing, and does not crop. An embedder's prompt must
    be put before the text by the app.

    Args:
        path: the bundle's folder.
        variant: number format of the weights: "float32", "int8" or "int4"; or "full_int8", for
            image classifiers only: all numbers are integers, those of the input and the
            probabilities too (uint8), for chips that compute with integers only.
        calibration: see `litert`.

    Raises:
        InputError: the bundle is damaged or of another task, MediaPipe has no tokenizer of this
            kind, or "full_int8" lacks its images.
    """
    if variant not in _VARIANTS:
        raise InputError(
            f"variant is {variant!r}.\n  Expected one of {', '.join(map(repr, _VARIANTS))}."
        )
    check_calibration(variant, calibration)
    values = bundle.read_config(path)
    task = values.get("task", "")
    if task not in _OUTPUTS:
        raise InputError(
            f"{path}: MediaPipe Tasks runs classifiers and embedders; this one's task is {task!r}."
            "\n  Export it --to litert, or a model that writes --to litertlm."
        )
    config = TransformerConfig.from_dict(values["architecture"])
    vocabulary = "" if config.image_size else _vocabulary(Path(path), values)
    labels = _labels(values.get("labels") or [], config.num_classes)
    with Converter() as converter:
        model, tokenizer = load(path)
        examples: dict[str, Any] = {}
        if variant == "full_int8":
            examples["images"] = _with_all_colours(calibration_images(model, calibration))
        elif variant == "int4":
            examples["inputs"] = read_inputs(model, tokenizer, calibration)
        with bundle.updating(path) as folder:
            content = _convert(model, _OUTPUTS[task], converter, folder, variant, examples)
            attached = {_VOCABULARY: vocabulary} if vocabulary else {}
            attached |= {_LABELS: labels} if labels else {}
            made = _with_metadata(content, Path(path).name, attached)
            files.write(folder / bundle.MEDIAPIPE, made)
            facts = {"variant": variant}
            bundle.write_config(folder, bundle.read_config(folder) | {"mediapipe": facts})


def _with_all_colours(images: np.ndarray) -> np.ndarray:
    """Return images of which one pixel is black and one is white, so that the scale of the input is
    1: MediaPipe puts the bytes of a picture into the file as they are."""
    images = images.copy()
    images[0, 0, :2] = [[0.0], [255.0]]
    return images


def _convert(
    model: Any,
    output: Callable,
    converter: Converter,
    folder: Path,
    variant: str,
    examples: Mapping[str, Any],
) -> bytes:
    """Return the TFLite file, without metadata. `examples`: images or inputs of its `Conversion`.

    `run`: ids, mask and segment_ids, int32 (1, max_sequence_length), or images uint8 (1,
        image_size, image_size, 3) -> output float32 (1, width), probabilities or a vector.
    """
    config = model.config

    def run_texts(inputs):
        ids = tf.where(inputs["mask"] > 0, inputs["ids"], config.padding_id)
        # All segments of one text are 0.
        return {"output": output(model({"token_ids": ids}, training=False), config)}

    def run_images(inputs):
        images = tf.cast(inputs["images"], tf.float32)
        return {"output": output(model({"images": images}, training=False), config)}

    size, length = config.image_size, config.max_sequence_length
    if size:
        dtype = tf.float32 if "images" in examples else tf.uint8  # which the converter makes uint8
        specs = {"images": tf.TensorSpec((1, size, size, 3), dtype, "images")}
    else:
        names = ("ids", "mask", "segment_ids")
        specs = {name: tf.TensorSpec((1, length), tf.int32, name) for name in names}
    table = {"run": (run_images if size else run_texts, specs)}
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        file = Path(temporary, "model.tflite")
        quantize = None if variant == "float32" else variant
        with Conversion(
            model, {quantize: file}, converter, table=table, byte_ends=True, **examples
        ):
            pass
        return file.read_bytes()


def _probabilities(logits: tf.Tensor, config: TransformerConfig) -> tf.Tensor:
    logits = tf.cast(logits, tf.float32)
    return tf.sigmoid(logits) if config.multi_label else tf.nn.softmax(logits)


def _vector(vectors: tf.Tensor, config: TransformerConfig) -> tf.Tensor:
    return tf.cast(vectors, tf.float32)


# The output of a file, for each task.
_OUTPUTS: dict[str, Callable] = {"classification": _probabilities, "embedding": _vector}


def _with_metadata(content: bytes, name: str, attached: dict[str, str]) -> bytes:
    """Return the file with metadata; inputs are in the order of the file's only subgraph."""
    model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    (signature,), (graph,) = model.signatureDefs, model.subgraphs
    names = {entry.tensorIndex: entry.name.decode() for entry in signature.inputs}
    inputs = [tensor(names[i], is_image=names[i] == "images") for i in graph.inputs]
    outputs = [tensor("output", _LABELS if _LABELS in attached else None)]
    units = [bert_tokenizer(_VOCABULARY)] if _VOCABULARY in attached else []
    return add_metadata(content, name, subgraph_metadata(inputs, outputs, units), attached)


def _labels(names: list[str], count: int) -> str:
    """Return the file of labels, one a line; empty for a model without classes."""
    if bad := next((name for name in names if "\n" in name), None):
        raise InputError(f"the label {bad!r} has a line end.\n  MediaPipe reads one label a line.")
    return "".join(f"{name}\n" for name in names or map(str, range(count)))


def _vocabulary(path: Path, values: dict[str, Any]) -> str:
    """Return BERT's `vocab.txt` of a bundle, in which special tokens have the names that MediaPipe
    looks up.

    Raises:
        InputError: MediaPipe cannot read its tokenizer, or the model reads rows of several texts.
    """
    if max(len(values.get("columns") or ()), values.get("text_columns") or 1) > 1:
        raise InputError(f"{path}: MediaPipe reads one text; this model reads several columns.")
    tokenizer = bundle.read_tokenizer(path)
    tree = json.loads(tokenizer.to_json())
    if tree["model"]["type"] != "WordPiece":
        raise InputError(
            f"{path}: MediaPipe has no tokenizer for this vocabulary ({tree['model']['type']}); it "
            f"has BERT's WordPiece.\n  {_REMEDY}"
        )
    if not _makes_lower_case(tree.get("normalizer")):
        raise InputError(
            f"{path}: MediaPipe makes letters lower case; this vocabulary has both cases.\n"
            f"  {_REMEDY}"
        )
    return _lines(path, tokenizer, tree)


def _makes_lower_case(normalizer: dict[str, Any] | None) -> bool:
    parts = (normalizer or {}).get("normalizers", [normalizer or {}])
    return any(p.get("type") == "Lowercase" or p.get("lowercase") is True for p in parts)


def _lines(path: Path, tokenizer: Tokenizer, tree: dict[str, Any]) -> str:
    """Return the pieces of a vocabulary, one a line, in the order of their ids."""
    pieces = {index: piece for piece, index in vocabulary_of(tree).items()}
    before, after = tokenizer.frame.before, tokenizer.frame.after
    unknown = tree["model"]["unk_token"]
    if (
        [*sorted(pieces)] != [*range(len(pieces))]
        or (len(before), len(after)) != (1, 1)
        or tree["model"]["continuing_subword_prefix"] != "##"
        or any("\n" in piece for piece in pieces.values())
    ):
        raise InputError(
            f"{path}: MediaPipe reads only vocabularies like BERT's, with one token before and\n"
            "  one after each text. Export it --to litert."
        )
    names = {before[0]: "[CLS]", after[0]: "[SEP]", vocabulary_of(tree)[unknown]: "[UNK]"}
    return "".join(f"{names.get(index, pieces[index])}\n" for index in range(len(pieces)))
