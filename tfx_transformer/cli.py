"""The command `tfx-transformer`. A verb imports what it needs, so that --help is immediate."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfx_transformer import flags, resources
from tfx_transformer.errors import InputError

ENGINES = ("litert", "keras", "saved_model")
# What sacrebleu splits by without a download.
TOKENIZE = ("13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "none")
DESCRIPTION = "From a CSV to a Transformer that runs anywhere."


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits: 0 on success, 2 on bad input."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["run"] and len(arguments) > 1 and not arguments[1].startswith("-"):
        # A recipe's flags are its own, --json among them.
        chosen = argparse.Namespace(debug="--debug" in arguments, json=False)
        flags.guarded(lambda: flags.run(recipe_main(arguments[1]), arguments[2:]), chosen)
    chosen = parser().parse_args(arguments)
    flags.guarded(lambda: chosen.action(chosen), chosen)


def parser() -> argparse.ArgumentParser:
    """Every verb with its arguments; each sets `action`."""
    top = argparse.ArgumentParser(prog="tfx-transformer", description=DESCRIPTION)
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)

    def verb(name: str, action: Callable[[argparse.Namespace], Any]) -> argparse.ArgumentParser:
        text = (action.__doc__ or "").strip()
        made = verbs.add_parser(name, help=text, description=text)
        made.set_defaults(action=action)
        flags.add_common_flags(made)
        return made

    one = verb("run", run_without_name)
    one.add_argument("recipe", help="its name, or the path of a copy")
    verb("recipes", list_recipes)
    one = verb("copy", copy_recipe)
    one.add_argument("recipe")

    one = verb("check", check)
    one.add_argument("file", metavar="FILE.csv")
    _add_columns(one)
    one.add_argument("--bundle", help="count with this bundle's tokenizer; else one is trained")
    one.add_argument("--max-length", type=int, default=128, help="tokens a model would read [128]")

    one = verb("tokens", tokens)
    one.add_argument("texts", nargs="+", metavar="TEXT|FILE")
    one.add_argument("--bundle", required=True, help="the bundle whose tokenizer counts")

    one = verb("generate", generate)
    one.add_argument("bundle")
    one.add_argument("texts", nargs="+", metavar="TEXT")
    one.add_argument("--engine", choices=ENGINES, default="litert")
    one.add_argument("--variant", choices=("float32", "int8"), help="which TFLite file")
    _add_generation(one)

    one = verb("evaluate", evaluate)
    one.add_argument("bundle")
    one.add_argument("file", metavar="FILE.csv")
    _add_columns(one)
    one.add_argument("--engine", choices=ENGINES, default="keras")
    one.add_argument("--variant", choices=("float32", "int8"), help="which TFLite file")
    one.add_argument(
        "--tokenize", choices=TOKENIZE, help="how BLEU splits words [by the references' script]"
    )
    one.add_argument("--output", help="also write source, answer and reference to this CSV")
    _add_generation(one)

    one = verb("export", export)
    one.add_argument("bundle")
    one.add_argument("--to", default="saved_model,litert", help="[saved_model,litert]")
    one.add_argument("--quantize", choices=("none", "int8"), default="none")
    one.add_argument("--beams", type=int, default=4, help="width of exported beam search [4]")
    one.add_argument("--check", metavar="FILE.csv", help="verify on its sources")
    one.add_argument("--source", default="source", help="column of --check [source]")

    one = verb("info", info)
    one.add_argument("bundle")
    return top


def recipe_main(name: str) -> Callable[..., Any]:
    """The `main` of a recipe, given its name or its path."""
    path = Path(name) if name.endswith(".py") else resources.recipe_path(name)
    if not path.is_file():
        raise InputError(f"there is no recipe {path}.\n  See: tfx-transformer recipes")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # so that its docstring can be found
    spec.loader.exec_module(module)
    return module.main


def run_without_name(chosen: argparse.Namespace) -> None:
    """run a recipe: tfx-transformer run RECIPE [--flags]; --help shows its flags"""
    raise InputError("name a recipe.\n  See: tfx-transformer recipes")


def list_recipes(chosen: argparse.Namespace) -> dict[str, Any]:
    """list the recipes"""
    rows = []
    for path in resources.recipes():
        purpose = path.read_text(encoding="utf-8").split('"""')[1].splitlines()[0]
        rows.append({"recipe": path.stem, "purpose": purpose})
        print(f"{path.stem:<16} {purpose}")
    return {"recipes": rows}


