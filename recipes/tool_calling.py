"""Train an assistant to call tools: functions with arguments.

    tfx-transformer run tool_calling
    tfx-transformer run tool_calling --csv my.csv --tools my_tools.json
    tfx-transformer run tool_calling --base hf://owner/name --method lora

A row of the table has a request, the name of a tool and its arguments as JSON.
The tools are declared in a JSON file, as for OpenAI's and Hugging Face's chat
models. Every answer of the model is a call of one of them. The model is in
saved_models/<name>/, and a record of the training in runs/<name>/.
"""

from pathlib import Path
from typing import Any, Literal

import tfx_transformer as tfx


def main(
    csv: Path | None = None,
    tools: Path | None = None,
    utterance: str = "utterance",
    tool: str = "tool",
    arguments: str = "arguments",
    group: str = "",
    system: str = "",
    validation: Path | None = None,
    share: float = 0.15,
    copies: int = 60,
    skip_bad_rows: bool = False,
    encoding: str = "",
    delimiter: str = "",
    sheet: str = "",
    table: str = "",
    base: str | Path = "",
    size: Literal["nano", "tiny", "small", "base"] = "tiny",
    layers: int = 3,
    style: Literal["", "gpt2", "llama", "bert", "classifier"] = "llama",
    vocabulary_size: int = 1500,
    max_length: int = 256,
    dropout: float = 0.05,
    method: Literal["full", "lora", "dora"] = "full",
    rank: int = 8,
    alpha: float = 16.0,
    targets: str = "query,key,value,output_projection,expand,gate,contract",
    base_dtype: Literal["", "bfloat16", "int8", "nf4"] = "",
    epochs: int = 2,
    batch_size: int = 4,
    accumulate: int = 1,
    remat: bool = False,
    learning_rate: float = 3e-3,
    warmup_steps: int = 50,
    pack: bool = True,
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
    name: str = "tools",
    overwrite: bool = False,
    quantize: Literal["", "int4"] = "",
    example: str = "",
) -> dict[str, Any]:
    """Fine-tune a decoder-only Transformer to call tools.

    Data arguments:
        csv: Table of requests and calls. Default: datasets/tools.csv.
        tools: Declarations of the tools, a JSON file. Default: tools.json beside the table.
        utterance: Column of the requests.
        tool: Column of the names of the called tools.
        arguments: Column of the arguments, JSON objects.
        group: Column of groups, such as wordings, that are held out as a whole; empty: the column
            wording, if there is one.
        system: Instruction before every request.
        validation: File of held-out rows. Default: a share of the rows is held out.
        share: Share of the groups or requests to hold out, from 0 to 1.
        copies: Variants of each row with other names, texts and numbers, often in other words,
            which teach the model to copy; 0: none. Rows whose request shows a text get twice as
            many, other rows half as many, all fewer if rows and variants would be more than 40,000.
        skip_bad_rows: Skip rows that cannot be used, and list them in the run's folder.
        encoding: Encoding of a CSV table, such as cp932; empty: detected.
        delimiter: Separator of its cells, such as ";" or tab; empty: detected.
        sheet: Sheet of an Excel workbook; empty: the only one.
        table: Table of a SQLite database; empty: the only one.

    Model arguments:
        base: Model to begin with: a bundle, a folder, a name that `tfx-transformer bases` lists, or
            hf://owner/name. Default: a new model.
        size: Size of a new model.
        layers: Number of layers of a new model; 0: as its size says.
        style: Family that a new model resembles; empty: a plain Transformer.
        vocabulary_size: Tokens in the vocabulary of a new model.
        max_length: Longest conversation in tokens; a base's template may write all tools into it.
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

    csv = csv or tfx.resources.dataset_path("tools.csv")
    declared = tfx.data.read_tools(tools or Path(csv).parent / "tools.json")
    reading = {"encoding": encoding, "delimiter": delimiter, "sheet": sheet, "table": table}
    csv, validation = tfx.data.table_files(csv, validation, **reading)
    columns = (declared, utterance, tool, arguments)
    options = {"group": group, "system": system, "skip_bad_rows": skip_bad_rows}
    train = tfx.data.read_tool_calls(csv, *columns, **options)
    if validation:
        held_out = tfx.data.read_tool_calls(validation, *columns, **options)
    else:
        train, held_out = tfx.data.split_tool_calls(train, share, seed)
    varied = tfx.data.vary_tool_calls(train, copies, seed)
    conversations = varied.conversations()

    tfx.training.set_random_seed(seed)
    if base:
        frozen = None if method == "full" else base_dtype or None
        model, tokenizer = tfx.training.text_base(
            base, precision, "causal", max_length, frozen, keep_tools=True
        )
    else:
        texts = tfx.data.texts_without_values(train)
        tokenizer = tfx.Tokenizer.train(texts, vocabulary_size, tfx.ROLE_TOKENS, tfx.CALL_PATTERN)
        config = tfx.TransformerConfig.of_size(
            size,
            tokenizer.vocabulary_size,
            style or None,
            num_layers=layers,
            dropout=dropout,
            max_sequence_length=max_length,
        )
        model = tfx.CausalLM(config, dtype=precision)
    if method != "full":
        tfx.add_adapters(model, rank, alpha, targets.split(","), method, base_dtype or None)

    tokenizer.tools = tfx.data.mark_copied(train)
    template = tfx.ChatTemplate.of(tokenizer)
    template.check_calls()
    length = min(max_length, model.config.max_sequence_length)
    run = tfx.training.ToolRun(name, settings, recipe=main)
    summaries = tfx.data.describe_tool_calls(varied, held_out, template, length)
    run.show_data(summaries, varied, held_out)

    options = {"batch_size": batch_size, "max_length": length, "pack": pack}
    batches = tfx.data.instructions(conversations, template, **options, seed=seed)
    checks = tfx.data.instructions(held_out.conversations(), template, **options, shuffle=False)

    total_steps = epochs * len(batches)
    run.show_cost(model, batch_size, length, total_steps, None if pack else batches)
    optimizer = tfx.training.adamw(learning_rate, warmup_steps, "cosine", total_steps)
    tfx.training.accumulate(model, accumulate)
    model.remat = remat
    model.compile(optimizer, jit_compile=pack)
    writer = tfx.text_generator(model, tokenizer)
    callbacks = run.watch(writer, held_out, patience=patience, minutes=minutes)
    run.fit(model, batches, checks, epochs, callbacks)

    run.save(bundle, run.without_adapters(model), tokenizer)
    result = run.report(model, writer, train)
    tfx.update_config(bundle, **result)
    rows = tfx.export.training_rows(model, batches) if quantize else None
    written = list(zip(held_out.prompts(), held_out.answers(), strict=True))
    verified = tfx.export.everything(
        bundle, held_out.utterances, generator=run.answering, int4=rows, written=written
    )
    return run.close(result | {"verified": verified})


if __name__ == "__main__":
    tfx.flags.run(main)
