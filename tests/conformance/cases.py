"""The models of models/: each family, and each choice in which checkpoints of a family differ.

Sizes are prime, or differ, so that swapped axes show.
"""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Case:
    """One model.

    Attributes:
        architecture, config: classes of `transformers`.
        task: "causal", "seq2seq", "masked", "classification", "regression", "tagging",
            "embedding" or "image".
        settings: of the configuration.
        written: what config.json has besides; its class does not keep it.
        unsaved: what config.json has not, for older releases did not write it.
        tensors: what `save_pretrained` would leave out.
        scales: see `weights.tensor`.
        files: what else is in the folder, JSON by name.
        matters: changes of config.json, each of which must change the answer.
    """

    architecture: str
    config: str
    task: str
    settings: dict[str, Any]
    written: dict[str, Any] = dataclasses.field(default_factory=dict)
    unsaved: tuple[str, ...] = ()
    tensors: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    scales: dict[str, float] = dataclasses.field(default_factory=dict)
    files: dict[str, Any] = dataclasses.field(default_factory=dict)
    matters: tuple[dict[str, Any], ...] = ()


CLASSES = {i: name for i, name in enumerate(["red", "green", "blue", "black", "white"])}

_SIZES: dict[str, Any] = {
    "vocab_size": 211,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "hidden_size": 36,
    "intermediate_size": 53,
    "max_position_embeddings": 89,
}
# Of tied models: a token is not to be followed by itself only because its vector is long.
_SHORT = {"embedding": 0.15}
_ENCODER: dict[str, Any] = {
    "vocab_size": 211,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "hidden_size": 33,
    "intermediate_size": 47,
    "max_position_embeddings": 29,
}
_VIT: dict[str, Any] = {
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "hidden_size": 33,
    "intermediate_size": 47,
    "image_size": 35,
    "patch_size": 7,
    "id2label": CLASSES,
    "label2id": {name: i for i, name in CLASSES.items()},
}


def _llama(settings: dict[str, Any] | None = None, **fields: Any) -> Case:
    settings = {**_SIZES, "rms_norm_eps": 1e-5, **(settings or {})}
    return Case("LlamaForCausalLM", "LlamaConfig", "causal", settings, **fields)


def _rope(kind: str, **numbers: float) -> Case:
    """A Llama with scaled rotary positions; its heads are 14 wide, which is 7 wavelengths."""
    settings = {
        "rope_scaling": {"rope_type": kind, **numbers},
        "head_dim": 14,
        "rope_theta": 1000.0,
        "max_position_embeddings": 87,
    }
    # Dynamic scaling begins behind the model's own context.
    matters = () if kind == "dynamic" else ({"rope_scaling": None},)
    return _llama(settings, matters=matters)


def _qwen(number: int, settings: dict[str, Any], **fields: Any) -> Case:
    names = (f"Qwen{number}ForCausalLM", f"Qwen{number}Config", "causal")
    return Case(*names, {**_SIZES, "eos_token_id": 2, **settings}, **fields)


def _gemma(settings: dict[str, Any], **fields: Any) -> Case:
    sizes = {"num_hidden_layers": 4, "head_dim": 10, "query_pre_attn_scalar": 17}
    settings = {**_SIZES, **sizes, "sliding_window": 7, **settings}
    matters = (
        {"sliding_window": 4096},
        {"query_pre_attn_scalar": 10},
        {"rope_local_base_freq": 1000.0},
        {"rope_theta": 1000.0},
        *fields.pop("matters", ()),
    )
    scales = {"norm": 0.5, "embedding": 0.1}
    names = ("Gemma3ForCausalLM", "Gemma3TextConfig", "causal")
    return Case(*names, settings, matters=matters, scales=scales, **fields)


def _embedding_gemma() -> Case:
    sizes = {"num_hidden_layers": 4, "head_dim": 10, "query_pre_attn_scalar": 17}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    settings = {**_SIZES, **sizes, **ids, "use_bidirectional_attention": True}
    dense = ((36, 61), (61, 36))
    return Case(
        "Gemma3TextModel",
        "Gemma3TextConfig",
        "embedding",
        {**settings, "sliding_window": 8},
        written={"_sliding_window_pattern": 2},
        tensors={
            f"{i + 2}_Dense/linear.weight": [outputs, inputs]
            for i, (inputs, outputs) in enumerate(dense)
        },
        scales={"norm": 0.5, "embedding": 0.1},
        files=_sentence_transformer(36, dense=dense),
        matters=({"sliding_window": 4}, {"use_bidirectional_attention": False}),
    )


