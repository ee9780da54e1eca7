"""ModernBERT: Warner et al. (2024), an encoder with rotary positions and alternating windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfx_transformer.config import TransformerConfig
from tfx_transformer.models.pretrained.family import (
    Family,
    Group,
    Tensor,
    activation,
    fuse,
    layer,
    layers,
    need,
    refuse_other,
    their_activation,
)

_BLOCK = [
    ("attention_norm", "attn_norm", "layer_norm"),
    ("attention/output_projection", "attn.Wo", "linear"),
    ("feed_forward_norm", "mlp_norm", "layer_norm"),
    ("feed_forward/contract", "mlp.Wo", "linear"),
]
_POOLING = {"cls": "first", "mean": "mean"}


def _fields(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    names = ("vocab_size", "num_hidden_layers", "num_attention_heads", "hidden_size")
    vocabulary_size, count, heads, width = need(config, *names)
    inner, longest = need(config, "intermediate_size", "max_position_embeddings")
    refuse_other(config, decoder_bias=True)
    name = config.get("hidden_activation", "gelu")
    types = config.get("layer_types")
    if types is None:
        every = config.get("global_attn_every_n_layers", 3)
        types = ["sliding_attention" if i % every else "full_attention" for i in range(count)]
    theta, local_theta = _wavelengths(config)
    return {
        "vocabulary_size": vocabulary_size,
        "num_layers": count,
        "num_heads": heads,
        "hidden_dim": width,
        "intermediate_dim": inner,
        "max_sequence_length": longest,
        "position": "rotary",
        "rope_theta": theta,
        "local_rope_theta": local_theta,
        # Theirs includes the tokens on both sides.
        "sliding_window": config.get("local_attention", 128) // 2 + 1,
        "global_layers": tuple(i for i, kind in enumerate(types) if kind == "full_attention"),
        "embedding_norm": True,
        "first_norm": False,
        "norm_epsilon": config.get("norm_eps", 1e-5),
        "norm_bias": config.get("norm_bias", False),
        "activation": activation(name),
        "gated": True,
        "use_bias": config.get("attention_bias", False),
        "feed_forward_bias": config.get("mlp_bias", False),
        "head_bias": config.get("classifier_bias", False),
        "scale_embedding": False,
        "tie_embeddings": config.get("tie_word_embeddings", True),
        "dropout": config.get("mlp_dropout", 0.0),
        "padding_id": config.get("pad_token_id", 50_283),
    }


def _one_activation(config: Mapping[str, Any]) -> dict[str, Any]:
    """Raise if the head has another activation than the blocks; return {}."""
    refuse_other(config, classifier_activation=config.get("hidden_activation", "gelu"))
    return {}


def _classifier_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    return _one_activation(config) | {
        "pooling": _POOLING[config.get("classifier_pooling", "cls")],
        "pooler": True,
        "pooler_activation": activation(config.get("hidden_activation", "gelu")),
        "pooler_norm": True,
    }


def _wavelengths(config: Mapping[str, Any]) -> tuple[float, float]:
    """Return the rope bases of blocks with full attention, and of those with a window."""
    refuse_other(config, rope_scaling=None)
    both = config.get("rope_parameters") or {}
    for values in both.values():
        refuse_other(values or {}, rope_type="default")
    found = []
    for kind, old, usual in (
        ("full_attention", "global_rope_theta", 160_000.0),
        ("sliding_attention", "local_rope_theta", 10_000.0),
    ):
        theta = (both.get(kind) or {}).get("rope_theta") or config.get(old) or usual
        found.append(float(theta))
    return found[0], found[1]


def _layout(config: Mapping[str, Any], task: str) -> list[Tensor | Group]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    table: list[Tensor | Group] = [
        *layer("embedding", "model.embeddings.tok_embeddings", "table"),
        *layer("encoder/embedding_norm", "model.embeddings.norm", "layer_norm"),
        *layer("encoder/final_norm", "model.final_norm", "layer_norm"),
        *layer("transform", "head.dense", "linear"),
        *layer("transform_norm", "head.norm", "layer_norm"),
        Tensor("bias", "decoder.bias"),
        Tensor("embedding/reverse_embeddings", "decoder.weight", "transposed"),
        *layer("pooler", "head.dense", "linear"),
        *layer("pooler_norm", "head.norm", "layer_norm"),
        *layer("logits", "classifier", "linear"),
    ]
    for i in range(config["num_hidden_layers"]):
        ours, theirs = f"encoder/block_{i}/", f"model.layers.{i}."
        table += layers(ours, theirs, _BLOCK)
        heads = [f"{ours}attention/{part}" for part in ("query", "key", "value")]
        table += fuse(heads, theirs + "attn.Wqkv", [width] * 3)
        both = [f"{ours}feed_forward/{part}" for part in ("gate", "expand")]
        table += fuse(both, theirs + "mlp.Wi", [inner] * 2)
    return table


def _config(config: TransformerConfig, task: str) -> dict[str, Any]:
    kinds = ["full_attention", "sliding_attention"]
    types = [kinds[bool(config.window_of(i))] for i in range(config.num_layers)]
    name = their_activation(config.activation)
    theta, local = config.rope_theta, config.local_rope_theta
    values = {
        "model_type": "modernbert",
        "vocab_size": config.vocabulary_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "hidden_size": config.hidden_dim,
        "intermediate_size": config.intermediate_dim,
        "max_position_embeddings": config.max_sequence_length,
        "hidden_activation": name,
        "classifier_activation": name,
        "norm_eps": config.norm_epsilon,
        "norm_bias": config.norm_bias,
        "attention_bias": config.use_bias,
        "mlp_bias": config.feed_forward_bias,
        "classifier_bias": config.head_bias,
        "classifier_pooling": "mean" if config.pooling == "mean" else "cls",
        "local_attention": 2 * (config.sliding_window - 1),
        "layer_types": types,
        # In the forms of transformers 4 and 5.
        "global_rope_theta": theta,
        "local_rope_theta": local,
        "rope_parameters": {
            "full_attention": {"rope_theta": theta, "rope_type": "default"},
            "sliding_attention": {"rope_theta": local, "rope_type": "default"},
        },
        "tie_word_embeddings": config.tie_embeddings,
        "mlp_dropout": config.dropout,
        "pad_token_id": config.padding_id,
        "bos_token_id": config.start_id,
        "eos_token_id": config.end_id,
        "cls_token_id": config.start_id,
        "sep_token_id": config.end_id,
    }
    return values | _every(config, types)


def _every(config: TransformerConfig, types: list[str]) -> dict[str, Any]:
    """Return `layer_types` for releases before 5: the distance between blocks with full attention,
    or {} if they are not evenly spaced."""
    for every in range(1, config.num_layers + 1):
        if types == [
            "sliding_attention" if i % every else "full_attention" for i in range(len(types))
        ]:
            return {"global_attn_every_n_layers": every}
    return {}


MODERNBERT = Family(
    model_types=("modernbert",),
    tasks={
        "ForMaskedLM": "masked",
        "ForSequenceClassification": "classification",
        "Model": "embedding",
    },
    fields=_fields,
    layout=_layout,
    to_config=_config,
    for_task={"masked": _one_activation, "classification": _classifier_fields},
    prefix="model.",
    heads=("head.", "decoder."),
)
