"""Instructions and answers become an assistant: supervised fine-tuning of a language model.

    tfx-transformer run instruction_finetuning
    tfx-transformer run instruction_finetuning --csv my.csv --output answer --base saved_models/my
    tfx-transformer run instruction_finetuning --csv c.jsonl --base hf://owner/name --method lora

CSV columns: instruction, output, optionally input, or the names you give; or chats in JSONL. Only
answers bear loss; rows are also joined to chats of --turns. Without --base the model is new.
"""

import tfx_transformer as tfx


def main(
    csv="", validation="", share=0.05, instruction="instruction", input="input", output="output",
    system="", skip_bad_rows=False, base="", name="assistant", overwrite=False, size="tiny",
    style="llama", vocabulary_size=1500, max_length=128, method="full", rank=8, alpha=16.0,
    targets="query,key,value,output_projection,expand,gate,contract", base_dtype="", pack=True,
    loss_on="answers", turns=3, epochs=30, batch_size=8, learning_rate=2e-3, warmup_steps=50,
    dropout=0.1, patience=20, minutes=0.0, save_minutes=5.0, precision="float32", seed=1,
):  # fmt: skip
    settings = dict(locals())
    bundle = tfx.training.new_bundle_path(name, overwrite)
    tfx.training.set_random_seed(seed)
    names, how = (instruction, input, output), {"system": system, "skip_bad_rows": skip_bad_rows}
    file = csv or tfx.resources.dataset_path("instructions.csv")
    train = tfx.data.read_instructions(file, *names, **how)
    held_out = validation and tfx.data.read_instructions(validation, *names, **how)
    if not validation:
        train, held_out = tfx.data.split_conversations(train, share, seed)
    train = tfx.data.add_turns(train, turns, seed)
    if base:
        model, words = tfx.from_pretrained(base, precision, "causal", max_length)
    else:
        words = tfx.Tokenizer.train(train.texts(), vocabulary_size, tfx.ROLE_TOKENS)
        model = tfx.CausalLM(tfx.TransformerConfig.of_size(
            size, words.vocabulary_size, style, dropout=dropout, max_sequence_length=max_length,
        ), dtype=precision)  # fmt: skip
    if method != "full":
        tfx.add_adapters(model, rank, alpha, targets.split(","), method, base_dtype or None)
    template = tfx.ChatTemplate.of(words)
    run = tfx.training.Run(name, settings)
    most = min(max_length, model.config.max_sequence_length)
    run.show_data(tfx.data.describe_instructions(train, held_out, template, most), train, held_out)
    options = {"batch_size": batch_size, "max_length": most, "pack": pack, "loss_on": loss_on}
    batches = tfx.data.instructions(train, template, **options, seed=seed)
    checks = tfx.data.instructions(held_out, template, **options, shuffle=False)
    run.show_cost(model, batch_size * most, total := epochs * len(batches))
    adamw = tfx.training.adamw(learning_rate, warmup_steps, "cosine", total)
    model.compile(adamw, jit_compile=pack)
    writer, texts = tfx.text_generator(model, words), (held_out.prompts(), held_out.answers())
    watch = run.callbacks(writer, *texts, patience=patience, minutes=minutes)
    run.fit(model, batches, checks, epochs, watch)
    tfx.save(bundle, run.without_adapters(model), words, overwrite=run.overwrite)
    tfx.annotate(bundle, **(result := run.finish(model, writer, *texts, tfx.score_answers)))
    return run.done(result | {"verified": tfx.export.everything(bundle, held_out.first_prompts())})


if __name__ == "__main__":
    tfx.flags.run(main)
