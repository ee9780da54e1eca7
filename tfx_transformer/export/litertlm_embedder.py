"""`.litertlm` files of embedders: two models, for LiteRT-LM's `EmbeddingEngine`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from litert_lm_builder.runtime.proto.embedding_metadata_pb2 import (
    EmbeddingMetadata,  # pyright: ignore
)

from tfx_transformer import bundle
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.export.calibration import read_inputs
from tfx_transformer.export.compact import without_signatures
from tfx_transformer.export.converter import Converter
from tfx_transformer.export.litertlm_packing import Kind, packed_tokenizer, write_file
from tfx_transformer.export.signatures import encoder_lengths
from tfx_transformer.export.to_litert import Conversion
from tfx_transformer.models.encoders import Embedder
from tfx_transformer.models.saving import load
from tfx_transformer.text.tokenizer import Tokenizer

_LOOK_UP = "embedder"


def pack_embedder(
    path: Path, variant: str, context: int | None, calibration: Sequence = ()
) -> None:
    """Add `model.litertlm` to the bundle of an embedder; see `to_litertlm.litertlm`."""
    if context is not None:
        raise InputError(
            f"context is {context}; an embedder reads texts of the length it was trained with.\n"
            "  Drop it."
        )
    _check(TransformerConfig.from_dict(bundle.read_config(path)["architecture"]), path)
    with Converter() as converter:
        model, tokenizer = load(path)
        with bundle.updating(path) as folder:
            inputs = read_inputs(model, tokenizer, calibration)
            write_embedder(folder, model, tokenizer, converter, variant, inputs)


def write_embedder(
    folder: Path,
    model: Embedder,
    tokenizer: Tokenizer,
    converter: Converter,
    variant: str,
    inputs: Mapping[str, Any] | None = None,
) -> None:
    """Write `model.litertlm` into the folder of a bundle."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        file = Path(temporary, "model.tflite")
        models = convert_embedder(model, converter, file, variant, inputs)
    pack_models(folder / bundle.LITERTLM, models, tokenizer, model.config)
    facts = {"variant": variant, "context": model.config.max_sequence_length}
    bundle.write_config(folder, bundle.read_config(folder) | {"litertlm": facts})


def convert_embedder(
    model: Embedder,
    converter: Converter,
    file: Path,
    variant: str,
    inputs: Mapping[str, Any] | None = None,
) -> dict[Kind, bytes]:
    """Return the two TFLite files that LiteRT-LM runs; `file` is written on the way."""
    table = embedder_signatures(model)
    quantize = None if variant == "float32" else variant
    with Conversion(model, {quantize: file}, converter, table=table, inputs=inputs):
        pass
    content = file.read_bytes()
    return {
        Kind.EMBEDDER: without_signatures(content, table.keys() - {_LOOK_UP}),
        Kind.TEXT_ENCODER: without_signatures(content, {_LOOK_UP}),
    }


def pack_models(
    file: Path, models: dict[Kind, bytes], tokenizer: Tokenizer, config: TransformerConfig
) -> None:
    """Write a `.litertlm` file of the models from `convert_embedder`."""
    metadata = _metadata(tokenizer, config.max_sequence_length)
    write_file(file, packed_tokenizer(tokenizer, config.prompt()), metadata, models)


def embedder_signatures(model: Embedder) -> dict[str, tuple]:
    """Return the functions of an `Embedder` for LiteRT-LM, as name -> (function, input signature).

    `embedder`: token_ids int32 (1, 1) -> output float32 (1, 1, embedding_dim + bag_dim), the
        vector of a token. `encoder_<length>`: embeddings float32 (1, length, embedding_dim +
        bag_dim), input_mask float32 (1, length), 0 for padding -> output float32 (1, width), the
        vector of the text.
    """
    own, bag = model.config.embedding_dim, model.bag
    width = own + model.config.bag_dim

    def look_up(inputs):
        vectors, _ = model.embed_inputs({"token_ids": inputs["token_ids"]})
        if bag is not None:
            vectors = tf.concat([vectors, bag.table(inputs["token_ids"])], axis=-1)
        return {"output": tf.cast(vectors, tf.float32)}

    def encode(inputs):
        mask = inputs["input_mask"] > 0.5
        read, rows = inputs["embeddings"], None
        if bag is not None:
            read, rows = tf.split(read, [own, width - own], axis=-1)
        x = model.encoder(read, attention_mask=mask[:, None], training=False)
        vectors = model.pool_and_project(x, mask)
        if bag is not None:
            vectors = model.join(vectors, bag.add_up(rows, mask))
        return {"output": tf.cast(vectors, tf.float32)}

    table = {_LOOK_UP: (look_up, {"token_ids": tf.TensorSpec((1, 1), tf.int32, "token_ids")})}
    for length in encoder_lengths(model.config.max_sequence_length):
        specs = {
            "embeddings": tf.TensorSpec((1, length, width), tf.float32, "embeddings"),
            "input_mask": tf.TensorSpec((1, length), tf.float32, "input_mask"),
        }
        table[f"encoder_{length}"] = (encode, specs)
    return table


def _metadata(tokenizer: Tokenizer, longest: int) -> EmbeddingMetadata:
    """Return LiteRT-LM's metadata of an embedder, with the tokens that LiteRT-LM puts around each
    text."""
    metadata = EmbeddingMetadata(max_input_length=longest)
    metadata.embedding_model_type.generic_model.SetInParent()
    frame = tokenizer.frame
    if frame.before:
        metadata.bos_token.token_ids.ids.extend(frame.before)
    if frame.after:
        metadata.eos_token.token_ids.ids.extend(frame.after)
    return metadata


def _check(config: TransformerConfig, path: Path) -> None:
    """Raise if LiteRT-LM cannot run an embedder."""
    if config.ngram_buckets:
        raise InputError(
            f"{path}: LiteRT-LM looks tokens up one by one; this embedder also looks up pairs and\n"
            "  triples of tokens (ngram_buckets). Export it --to litert."
        )
