"""Unlabelled text becomes a language model: a GPT, or with --objective masked a BERT.

    tfx-transformer run pretraining
    tfx-transformer run pretraining --text corpus/,more.txt --name my --size small
    tfx-transformer run pretraining --text my.csv --column text --base saved_models/my --name more

Text: files, folders or a CSV column; the last tenth is held out, or a --validation file. Defaults:
datasets/pretraining.txt, 2 minutes on 2 cores. --base continues a bundle, --tokenizer takes another
bundle's; with --vocabulary-size 262 tokens are bytes. Results: saved_models/<name>/, runs/<name>/.
"""

import tfx_transformer as tfx


def main(
    text="", column="", validation="", share=0.1, skip_bad_rows=False, objective="causal",
    name="stories", overwrite=False, base="", tokenizer="", size="tiny", style="llama",
    layers=0, heads=0, width=0, vocabulary_size=1500, ngram_buckets=0, context=128, dropout=0.1,
    steps=600, validate_every=100, batch_size=16, learning_rate=2e-3, warmup_steps=50,
    weight_decay=0.1, patience=4, minutes=0.0, save_minutes=5.0, precision="float32", seed=1,
):  # fmt: skip
    settings = dict(locals())
    goal, bundle = tfx.training.objective(objective), tfx.training.new_bundle_path(name, overwrite)
    tfx.training.set_random_seed(seed)
    text = text or tfx.resources.dataset_path("pretraining.txt")
    how = {"column": column, "skip_bad_rows": skip_bad_rows}
    if base:
        model, words = tfx.from_pretrained(base, precision, goal.task, context)
    else:
        texts = tfx.data.sample_texts(text, **how)  # read when they are needed
        words = tfx.Tokenizer.load(f"{tokenizer}/tokenizer.json") if tokenizer else (
            tfx.Tokenizer.train(texts, vocabulary_size, goal.special_tokens))  # fmt: skip
        model = goal.model(tfx.TransformerConfig.of_size(
            size, words.vocabulary_size, style, num_layers=layers, num_heads=heads,
            hidden_dim=width, dropout=dropout, max_sequence_length=context,
            ngram_buckets=ngram_buckets), dtype=precision)  # fmt: skip
    how |= {"validation": validation, "share": share}
    run = tfx.training.Run(name, settings)
    train, held_out = tfx.data.read_corpus(text, words, run.folder, **how)
    blocks = {"length": model.config.max_sequence_length, "batch_size": batch_size}
    run.show_data(tfx.data.describe_corpora(train, held_out, **blocks), train, held_out)
    run.tokens_per_epoch = validate_every * batch_size * blocks["length"]
    run.show_cost(model, batch_size * blocks["length"], steps)
    optimizer = tfx.training.adamw(learning_rate, warmup_steps, "cosine", steps, weight_decay)
    measures = goal.measures(held_out)
    model.compile(optimizer, weighted_metrics=measures, jit_compile=goal.jit_compile)
    writer, prompts = goal.writer(model, words), goal.prompts(held_out, words)
    batches = goal.batches(train, words, **blocks, seed=seed)
    checks = goal.batches(held_out, words, **blocks, shuffle=False)
    watch = run.callbacks(writer, prompts, patience=patience, minutes=minutes, previews=1)
    epochs = tfx.training.rounds(steps, validate_every)
    run.fit(model, batches, checks, epochs, watch, steps_per_epoch=validate_every)
    tfx.save(bundle, model, words, overwrite=run.overwrite)
    tfx.annotate(bundle, **(result := run.finish(model, writer, prompts)))
    return run.done(result | {"verified": tfx.export.everything(bundle, prompts)})


if __name__ == "__main__":
    tfx.flags.run(main)
