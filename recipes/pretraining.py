"""Pre-train a language model (GPT) or an encoder (BERT).

    tfx-transformer run pretraining
    tfx-transformer run pretraining --text corpus/,more.txt --objective masked
    tfx-transformer run pretraining --text my.csv --column text --name my
    tfx-transformer run pretraining --tokens FOLDER  (of `tfx-transformer tokenize`)

The defaults train on datasets/pretraining.txt in 2 minutes on 2 cores. The
model is in saved_models/<name>/, and a record of the training in runs/<name>/.
"""

from pathlib import Path
from typing import Any, Literal

import tfx_transformer as tfx


def main(
    text: str | Path = "",
    tokens: Path | None = None,
    column: str = "",
    validation: Path | None = None,
    share: float = 0.1,
    skip_bad_rows: bool = False,
    encoding: str = "",
    delimiter: str = "",
    sheet: str = "",
    table: str = "",
    objective: Literal["causal", "masked"] = "causal",
    base: str | Path = "",
    tokenizer: Path | None = None,
    size: Literal["nano", "tiny", "small", "base"] = "tiny",
    style: Literal["", "gpt2", "llama", "bert", "classifier"] = "llama",
    layers: int = 0,
    heads: int = 0,
    width: int = 0,
    vocabulary_size: int = 1500,
    ngram_buckets: int = 0,
    context: int = 128,
    dropout: float = 0.1,
    steps: int = 600,
    validate_every: int = 100,
    batch_size: int = 16,
    accumulate: int = 1,
    remat: bool = False,
    learning_rate: float = 2e-3,
    warmup_steps: int = 50,
    weight_decay: float = 0.1,
    patience: int = 4,
    minutes: float = 0.0,
    save_minutes: float = 5.0,
    quantization_aware: Literal["", "int4", "int8"] = "",
    quantization_epochs: int | None = None,
    precision: Literal[
        "float32", "bfloat16", "float16", "mixed_bfloat16", "mixed_float16"
    ] = "float32",
    seed: int = 1,
    log: Literal["", "wandb", "mlflow"] = "",
    name: str = "stories",
    overwrite: bool = False,
    quantize: Literal["", "int4"] = "",
    example: str = "",
) -> dict[str, Any]:
    """Pre-train a Transformer on unlabelled text.

    Data arguments:
        text: Files and folders of text, separated by commas. Default: datasets/pretraining.txt.
        tokens: Folder that `tfx-transformer tokenize` wrote, instead of text.
        column: Column with the text, if the files are tables.
        validation: File of held-out text. Default: the end of the text is held out.
        share: Share of the text to hold out, from 0 to 1.
        skip_bad_rows: Skip rows of a table that cannot be used, and list them in the run's folder.
        encoding: Encoding of a CSV table, such as cp932; empty: detected.
        delimiter: Separator of its cells, such as ";" or tab; empty: detected.
        sheet: Sheet of an Excel workbook; empty: the only one.
        table: Table of a SQLite database; empty: the only one.

    Model arguments:
        objective: causal predicts the next token (GPT); masked predicts hidden tokens (BERT).
        base: Model to begin with: a bundle, a folder, a name that `tfx-transformer bases` lists, or
            hf://owner/name. Default: a new model.
        tokenizer: Bundle whose tokenizer a new model takes. Default: that of --tokens, or one is
            trained.
        size: Size of a new model.
        style: Family that a new model resembles; empty: a plain Transformer.
        layers: Number of layers of a new model; 0: as its size says.
        heads: Number of attention heads of a new model; 0: as its size says.
        width: Width of the vectors of a new model; 0: as its size says.
        vocabulary_size: Tokens in the vocabulary of a new model; 262: tokens are bytes.
        ngram_buckets: Rows of the table of token pairs of a masked model; 0: no table.
        context: Tokens that the model sees at once.
        dropout: Share of activations of a new model that training drops, from 0 to 1.

    Training arguments:
        steps: Training steps.
        validate_every: Steps between two validations.
        batch_size: Pieces of text in one training step.
        accumulate: Parts in which a step computes its batch, one after the other: more parts take
            less memory, and the gradient is that of the whole batch.
        remat: Keep only the input of each layer in memory, and compute it again for the gradient:
            less memory, a third more computing, and the same result.
        learning_rate: Highest learning rate.
        warmup_steps: Steps in which the learning rate rises to its highest value.
        weight_decay: Decay of the weights, decoupled from the gradient (AdamW).
        patience: Validations without a better loss after which training ends.
        minutes: Longest training time in minutes; 0: no limit.
        save_minutes: Minutes between two checkpoints.
        quantization_aware: Go on training with weights rounded as in the int4 or the int8 file, so
            that the file loses less; empty: weights are rounded after the training only.
        quantization_epochs: Times --validate-every steps with rounded weights. Default: 3.
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

    if tokens:
        tfx.data.check_token_folder(tokens, text, validation)
        tokenizer = tokenizer or tokens
    text = text or tfx.resources.dataset_path("pretraining.txt")
    reading = {"encoding": encoding, "delimiter": delimiter, "sheet": sheet, "table": table}
    text, validation = tfx.data.table_files(text, validation, **reading)
    columns = {"column": column, "skip_bad_rows": skip_bad_rows}
    # All text is read before Keras starts.
    texts = [] if tokens else list(tfx.data.sample_texts(text, **columns))
    tfx.data.check_documents(validation, **columns)

    tfx.training.set_random_seed(seed)
    goal = tfx.training.objective(objective)
    if base:
        model, text_tokenizer = tfx.training.text_base(base, precision, goal.task, context)
    else:
        if tokenizer:
            text_tokenizer = tfx.Tokenizer.load(f"{tokenizer}/tokenizer.json")
        else:
            text_tokenizer = tfx.Tokenizer.train(texts, vocabulary_size, goal.special_tokens)
        config = tfx.TransformerConfig.of_size(
            size,
            text_tokenizer.vocabulary_size,
            style or None,
            num_layers=layers,
            num_heads=heads,
            hidden_dim=width,
            dropout=dropout,
            max_sequence_length=context,
            ngram_buckets=ngram_buckets,
        )
        model = goal.model(config, dtype=precision)

    run = tfx.training.Run(name, settings, recipe=main)
    if tokens:
        train, held_out = tfx.data.read_token_folder(tokens, text_tokenizer, share)
    else:
        train, held_out = tfx.data.read_corpus(
            text, text_tokenizer, run.folder, **columns, validation=validation, share=share
        )
    length = model.config.max_sequence_length
    blocks = {"length": length, "batch_size": batch_size}
    run.show_data(tfx.data.describe_corpora(train, held_out, **blocks), train, held_out)
    run.tokens_per_epoch = validate_every * batch_size * length
    run.show_cost(model, batch_size, length, steps)

    batches = goal.batches(train, text_tokenizer, **blocks, seed=seed)
    checks = goal.batches(held_out, text_tokenizer, **blocks, shuffle=False)

    optimizer = tfx.training.adamw(learning_rate, warmup_steps, "cosine", steps, weight_decay)
    measures = goal.measures(held_out)
    tfx.training.accumulate(model, accumulate)
    model.remat = remat
    model.compile(optimizer, weighted_metrics=measures, jit_compile=goal.jit_compile)
    writer = goal.writer(model, text_tokenizer)
    prompts = goal.prompts(held_out, text_tokenizer)
    callbacks = run.callbacks(writer, prompts, patience=patience, minutes=minutes, previews=1)
    epochs = tfx.training.rounds(steps, validate_every)
    run.fit(model, batches, checks, epochs, callbacks, steps_per_epoch=validate_every)

    run.save(bundle, model, text_tokenizer)
    result = run.finish(model, writer, prompts)
    tfx.update_config(bundle, **result)
    rows = tfx.export.training_rows(model, batches) if quantize else None
    verified = tfx.export.everything(bundle, prompts, generator=run.answering, int4=rows)
    return run.close(result | {"verified": verified})


if __name__ == "__main__":
    tfx.flags.run(main)
