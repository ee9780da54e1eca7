"""Decoding speed of an encoder-decoder: this repository's rows for the peers' `b4_seq2seq.py`.

The shape, the source ids and the unit are the peers': 6 + 6 blocks, 512 wide, vocabulary 32,000,
32 source ids to exactly 32 target ids; greedy and 4 beams, 1 and 16 texts a call. The weights are
random, and the end of text is made so improbable that no text stops early.

    cd "$TFX_PEERS" && python b4_seq2seq.py --extra .../benchmarks/translate.py [--only tfx]

    tfx-keras, tfx-keras-xla              the compiled decode loop of `KerasEngine`
    tfx-litert-float32, tfx-litert-int8   `Seq2SeqEngine` on the exported file; it runs texts one
                                          after the other, so 16 texts are 16 calls

Environment:
    TFX_PEERS     folder with the peer benchmarks (harness.py, b4_seq2seq.py), prepared.
    TFX_PYTHON    Python of the environment that runs these systems; default: the peers' own.
"""

import os
import pathlib
from typing import Any

import harness
import numpy as np
from b4_seq2seq import SRC, TGT, source
from common import MARIAN, cache, keras_env

REPOSITORY = str(pathlib.Path(__file__).resolve().parents[1])
SPECIAL = 3  # padding, start, end: the first ids


def new_model():
    """A `Seq2SeqLM` of the peers' shape that never writes a special id."""
    import keras

    from tfx_transformer import Seq2SeqLM, TransformerConfig

    keras.utils.set_random_seed(0)
    model = Seq2SeqLM(
        TransformerConfig(
            vocabulary_size=MARIAN["vocab"],
            num_layers=MARIAN["layers"],
            num_heads=MARIAN["heads"],
            hidden_dim=MARIAN["d"],
            intermediate_dim=MARIAN["ffn"],
            max_sequence_length=max(SRC, TGT),
        )
    )
    # A zero row in the tied table is a logit of 0, far below the best of 32,000 random ones.
    table = model.embedding.embeddings.numpy()
    table[:SPECIAL] = 0
    model.embedding.embeddings.assign(table)
    return model


def timed(case: dict[str, Any], engine, options, bytes_per_weight: int):
    """One call of `engine.generate_ids` on the peers' source ids, checked to be full length."""
    ids = np.maximum(source(case), SPECIAL)  # the peers' ids begin at 1

    def step():
        written = engine.generate_ids(ids, options)
        assert written.shape == (case["batch"], TGT) and written.min() >= SPECIAL
        return written.size

    return step, {"bytes_per_weight": bytes_per_weight}


def keras_system(case: dict[str, Any], jit_compile: bool):
    from tfx_transformer.generation import GenerationOptions
    from tfx_transformer.models.decoding import KerasEngine

    options = GenerationOptions(max_new_tokens=TGT, beams=case["beams"])
    return timed(case, KerasEngine(new_model(), jit_compile=jit_compile), options, 4)


for _name, _jit in (("tfx-keras", False), ("tfx-keras-xla", True)):
    harness.system(
        _name,
        ["tfx_transformer", "keras", "tensorflow"],
        env={**keras_env("tensorflow"), "PYTHONPATH": REPOSITORY},
        python=os.environ.get("TFX_PYTHON"),
    )(lambda case, jit=_jit: keras_system(case, jit))


def litert_file(variant: str) -> str:
    """The exported model, made once; cached beside the peers' checkpoints."""
    from tfx_transformer.export.litert import convert

    file = cache("tfx", f"translate-{variant}.tflite")
    if not os.path.exists(file):
        convert(new_model(), file, None if variant == "float32" else variant, beams=4)
    return file


def litert_system(case: dict[str, Any], variant: str):
    from tfx_transformer.generation import GenerationOptions
    from tfx_transformer.runtime import Seq2SeqEngine

    config = new_model().config
    engine = Seq2SeqEngine(litert_file(variant), config, threads=harness.THREADS)
    options = GenerationOptions(max_new_tokens=TGT, beams=case["beams"])
    return timed(case, engine, options, 4 if variant == "float32" else 1)


for _variant in ("float32", "int8"):
    harness.system(
        f"tfx-litert-{_variant}",
        ["tfx_transformer", "ai-edge-litert"],
        env={**keras_env("tensorflow"), "PYTHONPATH": REPOSITORY},
        python=os.environ.get("TFX_PYTHON"),
    )(lambda case, variant=_variant: litert_system(case, variant))
