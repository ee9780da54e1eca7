"""The architecture of a model as one frozen, validated, JSON-ready value."""

from __future__ import annotations

import dataclasses
import difflib
import textwrap
from typing import Any, Literal

from tfx_transformer.errors import InputError

# Named sizes of models. Heads are 32 to 64 wide.
SIZES: dict[str, dict[str, int]] = {
    "nano": dict(num_layers=1, num_heads=2, hidden_dim=64, intermediate_dim=256),
    "tiny": dict(num_layers=2, num_heads=4, hidden_dim=128, intermediate_dim=512),
    "small": dict(num_layers=3, num_heads=4, hidden_dim=256, intermediate_dim=1024),
    "base": dict(num_layers=6, num_heads=8, hidden_dim=512, intermediate_dim=2048),
}

# Named styles: the choices of a family of models, for any size.
STYLES: dict[str, dict[str, Any]] = {
    # Radford et al. (2019)
    "gpt2": dict(position="learned", activation="gelu_tanh", scale_embedding=False),
    # Devlin et al. (2019)
    "bert": dict(
        position="learned",
        norm_first=False,
        embedding_norm=True,
        norm_epsilon=1e-12,
        scale_embedding=False,
    ),
    # For few labelled texts: tokens begin near zero, so that rare ones hardly count, and only their
    # mean is normalized.
    "classifier": dict(norm_pooled=True, initializer_range=0.02),
    # Touvron et al. (2023)
    "llama": dict(
        position="rotary",
        norm="rms_norm",
        activation="silu",
        gated=True,
        use_bias=False,
        scale_embedding=False,
    ),
}

# Bounds that no honest model of this kind exceeds. A configuration is read from files, and every
# number in it becomes an allocation: a hostile one must be refused before anything is built.
_BOUNDS = {
    "vocabulary_size": (4, 2_000_000),
    "num_layers": (1, 256),
    "num_decoder_layers": (1, 256),
    "num_heads": (1, 256),
    "num_key_value_heads": (1, 256),
    "hidden_dim": (1, 32_768),
    "head_dim": (1, 1_024),
    "intermediate_dim": (1, 262_144),
    "max_sequence_length": (1, 1_048_576),
    "image_size": (0, 4_096),
    "patch_size": (1, 256),
    "conv_layers": (0, 8),
    "ngram_buckets": (0, 2_000_000),
    "linear_buckets": (0, 262_144),
    "bag_dim": (0, 16_384),
    "linear_longest": (1, 3),
    "linear_cells": (0, 16),
    "linear_patches": (0, 1_024),
    "embedding_dim": (1, 32_768),
    "rotary_dim": (2, 1_024),
    "num_classes": (0, 100_000),
    "num_segments": (0, 16),
    "class_tokens": (0, 16),
    "sliding_window": (0, 1_048_576),
    "relative_buckets": (4, 4_096),
    "relative_distance": (8, 1_048_576),
    "padding_id": (0, 2_000_000),
    "start_id": (0, 2_000_000),
    "end_id": (0, 2_000_000),
}

