"""Generation speed of a decoder-only model: this repository's rows for the peers' `b2_generate.py`.

The shapes, the prompts and the unit are the peers': prompts of 64 ids, 128 new ones, greedy, 1 and
8 texts a call, GPT-2's architecture in several sizes. The weights are random, and the end of text
is made so improbable that no text stops early.

    cd "$TFX_PEERS" && python b2_generate.py --extra .../benchmarks/generate.py [--only tfx]

    tfx-keras, tfx-keras-xla             the compiled decode loop of `KerasEngine`
    tfx-litert-float32, -int8, -int4     `CausalEngine` on the exported file; 8 texts run together

Environment:
    TFX_PEERS     folder with the peer benchmarks (harness.py, b2_generate.py), prepared.
    TFX_PYTHON    Python of the environment that runs these systems; default: the peers' own.
"""

import os
import pathlib
from typing import Any

import harness
import numpy as np
from b2_generate import NEW, prompt
from common import GPT, cache, gpt_positions, keras_env

REPOSITORY = str(pathlib.Path(__file__).resolve().parents[1])
CONTEXT = 256  # of the exported files; the peers' caches grow with the text
SPECIAL = 3  # padding, start, end: the first ids
BYTES_PER_WEIGHT = {"float32": 4, "int8": 1, "int4": 0.5625}


def new_model(size: str):
    """A `CausalLM` of the peers' shape that never writes a special id."""
    import keras

    from tfx_transformer import CausalLM, TransformerConfig

    keras.utils.set_random_seed(0)
    shape = GPT[size]
    model = CausalLM(
        TransformerConfig.of_size(
            "tiny",
            shape["vocab"],
            "gpt2",
            num_layers=shape["layers"],
            num_heads=shape["heads"],
            hidden_dim=shape["d"],
            max_sequence_length=gpt_positions(size),
        )
    )
    # A small row in the tied table is a logit near 0, far below the best of thousands of others.
    table = model.embedding.embeddings.numpy()
    table[:SPECIAL] *= 1e-3
    model.embedding.embeddings.assign(table)
    return model


def timed(case: dict[str, Any], engine, bytes_per_weight: float):
    """One call of `engine.generate_ids` on the peers' prompts, checked to be full length."""
    from tfx_transformer.generation import GenerationOptions

    ids = np.maximum(prompt(case), SPECIAL)  # the peers' ids begin at 1
    options = GenerationOptions(max_new_tokens=NEW)

    def step():
        written = engine.generate_ids(ids, options)
        assert written.shape == (case["batch"], NEW) and written.min() >= SPECIAL
        return written.size

    return step, {"bytes_per_weight": bytes_per_weight}


def keras_system(case: dict[str, Any], jit_compile: bool):
    from tfx_transformer.models.decoding import KerasEngine

    return timed(case, KerasEngine(new_model(case["gpt"]), jit_compile=jit_compile), 4)


def litert_file(size: str, variant: str) -> str:
    """The exported model, made once; cached beside the peers' checkpoints."""
    from tfx_transformer.export.litert import convert

    file = cache("tfx", f"generate-{size}-{variant}.tflite")
    if not os.path.exists(file):
        quantize = None if variant == "float32" else variant
        convert(new_model(size), file, quantize, context=CONTEXT)
    return file


def litert_system(case: dict[str, Any], variant: str):
    from tfx_transformer.runtime.causal import CausalEngine

    config = new_model(case["gpt"]).config
    engine = CausalEngine(litert_file(case["gpt"], variant), config, threads=harness.THREADS)
    return timed(case, engine, BYTES_PER_WEIGHT[variant])


def register(name: str, packages: list[str], build) -> None:
    harness.system(
        name,
        packages,
        env={**keras_env("tensorflow"), "PYTHONPATH": REPOSITORY},
        python=os.environ.get("TFX_PYTHON"),
    )(build)


for _name, _jit in (("tfx-keras", False), ("tfx-keras-xla", True)):
    register(
        _name,
        ["tfx_transformer", "keras", "tensorflow"],
        lambda case, jit=_jit: keras_system(case, jit),
    )
for _variant in BYTES_PER_WEIGHT:
    register(
        f"tfx-litert-{_variant}",
        ["tfx_transformer", "ai-edge-litert"],
        lambda case, variant=_variant: litert_system(case, variant),
    )
