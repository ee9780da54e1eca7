"""Speed of an embedder of MiniLM's shape: this repository's rows for the peers' `b3_encoder.py`.

6 layers of 384, 12 heads, 30,522 tokens, post-norm with learned positions; texts of 16 and 128
tokens, 1 and 32 a call, no padding. The weights are random: the peers' `cos` does not apply. Our
rows count the whole call from strings: tokenization, mean pooling, normalization. The tokenizer is
trained so that every word is one token, and the texts are words.

    cd "$TFX_PEERS" && python b3_encoder.py --extra .../benchmarks/encoder.py [--only tfx]

    tfx-keras                    `tfx.predictor`, one graph for all shapes
    tfx-litert-float32, -int8    `TextEmbedder` on the exported file

Environment:
    TFX_PEERS     folder with the peer benchmarks (harness.py, b3_encoder.py), prepared.
    TFX_PYTHON    Python of the environment that runs these systems; default: the peers' own.
"""

import os
import pathlib
import random
from typing import Any

import harness
from common import cache, keras_env

REPOSITORY = str(pathlib.Path(__file__).resolve().parents[1])
VOCABULARY = 30_522
WORDS = 2_000


def words() -> list[str]:
    """Distinct words of six letters."""
    drawn = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    return sorted({"".join(drawn.choices(letters, k=6)) for _ in range(WORDS)})


def texts(case: dict[str, Any], tokenizer) -> list[str]:
    """As many texts as the case asks for, each of as many tokens, start and end included."""
    drawn = random.Random(1)
    known = words()
    made = [" ".join(drawn.choices(known, k=case["seq"] - 2)) for _ in range(case["batch"])]
    assert all(tokenizer.count(text) == case["seq"] - 2 for text in made)
    return made


def new_tokenizer():
    """Every word, alone and after a space, is one token."""
    from tfx_transformer import Tokenizer

    known = words()
    return Tokenizer.train([*known, *(f"x {word}" for word in known)] * 3, 60_000)


def new_model():
    import keras

    from tfx_transformer import Embedder, TransformerConfig

    keras.utils.set_random_seed(0)
    return Embedder(
        TransformerConfig.of_size(
            "tiny",
            VOCABULARY,
            "bert",
            num_layers=6,
            num_heads=12,
            hidden_dim=384,
            max_sequence_length=128,
        )
    )


def timed(case: dict[str, Any], embedder, bytes_per_weight: float):
    given = texts(case, embedder.tokenizer)

    def step():
        vectors = embedder.embed(given)
        assert vectors.shape == (case["batch"], 384)
        return case["batch"]

    return step, {"bytes_per_weight": bytes_per_weight}


def keras_system(case: dict[str, Any]):
    from tfx_transformer import predictor

    return timed(case, predictor(new_model(), new_tokenizer()), 4)


def litert_system(case: dict[str, Any], variant: str):
    from tfx_transformer.export.litert import convert
    from tfx_transformer.prediction import TextEmbedder
    from tfx_transformer.runtime.encoder import EncoderEngine

    file, model = cache("tfx", f"encoder-{variant}.tflite"), new_model()
    if not os.path.exists(file):
        convert(model, file, None if variant == "float32" else variant)
    engine = EncoderEngine(file, model.config, threads=harness.THREADS)
    embedder = TextEmbedder(engine, new_tokenizer(), model.config.max_sequence_length)
    return timed(case, embedder, 4 if variant == "float32" else 1)


def register(name: str, packages: list[str], build) -> None:
    harness.system(
        name,
        packages,
        env={**keras_env("tensorflow"), "PYTHONPATH": REPOSITORY},
        python=os.environ.get("TFX_PYTHON"),
    )(build)


register("tfx-keras", ["tfx_transformer", "keras", "tensorflow"], keras_system)
for _variant in ("float32", "int8"):
    register(
        f"tfx-litert-{_variant}",
        ["tfx_transformer", "ai-edge-litert"],
        lambda case, variant=_variant: litert_system(case, variant),
    )
