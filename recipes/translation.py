"""A CSV of sentence pairs becomes a translator that runs anywhere.

    tfx-transformer run translation
    tfx-transformer run translation --csv my.csv --source english --target german --name my

Columns: source, target, or the names you give. Without --validation a twentieth of the sentences
is held out. The defaults train on datasets/en_ja.csv in at most 5 minutes on 2 cores and translate
at least 90 % of datasets/en_ja_heldout.csv exactly. Results: saved_models/<name>/, runs/<name>/.
"""

import tfx_transformer as tfx


def main(
    csv="", validation="", share=0.05, source="source", target="target", skip_bad_rows=False,
    name="en_ja", overwrite=False, size="tiny", vocabulary_size=1000, max_length=64, epochs=80,
    batch_size=64, learning_rate=1.5e-3, warmup_steps=200, dropout=0.1, label_smoothing=0.1,
    patience=10, minutes=0.0, save_minutes=5.0, precision="float32", seed=1, base="",
    sentence="I love cats.",
):  # fmt: skip
    settings = dict(locals())
    bundle = tfx.training.new_bundle_path(name, overwrite)
    tfx.training.set_random_seed(seed)

    file = csv or tfx.resources.dataset_path("en_ja.csv")
    train = tfx.data.read_pairs(file, source, target, skip_bad_rows=skip_bad_rows)
    if validation:
        held_out = tfx.data.read_pairs(validation, source, target, skip_bad_rows=skip_bad_rows)
    else:
        train, held_out = tfx.data.split_pairs(train, share, seed=seed)
    if base:
        base, words = tfx.from_pretrained(base, precision, "seq2seq", max_length)
    tokenizer = words if base else tfx.Tokenizer.train(train.texts(), vocabulary_size)
    run = tfx.training.Run(name, settings)
    summaries = tfx.data.describe_pairs(train, held_out, tokenizer, max_length)
    run.show_data(summaries, train, held_out, max_length=max_length)

    options = {"batch_size": batch_size, "max_length": max_length, "seed": seed}
    batches = tfx.data.pairs(train, tokenizer, **options)
    checks = tfx.data.pairs(held_out, tokenizer, **options, shuffle=False)
    model = base or tfx.Seq2SeqLM(tfx.TransformerConfig.of_size(
        size, tokenizer.vocabulary_size, dropout=dropout, max_sequence_length=max_length
    ), dtype=precision)  # fmt: skip
    steps = epochs * len(batches)
    optimizer = tfx.training.adamw(learning_rate, warmup_steps, "cosine", total_steps=steps)
    model.compile(optimizer, tfx.TokenCrossentropy(label_smoothing))
    translator = tfx.text_generator(model, tokenizer)
    texts = (held_out.source, held_out.target)
    callbacks = run.callbacks(translator, *texts, patience=patience, minutes=minutes)
    run.fit(model, batches, checks, epochs, callbacks)

    tfx.save(bundle, model, tokenizer, overwrite=run.overwrite)
    result = run.finish(model, translator, *texts, tfx.score_texts)
    run.draw_attention(model, translator, sentence)
    tfx.annotate(bundle, **result)
    return run.done(result | {"verified": tfx.export.everything(bundle, held_out.source)})


if __name__ == "__main__":
    tfx.flags.run(main)
