"""Training tokens/s of a decoder-only model: this repository's rows for the peers' `b1_train.py`.

The shapes, the batch and the unit are the peers': one AdamW step on 12 rows, GPT-2's architecture,
dropout 0; 4 x 128 with 65 tokens and context 64, 6 x 384 with 8,192 tokens and context 256.

    cd "$TFX_PEERS" && python b1_train.py --extra .../benchmarks/train_gpt.py [--only tfx]

    tfx, tfx-xla, tfx-bf16    `CausalLM.fit` in float32, compiled with XLA, in mixed bfloat16

Environment: as for generate.py.
"""

import os
import pathlib
from typing import Any

import harness
import numpy as np
from b1_train import LR, batch
from common import GPT, keras_env

REPOSITORY = str(pathlib.Path(__file__).resolve().parents[1])


def fit_system(case: dict[str, Any], jit: bool, policy: str):
    """`model.fit` on one repeated batch."""
    import keras
    import tensorflow as tf

    from tfx_transformer import CausalLM, TokenCrossentropy, TransformerConfig

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    shape = GPT[case["gpt"]]
    config = TransformerConfig.of_size(
        "tiny",
        shape["vocab"],
        "gpt2",
        num_layers=shape["layers"],
        num_heads=shape["heads"],
        hidden_dim=shape["d"],
        dropout=0.0,
        max_sequence_length=shape["ctx"],
    )
    model = CausalLM(config)
    model.compile(
        keras.optimizers.AdamW(LR, weight_decay=0.01),
        TokenCrossentropy(),
        weighted_metrics=[],
        jit_compile=jit,
    )
    ids, labels = batch(shape)
    # At the end of `fit` TensorFlow may wait seconds for tf.data's autotune thread: off for all.
    options = tf.data.Options()
    options.autotune.enabled = False
    batches = tf.data.Dataset.from_tensors(({"token_ids": ids}, labels)).repeat()
    batches = batches.with_options(options)

    def step():
        loss = model.fit(batches, steps_per_epoch=case["steps"], verbose=0).history["loss"][-1]
        assert np.isfinite(loss)
        return case["steps"] * ids.size

    return step, {"params": model.count_params(), "dtype": policy}


for _name, _jit, _policy in (
    ("tfx", False, "float32"),
    ("tfx-xla", True, "float32"),
    ("tfx-bf16", False, "mixed_bfloat16"),
):
    harness.system(
        _name,
        ["tfx_transformer", "keras", "tensorflow"],
        env={**keras_env("tensorflow"), "PYTHONPATH": REPOSITORY},
        python=os.environ.get("TFX_PYTHON"),
    )(lambda case, jit=_jit, policy=_policy: fit_system(case, jit, policy))
