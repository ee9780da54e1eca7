"""Train an embedder: similar texts get similar vectors.

    tfx-transformer run embedding
    tfx-transformer run embedding --csv sts.csv --score score
    tfx-transformer run embedding --csv sts.csv --score score --teacher minilm

The defaults train on the sentences of datasets/en_ja.csv and their
translations, in 2 minutes on 2 cores. The model is in saved_models/<name>/,
and a record of the training in runs/<name>/.
"""

from pathlib import Path
from typing import Any, Literal

import tfx_transformer as tfx

# What a new model takes for a setting that is not given.
NEW = {"epochs": 20, "learning_rate": 1e-3, "layer_decay": 1.0}


def main(
    csv: Path | None = None,
    first: str = "source",
    second: str = "target",
    score: str = "",
    validation: Path | None = None,
    share: float = 0.05,
    skip_bad_rows: bool = False,
    encoding: str = "",
    delimiter: str = "",
    sheet: str = "",
    table: str = "",
    unlabelled: Path | None = None,
    teacher: str | Path = "",
    base: str | Path = "",
    size: Literal["nano", "tiny", "small", "base"] = "tiny",
    layers: int = 0,
    heads: int = 0,
    width: int = 0,
    vocabulary_size: int | None = None,
    case: Literal["", "lower", "kept"] = "",
    bag_width: int | None = None,
    ngram_buckets: int = 0,
    widths: str = "",
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    max_length: int = 64,
    pooling: Literal[
        "", "mean", "first", "last", "max", "mean_sqrt_length", "weighted_mean", "attention"
    ] = "",
    dropout: float = 0.1,
    epochs: int | None = None,
    batch_size: int = 64,
    remat: bool = False,
    learning_rate: float | None = None,
    layer_decay: float | None = None,
    warmup_steps: int = 100,
    weight_decay: float = 0.05,
    temperature: float = 0.05,
    hard_negatives: bool = False,
    negative_margin: float = 0.95,
    patience: int = 5,
    minutes: float = 0.0,
    save_minutes: float = 5.0,
    quantization_aware: Literal["", "int4", "int8"] = "",
    quantization_epochs: int | None = None,
    precision: Literal[
        "float32", "bfloat16", "float16", "mixed_bfloat16", "mixed_float16"
    ] = "float32",
    seed: int = 1,
    log: Literal["", "wandb", "mlflow"] = "",
    name: str = "similar",
    overwrite: bool = False,
    quantize: Literal["", "int4"] = "",
    example: str = "",
) -> dict[str, Any]:
    """Train an encoder-only Transformer to map texts to vectors.

    Data arguments:
        csv: Table with two texts that belong together in each row: CSV, TSV, JSON Lines, Excel,
            Parquet or SQLite, compressed or not. Default: datasets/en_ja.csv.
        first: Column of the first texts.
        second: Column of the second texts.
        score: Column of numbers that rate how similar the texts are; empty: all belong together.
        validation: Table of held-out pairs. Default: a share of the pairs is held out.
        share: Share of the pairs to hold out, from 0 to 1.
        skip_bad_rows: Skip rows that cannot be used, and list them in the run's folder.
        encoding: Encoding of a CSV table, such as cp932; empty: detected.
        delimiter: Separator of its cells, such as ";" or tab; empty: detected.
        sheet: Sheet of an Excel workbook; empty: the only one.
        table: Table of a SQLite database; empty: the only one.
        unlabelled: Single texts to train on too, with a teacher: a text file with a text in each
            line, or a table with the column of the first texts.

    Model arguments:
        teacher: Larger embedder whose cosines are learned instead of the scores: a bundle, or a
            checkpoint, as for base. The new model is small enough for a phone. Default: none.
        base: Model to begin with: a bundle, a folder, a name that `tfx-transformer bases` lists, or
            hf://owner/name. Default: a new model.
        size: Size of a new model.
        layers: Number of layers of a new model; 0: as its size says.
        heads: Number of attention heads of a new model; 0: as its size says.
        width: Width of the vectors of a new model; 0: as its size says.
        vocabulary_size: Tokens in the vocabulary of a new model. Default: 8000 at most, so that
            most words are one token; 4000 with a teacher.
        case: Letters that a new model reads: all in lower case, so that "Dog" and "dog" are one
            word, or kept as they are. Default: lower.
        bag_width: Width of the sum of token vectors that a new model puts beside the vector of its
            Transformer; it begins as TF-IDF on parts of words. 0: none. Default: 256.
        ngram_buckets: Rows of the table of token pairs of a new model; 0: no table.
        widths: Widths, separated by commas, to which vectors may also be cut, such as 64,128: then
            the first numbers of a vector are a shorter vector (Matryoshka). Empty: none.
        query_prompt: Text put before each first text and, later, before what is searched for, such
            as "query: ". Default: as the base does.
        document_prompt: Text put before each second text and, later, before each row that is
            searched. Default: as the base does.
        max_length: Longest text in tokens.
        pooling: How the vectors of a text's tokens become one. Default: as the base does, if it
            is an embedder, else mean.
        dropout: Share of activations that training drops, from 0 to 1.

    Training arguments:
        epochs: Passes over the data. Default: 20; 4 with a pre-trained base.
        batch_size: Pairs in one training step; each text is compared with all others of its batch.
        remat: Keep only the input of each layer in memory, and compute it again for the gradient:
            less memory, a third more computing, and the same result.
        learning_rate: Highest learning rate. Default: 0.001; 0.00003 or less with a pre-trained
            base, by its width.
        layer_decay: Factor on the learning rate from each layer to the one below it. Default: 1;
            0.9 with a pre-trained base.
        warmup_steps: Steps in which the learning rate rises to its highest value.
        weight_decay: Decay of the weights, decoupled from the gradient (AdamW).
        temperature: Divisor of the cosines in the contrastive loss; it is not used with scores.
        hard_negatives: Compare each first text also with one of the nearest second texts that do
            not belong to it, mined after each epoch; for pairs without scores.
        negative_margin: Share of the cosine of a pair, above 0, at most 1. A second text with a
            higher cosine may mean the same, so it is not a hard negative.
        patience: Epochs without a better score after which training ends.
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

    csv = csv or tfx.resources.dataset_path("en_ja.csv")
    reading = {"encoding": encoding, "delimiter": delimiter, "sheet": sheet, "table": table}
    csv, validation, unlabelled = tfx.data.table_files(csv, validation, unlabelled, **reading)
    columns = (first, second, score)
    train = tfx.data.read_sentence_pairs(csv, *columns, skip_bad_rows=skip_bad_rows)
    if validation:
        lowest, highest = train.scale or (None, None)
        held_out = tfx.data.read_sentence_pairs(
            validation, *columns, skip_bad_rows=skip_bad_rows, lowest=lowest, highest=highest
        )
    else:
        train, held_out = tfx.data.split_sentence_pairs(train, share, seed)

    taught_by = tfx.training.Teacher(teacher, "embedding") if teacher else None
    taught, others = train, None
    if unlabelled:
        others = tfx.data.read_unlabelled_texts(
            unlabelled, first, skip_bad_rows=skip_bad_rows, role="first"
        )
        others = others.without(train.texts(), held_out.texts())
        taught = tfx.data.add_unlabelled_pairs(train, others, seed)

    defaults = tfx.training.embedder_defaults(bool(taught_by), has_base=bool(base))
    settings = tfx.training.fill_in(settings, defaults)
    bag_width = settings["bag_width"] or 0

    tfx.training.set_random_seed(seed)
    base_model = None
    if base:
        base_model, tokenizer = tfx.training.text_base(base, max_length=max_length)
        config = base_model.config
        bag_width = config.bag_dim if isinstance(base_model, tfx.Embedder) else 0
    else:
        tokenizer = tfx.Tokenizer.train(
            taught.texts(), settings["vocabulary_size"], lowercase=settings["case"] == "lower"
        )
        config = tfx.TransformerConfig.of_size(
            size,
            tokenizer.vocabulary_size,
            num_layers=layers,
            num_heads=heads,
            hidden_dim=width,
            max_sequence_length=max_length,
            ngram_buckets=ngram_buckets,
        )
    defaults = dict(NEW)
    if tfx.training.Past(base).is_pretrained:
        defaults |= tfx.training.embedder_tuning_defaults(config.hidden_dim)
    settings = tfx.training.fill_in(settings, defaults)
    epochs, learning_rate = settings["epochs"], settings["learning_rate"]
    if not pooling:
        pooling = config.pooling if isinstance(base_model, tfx.Embedder) else "mean"
        settings["pooling"] = pooling
    prompts = tfx.training.search_prompts(config, query_prompt, document_prompt)
    config = tfx.config_for_fine_tuning(
        config,
        pooling=pooling,
        dropout=dropout,
        bag_dim=bag_width,
        prompts=prompts,
        widths=tfx.training.read_widths(widths),
    )
    model = tfx.Embedder(config, dtype=precision)
    if base_model is None:
        tfx.training.begin_bag(model, tokenizer, taught, seed)
    tfx.copy_weights(model, base_model)

    length = config.max_sequence_length
    run = tfx.training.EmbedderRun(name, settings, recipe=main)
    summaries = tfx.data.describe_sentence_pairs(train, held_out, tokenizer, length)
    run.show_data(summaries, train, held_out, max_length=length)

    options = {"batch_size": batch_size, "max_length": length, "seed": seed}
    options["prompt"] = tfx.training.pair_prompts(model.config)
    answers, apart = None, None
    if taught_by:
        answers, apart = run.ask(taught_by, taught, held_out, others)
    negatives = tfx.training.hard_negatives(train, hard_negatives, negative_margin, seed)
    taught_options = options | {"answers": answers, "negatives": negatives}
    batches = tfx.data.sentence_pairs(taught, tokenizer, **taught_options)
    checks = tfx.data.sentence_pairs(held_out, tokenizer, **options, answers=apart, shuffle=False)

    total_steps = epochs * len(batches)
    texts = 3 if hard_negatives else 2
    run.show_cost(model, texts * batch_size, length, total_steps, batches)
    optimizer = tfx.training.adamw(
        learning_rate,
        warmup_steps=warmup_steps,
        decay="cosine",
        total_steps=total_steps,
        weight_decay=weight_decay,
        layer_decay=settings["layer_decay"] or 1.0,  # an earlier version had none
    )
    scored = tfx.ScoredCorrelation() if model.bag else tfx.ScoredCosine()
    loss = scored if score else tfx.InBatchContrast(temperature)
    model.remat = remat
    model.compile(optimizer, tfx.TaughtCosines() if taught_by else loss)
    ends = {"patience": patience, "minutes": minutes}
    mining = {"negatives": negatives, "steps": len(batches)}
    callbacks = run.watch(tfx.predictor(model, tokenizer), held_out, **ends, **mining)
    run.fit(model, batches, checks, epochs, callbacks)
    run.choose_share(model)

    run.save(bundle, model, tokenizer)
    result = run.report(model, train)
    tfx.update_config(bundle, **result)
    rows = tfx.export.training_rows(model, batches) if quantize else None
    verified = tfx.export.everything(bundle, held_out.first, generator=run.answering, int4=rows)
    return run.close(result | {"verified": verified})


if __name__ == "__main__":
    tfx.flags.run(main)
