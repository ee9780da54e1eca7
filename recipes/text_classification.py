"""Train a classifier of texts: topics, sentiment, spam.

    tfx-transformer run text_classification
    tfx-transformer run text_classification --csv my.csv --text title,body
    tfx-transformer run text_classification --csv my.csv --teacher saved_models/large

The defaults train on datasets/labelled_text.csv. The model is in
saved_models/<name>/, and a record of the training in runs/<name>/.
"""

from pathlib import Path
from typing import Any, Literal

import tfx_transformer as tfx

# Settings to train a new model.
NEW = {
    "dropout": 0.2,
    "epochs": 20,
    "batch_size": 32,
    "learning_rate": 2e-3,
    "layer_decay": 1.0,
    "consistency": 0.0,
    "patience": 6,
    "linear_buckets": 262_144,
}


def main(
    csv: Path | None = None,
    text: str = "text",
    label: str = "label",
    separator: str = "",
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
    style: Literal["", "gpt2", "llama", "bert", "classifier"] = "",
    layers: int = 0,
    width: int = 0,
    vocabulary_size: int | None = None,
    pieces: Literal["", "words", "characters"] = "",
    max_length: int | None = None,
    ngram_buckets: int = 5000,
    linear_buckets: int | None = None,
    pooling: Literal["mean", "first", "last", "attention"] = "mean",
    dropout: float | None = None,
    method: Literal["full", "lora", "dora"] = "full",
    rank: int = 8,
    base_dtype: Literal["", "bfloat16", "int8", "nf4"] = "",
    epochs: int | None = None,
    batch_size: int | None = None,
    accumulate: int = 1,
    remat: bool = False,
    learning_rate: float | None = None,
    layer_decay: float | None = None,
    weight_decay: float = 0.05,
    class_weights: Literal["", "balanced"] = "",
    token_dropout: float = 0.0,
    consistency: float | None = None,
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
    name: str = "topics",
    overwrite: bool = False,
    quantize: Literal["", "int4"] = "",
    example: str = "",
) -> dict[str, Any]:
    """Train an encoder-only Transformer to label texts.

    Data arguments:
        csv: Table with a text and its label in each row: CSV, TSV, JSON Lines, Excel, Parquet or
            SQLite, compressed or not. Several are separated by commas: a row of a later one
            replaces the same row of an earlier one. Default: datasets/labelled_text.csv.
        text: Column of the texts; several columns are separated by commas.
        label: Column of the labels.
        separator: Sign between several labels in one cell, such as "|"; empty: a row has one label.
        validation: Table of held-out rows. Default: a share of the rows is held out.
        share: Share of the rows to hold out, from 0 to 1.
        skip_bad_rows: Skip rows that cannot be used, and list them in the run's folder.
        encoding: Encoding of a CSV table, such as cp932; empty: detected.
        delimiter: Separator of its cells, such as ";" or tab; empty: detected.
        sheet: Sheet of an Excel workbook; empty: the only one.
        table: Table of a SQLite database; empty: the only one.
        unlabelled: Texts without labels that the teacher answers, to train on too: a text file with
            a text in each line, or a table with the columns of the texts.

    Model arguments:
        teacher: Larger model whose answers are learned beside the labels: a bundle with these
            labels, or a checkpoint that has a head, as for base. The new model is small enough for
            a phone. Default: the labels alone.
        base: Model to begin with: a bundle, a folder, a name that `tfx-transformer bases` lists, or
            hf://owner/name. Default: a new model. A bundle with these labels gets the new ones too;
            its held-out rows stay held out, and both models are compared.
        size: Size of a new model.
        style: Family that a new model resembles; empty: a plain Transformer.
        layers: Number of layers of a new model; 0: as its size says.
        width: Width of the vectors of a new model; 0: as its size says.
        vocabulary_size: Tokens in the vocabulary of a new model. Default: cross-validation of the
            linear classifier chooses among 400; 500 plus half the number of training rows, at most
            1,000; and, with single characters, 2,000.
        pieces: Longest tokens of a new model in scripts without spaces, such as Japanese, Chinese
            and Thai: words, or single characters. Empty: characters if 5 % of the texts or more
            have no spaces.
        max_length: Longest text in tokens. Default: 128, or 256 with single characters.
        ngram_buckets: Rows of the table of token pairs of a new model; 0: no table.
        linear_buckets: Most rows of the n-gram table of the linear classifier that answers together
            with a new Transformer; 0: no linear classifier. Default: 262144; with a teacher as many
            as keep a model of the default size below 2 million parameters.
        pooling: How the vectors of a text's tokens become one.
        dropout: Share of activations that training drops, from 0 to 1. Default: 0.2; 0.1 with a
            pre-trained base.
        method: full trains all weights; lora and dora train small adapters beside a frozen model.
        rank: Rank of the adapters.
        base_dtype: Number format of the frozen weights under adapters; nf4: 4 bits; empty: as
            precision.

    Training arguments:
        epochs: Passes over the data. Default: 20; 3 to 20 with a pre-trained base, by the number of
            rows.
        batch_size: Texts in one training step. Default: 32; 96 for fewer than 20 rows a class with
            a pre-trained base, which is then trained to tell the classes apart by contrast.
        accumulate: Parts in which a step computes its batch, one after the other: more parts take
            less memory, and the gradient is that of the whole batch.
        remat: Keep only the input of each layer in memory, and compute it again for the gradient:
            less memory, a third more computing, and the same result.
        learning_rate: Highest learning rate. Default: 0.002; 0.00015 or less with a pre-trained
            base, by its width, and ten times as much for adapters.
        layer_decay: Factor on the learning rate from each layer to the one below it. Default: 1;
            0.9 with a pre-trained base whose own weights are trained.
        weight_decay: Decay of the weights, decoupled from the gradient (AdamW).
        class_weights: balanced gives all classes the same weight in the loss; empty: all examples.
        token_dropout: Share of tokens that training hides, from 0 to 1.
        consistency: Weight of the loss between two answers under different dropout; 0: one answer.
            Default: 0; 4 with a pre-trained base and at most 10,000 rows. Above 0, a base is
            trained by the labels, not by contrast, with fewer than 20 rows a class too.
        temperature: Divisor of the logits for the teacher's share of the loss: the higher, the more
            the unlikely labels count.
        teacher_share: Share of the teacher in the loss, from 0 to 1; the labels have the rest.
        average: Decay of the moving average of the weights; 0: no average.
        patience: Epochs without a better macro-F1 after which training ends. Default: 6; 3 with a
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

    csv = csv or tfx.resources.dataset_path("labelled_text.csv")
    reading = {"encoding": encoding, "delimiter": delimiter, "sheet": sheet, "table": table}
    csv, validation, unlabelled = tfx.data.table_files(csv, validation, unlabelled, **reading)
    columns = (text, label, separator)
    train = tfx.data.read_labelled_texts(csv, *columns, skip_bad_rows=skip_bad_rows)
    held_out = None
    if validation:
        held_out = tfx.data.read_labelled_texts(validation, *columns, skip_bad_rows=skip_bad_rows)
    multi_label = bool(separator)
    past = tfx.training.Past(base)
    taught_by = tfx.training.Teacher(teacher, "classification") if teacher else None
    known = taught_by.labels if taught_by else []
    split = tfx.data.split_labelled_texts
    taught_past = taught_by.past if taught_by else None
    train, held_out = past.divide(
        train, held_out, split, share, seed, multi_label, teacher=taught_past
    )
    others = None
    if taught_by:
        taught_by.check(train, multi_label, past.labels)
    if unlabelled:
        others = tfx.data.read_unlabelled_texts(unlabelled, text, skip_bad_rows=skip_bad_rows)
        others = others.without(train.keys(), held_out.keys())
    labels = tfx.data.label_names(train.labels, train.path, past.labels or known)
    is_new_task = past.is_pretrained and not past.goes_on
    by_contrast = is_new_task and not multi_label and method == "full" and not taught_by
    by_contrast = by_contrast and not consistency and tfx.training.is_few(len(train), len(labels))

    tfx.training.set_random_seed(seed)
    texts = train.flat_texts() + (others.flat_texts() if others else [])
    defaults = tfx.training.classifier_defaults(len(train), train.flat_texts(), train, settings)
    settings = tfx.training.fill_in(settings, defaults)
    base_model = None
    if base:
        base_model, tokenizer = tfx.training.text_base(base, max_length=settings["max_length"])
        config = base_model.config
        pooling = config.pooling if past.goes_on else pooling
    defaults = dict(NEW)
    if taught_by:
        defaults |= tfx.training.student_defaults(len(labels))
    if past.is_pretrained:
        defaults |= tfx.training.fine_tuning_defaults(
            config.hidden_dim, len(train), len(labels), by_contrast, method
        )
    settings = tfx.training.fill_in(settings, defaults)
    # A run that an earlier version began has no `pieces`, and goes on without contrast.
    by_contrast = by_contrast and bool(settings["pieces"]) and not settings["consistency"]
    if not base:
        pattern = tfx.training.pieces_pattern(settings["pieces"])
        tokenizer = tfx.Tokenizer.train(texts, settings["vocabulary_size"], pattern=pattern)
        config = tfx.TransformerConfig.of_size(
            size,
            tokenizer.vocabulary_size,
            style or None,
            num_layers=layers,
            hidden_dim=width,
            max_sequence_length=settings["max_length"],
            ngram_buckets=ngram_buckets,
        )
    # A classifier that was taught on an embedder's vectors keeps its bag of tokens.
    config = tfx.config_for_fine_tuning(
        config,
        num_classes=len(labels),
        multi_label=multi_label,
        pooling=pooling,
        dropout=settings["dropout"],
        bag_dim=config.bag_dim if past.goes_on else 0,
    )
    if by_contrast:
        config = tfx.training.config_for_contrast(config)
        model = tfx.Embedder(config, dtype=precision)
    else:
        model = tfx.Classifier(config, dtype=precision)
    tfx.copy_weights(model, base_model, labels, past.labels)
    if method != "full":
        tfx.add_adapters(model, rank, 2 * rank, kind=method, base_dtype=base_dtype or None)

    length = config.max_sequence_length
    run = tfx.training.ClassifierRun(name, settings, recipe=main, past=past)
    summaries = tfx.data.describe_labelled_texts(train, held_out, tokenizer, labels, length)
    run.show_data(summaries, train, held_out)

    options = {
        "batch_size": settings["batch_size"],
        "max_length": length,
        "multi_label": multi_label,
        "seed": seed,
    }
    drawn = {"weights": class_weights, "token_dropout": token_dropout}
    if taught_by:
        answers, apart = run.ask(taught_by, labels, train, held_out, others)
        batches = tfx.data.taught_texts(
            train, tokenizer, labels, answers, others, **options, **drawn
        )
        checks = tfx.data.taught_texts(held_out, tokenizer, labels, apart, **options, shuffle=False)
    else:
        batches = tfx.data.labelled_texts(
            train, tokenizer, labels, **options, **drawn, mixed=by_contrast
        )
        checks = tfx.data.labelled_texts(held_out, tokenizer, labels, **options, shuffle=False)

    total_steps = settings["epochs"] * len(batches)
    run.show_cost(model, settings["batch_size"], length, total_steps, batches)
    optimizer = tfx.training.adamw(
        settings["learning_rate"],
        warmup_steps=total_steps // 10,
        decay="cosine",
        total_steps=total_steps,
        weight_decay=weight_decay,
        layer_decay=settings["layer_decay"],
        average=average,
    )
    limits = settings["patience"], minutes, average > 0
    tfx.training.accumulate(model, accumulate)
    model.remat = remat
    if by_contrast:
        model.compile(optimizer, tfx.LabelContrast())
        embedder = tfx.predictor(model, tokenizer)
        callbacks = run.watch_vectors(embedder, train, held_out, labels, *limits)
    else:
        loss, metrics = None, None
        if taught_by:
            loss = tfx.TaughtCrossentropy(temperature, teacher_share, multi_label)
            metrics = [tfx.TaughtAccuracy(multi_label)]
        model.compile(
            optimizer, loss, metrics, label_smoothing=0.1, consistency=settings["consistency"]
        )
        predictor = tfx.predictor(model, tokenizer, labels)
        callbacks = run.watch(predictor, held_out, *limits)
    run.fit(model, batches, checks, settings["epochs"], callbacks)
    classifier = run.add_head(model) if by_contrast else model
    if method == "full" and (base_model is None or base_model.config.linear_buckets):
        classifier = run.join_linear(classifier, train, settings["linear_buckets"])
    run.calibrate(classifier)
    bundle = run.compare(bundle)

    plain_model = run.without_adapters(classifier)
    run.save(bundle, plain_model, tokenizer, labels=labels)
    result = run.report(model, train)
    tfx.update_config(bundle, **result)
    rows = tfx.export.training_rows(model, batches) if quantize else None
    verified = tfx.export.everything(bundle, held_out.texts, generator=run.answering, int4=rows)
    return run.close(result | {"verified": verified})


if __name__ == "__main__":
    tfx.flags.run(main)
