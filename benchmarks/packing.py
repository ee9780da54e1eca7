"""Fine-tuning with and without packing: useful tokens per second, in turn on the same rows.

    python benchmarks/packing.py FILE.csv [--size small] [--max-length 256] [--rounds 5]

A useful token is one of an example; padding is none. "padded" has one example a row and examples
of similar length in a batch, "packed" several a row with block-diagonal attention. Both see batches
of about the same number of slots, padding included, and train the same model by `fit`.
"""

import argparse
import json
import statistics
import time

import numpy as np

import tfx_transformer as tfx

SLOTS = 4096  # of a batch, about


def materialized(batches, count: int):
    """Some batches in memory, repeated; and the useful tokens and the slots in them."""
    import tensorflow as tf

    some = list(batches.take(count))
    useful = sum(int(np.count_nonzero(inputs["token_ids"])) for inputs, _, _ in some)
    slots = sum(int(np.size(inputs["token_ids"])) for inputs, _, _ in some)
    signature = tf.nest.map_structure(
        lambda t: tf.TensorSpec([None] * t.shape.rank, t.dtype), some[0]
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    again = tf.data.Dataset.from_generator(lambda: iter(some), output_signature=signature)
    return again.repeat().with_options(options), useful, slots


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--size", default="small")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=12)
    chosen = parser.parse_args()

    read = tfx.data.read_instructions(chosen.file)
    tokenizer = tfx.Tokenizer.train(read.texts(), 8000, tfx.ROLE_TOKENS)
    template = tfx.ChatTemplate.of(tokenizer)
    config = tfx.TransformerConfig.of_size(
        chosen.size,
        tokenizer.vocabulary_size,
        "llama",
        dropout=0.0,
        max_sequence_length=chosen.max_length,
    )
    [summary] = tfx.data.describe_instructions(read, None, template, chosen.max_length)
    median = summary.percentiles()[0]
    systems = {}
    for name, rows in (("padded", SLOTS // median), ("packed", SLOTS // chosen.max_length)):
        batches = tfx.data.instructions(
            read, template, batch_size=rows, max_length=chosen.max_length, pack=name == "packed"
        )
        again, useful, slots = materialized(batches, chosen.batches)
        model = tfx.CausalLM(config)
        model.compile(tfx.training.adamw(1e-3))
        model.fit(again, steps_per_epoch=chosen.batches, verbose=0)
        systems[name] = (model, again, useful, slots)

    speeds: dict[str, list[float]] = {name: [] for name in systems}
    for turn in range(chosen.rounds):
        for name in list(systems) if turn % 2 else reversed(list(systems)):
            model, again, useful, _ = systems[name]
            begin = time.perf_counter()
            model.fit(again, steps_per_epoch=chosen.batches, verbose=0)
            speeds[name].append(useful / (time.perf_counter() - begin))
    ratios = [a / b for a, b in zip(speeds["packed"], speeds["padded"], strict=True)]
    for name, (_, _, useful, slots) in systems.items():
        values = speeds[name]
        print(
            json.dumps(
                {
                    "system": name,
                    "useful_tokens_per_s": round(statistics.median(values)),
                    "range": [round(min(values)), round(max(values))],
                    "useful_share": round(useful / slots, 3),
                }
            )
        )
    print(json.dumps({"packed_over_padded": round(statistics.median(ratios), 2)}))


if __name__ == "__main__":
    main()
