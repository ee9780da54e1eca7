"""Backbones of keras-hub (formerly keras-nlp): their configuration and weights in our stack."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.models.saving import TASKS, parameters
from tfx_transformer.text.tokenizer import Tokenizer


def from_backbone(
    source: keras.Model, dtype: str = "float32", task: str | None = None
) -> tuple[keras.Model, Tokenizer | None]:
    """A model with the weights of a `keras_hub.models.Backbone`, or of the backbone of a task.

    Args:
        source: GPT2Backbone, BertBackbone, LlamaBackbone or Llama3Backbone, or a task around one.
        dtype: policy of the model.
        task: "causal" of the first, third and fourth; "embedding" or "masked" of the second, whose
            head is new. None: the first of these.

    Returns: the model, and the tokenizer of the task's preprocessor, None without one.

    Raises:
        InputError: it is no such backbone.
    """
    backbone = getattr(source, "backbone", source)
    family = _FAMILIES.get(type(backbone).__name__)
    if family is None:
        raise InputError(
            f"{type(backbone).__name__} is no source of a model.\n"
            f"  Expected a path, or a keras-hub model of {', '.join(_FAMILIES)}."
        )
    task = task or family.tasks[0]
    if task not in family.tasks:
        raise InputError(
            f"{type(backbone).__name__} cannot become a model of task {task!r}.\n"
            f"  Expected {' or '.join(family.tasks)}."
        )
    tokenizer = _tokenizer(getattr(source, "preprocessor", None))
    ids = {"padding_id": 0, "start_id": 1, "end_id": 2}
    if tokenizer is not None:
        ids = {name: getattr(tokenizer, name) for name in ids}
    model = TASKS[task](TransformerConfig(**ids, **family.fields(backbone)), dtype=dtype)
    stored = {weight.path: weight for weight in backbone.weights}
    for path, variable in parameters(model).items():
        name = family.name_of(path)
        if name in stored:
            # Heads and head_dim are two axes there and one here.
            array = np.asarray(stored[name].value, "float32").reshape(variable.shape)
            variable.assign(array)
        elif path.split("/")[0] in ("embedding", "encoder", "decoder", "segments"):
            raise InputError(f"{type(backbone).__name__} has no weight {name}.")
    return model, tokenizer


def from_preset(
    name: str, dtype: str = "float32", task: str | None = None
) -> tuple[keras.Model, Tokenizer | None]:
    """The same of a preset by name or folder: `keras_hub.models.Backbone.from_preset`.

    Raises:
        InputError: no such preset, or no network to fetch it.
    """
    import keras_hub

    try:
        backbone = keras_hub.models.Backbone.from_preset(name)
        tokenizer = _tokenizer_of(keras_hub.models.Tokenizer.from_preset(name))
    except (ValueError, OSError, FileNotFoundError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"keras://{name} cannot be read: {first}\n"
            "  Check the name and the network, or pass the folder of a preset you have: "
            "keras://./folder"
        ) from error
    model, _ = from_backbone(backbone, dtype, task)
    return model, tokenizer


class _Family:
    """A backbone's tasks, its configuration as ours, and the names of its weights.

    Args:
        tasks: that a model of it can have.
        fields: backbone -> fields of `TransformerConfig`.
        layers: the beginning of our path -> of theirs; "{i}" is the number of a block.
    """

    def __init__(
        self,
        tasks: tuple[str, ...],
        fields: Callable[[Any], dict[str, Any]],
        layers: Mapping[str, str],
    ) -> None:
        self.tasks = tasks
        self.fields = fields
        self.layers = layers

    def name_of(self, path: str) -> str:
        """The weight of the backbone that a variable of ours takes over."""
        layer, _, variable = path.rpartition("/")
        parts = layer.split("/")
        if len(parts) > 1 and parts[1].startswith("block_"):
            ours = "/".join([parts[0], "block_{i}", *parts[2:]])
            theirs = self.layers.get(ours, "").format(i=parts[1].removeprefix("block_"))
        else:
            theirs = self.layers.get(layer, "")
        return f"{theirs}/{variable}"


def _block(stack: str, attention: str, attention_norm: str, feed_forward_norm: str) -> dict:
    ours, theirs = f"{stack}/block_{{i}}/", "transformer_layer_{i}/"
    rows = {
        "attention/query": f"{attention}/query",
        "attention/key": f"{attention}/key",
        "attention/value": f"{attention}/value",
        "attention/output_projection": f"{attention}/attention_output",
        "attention_norm": attention_norm,
        "feed_forward/expand": "feedforward_intermediate_dense",
        "feed_forward/gate": "feedforward_gate_dense",
        "feed_forward/contract": "feedforward_output_dense",
        "feed_forward_norm": feed_forward_norm,
    }
    return {ours + a: theirs + b for a, b in rows.items()}


def _gpt2_fields(backbone) -> dict[str, Any]:
    return {
        "vocabulary_size": backbone.vocabulary_size,
        "num_layers": backbone.num_layers,
        "num_heads": backbone.num_heads,
        "hidden_dim": backbone.hidden_dim,
        "intermediate_dim": backbone.intermediate_dim,
        "max_sequence_length": backbone.max_sequence_length,
        "dropout": float(backbone.dropout),
        "position": "learned",
        "activation": "gelu_tanh",
        "scale_embedding": False,
    }


def _bert_fields(backbone) -> dict[str, Any]:
    # keras-hub computes the approximate GELU, whatever the checkpoint was trained with.
    return _gpt2_fields(backbone) | {
        "num_segments": backbone.num_segments,
        "norm_first": False,
        "embedding_norm": True,
        "norm_epsilon": 1e-12,
    }


def _llama_fields(backbone) -> dict[str, Any]:
    fields = {
        "vocabulary_size": backbone.vocabulary_size,
        "num_layers": backbone.num_layers,
        "num_heads": backbone.num_query_heads,
        "num_key_value_heads": backbone.num_key_value_heads,
        "hidden_dim": backbone.hidden_dim,
        "intermediate_dim": backbone.intermediate_dim,
        "dropout": float(backbone.dropout),
        "max_sequence_length": 2048,
        "position": "rotary",
        "rope_theta": float(backbone.rope_max_wavelength),
        "norm": "rms_norm",
        "norm_epsilon": backbone.layer_norm_epsilon,
        "activation": "silu",
        "gated": True,
        "use_bias": False,
        "scale_embedding": False,
        "tie_embeddings": backbone.token_embedding.tie_weights,
    }
    return fields | _rope_scaling(backbone)


def _rope_scaling(backbone) -> dict[str, Any]:
    config = backbone.get_config()
    if config.get("rope_frequency_adjustment_factor"):  # Llama 3.1
        length = config["rope_pretraining_sequence_length"]
        return {
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": config["rope_frequency_adjustment_factor"],
                "low_freq_factor": config["rope_low_freq_factor"],
                "high_freq_factor": config["rope_high_freq_factor"],
                "original_max_position_embeddings": length,
            }
        }
    if config.get("rope_position_scaling_factor", 1.0) != 1.0:
        factor = config["rope_position_scaling_factor"]
        return {"rope_scaling": {"rope_type": "linear", "factor": factor}}
    return {}


_LLAMA = _Family(
    ("causal",),
    _llama_fields,
    {
        "embedding": "token_embedding",
        "decoder/final_norm": "sequence_output_layernorm",
        **_block("decoder", "self_attention", "self_attention_layernorm", "feedforward_layernorm"),
    },
)
_FAMILIES = {
    "GPT2Backbone": _Family(
        ("causal",),
        _gpt2_fields,
        {
            "embedding": "token_embedding",
            "decoder/positions": "position_embedding",
            "decoder/final_norm": "layer_norm",
            **_block(
                "decoder", "self_attention", "self_attention_layer_norm", "feedforward_layer_norm"
            ),
        },
    ),
    "BertBackbone": _Family(
        ("embedding", "masked"),
        _bert_fields,
        {
            "embedding": "token_embedding",
            "segments": "segment_embedding",
            "encoder/positions": "position_embedding",
            "encoder/embedding_norm": "embeddings_layer_norm",
            **_block(
                "encoder",
                "self_attention_layer",
                "self_attention_layer_norm",
                "feedforward_layer_norm",
            ),
        },
    ),
    "LlamaBackbone": _LLAMA,
    "Llama3Backbone": _LLAMA,
}


def _tokenizer(preprocessor) -> Tokenizer | None:
    tokenizer = getattr(preprocessor, "tokenizer", None)
    return None if tokenizer is None else _tokenizer_of(tokenizer)


def _tokenizer_of(tokenizer) -> Tokenizer:
    """A tokenizer of keras-hub as one of ours, by the files that both read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if hasattr(tokenizer, "merges"):  # byte-level BPE
            (folder / "vocab.json").write_text(json.dumps(tokenizer.vocabulary), "utf-8")
            (folder / "merges.txt").write_text("\n".join(tokenizer.merges) + "\n", "utf-8")
        elif hasattr(tokenizer, "proto"):  # SentencePiece
            (folder / "tokenizer.model").write_bytes(tokenizer.proto)
        else:  # WordPiece
            vocabulary = tokenizer.get_vocabulary()
            (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", "utf-8")
            settings = {"do_lower_case": bool(tokenizer.lowercase)}
            (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
        return Tokenizer.from_pretrained(folder)
