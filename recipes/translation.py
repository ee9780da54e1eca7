"""Train a translator on a table of sentence pairs.

    tfx-transformer run translation
    tfx-transformer run translation --csv my.csv --source en --target de
    tfx-transformer run translation --csv my.csv --teacher saved_models/large --size nano

The defaults train on datasets/en_ja.csv in at most 5 minutes on 2 cores, and
translate at least 90 % of datasets/en_ja_heldout.csv exactly. The model is in
saved_models/<name>/, and a record of the training in runs/<name>/.
"""

from pathlib import Path
from typing import Any, Literal

import tfx_transformer as tfx


def main(
    csv: Path | None = None,
    source: str = "source",
    target: str = "target",
    validation: Path | None = None,
    share: float = 0.05,
    skip_bad_rows: bool = False,
    encoding: str = "",
    delimiter: str = "",
    sheet: str = "",
    table: str = "",
    unlabelled: Path | None = None,
    teacher: str | Path = "",
    teacher_answers: Literal["replace", "join"] = "replace",
    teacher_beams: int = 4,
    base: str | Path = "",
    size: Literal["nano", "tiny", "small", "base"] = "tiny",
    layers: int = 0,
    heads: int = 0,
    width: int = 0,
    decoder_only: bool = False,
    vocabulary_size: int = 1000,
    max_length: int = 64,
    dropout: float = 0.1,
    epochs: int = 80,
    batch_size: int = 64,
    accumulate: int = 1,
    remat: bool = False,
    learning_rate: float = 1.5e-3,
    warmup_steps: int = 200,
    label_smoothing: float = 0.1,
    patience: int = 10,
    minutes: float = 0.0,
    save_minutes: float = 5.0,
    quantization_aware: Literal["", "int4", "int8"] = "",
    quantization_epochs: int | None = None,
    precision: Literal[
        "float32", "bfloat16", "float16", "mixed_bfloat16", "mixed_float16"
    ] = "float32",
    seed: int = 1,
    log: Literal["", "wandb", "mlflow"] = "",
    name: str = "en_ja",
    overwrite: bool = False,
    quantize: Literal["", "int4"] = "",
    example: str = "",
    sentence: str = "I love cats.",
) -> dict[str, Any]:
    """Train an encoder-decoder Transformer, or a decoder-only one, to translate.

    Data arguments:
        csv: Table with a sentence and its translation in each row: CSV, TSV, JSON Lines, Excel,
            Parquet or SQLite, compressed or not. Default: datasets/en_ja.csv.
        source: Column of the sentences.
        target: Column of the translations.
        validation: Table of held-out pairs. Default: a share of the sentences is held out.
        share: Share of the sentences to hold out, from 0 to 1.
        skip_bad_rows: Skip rows that cannot be used, and list them in the run's folder.
        encoding: Encoding of a CSV table, such as cp932; empty: detected.
        delimiter: Separator of its cells, such as ";" or tab; empty: detected.
        sheet: Sheet of an Excel workbook; empty: the only one.
        table: Table of a SQLite database; empty: the only one.
        unlabelled: Sentences without translations that the teacher translates, to train on too: a
            text file with one in each line, or a table with the column of the sentences.

    Model arguments:
        teacher: Larger translator whose translations are learned: a bundle, or a checkpoint, as for
            base. Default: the translations of the table alone.
        teacher_answers: replace trains on the teacher's translations instead of those of the table;
            join on both.
        teacher_beams: Beams of the teacher's search; 1: it takes the likeliest token at each step.
        base: Model to begin with: a bundle, a folder, a name that `tfx-transformer bases` lists, or
            hf://owner/name. Default: a new model.
        size: Size of a new model.
        layers: Number of layers of a new model's encoder, and of its decoder; 0: as its size says.
        heads: Number of attention heads of a new model; 0: as its size says.
        width: Width of the vectors of a new model; 0: as its size says.
        decoder_only: Train a decoder that reads the sentence as its prompt: the translator is then
            also one .litertlm file, for LiteRT-LM on phones.
        vocabulary_size: Tokens in the vocabulary of a new model.
        max_length: Longest sentence in tokens.
        dropout: Share of activations of a new model that training drops, from 0 to 1.

    Training arguments:
        epochs: Passes over the data.
        batch_size: Pairs in one training step.
        accumulate: Parts in which a step computes its batch, one after the other: more parts take
            less memory, and the gradient is that of the whole batch.
        remat: Keep only the input of each layer in memory, and compute it again for the gradient:
            less memory, a third more computing, and the same result.
        learning_rate: Highest learning rate.
        warmup_steps: Steps in which the learning rate rises to its highest value.
        label_smoothing: Share of each target that goes to all other tokens, from 0 to 1.
        patience: Epochs without a better validation loss after which training ends.
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
        sentence: Sentence whose attention is drawn.
    """
    settings = dict(locals())
    bundle = tfx.training.new_bundle_path(name, overwrite)
    tfx.training.check_settings(settings, main)

    csv = csv or tfx.resources.dataset_path("en_ja.csv")
    reading = {"encoding": encoding, "delimiter": delimiter, "sheet": sheet, "table": table}
    csv, validation, unlabelled = tfx.data.table_files(csv, validation, unlabelled, **reading)
    train = tfx.data.read_pairs(csv, source, target, skip_bad_rows=skip_bad_rows)
    held_out = None
    if validation:
        held_out = tfx.data.read_pairs(validation, source, target, skip_bad_rows=skip_bad_rows)
    past = tfx.training.Past(base)
    taught_by = tfx.training.Teacher(teacher, "seq2seq", "causal") if teacher else None
    taught_past = taught_by.past if taught_by else None
    train, held_out = past.divide(
        train, held_out, tfx.data.split_pairs, share, seed, teacher=taught_past
    )
    others = None
    if unlabelled:
        others = tfx.data.read_unlabelled_texts(
            unlabelled, source, skip_bad_rows=skip_bad_rows, role="source"
        )
        others = others.without(train.source, held_out.source)

    # A decoder reads a sentence and writes its translation in the same context.
    context = 2 * max_length if decoder_only else max_length
    tfx.training.set_random_seed(seed)
    if base:
        task = "causal" if decoder_only else "seq2seq"
        model, tokenizer = tfx.training.text_base(base, precision, task, context)
    else:
        roles = tfx.ROLE_TOKENS if decoder_only else ()
        tokenizer = tfx.Tokenizer.train(train.texts(), vocabulary_size, roles)
        config = tfx.TransformerConfig.of_size(
            size,
            tokenizer.vocabulary_size,
            "llama" if decoder_only else None,
            num_layers=layers,
            num_heads=heads,
            hidden_dim=width,
            dropout=dropout,
            max_sequence_length=context,
        )
        kind = tfx.CausalLM if decoder_only else tfx.Seq2SeqLM
        model = kind(config, dtype=precision)

    run = tfx.training.Run(name, settings, recipe=main, past=past)
    summaries = tfx.data.describe_pairs(train, held_out, tokenizer, max_length)
    run.show_data(summaries, train, held_out, max_length=max_length)

    if taught_by:
        joined = teacher_answers == "join"
        train = run.learn_from(taught_by, train, others, joined=joined, beams=teacher_beams)
    options = {"batch_size": batch_size, "max_length": context, "seed": seed}
    if decoder_only:
        template = tfx.ChatTemplate.of(tokenizer)
        options |= {"pack": False, "max_length": min(context, model.config.max_sequence_length)}
        batches = tfx.data.instructions(train.conversations(), template, **options)
        checks = tfx.data.instructions(held_out.conversations(), template, **options, shuffle=False)
    else:
        batches = tfx.data.pairs(train, tokenizer, **options)
        checks = tfx.data.pairs(held_out, tokenizer, **options, shuffle=False)

    total_steps = epochs * len(batches)
    optimizer = tfx.training.adamw(learning_rate, warmup_steps, "cosine", total_steps)
    tfx.training.accumulate(model, accumulate)
    model.remat = remat
    model.compile(optimizer, tfx.TokenCrossentropy(label_smoothing))
    translator = tfx.text_generator(model, tokenizer)
    callbacks = run.callbacks(
        translator, held_out.source, held_out.target, patience=patience, minutes=minutes
    )
    run.fit(model, batches, checks, epochs, callbacks)
    bundle = run.compare(bundle)

    run.save(bundle, model, tokenizer)
    result = run.finish(model, translator, held_out.source, held_out.target, tfx.score_texts)
    if not decoder_only:
        run.draw_attention(model, translator, sentence)
    tfx.update_config(bundle, **result)
    rows = tfx.export.training_rows(model, batches) if quantize else None
    written = list(zip(held_out.source, held_out.target, strict=True))
    verified = tfx.export.everything(
        bundle, held_out.source, generator=run.answering, int4=rows, written=written
    )
    return run.close(result | {"verified": verified})


if __name__ == "__main__":
    tfx.flags.run(main)