def copy_recipe(chosen: argparse.Namespace) -> dict[str, str]:
    """put a copy of a recipe into this folder, to edit"""
    source = resources.recipe_path(chosen.recipe)
    target = Path(source.name)
    if target.exists():
        raise InputError(f"{target} exists already.\n  Rename it, or copy in another folder.")
    shutil.copyfile(source, target)
    print(f"{target}: edit it, then run  python {target}")
    return {"file": str(target)}


def check(chosen: argparse.Namespace) -> dict[str, Any]:
    """read a CSV of pairs and say what is in it, and what is wrong and where"""
    from tfx_transformer.data.pairs import read_pairs
    from tfx_transformer.data.summary import describe_pairs
    from tfx_transformer.text.tokenizer import Tokenizer

    pairs = read_pairs(
        chosen.file, chosen.source, chosen.target, skip_bad_rows=chosen.skip_bad_rows
    )
    bundle = chosen.bundle
    tokenizer = _tokenizer(bundle) if bundle else Tokenizer.train(pairs.texts(), 8000)
    summary = describe_pairs(pairs, None, tokenizer, chosen.max_length)[0]
    print("\n".join([summary.path, *summary.lines()[1:]]))
    for bad in pairs.bad_rows:
        print(f"  row {bad.row}, column {bad.column}: {bad.reason}")
    bad_rows = [[bad.row, bad.column, bad.reason] for bad in pairs.bad_rows]
    return summary.to_dict() | {"bad_rows": bad_rows}


def tokens(chosen: argparse.Namespace) -> dict[str, Any]:
    """count tokens of texts or files"""
    tokenizer = _tokenizer(chosen.bundle)
    rows = []
    for text in chosen.texts:
        is_file = os.path.isfile(text)  # False, not an error, for a text too long to be a name
        content = _read_text(Path(text)) if is_file else text
        ids = tokenizer.encode(content)
        row = {
            "text": text,
            "tokens": len(ids),
            "characters": len(content),
            "bytes": len(content.encode("utf-8", errors="replace")),
            "tokens_per_character": round(len(ids) / max(len(content), 1), 3),
        }
        rows.append(row)
        print(
            f"{row['tokens']:>7,} tokens  {row['characters']:>7,} characters  "
            f"{row['bytes']:>7,} bytes  {row['tokens_per_character']:.2f} tokens/character  "
            + (text if is_file else "|".join(tokenizer.tokens(ids)))
        )
    return {"texts": rows}


def generate(chosen: argparse.Namespace) -> dict[str, Any]:
    """translate or answer texts with a bundle"""
    answers = _generator(chosen).generate(chosen.texts, **_generation(chosen))
    print("\n".join(answers))
    pairs = zip(chosen.texts, answers, strict=True)
    return {"answers": [{"text": text, "answer": answer} for text, answer in pairs]}


def evaluate(chosen: argparse.Namespace) -> dict[str, Any]:
    """score a bundle on a CSV: BLEU, chrF, exact match and (by Keras) perplexity"""
    from tfx_transformer.data.pairs import read_pairs
    from tfx_transformer.evaluation import score_texts

    output = Path(chosen.output or "answers.csv")
    if output.is_dir() or not output.parent.is_dir():
        raise InputError(f"--output {output} cannot be written.\n  Name a file in a folder.")
    pairs = read_pairs(
        chosen.file, chosen.source, chosen.target, skip_bad_rows=chosen.skip_bad_rows
    )
    generator = _generator(chosen)
    answers = generator.generate(pairs.source, truncate=True, **_generation(chosen))
    scores = score_texts(answers, pairs.target, chosen.tokenize)
    if chosen.engine == "keras":
        from tfx_transformer import data

        model, tokenizer = generator.engine.model, generator.tokenizer
        length = model.config.max_sequence_length
        batches = data.pairs(pairs, tokenizer, max_length=length, shuffle=False)
        model.compile()
        measured = model.evaluate(batches, verbose=0, return_dict=True)
        scores["perplexity"] = round(measured["perplexity"], 3)
        print(f"perplexity {scores['perplexity']:.3f} per token", end="  ")
    print(
        f"BLEU {scores['bleu']:.2f} (tokenize={scores['bleu_tokenize']})  chrF {scores['chrf']:.2f}"
        f"  exactly right {100 * scores['exact_match']:.1f} % of {scores['count']:,}"
    )
    if chosen.output:
        import pandas

        table = {"source": pairs.source, "answer": answers, "reference": pairs.target}
        pandas.DataFrame(table).to_csv(chosen.output, index=False)
    return scores


