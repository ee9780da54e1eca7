"""Train an assistant on instructions and answers.

    tfx-transformer run instruction_finetuning
    tfx-transformer run instruction_finetuning --csv my.csv --output answer
    tfx-transformer run instruction_finetuning --base hf://owner/name
    tfx-transformer run instruction_finetuning --csv my.csv --teacher saved_models/large

This is supervised fine-tuning: only answer tokens count in the loss. Rows of a
table are also joined to chats of several turns (--turns). The model is in
saved_models/<name>/, and a record of the training in runs/<name>/.
"""

from pathlib import Path
from typing import Any, Literal

import tfx_transformer as tfx


def main(
    csv: Path | None = None,
    instruction: str = "instruction",
    input: str = "input",
    output: str = "output",
    system: str = "",
    validation: Path | None = None,
    share: float = 0.05,
    turns: int = 3,
    skip_bad_rows: bool = False,
    encoding: str = "",
    delimiter: str = "",
    sheet: str = "",
    table: str = "",
    unlabelled: Path | None = None,
    teacher: str | Path = "",
    teacher_answers: Literal["keep", "replace", "join"] = "keep",
    base: str | Path = "",
    size: Literal["nano", "tiny", "small", "base"] = "tiny",
    style: Literal["", "gpt2", "llama", "bert", "classifier"] = "llama",
    vocabulary_size: int = 1500,
    max_length: int = 128,
    dropout: float = 0.1,
    method: Literal["full", "lora", "dora"] = "full",
    rank: int = 8,
    alpha: float = 16.0,
    targets: str = "query,key,value,output_projection,expand,gate,contract",
    base_dtype: Literal["", "bfloat16", "int8", "nf4"] = "",
    epochs: int = 30,
    batch_size: int = 8,
    accumulate: int = 1,
    remat: bool = False,
    learning_rate: float = 2e-3,
    warmup_steps: int = 50,
    pack: bool = True,
    loss_on: Literal["answers", "all"] = "answers",
    temperature: float = 2.0,
    teacher_share: float = 0.5,
    patience: int = 20,
    minutes: float = 0.0,
    save_minutes: float = 5.0,
    quantization_aware: Literal["", "int4", "int8"] = "",
    quantization_epochs: int | None = None,
    precision: Literal[
        "float32", "bfloat16", "float16", "mixed_bfloat16", "mixed_float16"
    ] = "float32",
    seed: int = 1,
    log: Literal["", "wandb", "mlflow"] = "",
    name: str = "assistant",
    overwrite: bool = False,
    quantize: Literal["", "int4"] = "",
    example: str = "",
) -> dict[str, Any]:
    """Fine-tune a decoder-only Transformer to follow instructions.

    Data arguments:
        csv: Table of instructions and answers (CSV, TSV, Excel, Parquet or SQLite), or chats in
            JSON Lines (.jsonl) or an array (.json). Default: datasets/instructions.csv.
        instruction: Column of the instructions.
        input: Column of further input to an instruction; it may be missing.
        output: Column of the answers.
        system: Instruction at the start of every conversation.
        validation: File of held-out examples. Default: a share of the examples is held out.
        share: Share of the examples to hold out, from 0 to 1.
        turns: Longest chat, in turns, that rows of a table are joined to; 1: none are joined.
        skip_bad_rows: Skip rows that cannot be used, and list them in the run's folder.
        encoding: Encoding of a CSV table, such as cp932; empty: detected.
        delimiter: Separator of its cells, such as ";" or tab; empty: detected.
        sheet: Sheet of an Excel workbook; empty: the only one.
        table: Table of a SQLite database; empty: the only one.
        unlabelled: Instructions without answers that the teacher answers, to train on too: a text
            file with one in each line, or a table with the column of the instructions.

    Model arguments:
        teacher: Larger assistant to learn from: a bundle, or a checkpoint, as for base. A new model
            gets its tokenizer. Default: the answers of the data alone.
        teacher_answers: keep trains on the answers of the data, replace on the teacher's answers
            instead, join on both.
        base: Model to begin with: a bundle, a folder, a name that `tfx-transformer bases` lists, or
            hf://owner/name. Default: a new model.
        size: Size of a new model.
        style: Family that a new model resembles; empty: a plain Transformer.
        vocabulary_size: Tokens in the vocabulary of a new model without a teacher, or with
            --teacher-share 0.
        max_length: Longest conversation in tokens.
        dropout: Share of activations of a new model that training drops, from 0 to 1.
        method: full trains all weights; lora and dora train small adapters beside a frozen model.
        rank: Rank of the adapters.
        alpha: Strength of the adapters; they are scaled by alpha / rank.
        targets: Layers that get adapters, separated by commas.
        base_dtype: Number format of the frozen weights under adapters; nf4: 4 bits; empty: as
            precision.

    Training arguments:
        epochs: Passes over the data.
        batch_size: Rows in one training step.
        accumulate: Parts in which a step computes its batch, one after the other: more parts take
            less memory, and the gradient is that of the whole batch.
        remat: Keep only the input of each layer in memory, and compute it again for the gradient:
            less memory, a third more computing, and the same result.
        learning_rate: Highest learning rate.
        warmup_steps: Steps in which the learning rate rises to its highest value.
        pack: Pack several examples into one row; they do not see each other.
        loss_on: answers counts only answer tokens in the loss; all counts prompts too.
        temperature: Divisor of the logits for the teacher's share of the loss: the higher, the more
            the unlikely tokens count.
        teacher_share: Share of the teacher's probabilities of tokens in the loss, from 0 to 1; the
            tokens themselves have the rest. 0: only its answers are learned, and the model may have
            another tokenizer.
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

    csv = csv or tfx.resources.dataset_path("instructions.csv")
    reading = {"encoding": encoding, "delimiter": delimiter, "sheet": sheet, "table": table}
    csv, validation, unlabelled = tfx.data.table_files(csv, validation, unlabelled, **reading)
    columns = (instruction, input, output)
    options = {"system": system, "skip_bad_rows": skip_bad_rows}
    train = tfx.data.read_instructions(csv, *columns, **options)
    held_out = None
    if validation:
        held_out = tfx.data.read_instructions(validation, *columns, **options)
    past = tfx.training.Past()
    taught_by = tfx.training.TokenTeacher(teacher) if teacher else None
    split = tfx.data.split_conversations
    if taught_by:
        train, held_out = past.divide(train, held_out, split, share, seed, teacher=taught_by.past)
    elif held_out is None:
        train, held_out = split(train, share, seed)
    others = None
    if unlabelled:
        others = tfx.data.read_unlabelled_texts(
            unlabelled, instruction, skip_bad_rows=skip_bad_rows, role="instruction"
        )
        others = others.without(train.keys(), held_out.keys())
    if not taught_by:
        train = tfx.data.add_turns(train, turns, seed)

    tfx.training.set_random_seed(seed)
    by_tokens = taught_by is not None and teacher_share > 0
    if base:
        model, tokenizer = tfx.training.text_base(
            base, precision, "causal", max_length, base_dtype or None
        )
        if by_tokens:
            length = min(max_length, model.config.max_sequence_length)
            taught_by.check_tokens(length, (model, tokenizer), base)
    else:
        ids = {}
        if by_tokens:
            taught_by.check_tokens(max_length)
            tokenizer, vocabulary_size, ids = taught_by.vocabulary()
        else:
            tokenizer = tfx.Tokenizer.train(train.texts(), vocabulary_size, tfx.ROLE_TOKENS)
            vocabulary_size = tokenizer.vocabulary_size
        config = tfx.TransformerConfig.of_size(
            size,
            vocabulary_size,
            style or None,
            dropout=dropout,
            max_sequence_length=max_length,
            **ids,
        )
        model = tfx.CausalLM(config, dtype=precision)
    if method != "full":
        tfx.add_adapters(model, rank, alpha, targets.split(","), method, base_dtype or None)

    template = tfx.ChatTemplate.of(tokenizer)
    length = min(max_length, model.config.max_sequence_length)
    run = tfx.training.AssistantRun(name, settings, recipe=main, past=past)
    summaries = tfx.data.describe_instructions(train, held_out, template, length)
    run.show_data(summaries, train, held_out)

    options = {"batch_size": batch_size, "max_length": length, "pack": pack, "loss_on": loss_on}
    if taught_by:
        prompts = tfx.data.unanswered(others, system) if others else []
        replaced = teacher_answers == "replace"
        joined = teacher_answers == "join"
        learned = {"max_length": length, "replaced": replaced, "joined": joined}
        learned |= {"turns": turns, "seed": seed}
        train = run.learn_answers(taught_by, train, others, prompts, **learned)
    loss, metrics = None, None
    if by_tokens:
        asked = {"max_length": length, "loss_on": loss_on, "temperature": temperature}
        answers, apart = run.ask(taught_by, template, train, held_out, **asked)
        batches = tfx.data.taught_instructions(train, template, answers, **options, seed=seed)
        checks = tfx.data.taught_instructions(held_out, template, apart, **options, shuffle=False)
        likeliest = tfx.data.likeliest_of(model.config.vocabulary_size)
        loss = tfx.TaughtTokens(likeliest, temperature, teacher_share)
        metrics = [tfx.TaughtTokenAccuracy(), tfx.TaughtPerplexity()]
    else:
        batches = tfx.data.instructions(train, template, **options, seed=seed)
        checks = tfx.data.instructions(held_out, template, **options, shuffle=False)
    if taught_by:
        taught_by.close()  # the training needs the memory

    total_steps = epochs * len(batches)
    run.show_cost(model, batch_size, length, total_steps, None if pack else batches)
    optimizer = tfx.training.adamw(learning_rate, warmup_steps, "cosine", total_steps)
    tfx.training.accumulate(model, accumulate)
    model.remat = remat
    model.compile(optimizer, loss, metrics, jit_compile=pack)
    writer = tfx.text_generator(model, tokenizer)
    prompts = held_out.prompts()
    answers = held_out.answers()
    callbacks = run.callbacks(writer, prompts, answers, patience=patience, minutes=minutes)
    run.fit(model, batches, checks, epochs, callbacks)

    run.save(bundle, run.without_adapters(model), tokenizer)
    result = run.finish(model, writer, prompts, answers, tfx.score_answers)
    tfx.update_config(bundle, **result)
    rows = tfx.export.training_rows(model, batches) if quantize else None
    written = list(zip(prompts, answers, strict=True))
    verified = tfx.export.everything(
        bundle, held_out.first_prompts(), generator=run.answering, int4=rows, written=written
    )
    return run.close(result | {"verified": verified})


if __name__ == "__main__":
    tfx.flags.run(main)