def _gemma3_images() -> Case:
    """The text part of a model that also sees images; its images are 28 pixels wide."""
    sizes = {"num_hidden_layers": 4, "head_dim": 10, "query_pre_attn_scalar": 17}
    text = {**_SIZES, **sizes, "sliding_window": 7, "model_type": "gemma3_text"}
    vision = {
        "model_type": "siglip_vision_model",
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "hidden_size": 10,
        "intermediate_size": 11,
        "image_size": 28,
        "patch_size": 14,
    }
    settings = {"text_config": text, "vision_config": vision, "mm_tokens_per_image": 4}
    return Case(
        "Gemma3ForConditionalGeneration",
        "Gemma3Config",
        "causal",
        settings,
        scales={"norm": 0.5, "embedding": 0.1},
    )


def _gemma2(settings: dict[str, Any]) -> Case:
    sizes = {"head_dim": 10, "query_pre_attn_scalar": 17, "num_attention_heads": 6}
    caps = {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0}
    settings = {**_SIZES, **sizes, **caps, "sliding_window": 7, **settings}
    matters = [
        {"sliding_window": 4096},
        {"query_pre_attn_scalar": 10},
        {"final_logit_softcapping": 4.0},
    ]
    if settings["attn_logit_softcapping"]:
        matters.append({"attn_logit_softcapping": 2.0})
    return Case(
        "Gemma2ForCausalLM",
        "Gemma2Config",
        "causal",
        settings,
        unsaved=() if settings["layer_types"] else ("layer_types",),
        scales={"norm": 0.5, "embedding": 0.1},
        matters=tuple(matters),
    )


def _smollm3(settings: dict[str, Any], **fields: Any) -> Case:
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    settings = {**_SIZES, **ids, "no_rope_layer_interval": 2, **settings}
    fields = {"scales": _SHORT, "matters": ({"no_rope_layer_interval": 3},), **fields}
    unsaved = () if "no_rope_layers" in settings else ("layer_types", "no_rope_layers")
    names = ("SmolLM3ForCausalLM", "SmolLM3Config", "causal")
    return Case(*names, settings, unsaved=unsaved, **fields)


def _phi3(settings: dict[str, Any], **fields: Any) -> Case:
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    settings = {**_SIZES, **ids, "rms_norm_eps": 1e-5, **settings}
    return Case("Phi3ForCausalLM", "Phi3Config", "causal", settings, **fields)


def _neox(settings: dict[str, Any], **fields: Any) -> Case:
    ids = {"bos_token_id": 0, "eos_token_id": 0}
    sizes = {"hidden_size": 48, "rotary_emb_base": 5000}
    settings = {**_SIZES, **ids, **sizes, **settings}
    del settings["num_key_value_heads"]
    return Case("GPTNeoXForCausalLM", "GPTNeoXConfig", "causal", settings, **fields)


_T5: dict[str, Any] = {
    "vocab_size": 211,
    "d_model": 36,
    "d_kv": 7,
    "d_ff": 53,
    "num_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 14,
    "relative_attention_max_distance": 29,
    "decoder_start_token_id": 0,
}


def _bart(name: str, settings: dict[str, Any], gain: float = 1.0) -> Case:
    sizes = {
        "vocab_size": 211,
        "d_model": 36,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 53,
        "decoder_ffn_dim": 53,
        "max_position_embeddings": 89,
    }
    names = (f"{name}ForConditionalGeneration", f"{name}Config", "seq2seq")
    return Case(*names, {**sizes, **settings}, scales={"embedding": 0.3, "gain": gain})


def _t5(settings: dict[str, Any], gain: float, **fields: Any) -> Case:
    settings = {**_T5, **settings}
    matters = ({"relative_attention_max_distance": 61},)
    names = ("T5ForConditionalGeneration", "T5Config", "seq2seq")
    fields |= {"written": {"n_positions": 89}, "scales": {"embedding": 0.3, "gain": gain}}
    return Case(*names, settings, matters=matters, **fields)


def _image(name: str, mean: list[float], deviation: list[float], form: dict[str, Any]) -> Case:
    preprocessor = {
        "do_normalize": True,
        "do_resize": True,
        "image_mean": mean,
        "image_std": deviation,
        "resample": 2,
        **form,
    }
    config = f"{name[: name.index('T') + 1]}Config"
    return Case(name, config, "image", _VIT, files={"preprocessor_config.json": preprocessor})


