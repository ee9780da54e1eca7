"""Labelled text becomes a classifier that runs anywhere: topics, sentiment, spam, intents.

    tfx-transformer run text_classification
    tfx-transformer run text_classification --csv my.csv --text title,body --label topic --name my

Columns: text (several: with commas), label (several in a cell: --separator "|"). A share is held
out, or --validation. --base: a bundle or a checkpoint, such as hf://google-bert/bert-base-uncased.
"""

import tfx_transformer as tfx


def main(
    csv="", validation="", share=0.1, text="text", label="label", separator="", class_weights="",
    skip_bad_rows=False, name="topics", overwrite=False, base="", size="tiny", layers=0, width=0,
    vocabulary_size=2000, max_length=128, ngram_buckets=5000, pooling="mean", method="full", rank=8,
    epochs=20, batch_size=32, learning_rate=2e-3, layer_decay=1.0, weight_decay=0.05, dropout=0.2,
    token_dropout=0.0, consistency=0.0, average=0.99, patience=6, minutes=0.0, save_minutes=5.0,
    precision="float32", style="", seed=1,
):  # fmt: skip
    settings = dict(locals())
    bundle = tfx.training.new_bundle_path(name, overwrite)
    tfx.training.set_random_seed(seed)
    csv, how = csv or tfx.resources.dataset_path("labelled_text.csv"), (text, label, separator)
    skip = {"skip_bad_rows": skip_bad_rows}
    train = tfx.data.read_labelled_texts(csv, *how, **skip)
    held_out = validation and tfx.data.read_labelled_texts(validation, *how, **skip)
    if not validation:
        train, held_out = tfx.data.split_labelled_texts(train, share, seed)
    names, many = tfx.data.label_names(train.labels, train.path), bool(separator)
    base, words = tfx.from_pretrained(base, max_length=max_length) if base else (None, None)
    words = words or tfx.Tokenizer.train(train.flat_texts(), vocabulary_size)
    config = base.config if base else tfx.TransformerConfig.of_size(
        size, words.vocabulary_size, style or None, num_layers=layers, hidden_dim=width,
        max_sequence_length=max_length, ngram_buckets=ngram_buckets)  # fmt: skip
    head = {"num_classes": len(names), "multi_label": many, "pooling": pooling, "dropout": dropout}
    model = tfx.Classifier(tfx.fine_tuned(config, **head), dtype=precision)
    tfx.take_over(model, base)
    if method != "full":
        tfx.add_adapters(model, rank, 2 * rank, kind=method)
    run, length = tfx.training.ClassifierRun(name, settings), model.config.max_sequence_length
    about = tfx.data.describe_labelled_texts(train, held_out, words, names, length)
    run.show_data(about, train, held_out)
    options = {"batch_size": batch_size, "max_length": length, "multi_label": many, "seed": seed}
    changes = {"weights": class_weights, "token_dropout": token_dropout}
    batches = tfx.data.labelled_texts(train, words, names, **options, **changes)
    checks = tfx.data.labelled_texts(held_out, words, names, **options, shuffle=False)
    optimizer = tfx.training.adamw(learning_rate, (total := epochs * len(batches)) // 10, "cosine",
        total, weight_decay, layer_decay=layer_decay, average=average)  # fmt: skip
    model.compile(optimizer, label_smoothing=0.1, consistency=consistency)
    run.show_cost(model, batch_size * length, total, batches)
    watch = run.watch(tfx.predictor(model, words, names), held_out, patience, minutes, average > 0)
    run.fit(model, batches, checks, epochs, watch)
    tfx.save(bundle, run.without_adapters(model), words, overwrite=run.overwrite, labels=names)
    tfx.annotate(bundle, **(result := run.report(model, train)))
    return run.done(result | {"verified": tfx.export.everything(bundle, held_out.texts)})


if __name__ == "__main__":
    tfx.flags.run(main)
