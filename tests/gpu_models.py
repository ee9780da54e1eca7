"""Small models of every style that is exported, for other places to run: GPUs and browsers."""

from tiny_models import (
    CONVOLUTIONS,
    PATCHES,
    VARIANTS,
    tiny_causal,
    tiny_encoder,
    tiny_model,
    with_linear,
)

from tfx_transformer.models.encoders import Classifier, Embedder
from tfx_transformer.models.regressor import Regressor
from tfx_transformer.models.tagger import Tagger

SIZE = {"vocabulary_size": 151, "hidden_dim": 48, "intermediate_dim": 76, "max_sequence_length": 23}
T5 = {
    "position": "relative",
    "norm": "rms_norm",
    "use_bias": False,
    "attention_scale": 1.0,
    "logit_scale": 0.2,
}
GEMMA = VARIANTS["llama"] | {
    "query_key_norm": True,
    "sandwich_norm": True,
    "sliding_window": 7,
    "global_layers": (1,),
    "local_rope_theta": 100.0,
    "head_dim": 16,
}
BERT = {
    "position": "learned",
    "norm_first": False,
    "embedding_norm": True,
    "num_segments": 2,
    "pooling": "first",
    "pooler": True,
}
GENERATORS = {
    "translator": lambda: tiny_model(**SIZE),
    "llama": lambda: tiny_causal(**SIZE, **VARIANTS["llama"]),
    "gpt": lambda: tiny_causal(**SIZE, **VARIANTS["learned"]),
    "t5": lambda: tiny_model(**SIZE, **T5),
    "gemma": lambda: tiny_causal(**SIZE, **GEMMA),
    "translator with learned positions": lambda: tiny_model(**SIZE, **VARIANTS["learned"]),
    "translator with rotary positions": lambda: tiny_model(**SIZE, **VARIANTS["llama"]),
}
ENCODERS = {
    "texts": lambda: with_linear(
        tiny_encoder(Classifier, num_classes=5, **SIZE, ngram_buckets=101, linear_buckets=103)
    ),
    "bert": lambda: tiny_encoder(Classifier, num_classes=5, **SIZE, **BERT),
    "embedder": lambda: tiny_encoder(
        Embedder, **SIZE, position="learned", pooling="mean", bag_dim=37
    ),
    "last token": lambda: tiny_encoder(Embedder, **SIZE, position="rotary", pooling="last"),
    "regressor": lambda: tiny_encoder(Regressor, **SIZE, pooling="mean"),
    "tagger": lambda: tiny_encoder(Tagger, num_classes=5, **SIZE, position="rotary"),
    "patches": lambda: tiny_encoder(Classifier, num_classes=5, **SIZE | PATCHES),
    "convolutions": lambda: tiny_encoder(
        Classifier, num_classes=5, **SIZE | CONVOLUTIONS, linear_cells=3, linear_patches=2
    ),
}