_OLD_SIZE = {"size": 35}
_NEW_SIZE = {
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "size": {"height": 35, "width": 35},
    "do_center_crop": False,
    "image_processor_type": "DeiTImageProcessor",
}
_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def _sentence_transformer(
    width: int = 33, last: bool = False, dense: tuple[tuple[int, int], ...] = ()
) -> dict[str, Any]:
    """As `sentence_transformers` saves a model whose vector is of length 1.

    Args:
        width: of the encoder.
        last: its vector is that of the last token, not the mean.
        dense: inputs and outputs of projections without activation.
    """
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")]
    parts += [(f"{i + 2}_Dense", "Dense") for i in range(len(dense))]
    parts += [(f"{len(parts)}_Normalize", "Normalize")]
    projections = {
        f"{i + 2}_Dense/config.json": {
            "in_features": inputs,
            "out_features": outputs,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        }
        for i, (inputs, outputs) in enumerate(dense)
    }
    return {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(parts)
        ],
        "sentence_bert_config.json": {"max_seq_length": 23, "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": width,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": not last,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
            **({"pooling_mode_lasttoken": True} if last else {}),
        },
        **projections,
    }


_ROBERTA = {**_ENCODER, "type_vocab_size": 1, "max_position_embeddings": 31, "layer_norm_eps": 1e-5}
_LABELS = {"id2label": CLASSES, "label2id": {name: i for i, name in CLASSES.items()}}

_DISTILBERT: dict[str, Any] = {
    "vocab_size": 211,
    "n_layers": 2,
    "n_heads": 3,
    "dim": 33,
    "hidden_dim": 47,
    "max_position_embeddings": 29,
}
_ELECTRA = {**_ENCODER, "embedding_size": 19, "eos_token_id": 2}
_MPNET = {**_ENCODER, "max_position_embeddings": 31}


def _modernbert(
    architecture: str, task: str, settings: dict[str, Any] | None = None, **fields: Any
) -> Case:
    sizes = {"num_hidden_layers": 4, "num_attention_heads": 3, "hidden_size": 42}
    ids = {"pad_token_id": 3, "bos_token_id": 1, "eos_token_id": 2}
    ids |= {"cls_token_id": 1, "sep_token_id": 2}
    settings = {**_ENCODER, **sizes, **ids, "local_attention": 8, **(settings or {})}
    matters = (
        {"local_attention": 6},
        {"global_attn_every_n_layers": 2},
        {"global_rope_theta": 1000.0},
        {"local_rope_theta": 1000.0},
    )
    return Case(
        architecture,
        "ModernBertConfig",
        task,
        settings,
        written={"global_attn_every_n_layers": 3},
        unsaved=("layer_types",),
        matters=matters,
        **fields,
    )