# An image is always read whole: attention compares each vector with each.
_MOST_VECTORS = 16_384


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """The architecture of a Transformer; Keras and the TensorFlow-free runtime read the same JSON.

    The defaults are the encoder-decoder of Vaswani et al. (2017) with the two changes that later
    practice kept: layer normalization before each sub-layer (Xiong et al. 2020) and GELU.

    Attributes:
        vocabulary_size: number of token ids, special ids included.
        num_layers: blocks of the stack (of the encoder, in an encoder-decoder).
        num_heads: query heads. `hidden_dim` must be a multiple of it, unless `head_dim` is given.
        hidden_dim: width of the vectors between blocks.
        head_dim: width of one attention head. Defaults to hidden_dim / num_heads.
        intermediate_dim: width inside the feed-forward layer.
        num_key_value_heads: key and value heads; fewer than `num_heads` is grouped-query attention
            (Ainslie et al. 2023). Defaults to `num_heads`.
        num_decoder_layers: blocks of the decoder of an encoder-decoder. Defaults to `num_layers`.
        dropout: rate after each sub-layer and after the embedding, in training.
        max_sequence_length: most tokens the model reads, and most it writes.
        embedding_dim: width of the embedding table of an encoder-only model. Defaults to
            `hidden_dim`; if it differs, a projection follows positions and norm (ELECTRA).
        position: "sinusoidal"; "sinusoidal_halves", all sines before the cosines instead of
            alternating (Marian); "sinusoidal_fairseq", the same from position 2 on with other
            wavelengths (M2M-100); "learned"; "rotary"; or "relative", a trained score for each
            distance (T5).
        relative_scores: besides other positions, use a trained score for each distance (MPNet).
        no_position_layers: numbers of the blocks without rotary positions, from 0 (SmolLM3).
        norm: "layer_norm" or "rms_norm".
        norm_bias: layer normalization has a bias (not in ModernBERT).
        norm_first: normalize before each sub-layer (pre-norm) instead of after it (post-norm).
        first_norm: False: the first block's attention has no norm (ModernBERT).
        parallel_residual: attention and feed-forward layer of a block read the same vectors (Black
            et al. 2022, section 2.1; GPT-NeoX). For pre-norm models, not for encoder-decoders.
        embedding_norm: normalize the embeddings too, before the first block.
        norm_epsilon: added to the variance.
        sandwich_norm: pre-norm that normalizes each sub-layer's result too, before it is added
            (Ding et al. 2021, section 2.4; Gemma).
        activation: "relu", "gelu" (exact), "gelu_tanh" or "silu".
        gated: multiply the activated projection with a second one (GLU, Shazeer 2020).
        use_bias: biases in the projections of attention and feed-forward.
        qkv_bias: biases of queries, keys and values (Qwen2). Defaults to `use_bias`.
        feed_forward_bias: biases of the feed-forward layer (Llama). Defaults to `use_bias`.
        query_key_norm: normalize each head's queries and keys (RMSNorm; Dehghani et al. 2023,
            section 2; Qwen3, Gemma).
        attention_scale: factor on the products of queries and keys. Defaults to head_dim^-0.5.
        attention_softcap: c; products p become c tanh(p / c) (Gemma Team 2024, section 2; Gemma 2);
            None: no cap.
        sliding_window: w; a token sees itself and at most w - 1 tokens before it (Beltagy et al.
            2020, section 3.1; Mistral), in an encoder as many after it too (ModernBERT); 0: all.
        global_layers: numbers of the blocks without the sliding window, from 0 (Gemma).
        tie_embeddings: compute logits with the embedding table (Press & Wolf 2017).
        scale_embedding: multiply embeddings by sqrt(hidden_dim) (Vaswani et al. 2017, 3.4).
        rope_theta: base of the wavelengths of rotary positions.
        rotary_dim: number of features of a head that are rotated, the first ones (fewer than all in
            GPT-NeoX and Phi). Defaults to `head_dim`.
        local_rope_theta: `rope_theta` of blocks with a sliding window (Gemma). Defaults to
            `rope_theta`.
        rope_scaling: how rotary positions were stretched to a longer context, see
            `RotaryPositions`; None: they were not.
        relative_buckets, relative_distance: of "relative" positions, see `RelativePositions`.
        logit_scale: factor on the vectors from which logits are computed (T5).
        logit_softcap: as `attention_softcap`, for the logits over the vocabulary (Gemma 2).
        logits_bias: a trained bias of each logit over the vocabulary (Marian).
        padding_id, start_id, end_id: special token ids; the defaults are those of a `Tokenizer`.
        stochastic_depth: rate at which the last block is left out of a training example; the
            blocks before it less often, the first never (Huang et al. 2016, section 3).
        num_classes: number of classes of a `Classifier`, or of tags of a `Tagger`.
        multi_label: any number of classes may be right at once, instead of one.
        pooling: how an encoder's vectors become one: "mean", "first", "last", "max",
            "mean_sqrt_length" or "weighted_mean", see `Pooling`; "class_tokens" (those side by
            side); or "attention", a trained weighting (SeqPool, Hassani et al. 2021, section 3.2).
        projections: linear layers of an `Embedder` after the pooling, first to last, each
            {"width": int, "activation": "linear", "tanh", "relu", "gelu", "silu" or "sigmoid",
            "use_bias": bool} (sentence-transformers' Dense).
        normalize: an `Embedder` returns vectors of length 1.
        prompts: texts that an `Embedder` puts before what it embeds, by name, such as
            {"query": "query: "}.
        default_prompt: name of the prompt that is used if none is given; None: no prompt.
        widths: widths to which the vectors of an `Embedder` may be cut, ascending (Kusupati et al.
            2022); the bag of tokens is then interleaved with the encoder's vector, so that every
            cut has some of both.
        norm_pooled: normalize the pooled vector instead of the vectors it is pooled from, in a
            pre-norm model (He et al. 2022, appendix A.1).
        initializer_range: standard deviation of embedded tokens before training. Defaults to 1
            with `scale_embedding`, else to hidden_dim^-0.5.
        causal_encoder: a token of an encoder-only model sees only itself and those before it
            (Qwen3-Embedding).
        pooler: project and activate the pooled vector before class logits are computed (BERT,
            Devlin et al. 2019).
        pooler_activation: "tanh" (BERT), "relu" (DistilBERT), "gelu" (ELECTRA) or another.
        pooler_norm: normalize the result of the pooler (ModernBERT).
        unit_features: give the vector before class logits the length 1, as in a classifier that was
            taught on the vectors of an `Embedder`.
        head_bias: biases in the projections of a read-out: of `pooler`, and of the one before the
            logits of a `MaskedLM`.
        num_segments: number of trained vectors that mark the first, the second, … text of a row
            (Devlin et al. 2019, figure 2); 0: none.
        class_tokens: number of trained vectors put before those of an image (Dosovitskiy et al.
            2021, equation 1); 2 if the model was distilled (Touvron et al. 2021).
        image_size: height and width of the images that the model reads, in pixels; 0: it reads
            text. For images `max_sequence_length` is the number of vectors of an image, and
            `vocabulary_size` is 0.
        image_resize: how images of other sizes become such a square: {"filter": "bilinear",
            "bicubic", "lanczos" or "nearest", "height": int, "width": int} or {"filter": …,
            "shortest_edge": int}, then the centre is cropped, see `images.resize`; None: the whole
            image is resized with a triangle filter.
        patch_size: side of the squares that an image is cut into, in pixels (Dosovitskiy et al.
            2021, section 3.1).
        conv_layers: number of convolutions with pooling that turn an image into vectors instead of
            patches (the compact convolutional tokenizer, Hassani et al. 2021, section 3.3); 0:
            patches.
        ngram_buckets: rows of a second embedding table, for pairs of neighbouring tokens, in an
            encoder-only model that reads text, see `NGramEmbedding` (Joulin et al. 2016, section
            2.2); 0: none.
        linear_buckets: rows of the tables of a linear classifier of token n-grams; its logits are
            added to those of a `Classifier` of texts, see `NGramLogits`; 0: none.
        linear_longest: tokens of the longest n-grams of this classifier, 1 to 3.
        linear_cells: parts along a side of an image whose edges a linear classifier sees; its
            logits are added to those of a `Classifier` of images, see `EdgeColorLogits`; 0: none.
        linear_patches: filters of small patches of an image that this classifier sees too; 0: none.
        bag_dim: width of the sum of token vectors that an `Embedder`, or a classifier that was
            taught on its vectors, puts beside the vector of its encoder, see `TokenBag`; 0: none.

    Raises:
        InputError: a value is out of bounds, or two values do not fit together; the message names
            them.
    """

    vocabulary_size: int
    num_layers: int
    num_heads: int
    hidden_dim: int
    intermediate_dim: int
    num_key_value_heads: int | None = None
    num_decoder_layers: int | None = None
    dropout: float = 0.1
    max_sequence_length: int = 128
    position: Literal[
        "sinusoidal", "sinusoidal_halves", "sinusoidal_fairseq", "learned", "rotary", "relative"
    ] = "sinusoidal"
    norm: Literal["layer_norm", "rms_norm"] = "layer_norm"
    norm_first: bool = True
    norm_epsilon: float = 1e-5
    activation: Literal["relu", "gelu", "gelu_tanh", "silu"] = "gelu"
    gated: bool = False
    use_bias: bool = True
    tie_embeddings: bool = True
    scale_embedding: bool = True
    rope_theta: float = 10_000.0
    padding_id: int = 0
    start_id: int = 1
    end_id: int = 2
    embedding_norm: bool = False
    stochastic_depth: float = 0.0
    num_classes: int = 0
    multi_label: bool = False
    pooling: Literal[
        "mean",
        "first",
        "last",
        "max",
        "mean_sqrt_length",
        "weighted_mean",
        "attention",
        "class_tokens",
    ] = "mean"
    image_size: int = 0
    patch_size: int = 4
    conv_layers: int = 0
    ngram_buckets: int = 0
    head_dim: int | None = None
    qkv_bias: bool | None = None
    feed_forward_bias: bool | None = None
    query_key_norm: bool = False
    attention_scale: float | None = None
    sliding_window: int = 0
    global_layers: tuple[int, ...] = ()
    local_rope_theta: float | None = None
    rope_scaling: dict[str, Any] | None = None
    relative_buckets: int = 32
    relative_distance: int = 128
    sandwich_norm: bool = False
    logit_scale: float = 1.0
    logits_bias: bool = False
    num_segments: int = 0
    class_tokens: int = 0
    pooler: bool = False
    norm_pooled: bool = False
    initializer_range: float | None = None
    embedding_dim: int | None = None
    relative_scores: bool = False
    no_position_layers: tuple[int, ...] = ()
    norm_bias: bool = True
    first_norm: bool = True
    parallel_residual: bool = False
    attention_softcap: float | None = None
    rotary_dim: int | None = None
    logit_softcap: float | None = None
    causal_encoder: bool = False
    pooler_activation: Literal["tanh", "relu", "gelu", "gelu_tanh", "silu"] = "tanh"
    pooler_norm: bool = False
    head_bias: bool = True
    projections: tuple[dict[str, Any], ...] = ()
    normalize: bool = True
    prompts: dict[str, str] = dataclasses.field(default_factory=dict)
    default_prompt: str | None = None
    image_resize: dict[str, Any] | None = None
    unit_features: bool = False
    linear_buckets: int = 0
    bag_dim: int = 0
    linear_longest: int = 3
    widths: tuple[int, ...] = ()
    linear_cells: int = 0
    linear_patches: int = 0

    def __post_init__(self) -> None:
        self._set_defaults()
        self._check_values()
        self._check_heads()
        if self.image_size:
            self._check_image()
            length = self.image_side**2 + self.class_tokens
            object.__setattr__(self, "max_sequence_length", length)
        else:
            self._check_text()

    def _set_defaults(self) -> None:
        """Set the values that are not given and follow from others."""
        own = {
            "num_key_value_heads": self.num_heads,
            "num_decoder_layers": self.num_layers,
            "qkv_bias": self.use_bias,
            "feed_forward_bias": self.use_bias,
            "local_rope_theta": self.rope_theta,
            "embedding_dim": self.hidden_dim,
        }
        for name, value in own.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.head_dim is None:
            self._check_whole("hidden_dim", "num_heads")
            if self.hidden_dim % self.num_heads:
                raise InputError(
                    f"TransformerConfig: hidden_dim {self.hidden_dim} is not a multiple of "
                    f"num_heads {self.num_heads}.\n"
                    "  Each head takes an equal share of the vector; change one of the two."
                )
            object.__setattr__(self, "head_dim", self.hidden_dim // self.num_heads)
        if self.rotary_dim is None:
            object.__setattr__(self, "rotary_dim", self.head_dim)
        for name in ("global_layers", "no_position_layers", "projections", "widths"):
            if isinstance(getattr(self, name), list):  # of JSON
                object.__setattr__(self, name, tuple(getattr(self, name)))

    def _check_whole(self, *names: str) -> None:
        for name in names:
            low, high = _BOUNDS[name]
            if name == "vocabulary_size" and self.image_size:
                low = high = 0
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InputError(
                    f"TransformerConfig: {name} is {value!r}.\n"
                    f"  Expected a whole number from {low:,} to {high:,}."
                )

    def _check_values(self) -> None:
        self._check_whole(*_BOUNDS)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(
                    f"TransformerConfig: {name} is {getattr(self, name)!r}.\n"
                    f"  Expected one of {', '.join(map(repr, choices))}."
                )
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise InputError(
                    f"TransformerConfig: {name} is {getattr(self, name)!r}.\n"
                    "  Expected true or false."
                )
        _check_number("dropout", self.dropout, 0.0, 0.95)
        _check_number("stochastic_depth", self.stochastic_depth, 0.0, 0.95)
        _check_number("norm_epsilon", self.norm_epsilon, 1e-12, 1.0)
        _check_number("rope_theta", self.rope_theta, 1.0, 1e9)
        _check_number("local_rope_theta", self.local_rope_theta, 1.0, 1e9)
        _check_number("logit_scale", self.logit_scale, 1e-6, 1e6)
        if self.attention_scale is not None:
            _check_number("attention_scale", self.attention_scale, 1e-6, 1e6)
        if self.initializer_range is not None:
            _check_number("initializer_range", self.initializer_range, 0.0, 10.0)
        if self.rope_scaling is not None:
            check_rope_scaling(self.rope_scaling)
        check_projections(self.projections)
        check_prompts(self.prompts, self.default_prompt)
        for name in ("attention_softcap", "logit_softcap"):
            if getattr(self, name) is not None:
                _check_number(name, getattr(self, name), 1e-3, 1e6)
        for name in ("global_layers", "no_position_layers"):
            layers = getattr(self, name)
            if not isinstance(layers, tuple) or not all(type(i) is int and i >= 0 for i in layers):
                raise InputError(
                    f"TransformerConfig: {name} is {layers!r}.\n"
                    "  Expected a list of block numbers, from 0."
                )
        check_widths(self.widths, self.vector_dim)
        if self.bag_dim and not self.normalize:
            raise InputError(
                f"TransformerConfig: bag_dim is {self.bag_dim} and normalize is false.\n"
                "  Expected true: the two parts of a vector are normalized before they are joined."
            )
        if self.parallel_residual and not self.norm_first:
            raise InputError(
                "TransformerConfig: parallel_residual goes with norm_first only.\n"
                "  Set norm_first true, or parallel_residual false."
            )

    def _check_heads(self) -> None:
        if self.num_heads % self.num_key_value_heads:
            raise InputError(
                f"TransformerConfig: num_heads {self.num_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}.\n"
                "  Query heads share key/value heads in equal groups; change one of the two."
            )
        if self.rotary_dim > self.head_dim:
            raise InputError(
                f"TransformerConfig: rotary_dim {self.rotary_dim} is above head_dim "
                f"{self.head_dim}.\n  Expected head_dim at most."
            )
        factors = (self.rope_scaling or {}).get("short_factor")
        if factors is not None and len(factors) != self.rotary_dim // 2:
            raise InputError(
                f"TransformerConfig: rope_scaling's short_factor has {len(factors)} numbers.\n"
                f"  Expected {self.rotary_dim // 2}, one for each pair of features that is rotated."
            )
        even = self.rotary_dim if self.position == "rotary" else self.embedding_dim
        if self.position not in ("learned", "relative") and even % 2:
            raise InputError(
                f"TransformerConfig: {self.position} positions need an even width, got {even}.\n"
                "  Sines and cosines come in pairs; choose an even hidden_dim / num_heads."
            )

    def _check_image(self) -> None:
        if self.image_resize is not None:
            check_image_resize(self.image_resize, self.image_size)
        if self.linear_cells == 1:
            raise InputError(
                "TransformerConfig: linear_cells is 1.\n"
                "  Expected 2 or more, since neighbouring parts are compared; 0: no linear part."
            )
        if self.embedding_dim != self.hidden_dim:
            raise InputError(
                f"TransformerConfig: embedding_dim is {self.embedding_dim} in a model that reads "
                f"images.\n  Expected hidden_dim, {self.hidden_dim}, or no value."
            )
        if not self.conv_layers and self.image_size % self.patch_size:
            raise InputError(
                f"TransformerConfig: image_size {self.image_size} is not a multiple of patch_size "
                f"{self.patch_size}.\n  Images are cut into whole squares; change one of the two."
            )
        if self.image_side**2 > _MOST_VECTORS:
            raise InputError(
                f"TransformerConfig: an image becomes {self.image_side**2:,} vectors.\n"
                f"  Expected {_MOST_VECTORS:,} at most; choose larger patches or a smaller image."
            )

    def _check_text(self) -> None:
        if self.pooling == "class_tokens" or self.class_tokens:
            raise InputError(
                "TransformerConfig: class_tokens are for models that read images.\n"
                "  For text choose pooling 'first', the vector of the first token."
            )
        for name in ("padding_id", "start_id", "end_id"):
            if getattr(self, name) >= self.vocabulary_size:
                raise InputError(
                    f"TransformerConfig: {name} {getattr(self, name)} is outside the vocabulary "
                    f"of {self.vocabulary_size}.\n  Expected an id below vocabulary_size."
                )

    @property
    def vector_dim(self) -> int:
        """The width of an `Embedder`'s vectors."""
        own = self.projections[-1]["width"] if self.projections else self.hidden_dim
        return own + self.bag_dim

    def window_of(self, layer: int) -> int:
        """The sliding window of a block; 0: it sees all."""
        return 0 if layer in self.global_layers else self.sliding_window

    def prompt(self, name: str | None = None) -> str:
        """Return the text to put before a text that is embedded.

        Args:
            name: name of the prompt, or the prompt itself; None: the default prompt; without one
                the text is empty.

        Raises:
            InputError: the model has no such prompt.
        """
        name = self.default_prompt if name is None else name
        if name is None:
            return ""
        if name in self.prompts:
            return self.prompts[name]
        if name in self.prompts.values():
            return name
        raise InputError(
            f"there is no prompt {name!r}.\n"
            f"  Prompts of this model: {', '.join(self.prompts) or 'none'}."
        )

    def prompt_name(self, role: Literal["query", "document"]) -> str | None:
        """Return the name of the prompt before a text that is searched for ("query") or searched
        ("document", whose prompt may also be named "passage" or "corpus"); None: the default one.
        """
        names = ("query",) if role == "query" else ("document", "passage", "corpus")
        return next((name for name in names if name in self.prompts), None)

    @property
    def image_side(self) -> int:
        """The number of vectors along a side of an image; each convolution's pooling halves it."""
        if self.conv_layers:
            return -(-self.image_size // 2**self.conv_layers)
        return self.image_size // self.patch_size

    @classmethod
    def of_size(
        cls, size: str, vocabulary_size: int, style: str | None = None, **overrides: Any
    ) -> TransformerConfig:
        """Return the configuration of a named size in a named style.

        Args:
            size: "nano", "tiny", "small" or "base".
            style: "gpt2", "bert", "classifier" or "llama"; None: the defaults.
            overrides: values of any fields; None, and 0 for a number of the size, change nothing.
                If `hidden_dim` is given and `intermediate_dim` is not, that is four times as much.

        Raises:
            InputError: there is no such size or style, or a value is out of bounds.
        """
        if size not in SIZES:
            raise InputError(f"There is no model size {size!r}.\n  Sizes: {', '.join(SIZES)}.")
        if style is not None and style not in STYLES:
            raise InputError(f"There is no style {style!r}.\n  Styles: {', '.join(STYLES)}.")
        own = SIZES[size]
        overrides = {
            name: value
            for name, value in overrides.items()
            if value is not None and not (name in own and value == 0)
        }
        if "hidden_dim" in overrides:
            overrides.setdefault("intermediate_dim", 4 * overrides["hidden_dim"])
        values = {**own, **STYLES.get(style or "", {}), **overrides}
        return cls(vocabulary_size=vocabulary_size, **values)

    def __repr__(self) -> str:
        """The constructor call, with the fields that differ from their defaults."""
        changed = (
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        )
        text = f"TransformerConfig({', '.join(changed)})"
        return textwrap.fill(text, 100, subsequent_indent="  ", break_long_words=False)

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain JSON values; `from_dict` reads it back."""
        values = dataclasses.asdict(self)
        lists = ("global_layers", "no_position_layers", "projections", "widths")
        return values | {name: list(values[name]) for name in lists}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TransformerConfig:
        """Return the configuration that `to_dict` wrote.

        Raises:
            InputError: a field is unknown (the nearest known one is named), missing or invalid.
        """
        if not isinstance(values, dict):
            raise InputError("TransformerConfig: expected a JSON object of fields.")
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name in values:
            if name not in fields:
                near = difflib.get_close_matches(str(name), fields, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise InputError(f"TransformerConfig: there is no field {name!r}.{hint}")
        missing = [
            name
            for name, field in fields.items()
            if field.default is field.default_factory is dataclasses.MISSING and name not in values
        ]
        if missing:
            raise InputError(f"TransformerConfig: {', '.join(missing)} missing.")
        return cls(**values)


_CHOICES = {
    "position": (
        "sinusoidal",
        "sinusoidal_halves",
        "sinusoidal_fairseq",
        "learned",
        "rotary",
        "relative",
    ),
    "norm": ("layer_norm", "rms_norm"),
    "activation": ("relu", "gelu", "gelu_tanh", "silu"),
    "pooling": (
        "mean",
        "first",
        "last",
        "max",
        "mean_sqrt_length",
        "weighted_mean",
        "attention",
        "class_tokens",
    ),
    "pooler_activation": ("tanh", "relu", "gelu", "gelu_tanh", "silu"),
}
_FLAGS = (
    "norm_first",
    "embedding_norm",
    "gated",
    "use_bias",
    "tie_embeddings",
    "scale_embedding",
    "multi_label",
    "qkv_bias",
    "feed_forward_bias",
    "query_key_norm",
    "sandwich_norm",
    "logits_bias",
    "pooler",
    "norm_pooled",
    "relative_scores",
    "norm_bias",
    "first_norm",
    "parallel_residual",
    "causal_encoder",
    "pooler_norm",
    "head_bias",
    "normalize",
    "unit_features",
)
_PROJECTION_ACTIVATIONS = ("linear", "tanh", "relu", "gelu", "silu", "sigmoid")
# Bounds of an embedder, above those of any real one.
_MOST_PROJECTIONS, _MOST_PROMPTS, _LONGEST_PROMPT, _MOST_WIDTHS = 8, 256, 10_000, 64


_ROPE_SCALING = {
    "linear": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
    "yarn": ("factor", "original_max_position_embeddings"),
    "longrope": ("attention_factor", "original_max_position_embeddings"),
}


def check_rope_scaling(scaling: Any) -> None:
    """Refuse a scaling that `RotaryPositions` does not support.

    Raises:
        InputError: the kind is unknown, or a number is missing or out of range; the message names
            it.
    """
    kind = scaling.get("rope_type") if isinstance(scaling, dict) else None
    if not isinstance(kind, str) or kind not in _ROPE_SCALING:
        raise InputError(
            f"TransformerConfig: rope_scaling is {scaling!r}.\n"
            f"  Expected an object whose rope_type is one of {', '.join(_ROPE_SCALING)}."
        )
    for name in _ROPE_SCALING[kind]:
        _check_number(f"rope_scaling's {name}", scaling.get(name), 1e-3, 1e9)
    if kind == "longrope":
        factors = scaling.get("short_factor")
        if not isinstance(factors, list) or not factors:
            raise InputError(
                f"TransformerConfig: rope_scaling's short_factor is {factors!r}.\n"
                "  Expected a list of numbers, one for each pair of features that is rotated."
            )
        for factor in factors:
            _check_number("a number in rope_scaling's short_factor", factor, 1e-3, 1e9)


IMAGE_FILTERS = ("bilinear", "bicubic", "lanczos", "nearest")


def check_image_resize(resizing: Any, image_size: int) -> None:
    """Refuse a resizing that `images.resize` does not support.

    Raises:
        InputError: the message shows the value.
    """
    sizes = dict(resizing) if isinstance(resizing, dict) else {}
    kind = sizes.pop("filter", None)
    named = set(sizes) in ({"height", "width"}, {"shortest_edge"})
    whole = all(type(size) is int and image_size <= size <= 8192 for size in sizes.values())
    if kind not in IMAGE_FILTERS or not named or not whole:
        raise InputError(
            f"TransformerConfig: image_resize is {resizing!r}.\n"
            f"  Expected a filter, one of {', '.join(IMAGE_FILTERS)}, and height and width, or "
            f"shortest_edge, from {image_size} to 8,192."
        )


def check_projections(projections: Any) -> None:
    """Refuse projections that an `Embedder` cannot build.

    Raises:
        InputError: the message shows the value.
    """
    listed = isinstance(projections, tuple) and len(projections) <= _MOST_PROJECTIONS
    for one in projections if listed else (None,):
        names = {"width", "activation", "use_bias"}
        width = one.get("width") if isinstance(one, dict) and one.keys() == names else None
        if (
            type(width) is not int
            or not 1 <= width <= _BOUNDS["hidden_dim"][1]
            or one["activation"] not in _PROJECTION_ACTIVATIONS
            or not isinstance(one["use_bias"], bool)
        ):
            raise InputError(
                f"TransformerConfig: projections is {projections!r}.\n"
                f"  Expected a list of {_MOST_PROJECTIONS} at most, each with a whole number as "
                "width, use_bias true or false, and one of these as activation: "
                f"{', '.join(_PROJECTION_ACTIVATIONS)}."
            )


def check_widths(widths: Any, whole: int) -> None:
    """Refuse widths to which vectors cannot be cut.

    Args:
        whole: the width of the vectors.

    Raises:
        InputError: the message shows the value.
    """
    numbers = isinstance(widths, tuple) and all(type(width) is int for width in widths)
    if not numbers or len(widths) > _MOST_WIDTHS or [*widths] != sorted({*widths, 0, whole})[1:-1]:
        raise InputError(
            f"TransformerConfig: widths is {widths!r}.\n"
            f"  Expected whole numbers from 1 to {whole - 1:,}, ascending, {_MOST_WIDTHS} at most."
        )


def check_prompts(prompts: Any, default: Any) -> None:
    """Refuse prompts that are not short texts by name, and a default that is not one of them.

    Raises:
        InputError: the message names the field and what was expected.
    """
    texts = isinstance(prompts, dict) and len(prompts) <= _MOST_PROMPTS
    if not texts or not all(
        isinstance(text, str) and len(text) <= _LONGEST_PROMPT
        for pair in prompts.items()
        for text in pair
    ):
        raise InputError(
            "TransformerConfig: prompts is not an object of texts by name.\n"
            f"  Expected {_MOST_PROMPTS} at most, each of {_LONGEST_PROMPT:,} characters at most."
        )
    if default is not None and not (isinstance(default, str) and default in prompts):
        raise InputError(
            f"TransformerConfig: default_prompt is {default!r}.\n"
            f"  Expected one of the prompts: {', '.join(prompts) or 'there are none'}."
        )


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError(
            f"TransformerConfig: {name} is {value!r}.\n"
            f"  Expected a number from {low:g} to {high:g}."
        )
