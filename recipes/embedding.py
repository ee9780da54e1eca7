"""Pairs of texts become an embedder: texts of similar meaning get vectors of similar direction.

    tfx-transformer run embedding
    tfx-transformer run embedding --csv sts.csv --first sentence1 --second sentence2 --score score

Columns: two texts that belong together; with --score how much. --base: a masked bundle, or such as
hf://sentence-transformers/all-MiniLM-L6-v2. The defaults bring English and Japanese sentences of
datasets/en_ja.csv together, in 2 minutes on 2 cores. Results: saved_models/<name>/, runs/<name>/.
"""

import tfx_transformer as tfx


def main(
    csv="", validation="", share=0.05, first="source", second="target", score="",
    skip_bad_rows=False, name="similar", overwrite=False, base="", size="tiny", layers=0, heads=0,
    width=0, vocabulary_size=2000, ngram_buckets=0, max_length=64, pooling="mean",
    temperature=0.05, epochs=20, batch_size=64, learning_rate=1e-3, layer_decay=1.0,
    warmup_steps=100, weight_decay=0.05, dropout=0.1, patience=5, minutes=0.0, save_minutes=5.0,
    precision="float32", seed=1,
):  # fmt: skip
    settings = dict(locals())
    bundle = tfx.training.new_bundle_path(name, overwrite)
    tfx.training.set_random_seed(seed)
    csv, columns = csv or tfx.resources.dataset_path("en_ja.csv"), (first, second, score)
    train = tfx.data.read_sentence_pairs(csv, *columns, skip_bad_rows=skip_bad_rows)
    if validation:
        ends = dict(zip(("lowest", "highest"), train.scale or (), strict=False))
        held_out = tfx.data.read_sentence_pairs(
            validation, *columns, skip_bad_rows=skip_bad_rows, **ends
        )
    else:
        train, held_out = tfx.data.split_sentence_pairs(train, share, seed)
    base, words = tfx.from_pretrained(base, max_length=max_length) if base else (None, None)
    words = words or tfx.Tokenizer.train(train.texts(), vocabulary_size)
    config = base.config if base else tfx.TransformerConfig.of_size(
        size, words.vocabulary_size, num_layers=layers, num_heads=heads, hidden_dim=width,
        max_sequence_length=max_length, ngram_buckets=ngram_buckets,
    )  # fmt: skip
    model = tfx.Embedder(tfx.fine_tuned(config, pooling=pooling, dropout=dropout), dtype=precision)
    tfx.take_over(model, base)
    run, length = tfx.training.EmbedderRun(name, settings), model.config.max_sequence_length
    summary = tfx.data.describe_sentence_pairs(train, held_out, words, length)
    run.show_data(summary, train, held_out, max_length=length)
    options = {"batch_size": batch_size, "max_length": length, "seed": seed}
    batches = tfx.data.sentence_pairs(train, words, **options)
    checks = tfx.data.sentence_pairs(held_out, words, **options, shuffle=False)
    run.show_cost(model, 2 * batch_size * length, total := epochs * len(batches), batches)
    rate = (learning_rate, warmup_steps, "cosine", total, weight_decay)
    loss = tfx.ScoredCosine() if score else tfx.InBatchContrast(temperature)
    model.compile(tfx.training.adamw(*rate, layer_decay=layer_decay), loss)
    watch = run.watch(tfx.predictor(model, words), held_out, patience, minutes)
    run.fit(model, batches, checks, epochs, watch)
    tfx.save(bundle, model, words, overwrite=run.overwrite)
    tfx.annotate(bundle, **(result := run.report(model)))
    return run.done(result | {"verified": tfx.export.everything(bundle, held_out.first)})


if __name__ == "__main__":
    tfx.flags.run(main)