def export(chosen: argparse.Namespace) -> dict[str, Any]:
    """add a SavedModel or a TFLite file to a bundle, and verify it"""
    from tfx_transformer import bundle

    formats = chosen.to.split(",")
    for name in formats:
        if name not in ("saved_model", "litert"):
            raise InputError(f"--to {name!r} is no format.\n  Formats: saved_model, litert.")
    bundle.read_config(chosen.bundle)
    texts = []
    if chosen.check:
        from tfx_transformer.data.tables import read_table

        texts = read_table(chosen.check, {"source": chosen.source}).columns["source"]

    from tfx_transformer import export

    if "saved_model" in formats:
        export.saved_model(chosen.bundle)
    if "litert" in formats:
        quantize = None if chosen.quantize == "none" else chosen.quantize
        export.litert(chosen.bundle, quantize=quantize, beams=chosen.beams)
    if not texts:
        print("Exported; not verified, for want of texts: pass --check FILE.csv")
        return {}
    return export.verify(chosen.bundle, texts)


def info(chosen: argparse.Namespace) -> dict[str, Any]:
    """say what a bundle is: task, size, files, scores, how it was verified"""
    from tfx_transformer import bundle

    path = Path(chosen.bundle)
    bundle.verify(path)
    config = bundle.read_config(path)
    files = {
        entry.name: sum(p.stat().st_size for p in [entry, *entry.rglob("*")] if p.is_file())
        for entry in sorted(path.iterdir())
    }
    print((path / "README.md").read_text(encoding="utf-8"))
    for name, size in files.items():
        print(f"{size / 1e6:>9.2f} MB  {name}")
    return config | {"files": files}


def _generator(chosen: argparse.Namespace):
    """What answers texts: the bundle on the chosen engine."""
    if chosen.engine == "litert":
        from tfx_transformer import runtime

        return runtime.load(chosen.bundle, chosen.variant)
    if chosen.engine == "keras":
        from tfx_transformer.models.decoding import text_generator
        from tfx_transformer.models.saving import load

        return text_generator(*load(chosen.bundle))
    from tfx_transformer import bundle
    from tfx_transformer.export.saved_model import SavedModelGenerator

    bundle.verify(chosen.bundle)
    return SavedModelGenerator(chosen.bundle)


def _generation(chosen: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(chosen, name) for name in _GENERATION}


_GENERATION = {
    "max_new_tokens": (int, None, "most tokens to write [as many as the model can]"),
    "beams": (int, 1, "width of beam search [1: none]"),
    "length_penalty": (float, 1.0, "exponent of the length that beam scores are divided by [1]"),
    "temperature": (float, 0.0, "0 takes the most probable token, above 0 draws [0]"),
    "top_k": (int, 0, "draw among the k most probable tokens [0: all]"),
    "top_p": (float, 1.0, "draw among the most probable that reach p together [1: all]"),
    "repetition_penalty": (float, 1.0, "above 1 avoids tokens already written [1]"),
    "seed": (int, 0, "of the draws [0]"),
}


def _add_generation(verb: argparse.ArgumentParser) -> None:
    for name, (kind, default, text) in _GENERATION.items():
        flag = "--" + name.replace("_", "-")
        verb.add_argument(flag, type=kind, default=default, help=text, metavar="")


def _add_columns(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--source", default="source", help="column of the sources [source]")
    verb.add_argument("--target", default="target", help="column of the targets [target]")
    verb.add_argument("--skip-bad-rows", action="store_true", help="leave bad rows out, list them")


def _tokenizer(path: str):
    from tfx_transformer import bundle
    from tfx_transformer.text.tokenizer import Tokenizer

    bundle.read_config(path)
    return Tokenizer.load(Path(path, bundle.TOKENIZER))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is not UTF-8.\n  Convert the file to UTF-8."
        ) from error


if __name__ == "__main__":
    main()
