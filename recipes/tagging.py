"""Train a tagger: it marks names, places, dates, amounts.

    tfx-transformer run tagging
    tfx-transformer run tagging --data my.jsonl --name my
    tfx-transformer run tagging --data my.jsonl --teacher saved_models/large

The defaults train on datasets/tagged_text.jsonl. The model is in
saved_models/<name>/, and a record of the training in runs/<name>/.
"""

from pathlib import Path
from typing import Any, Literal

import tfx_transformer as tfx

# Settings to train a new model.
NEW = {
    "dropout": 0.2,
    "epochs": 24,
    "learning_rate": 2e-3,
    "layer_decay": 1.0,
    "patience": 8,
}


def main(
    data: Path | None = None,
    text: str = "text",
    spans: str = "",
    sentence: str = "sentence",
    token: str = "token",
    tag: str = "tag",
    validation: Path | None = None,
    share: float = 0.1,
    skip_bad_rows: bool = False,
    encoding: str = "",
    delimiter: str = "",
    sheet: str = "",
    table: str = "",
    unlabelled: Path | None = None,
    teacher: str | Path = "",
    base: str | Path = "",
    size: Literal["nano", "tiny", "small", "base"] = "tiny",
    style: Literal["", "gpt2", "llama", "bert", "classifier"] = "llama",
    layers: int = 0,
    width: int = 0,
    vocabulary_size: int = 500,
    max_length: int = 128,
    ngram_buckets: int = 5000,
    dropout: float | None = None,
    method: Literal["full", "lora", "dora"] = "full",
    rank: int = 8,
    base_dtype: Literal["", "bfloat16", "int8", "nf4"] = "",
    epochs: int | None = None,
    batch_size: int = 16,
    accumulate: int = 1,
    remat: bool = False,
    learning_rate: float | None = None,
    layer_decay: float | None = None,
    weight_decay: float = 0.05,
    token_dropout: float = 0.0,
    new_names: float = 0.7,
    temperature: float = 2.0,
    teacher_share: float = 0.5,
    average: float = 0.99,
    patience: int | None = None,
    minutes: float = 0.0,
    save_minutes: float = 5.0,
    quantization_aware: Literal["", "int4", "int8"] = "",
    quantization_epochs: int | None = None,
    precision: Literal[
        "float32", "bfloat16", "float16", "mixed_bfloat16", "mixed_float16"
    ] = "float32",
    seed: int = 1,
    log: Literal["", "wandb", "mlflow"] = "",
    name: str = "tags",
    overwrite: bool = False,
    quantize: Literal["", "int4"] = "",
    example: str = "",
) -> dict[str, Any]:
    """Train an encoder-only Transformer to mark spans in texts.

    Data arguments:
        data: Texts with spans in each row (JSON Lines, or any table), a table with a token and its
            tag in each row, or a file of columns (.conll). Default: datasets/tagged_text.jsonl.
        text: Column of the texts.
        spans: Column of the spans; empty: spans, entities, label or labels, whichever is there.
        sentence: Column that names the sentence of each token, in a table of tags.
        token: Column of the tokens, in a table of tags.
        tag: Column of the tags (IOB2), in a table of tags.
        validation: File of held-out texts. Default: a share of the texts is held out; with the
            default data, datasets/tagged_text_heldout.jsonl.
        share: Share of the texts to hold out, from 0 to 1.
        skip_bad_rows: Skip rows that cannot be used, and list them in the run's folder.
        encoding: Encoding of a CSV table, such as cp932; empty: detected.
        delimiter: Separator of its cells, such as ";" or tab; empty: detected.
        sheet: Sheet of an Excel workbook; empty: the only one.
        table: Table of a SQLite database; empty: the only one.
        unlabelled: Texts without spans that the teacher marks, to train on too: a text file with a
            text in each line, or a table with the column of the texts.

    Model arguments:
        teacher: Larger model whose answers are learned beside the spans: a bundle with these
            labels, or a checkpoint that has a head, as for base. Default: the spans alone.
        base: Model to begin with: a bundle, a folder, a name that `tfx-transformer bases` lists, or
            hf://owner/name. Default: a new model.
        size: Size of a new model.
        style: Family that a new model resembles; empty: a plain Transformer.
        layers: Number of layers of a new model; 0: as its size says.
        width: Width of the vectors of a new model; 0: as its size says.
        vocabulary_size: Tokens in the vocabulary of a new model.
        max_length: Most tokens read at once; a longer text is read in windows.
        ngram_buckets: Rows of the table of token pairs of a new model; 0: no table.
        dropout: Share of activations that training drops, from 0 to 1. Default: 0.2; 0.1 with a
            pre-trained base.
        method: full trains all weights; lora and dora train small adapters beside a frozen model.
        rank: Rank of the adapters.
        base_dtype: Number format of the frozen weights under adapters; nf4: 4 bits; empty: as
            precision.

    Training arguments:
        epochs: Passes over the data. Default: 24; 3 to 20 with a pre-trained base, by the number of
            rows.
        batch_size: Texts in one training step.
        accumulate: Parts in which a step computes its batch, one after the other: more parts take
            less memory, and the gradient is that of the whole batch.
        remat: Keep only the input of each layer in memory, and compute it again for the gradient:
            less memory, a third more computing, and the same result.
        learning_rate: Highest learning rate. Default: 0.002; 0.00015 or less with a pre-trained
            base, by its width, and ten times as much for adapters.
        layer_decay: Factor on the learning rate from each layer to the one below it. Default: 1;
            0.9 with a pre-trained base whose own weights are trained.
        weight_decay: Decay of the weights, decoupled from the gradient (AdamW).
        token_dropout: Share of tokens that training hides, from 0 to 1.
        new_names: Share of spans, from 0 to 1, whose letters training replaces, so that the model
            finds names that it has not seen.
        temperature: Divisor of the logits for the teacher's share of the loss: the higher, the more
            the unlikely tags count.
        teacher_share: Share of the teacher in the loss, from 0 to 1; the spans have the rest.
        average: Decay of the moving average of the weights; 0: no average.
        patience: Epochs without a better entity F1 after which training ends. Default: 8; 3 with a
            pre-trained base.
        minutes: Longest training time in minutes; 0: no limit.
        save_minutes: Minutes between two checkpoints within an epoch.
        quantization_aware: Go on training with weights rounded as in the int4 or the int8 file, so
            that the file loses less; empty: weights are rounded after the training only.
        quantization_epochs: Passes over the data with rounded weights. Default: 3.
        precision: Number format of the arithmetic.
        seed: Seed of all random numbers; the same seed gives the same model.
        log: Service that also records the training; its package must be installed.

    Result arguments:
        name: Name of the model's folder in saved_models/ and of the record in runs/.
        overwrite: Replace a model of that name.
        quantize: int4 also exports a TFLite file with weights in 4 bits, rounded so that answers
            to training rows change least; empty: only float32 and int8.
        example: Text for the command in the README of the bundle. Default: a neutral one, since no
            row of the data is written there.
    """
    settings = dict(locals())
    bundle = tfx.training.new_bundle_path(name, overwrite)
    tfx.training.check_settings(settings, main)

    if data is None:
        data = tfx.resources.dataset_path("tagged_text.jsonl")
        validation = validation or tfx.resources.dataset_path("tagged_text_heldout.jsonl")
    reading = {"encoding": encoding, "delimiter": delimiter, "sheet": sheet, "table": table}
    data, validation, unlabelled = tfx.data.table_files(data, validation, unlabelled, **reading)
    columns = (text, spans, sentence, token, tag)
    train = tfx.data.read_tagged_texts(data, *columns, skip_bad_rows=skip_bad_rows)
    held_out = None
    if validation:
        held_out = tfx.data.read_tagged_texts(validation, *columns, skip_bad_rows=skip_bad_rows)
    past = tfx.training.Past(base)
    taught_by = tfx.training.Teacher(teacher, "tagging") if teacher else None
    taught_past = taught_by.past if taught_by else None
    split = tfx.data.split_tagged_texts
    train, held_out = past.divide(train, held_out, split, share, seed, teacher=taught_past)
    labels = train.labels()
    if taught_by:
        labels = taught_by.check_tags(labels, train.path)
    others = None
    if unlabelled:
        others = tfx.data.read_unlabelled_texts(unlabelled, text, skip_bad_rows=skip_bad_rows)
        others = others.without(train.keys(), held_out.keys())

    tfx.training.set_random_seed(seed)
    texts = train.flat_texts() + (others.flat_texts() if others else [])
    base_model = None
    if base:
        base_model, tokenizer = tfx.training.text_base(base, max_length=max_length)
        config = base_model.config
    else:
        tokenizer = tfx.Tokenizer.train(texts, vocabulary_size, pattern=tfx.FINE_PATTERN)
        config = tfx.TransformerConfig.of_size(
            size,
            tokenizer.vocabulary_size,
            style or None,
            num_layers=layers,
            hidden_dim=width,
            max_sequence_length=max_length,
            ngram_buckets=ngram_buckets,
        )
    defaults = NEW
    if past.is_pretrained:
        defaults = tfx.training.fine_tuning_defaults(config.hidden_dim, len(train), method=method)
    settings = tfx.training.fill_in(settings, defaults)
    tags = tfx.data.tag_names(labels)
    config = tfx.config_for_fine_tuning(
        config, num_classes=len(tags), multi_label=False, dropout=settings["dropout"]
    )
    model = tfx.Tagger(config, dtype=precision)
    tfx.copy_weights(model, base_model)
    if method != "full":
        tfx.add_adapters(model, rank, 2 * rank, kind=method, base_dtype=base_dtype or None)

    length = config.max_sequence_length
    run = tfx.training.TaggerRun(name, settings, recipe=main, past=past)
    summaries = tfx.data.describe_tagged_texts(train, held_out, tokenizer, labels, length)
    run.show_data(summaries, train, held_out)

    options = {"batch_size": batch_size, "max_length": length, "seed": seed}
    drawn = {"token_dropout": token_dropout, "new_names": new_names}
    if taught_by:
        answers, apart = run.ask(taught_by, labels, train, held_out, others)
        taught = (train, tokenizer, labels, answers, others)
        batches = tfx.data.taught_tags(*taught, **options, **drawn)
        checks = tfx.data.taught_tags(held_out, tokenizer, labels, apart, **options, shuffle=False)
    else:
        batches = tfx.data.tagged_texts(train, tokenizer, labels, **options, **drawn)
        checks = tfx.data.tagged_texts(held_out, tokenizer, labels, **options, shuffle=False)

    total_steps = settings["epochs"] * len(batches)
    run.show_cost(model, batch_size, length, total_steps, batches)
    optimizer = tfx.training.adamw(
        settings["learning_rate"],
        warmup_steps=total_steps // 10,
        decay="cosine",
        total_steps=total_steps,
        weight_decay=weight_decay,
        layer_decay=settings["layer_decay"],
        average=average,
    )
    tfx.training.accumulate(model, accumulate)
    model.remat = remat
    loss, metrics = None, None
    if taught_by:
        loss = tfx.TaughtCrossentropy(temperature, teacher_share)
        metrics = [tfx.TaughtAccuracy(name="token_accuracy")]
    model.compile(optimizer, loss, metrics, label_smoothing=0.1)
    tagger = tfx.predictor(model, tokenizer, tags=tags)
    callbacks = run.watch(tagger, held_out, settings["patience"], minutes, average > 0)
    run.fit(model, batches, checks, settings["epochs"], callbacks)
    bundle = run.compare(bundle)

    plain_model = run.without_adapters(model)
    run.save(bundle, plain_model, tokenizer, labels=tags)
    result = run.report(model, train)
    tfx.update_config(bundle, **result)
    rows = tfx.export.training_rows(model, batches) if quantize else None
    verified = tfx.export.everything(bundle, held_out.texts, generator=run.answering, int4=rows)
    return run.close(result | {"verified": verified})


if __name__ == "__main__":
    tfx.flags.run(main)
