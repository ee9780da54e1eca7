"""Train a regressor of texts: prices, ratings, durations.

    tfx-transformer run text_regression
    tfx-transformer run text_regression --csv my.csv --target price --name my
    tfx-transformer run text_regression --csv my.csv --teacher saved_models/large

The defaults train on datasets/scored_text.csv. The model is in
saved_models/<name>/, and a record of the training in runs/<name>/.
"""

from pathlib import Path
from typing import Any, Literal

import tfx_transformer as tfx

# Settings to train a new model.
NEW = {
    "dropout": 0.2,
    "epochs": 20,
    "learning_rate": 2e-3,
    "layer_decay": 1.0,
    "patience": 6,
}


def main(
    csv: Path | None = None,
    text: str = "text",
    target: str = "target",
    decimal: Literal["", ".", ","] = "",
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
    vocabulary_size: int = 2000,
    max_length: int = 128,
    ngram_buckets: int = 5000,
    pooling: Literal["mean", "first", "last", "attention"] = "mean",
    pooler: bool = False,
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
    loss: Literal["squared", "absolute"] = "squared",
    token_dropout: float = 0.0,
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
    name: str = "prices",
    overwrite: bool = False,
    quantize: Literal["", "int4"] = "",
    example: str = "",
) -> dict[str, Any]:
    """Train an encoder-only Transformer to predict a number from each text.

    Data arguments:
        csv: Table with a text and a number in each row: CSV, TSV, JSON Lines, Excel, Parquet or
            SQLite, compressed or not. Several are separated by commas: a row of a later one
            replaces the same row of an earlier one. Default: datasets/scored_text.csv.
        text: Column of the texts; several columns are separated by commas.
        target: Column of the numbers.
        decimal (SIGN): Decimal sign, "." or ","; the other one may separate thousands. Empty: a
            point; a column in which that is ambiguous is refused.
        validation: Table of held-out rows. Default: a share of the rows is held out.
        share: Share of the rows to hold out, from 0 to 1.
        skip_bad_rows: Skip rows that cannot be used, and list them in the run's folder.
        encoding: Encoding of a CSV table, such as cp932; empty: detected.
        delimiter: Separator of its cells, such as ";" or tab; empty: detected.
        sheet: Sheet of an Excel workbook; empty: the only one.
        table: Table of a SQLite database; empty: the only one.
        unlabelled: Texts without numbers that the teacher answers, to train on too: a text file
            with a text in each line, or a table with the columns of the texts.

    Model arguments:
        teacher: Larger model whose numbers are learned beside those of the table: a bundle, or a
            checkpoint that has a head, as for base. Default: the table's numbers alone.
        base: Model to begin with: a bundle, a folder, a name that `tfx-transformer bases` lists, or
            hf://owner/name. Default: a new model.
        size: Size of a new model.
        style: Family that a new model resembles; empty: a plain Transformer.
        layers: Number of layers of a new model; 0: as its size says.
        width: Width of the vectors of a new model; 0: as its size says.
        vocabulary_size: Tokens in the vocabulary of a new model.
        max_length: Longest text in tokens.
        ngram_buckets: Rows of the table of token pairs of a new model; 0: no table.
        pooling: How the vectors of a text's tokens become one.
        pooler: Put BERT's pooler layer before the number: with pooling first, a model based on a
            BERT can be exported to Hugging Face transformers.
        dropout: Share of activations that training drops, from 0 to 1. Default: 0.2; 0.1 with a
            pre-trained base.
        method: full trains all weights; lora and dora train small adapters beside a frozen model.
        rank: Rank of the adapters.
        base_dtype: Number format of the frozen weights under adapters; nf4: 4 bits; empty: as
            precision.

    Training arguments:
        epochs: Passes over the data. Default: 20; 3 to 20 with a pre-trained base, by the number of
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
        loss: squared error, or absolute error, which counts rare extreme numbers less.
        token_dropout: Share of tokens that training hides, from 0 to 1.
        teacher_share: Share of the teacher in the loss, from 0 to 1; the table has the rest.
        average: Decay of the moving average of the weights; 0: no average.
        patience: Epochs without a better R² after which training ends. Default: 6; 3 with a
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

    csv = csv or tfx.resources.dataset_path("scored_text.csv")
    reading = {"encoding": encoding, "delimiter": delimiter, "sheet": sheet, "table": table}
    csv, validation, unlabelled = tfx.data.table_files(csv, validation, unlabelled, **reading)
    columns = (text, target, decimal)
    train = tfx.data.read_scored_texts(csv, *columns, skip_bad_rows=skip_bad_rows)
    held_out = None
    if validation:
        held_out = tfx.data.read_scored_texts(validation, *columns, skip_bad_rows=skip_bad_rows)
    past = tfx.training.Past(base)
    taught_by = tfx.training.Teacher(teacher, "regression") if teacher else None
    taught_past = taught_by.past if taught_by else None
    split = tfx.data.split_scored_texts
    train, held_out = past.divide(train, held_out, split, share, seed, teacher=taught_past)
    if taught_by:
        taught_by.check_columns(len(train.texts[0]))
    others = None
    if unlabelled:
        others = tfx.data.read_unlabelled_texts(unlabelled, text, skip_bad_rows=skip_bad_rows)
        others = others.without(train.keys(), held_out.keys())
    scale = train.scale()

    tfx.training.set_random_seed(seed)
    texts = train.flat_texts() + (others.flat_texts() if others else [])
    base_model = None
    if base:
        base_model, tokenizer = tfx.training.text_base(base, max_length=max_length)
        config = base_model.config
    else:
        tokenizer = tfx.Tokenizer.train(texts, vocabulary_size)
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
    config = tfx.config_for_fine_tuning(
        config,
        num_classes=0,
        multi_label=False,
        pooling=pooling,
        pooler=pooler or config.pooler,
        dropout=settings["dropout"],
    )
    model = tfx.Regressor(config, dtype=precision)
    tfx.copy_weights(model, base_model)
    if method != "full":
        tfx.add_adapters(model, rank, 2 * rank, kind=method, base_dtype=base_dtype or None)

    length = config.max_sequence_length
    run = tfx.training.RegressorRun(name, settings, recipe=main, past=past)
    run.show_data(
        tfx.data.describe_scored_texts(train, held_out, tokenizer, length), train, held_out
    )

    options = {"batch_size": batch_size, "max_length": length, "seed": seed}
    drawn = {"token_dropout": token_dropout}
    if taught_by:
        answers, apart = run.ask(taught_by, train, held_out, others)
        taught = (train, tokenizer, scale, answers, others)
        batches = tfx.data.taught_numbers(*taught, **options, **drawn)
        checks = tfx.data.taught_numbers(
            held_out, tokenizer, scale, apart, **options, shuffle=False
        )
    else:
        batches = tfx.data.scored_texts(train, tokenizer, scale, **options, **drawn)
        checks = tfx.data.scored_texts(held_out, tokenizer, scale, **options, shuffle=False)

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
    if taught_by:
        model.compile(optimizer, tfx.TaughtError(teacher_share, absolute=loss == "absolute"))
    else:
        model.compile(optimizer, loss)
    predictor = tfx.predictor(model, tokenizer)
    callbacks = run.watch(predictor, held_out, scale, settings["patience"], minutes, average > 0)
    run.fit(model, batches, checks, settings["epochs"], callbacks)

    answering = run.in_units(run.without_adapters(model))
    bundle = run.compare(bundle)
    run.save(bundle, answering, tokenizer)
    result = run.report(answering, model, train)
    tfx.update_config(bundle, **result)
    rows = tfx.export.training_rows(model, batches) if quantize else None
    verified = tfx.export.everything(bundle, held_out.texts, generator=run.answering, int4=rows)
    return run.close(result | {"verified": verified})


if __name__ == "__main__":
    tfx.flags.run(main)
