"""Train an assistant on preferences: answers that were chosen over others.

    tfx-transformer run preference_finetuning --base saved_models/assistant
    tfx-transformer run preference_finetuning --base saved_models/assistant --csv my.csv
    tfx-transformer run preference_finetuning --base hf://owner/name --method lora

A row of the table has a prompt, the better answer and a worse one. The base is
an assistant; train it with instruction_finetuning. The model is in
saved_models/<name>/, and a record of the training in runs/<name>/.
"""

from pathlib import Path
from typing import Any, Literal

import tfx_transformer as tfx


def main(
    csv: Path | None = None,
    prompt: str = "prompt",
    chosen: str = "chosen",
    rejected: str = "rejected",
    system: str = "",
    validation: Path | None = None,
    share: float = 0.2,
    rehearse: Path | None = None,
    skip_bad_rows: bool = False,
    encoding: str = "",
    delimiter: str = "",
    sheet: str = "",
    table: str = "",
    base: str | Path = "",
    max_length: int = 128,
    method: Literal["full", "lora", "dora"] = "full",
    rank: int = 8,
    alpha: float = 16.0,
    targets: str = "query,key,value,output_projection,expand,gate,contract",
    base_dtype: Literal["", "bfloat16", "int8", "nf4"] = "",
    loss: Literal["dpo", "orpo"] = "dpo",
    beta: float | None = None,
    sft_weight: float = 0.5,
    rehearse_weight: float = 1.0,
    epochs: int = 16,
    batch_size: int = 8,
    accumulate: int = 1,
    remat: bool = False,
    learning_rate: float = 1e-3,
    warmup_steps: int = 10,
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
    name: str = "preferred",
    overwrite: bool = False,
    quantize: Literal["", "int4"] = "",
    example: str = "",
) -> dict[str, Any]:
    """Train an assistant to prefer the chosen answers to the rejected ones.

    Data arguments:
        csv: Table of prompts with two answers each. Default: datasets/preferences.csv.
        prompt: Column of the prompts.
        chosen: Column of the better answers.
        rejected: Column of the worse answers.
        system: Instruction before every prompt.
        validation: File of held-out rows. Default: a share of the rows is held out.
        share: Share of the prompts to hold out, from 0 to 1.
        rehearse: Table or chats, as for instruction_finetuning, that the model also trains on, so
            that it does not forget their answers. Default: none; without csv,
            datasets/instructions.csv.
        skip_bad_rows: Skip rows that cannot be used, and list them in the run's folder.
        encoding: Encoding of a CSV table, such as cp932; empty: detected.
        delimiter: Separator of its cells, such as ";" or tab; empty: detected.
        sheet: Sheet of an Excel workbook; empty: the only one.
        table: Table of a SQLite database; empty: the only one.

    Model arguments:
        base: Assistant to begin with: a bundle, a folder, a name that `tfx-transformer bases`
            lists, or hf://owner/name. Required.
        max_length: Longest prompt with its answer in tokens; longer rows are left out.
        method: full trains all weights; lora and dora train small adapters beside a frozen model.
        rank: Rank of the adapters.
        alpha: Strength of the adapters; they are scaled by alpha / rank.
        targets: Layers that get adapters, separated by commas.
        base_dtype: Number format of the frozen weights under adapters; nf4: 4 bits; empty: as
            precision.

    Training arguments:
        loss: dpo compares the model with the base; orpo also learns to write the chosen answers,
            and needs no comparison.
        beta: Strength of the preference in the loss. For dpo, a smaller one lets the model move
            further away from the base. Default: 0.005 for dpo, 0.1 for orpo.
        sft_weight: Weight of -log p of the chosen answers, added to the loss of dpo; 0: only
            preferences.
        rehearse_weight: Weight of the loss of the rehearsed rows, added to that of the pairs.
        epochs: Passes over the data.
        batch_size: Pairs of answers in one training step.
        accumulate: Parts in which a step computes its batch, one after the other: more parts take
            less memory, and the gradient is that of the whole batch.
        remat: Keep only the input of each layer in memory, and compute it again for the gradient:
            less memory, a third more computing, and the same result.
        learning_rate: Highest learning rate.
        warmup_steps: Steps in which the learning rate rises to its highest value.
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
    """
    settings = dict(locals())
    bundle = tfx.training.new_bundle_path(name, overwrite)
    tfx.training.check_settings(settings, main)
    tfx.training.check_base_given(settings)

    if csv is None and rehearse is None:
        rehearse = tfx.resources.dataset_path("instructions.csv")
    csv = csv or tfx.resources.dataset_path("preferences.csv")
    reading = {"encoding": encoding, "delimiter": delimiter, "sheet": sheet, "table": table}
    csv, validation = tfx.data.table_files(csv, validation, **reading)
    columns = (prompt, chosen, rejected)
    options = {"system": system, "skip_bad_rows": skip_bad_rows}
    train = tfx.data.read_preferences(csv, *columns, **options)
    if validation:
        held_out = tfx.data.read_preferences(validation, *columns, **options)
    else:
        train, held_out = tfx.data.split_preferences(train, share, seed)

    if rehearse:
        repeated = tfx.data.read_rehearsed(rehearse, seed, **options)
    if loss == "dpo":
        objective = tfx.DPOLoss(0.005 if beta is None else beta, sft_weight=sft_weight)
    else:
        objective = tfx.ORPOLoss(0.1 if beta is None else beta)
    if rehearse:
        objective = tfx.RehearsedLoss(objective, rehearse_weight)

    tfx.training.set_random_seed(seed)
    model, tokenizer = tfx.training.text_base(
        base, precision, "causal", max_length, base_dtype or None, keep_tools=True
    )
    tfx.training.disable_dropout(model)
    if method != "full":
        tfx.add_adapters(model, rank, alpha, targets.split(","), method, base_dtype or None)

    template = tfx.ChatTemplate.of(tokenizer)
    length = min(max_length, model.config.max_sequence_length)
    run = tfx.training.PreferenceRun(name, settings, recipe=main)
    summaries = tfx.data.describe_preferences(train, held_out, template, length)
    run.show_data(summaries, train, held_out)
    parts = [tfx.data.fitting_preferences(part, template, length) for part in (train, held_out)]
    rehearsed: Any = (None, None)
    if rehearse:
        rehearsed = [tfx.data.encode_rehearsed(part, template, length) for part in repeated]
        run.show_rehearsed(repeated, rehearsed)

    options = {"batch_size": batch_size, "max_length": length}
    reference = run.reference(model, template, *parts, **options)
    batches = tfx.data.preferences(
        parts[0], template, reference[0], **options, seed=seed, rehearsed=rehearsed[0]
    )
    checks = tfx.data.preferences(
        parts[1], template, reference[1], **options, shuffle=False, rehearsed=rehearsed[1]
    )

    total_steps = epochs * len(batches)
    rows_of_example = objective.rows_of_example
    run.show_cost(
        model, rows_of_example * batch_size, length, total_steps, None if rehearse else batches
    )
    optimizer = tfx.training.adamw(learning_rate, warmup_steps, "cosine", total_steps)
    tfx.training.accumulate(model, accumulate)
    model.remat = remat
    model.compile(optimizer, objective, weighted_metrics=[tfx.PreferredShare(rows=rows_of_example)])
    writer = tfx.text_generator(model, tokenizer)
    limits = {"patience": patience, "minutes": minutes}
    callbacks = run.watch(writer, parts[1], reference[1], **limits)
    run.fit(model, batches, checks, epochs, callbacks)

    run.save(bundle, run.without_adapters(model), tokenizer)
    pairs = tfx.data.preferences(parts[1], template, **options, shuffle=False)
    result = run.report(model, writer, pairs)
    tfx.update_config(bundle, **result)
    rows = tfx.export.training_rows(model, batches) if quantize else None
    written = list(zip(parts[1].prompts, parts[1].chosen, strict=True))
    verified = tfx.export.everything(
        bundle, parts[1].prompts, generator=run.answering, int4=rows, written=written
    )
    return run.close(result | {"verified": verified})


if __name__ == "__main__":
    tfx.flags.run(main)
