"""What fine-tuning changes: a bundle before and after it, on the same test file.

    python benchmarks/finetuning.py BEFORE AFTER TEST.csv [--rows 200]

BEFORE is what `instruction_finetuning` got as --base, AFTER what came of it. Both are asked with
AFTER's template, by Keras, greedily; perplexity is per token of the answers.
"""

import argparse
import json

import tfx_transformer as tfx


def scores(model, tokenizer, read, rows: int) -> dict:
    template = tfx.ChatTemplate.of(tokenizer)
    length = model.config.max_sequence_length
    batches = tfx.data.instructions(read, template, max_length=length, shuffle=False)
    model.compile()
    measured = model.evaluate(batches, verbose=0, return_dict=True)
    some = read.take(range(min(rows, len(read))))
    written = tfx.text_generator(model, tokenizer).generate(
        some.prompts(), truncate=True, max_new_tokens=48
    )
    return tfx.score_answers(written, some.answers()) | {
        "perplexity": round(measured["perplexity"], 2),
        "token_accuracy": round(measured["token_accuracy"], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("file")
    parser.add_argument("--rows", type=int, default=200, help="answers that are written [200]")
    chosen = parser.parse_args()
    read = tfx.data.read_instructions(chosen.file)
    for name, path in (("before", chosen.before), ("after", chosen.after)):
        print(json.dumps({"system": name} | scores(*tfx.load(path), read, chosen.rows)))


if __name__ == "__main__":
    main()
