"""Backbones of keras-hub (formerly keras-nlp): their configuration and weights in our stack.

A backbone is a checkpoint in memory: its `get_config()` replaces config.json, and each of its
families is a row, as for Hugging Face's.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.models.pretrained.checkpoint import StoredTensor
from tfx_transformer.models.pretrained.family import Family, Group, Tensor
from tfx_transformer.models.pretrained.loading import new_model
from tfx_transformer.models.saving import TASKS
from tfx_transformer.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class _Weight(StoredTensor):
    """A weight of a backbone, in memory."""

    variable: Any

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """See `StoredTensor`."""
        return np.asarray(self.variable.value, "float32")[: self.shape[0]][start:stop]


class _Backbone:
    """A backbone as a `Checkpoint`."""

    def __init__(self, backbone: keras.Model, name: str) -> None:
        self.folder = Path(name)  # its name in messages
        tied = backbone.token_embedding.tie_weights
        self.config = backbone.get_config() | {"model_type": name, "tie_word_embeddings": tied}
        self.tensors = {
            weight.path: _Weight(self.folder, 0, np.dtype("float32"), tuple(weight.shape), weight)
            for weight in backbone.weights
        }


def from_backbone(
    source: keras.Model, dtype: str = "float32", task: str | None = None
) -> tuple[keras.Model, Tokenizer | None]:
    """Return a model with the weights of a `keras_hub.models.Backbone`, or of that of a task.

    Args:
        source: GPT2Backbone, BertBackbone, LlamaBackbone or Llama3Backbone, or a task around one.
        dtype: policy of the model.
        task: "embedding" or "masked" (with a new head) for BertBackbone, "causal" for the others;
            None: "embedding" or "causal".

    Returns: the model, and the tokenizer of the task's preprocessor, None without one.

    Raises:
        InputError: the source is not such a backbone.
    """
    backbone = getattr(source, "backbone", source)
    name = type(backbone).__name__
    family = next((row for row in FAMILIES if name in row.model_types), None)
    if family is None:
        known = ", ".join(kind for row in FAMILIES for kind in row.model_types)
        raise InputError(
            f"{name} is not a source of a model.\n"
            f"  Expected a path, or a keras-hub model of {known}."
        )
    tasks = list(family.tasks.values())
    task = task or tasks[0]
    if task not in tasks:
        raise InputError(
            f"{name} cannot become a model of task {task!r}.\n  Expected {' or '.join(tasks)}."
        )
    tokenizer = _tokenizer(getattr(source, "preprocessor", None))
    ids = {"padding_id": 0, "start_id": 1, "end_id": 2}
    if tokenizer is not None:
        ids = {name: getattr(tokenizer, name) for name in ids}
    checkpoint = _Backbone(backbone, name)
    config = TransformerConfig(**ids, **family.read(checkpoint.config, task))
    return new_model(TASKS[task], config, dtype, family, checkpoint), tokenizer


def from_preset(
    name: str, dtype: str = "float32", task: str | None = None
) -> tuple[keras.Model, Tokenizer | None]:
    """Return `from_backbone` of a preset, by its name or folder.

    Raises:
        InputError: the preset does not exist, or cannot be fetched.
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


def _attention(ours: str, theirs: str) -> list[Tensor | Group]:
    """Return the places of an attention layer; heads and head_dim are two axes in keras-hub, one
    here."""

    def by_head(part: str, name: str) -> list[Tensor | Group]:
        return [
            _reshape(f"{ours}/{part}/kernel", f"{theirs}/{name}/kernel", (0, -1)),
            _reshape(f"{ours}/{part}/bias", f"{theirs}/{name}/bias", (-1,)),
        ]

    table = [place for part in ("query", "key", "value") for place in by_head(part, part)]
    output, name = f"{ours}/output_projection", f"{theirs}/attention_output"
    table.append(_reshape(f"{output}/kernel", f"{name}/kernel", (-1, 2)))
    return [*table, Tensor(f"{output}/bias", f"{name}/bias")]


def _reshape(ours: str, theirs: str, axes: tuple[int, ...]) -> Group:
    """Return the place of a variable with these axes of theirs; -1 stands for all others as one."""

    def load(arrays):
        shape = arrays[0].shape
        return [arrays[0].reshape([-1 if axis < 0 else shape[axis] for axis in axes])]

    return Group((ours,), (theirs,), load, _no_way_back)


def _layers(rows: Mapping[str, str]) -> list[Tensor | Group]:
    """Return the places of whole layers, whose variables have the same names in keras-hub."""
    names = ("embeddings", "kernel", "bias", "gamma", "beta", "scale")
    return [Tensor(f"{a}/{name}", f"{b}/{name}") for a, b in rows.items() for name in names]


