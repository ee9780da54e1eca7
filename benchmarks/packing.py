"""Fine-tuning with and without packing.

A useful token is one of an example; padding is none. "padded" has one example a row and examples
of similar length in a batch, "packed" several a row with block-diagonal attention. Both see batches
of about 4,096 slots, padding included, and train the same model by `fit`. Llama style, 3 layers of
256, at most 256 tokens.

    python -m benchmarks packing --data DATA --rounds 3

It takes about 5 minutes on 2 cores. Expect a ratio near the one of the shares of useful slots:
0.93 to 0.98 on dolly_open_qa. `datasets/instructions.csv` needs no --data.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = "useful tokens/s"
SLOTS = 4096  # of a batch, about
LONGEST = 256
ROOT = Path(__file__).resolve().parent.parent
DOLLY = "instruction/dolly_open_qa/train.csv"

CASES = (
    Case("instructions", "datasets/instructions.csv", {"batches": 6}),
    Case("dolly_open_qa", "dolly_open_qa", {"batches": 6, "file": DOLLY}, (DOLLY,)),
)


def file_of(settings: Settings) -> Path:
    if "file" in settings:
        return Path(settings["data"], settings["file"])
    return ROOT / "datasets" / "instructions.csv"


def in_memory(batches, count: int):
    """Some batches, repeated for ever from memory, and the useful tokens in them."""
    import tensorflow as tf

    some = list(batches.take(count))
    useful = sum(int(np.count_nonzero(inputs["token_ids"])) for inputs, _, _ in some)
    signature = tf.nest.map_structure(
        lambda tensor: tf.TensorSpec([None] * tensor.shape.rank, tensor.dtype), some[0]
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    again = tf.data.Dataset.from_generator(lambda: iter(some), output_signature=signature)
    return again.repeat().with_options(options), useful, len(some)


def fit(settings: Settings, pack: bool):
    """`fit` on batches of the case's file."""
    import keras

    import tfx_transformer as tfx

    keras.utils.set_random_seed(0)
    read = tfx.data.read_instructions(file_of(settings))
    tokenizer = tfx.Tokenizer.train(read.texts(), 8000, tfx.ROLE_TOKENS)
    template = tfx.ChatTemplate.of(tokenizer)
    [summary] = tfx.data.describe_instructions(read, None, template, LONGEST)
    rows = SLOTS // (LONGEST if pack else summary.percentiles()[0])
    made = tfx.data.instructions(read, template, batch_size=rows, max_length=LONGEST, pack=pack)
    batches, useful, steps = in_memory(made, settings["batches"])
    model = tfx.CausalLM(
        tfx.TransformerConfig.of_size(
            "small",
            tokenizer.vocabulary_size,
            "llama",
            dropout=0.0,
            max_sequence_length=LONGEST,
        )
    )
    model.compile(tfx.training.adamw(1e-3))

    def step() -> int:
        model.fit(batches, steps_per_epoch=steps, verbose=0)
        return useful

    return step


SYSTEMS = tuple(
    System(f"tfx-{name}", f"**ours, {name}**", functools.partial(fit, pack=pack), OURS, KERAS)
    for name, pack in (("packed", True), ("padded", False))
)