CASES: dict[str, Case] = {
    "gpt2": Case(
        "GPT2LMHeadModel",
        "GPT2Config",
        "causal",
        {
            "vocab_size": 211,
            "n_layer": 3,
            "n_head": 3,
            "n_embd": 33,
            "n_positions": 83,
            "bos_token_id": 210,
            "eos_token_id": 210,
        },
        written={"n_ctx": 83},
    ),
    "llama": _llama(),
    "bert": Case("BertForMaskedLM", "BertConfig", "masked", _ENCODER),
    "bert_classifier": Case(
        "BertForSequenceClassification", "BertConfig", "classification", {**_ENCODER, **_LABELS}
    ),
    "bert_tags": Case(
        "BertForTokenClassification", "BertConfig", "tagging", {**_ENCODER, **_LABELS}
    ),
    "bert_regressor": Case(
        "BertForSequenceClassification",
        "BertConfig",
        "regression",
        {**_ENCODER, "num_labels": 1, "problem_type": "regression"},
    ),
    "bert_model": Case(
        "BertModel", "BertConfig", "embedding", _ENCODER, files=_sentence_transformer()
    ),
    "roberta": Case("RobertaForMaskedLM", "RobertaConfig", "masked", _ROBERTA),
    "roberta_classifier": Case(
        "RobertaForSequenceClassification",
        "RobertaConfig",
        "classification",
        {**_ROBERTA, **_LABELS},
    ),
    "roberta_tags": Case(
        "RobertaForTokenClassification",
        "RobertaConfig",
        "tagging",
        {**_ROBERTA, **_LABELS},
    ),
    "xlm_roberta": Case("XLMRobertaForMaskedLM", "XLMRobertaConfig", "masked", _ROBERTA),
    "camembert_classifier": Case(
        "CamembertForSequenceClassification",
        "CamembertConfig",
        "classification",
        {**_ROBERTA, **_LABELS},
    ),
    "distilbert": Case("DistilBertForMaskedLM", "DistilBertConfig", "masked", _DISTILBERT),
    "distilbert_classifier": Case(
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        "classification",
        {**_DISTILBERT, **_LABELS},
    ),
    "distilbert_tags": Case(
        "DistilBertForTokenClassification",
        "DistilBertConfig",
        "tagging",
        {**_DISTILBERT, **_LABELS},
    ),
    "electra": Case("ElectraForMaskedLM", "ElectraConfig", "masked", _ELECTRA),
    "electra_classifier": Case(
        "ElectraForSequenceClassification",
        "ElectraConfig",
        "classification",
        {**_ELECTRA, **_LABELS},
    ),
    "electra_tags": Case(
        "ElectraForTokenClassification",
        "ElectraConfig",
        "tagging",
        {**_ELECTRA, **_LABELS},
    ),
    "mpnet": Case("MPNetForMaskedLM", "MPNetConfig", "masked", _MPNET),
    "mpnet_model": Case(
        "MPNetModel", "MPNetConfig", "embedding", _MPNET, files=_sentence_transformer()
    ),
    "mpnet_tags": Case(
        "MPNetForTokenClassification", "MPNetConfig", "tagging", {**_MPNET, **_LABELS}
    ),
    "modernbert": _modernbert("ModernBertForMaskedLM", "masked"),
    "modernbert_classifier": _modernbert(
        "ModernBertForSequenceClassification",
        "classification",
        {**_LABELS, "classifier_pooling": "mean", "classifier_bias": True, "norm_bias": True},
    ),
    "llama_tied_bias": _llama(
        {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "head_dim": 10},
        scales=_SHORT,
    ),
    "llama_rope_llama3": _rope(
        "llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=29,
    ),
    "llama_rope_linear": _rope("linear", factor=3.0),
    "llama_rope_yarn": _rope("yarn", factor=3.0, original_max_position_embeddings=29),
    "llama_rope_dynamic": _rope("dynamic", factor=3.0),
    "mistral": Case(
        "MistralForCausalLM",
        "MistralConfig",
        "causal",
        {**_SIZES, "sliding_window": 7},
        matters=({"sliding_window": None}, {"sliding_window": 6}, {"sliding_window": 8}),
    ),
    "qwen2": _qwen(2, {"tie_word_embeddings": True}, unsaved=("layer_types",), scales=_SHORT),
    "qwen2_window": _qwen(
        2,
        {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 2},
        unsaved=("layer_types",),
        matters=({"use_sliding_window": False}, {"max_window_layers": 1}),
    ),
    "qwen3": _qwen(3, {"head_dim": 10}, unsaved=("layer_types",)),
    "smollm": _llama(
        {
            "tie_word_embeddings": True,
            "rope_theta": 100_000.0,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
        },
        written={"rope_interleaved": False, "is_llama_config": True},
        scales=_SHORT,
    ),
    "gemma3": _gemma(
        {},
        written={"sliding_window_pattern": 2},
        unsaved=("layer_types", "_sliding_window_pattern"),
        matters=({"sliding_window_pattern": 3},),
    ),
    "gemma3_linear": _gemma(
        {
            "rope_scaling": {"rope_type": "linear", "factor": 3.0},
            "layer_types": ["sliding_attention"] * 2 + ["full_attention", "sliding_attention"],
        },
        matters=({"rope_scaling": None},),
    ),
    "qwen3_tied": _qwen(
        3, {"head_dim": 10, "tie_word_embeddings": True}, unsaved=("layer_types",), scales=_SHORT
    ),
    "smollm3": _smollm3({}),
    "smollm3_window": _smollm3(
        {
            "no_rope_layers": [0, 1, 1],
            "use_sliding_window": True,
            "sliding_window": 7,
            "tie_word_embeddings": False,
        },
        scales={},
        matters=({"no_rope_layers": [1, 1, 1]}, {"sliding_window": 8}),
    ),
    "phi3": _phi3({"sliding_window": 7}, matters=({"sliding_window": 8},)),
    "phi3_long": _phi3(
        {
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "hidden_size": 48,
            "partial_rotary_factor": 0.75,
            "max_position_embeddings": 267,
            "original_max_position_embeddings": 89,
            "rope_scaling": {
                "rope_type": "longrope",
                "short_factor": [1.0, 1.1, 1.3, 1.7, 2.1, 3.1],
                "long_factor": [1.0, 2.0, 3.0, 5.0, 7.0, 11.0],
            },
            "tie_word_embeddings": True,
        },
        scales=_SHORT,
        matters=({"rope_scaling": None}, {"max_position_embeddings": 178}),
    ),
    "gemma": Case(
        "GemmaForCausalLM",
        "GemmaConfig",
        "causal",
        {**_SIZES, "head_dim": 10},
        written={"hidden_act": "gelu"},
        scales={"norm": 0.5, "embedding": 0.1},
        matters=({"hidden_act": "silu"},),
    ),
    "gemma2": _gemma2({"num_hidden_layers": 4, "layer_types": None}),
    "gemma2_window": _gemma2(
        {
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            "attn_logit_softcapping": None,
            "tie_word_embeddings": False,
        }
    ),
    "gpt_neox": _neox({"rotary_pct": 0.5}, matters=({"rotary_pct": 0.25},)),
    "gpt_neox_serial": _neox(
        {"rotary_pct": 1.0, "use_parallel_residual": False, "tie_word_embeddings": True},
        scales=_SHORT,
        matters=({"use_parallel_residual": True},),
    ),
    "opt": Case(
        "OPTForCausalLM",
        "OPTConfig",
        "causal",
        {
            "vocab_size": 211,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "hidden_size": 33,
            "ffn_dim": 53,
            "max_position_embeddings": 83,
            "word_embed_proj_dim": 33,
        },
        scales=_SHORT,
    ),
    "qwen3_embedding": Case(
        "Qwen3Model",
        "Qwen3Config",
        "embedding",
        {**_SIZES, "head_dim": 10, "eos_token_id": 2, "pad_token_id": 0},
        written={"architectures": ["Qwen3ForCausalLM"], "tie_word_embeddings": True},
        unsaved=("layer_types",),
        files=_sentence_transformer(36, last=True),
    ),
    "embedding_gemma": _embedding_gemma(),
    "gemma3_images": _gemma3_images(),
    # Tied and without much else, it repeats one token; untied, more only amplifies rounding.
    "t5": _t5({}, gain=1.6),
    "t5_v11": _t5(
        {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        gain=0.8,
        tensors={"lm_head.weight": [211, 36]},
    ),
    "marian": Case(
        "MarianMTModel",
        "MarianConfig",
        "seq2seq",
        {
            "vocab_size": 211,
            "d_model": 36,
            "encoder_layers": 2,
            "decoder_layers": 3,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 53,
            "decoder_ffn_dim": 53,
            "activation_function": "swish",
            "scale_embedding": True,
            "max_position_embeddings": 89,
            "eos_token_id": 0,
            "pad_token_id": 210,
            "decoder_start_token_id": 210,
        },
        written={"bad_words_ids": [[210]], "static_position_embeddings": True},
        scales={"embedding": 0.4, "gain": 1.2},
    ),
    "mt5": Case(
        "MT5ForConditionalGeneration",
        "MT5Config",
        "seq2seq",
        {**_T5, "feed_forward_proj": "gated-gelu"},
        written={"n_positions": 89, "tie_word_embeddings": False},
        tensors={"lm_head.weight": [211, 36]},
        scales={"embedding": 0.3, "gain": 0.8},
    ),
    "bart": _bart("Bart", {"activation_function": "gelu"}),
    "mbart": _bart("MBart", {"scale_embedding": True, "decoder_start_token_id": 3}),
    "m2m_100": _bart("M2M100", {"activation_function": "relu"}, gain=2.0),
    "vit": _image("ViTForImageClassification", [0.5, 0.4, 0.6], [0.5, 0.5, 0.25], _OLD_SIZE),
    "deit": _image("DeiTForImageClassification", *_IMAGENET, _NEW_SIZE),
    "deit_teacher": _image("DeiTForImageClassificationWithTeacher", *_IMAGENET, _NEW_SIZE),
}