def _blocks(
    config: Mapping[str, Any], stack: str, attention: str, attention_norm: str, forward_norm: str
) -> list[Tensor | Group]:
    table = []
    for i in range(config["num_layers"]):
        ours, theirs = f"{stack}/block_{i}/", f"transformer_layer_{i}/"
        table += _attention(f"{ours}attention", theirs + attention)
        table += _layers(
            {
                f"{ours}attention_norm": theirs + attention_norm,
                f"{ours}feed_forward/expand": f"{theirs}feedforward_intermediate_dense",
                f"{ours}feed_forward/gate": f"{theirs}feedforward_gate_dense",
                f"{ours}feed_forward/contract": f"{theirs}feedforward_output_dense",
                f"{ours}feed_forward_norm": theirs + forward_norm,
            }
        )
    return table


def _no_way_back(*_: Any) -> Any:
    raise InputError("a model is not saved as one of keras-hub.\n  Export it --to transformers.")


def _gpt2_fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    names = ("vocabulary_size", "num_layers", "num_heads", "hidden_dim", "intermediate_dim")
    return {name: config[name] for name in names} | {
        "max_sequence_length": config["max_sequence_length"],
        "dropout": float(config["dropout"]),
        "position": "learned",
        "activation": "gelu_tanh",
        "scale_embedding": False,
    }


def _gpt2_layout(config: Mapping[str, Any], task: str) -> list[Tensor | Group]:
    norms = ("self_attention_layer_norm", "feedforward_layer_norm")
    rows = {
        "embedding": "token_embedding",
        "decoder/positions": "position_embedding",
        "decoder/final_norm": "layer_norm",
    }
    return _layers(rows) + _blocks(config, "decoder", "self_attention", *norms)


def _bert_fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    # keras-hub always computes the approximate GELU.
    return _gpt2_fields(config, task) | {
        "num_segments": config["num_segments"],
        "norm_first": False,
        "embedding_norm": True,
        "norm_epsilon": 1e-12,
    }


# The head for masked tokens, which a backbone does not have: it is new.
_HEAD = [Tensor("bias", "new/bias"), *_layers({"transform": "new", "transform_norm": "new"})]


def _bert_layout(config: Mapping[str, Any], task: str) -> list[Tensor | Group]:
    norms = ("self_attention_layer_norm", "feedforward_layer_norm")
    rows = {
        "embedding": "token_embedding",
        "segments": "segment_embedding",
        "encoder/positions": "position_embedding",
        "encoder/embedding_norm": "embeddings_layer_norm",
    }
    return _layers(rows) + _blocks(config, "encoder", "self_attention_layer", *norms) + _HEAD


def _llama_fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    names = ("vocabulary_size", "num_layers", "num_key_value_heads", "hidden_dim")
    return {name: config[name] for name in (*names, "intermediate_dim")} | {
        "num_heads": config["num_query_heads"],
        "dropout": float(config["dropout"]),
        "max_sequence_length": 2048,
        "position": "rotary",
        "rope_theta": float(config["rope_max_wavelength"]),
        "norm": "rms_norm",
        "norm_epsilon": config["layer_norm_epsilon"],
        "activation": "silu",
        "gated": True,
        "use_bias": False,
        "scale_embedding": False,
        "tie_embeddings": config["tie_word_embeddings"],
        **_rope_scaling(config),
    }


def _rope_scaling(config: Mapping[str, Any]) -> dict[str, Any]:
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


def _llama_layout(config: Mapping[str, Any], task: str) -> list[Tensor | Group]:
    rows = {"embedding": "token_embedding", "decoder/final_norm": "sequence_output_layernorm"}
    reverse = Tensor("embedding/reverse_embeddings", "token_embedding/reverse_embeddings")
    norms = ("self_attention_layernorm", "feedforward_layernorm")
    return [*_layers(rows), reverse, *_blocks(config, "decoder", "self_attention", *norms)]


FAMILIES = (
    Family(
        model_types=("GPT2Backbone",),
        tasks={"Backbone": "causal"},
        fields=_gpt2_fields,
        layout=_gpt2_layout,
        to_config=_no_way_back,
    ),
    Family(
        model_types=("BertBackbone",),
        tasks={"Backbone": "embedding", "MaskedLM": "masked"},
        fields=_bert_fields,
        layout=_bert_layout,
        to_config=_no_way_back,
        heads=("pooled_dense/",),
        optional=tuple(place.theirs for place in _HEAD),
    ),
    Family(
        model_types=("LlamaBackbone", "Llama3Backbone"),
        tasks={"Backbone": "causal"},
        fields=_llama_fields,
        layout=_llama_layout,
        to_config=_no_way_back,
    ),
)


def _tokenizer(preprocessor) -> Tokenizer | None:
    tokenizer = getattr(preprocessor, "tokenizer", None)
    return None if tokenizer is None else _tokenizer_of(tokenizer)


def _tokenizer_of(tokenizer) -> Tokenizer:
    """Return a tokenizer of keras-hub as one of ours, by files that both read."""
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
