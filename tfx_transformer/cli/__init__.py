"""The command `tfx-transformer`. A verb imports what it needs, so that --help is immediate."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tfx_transformer import __version__, flags, wording
from tfx_transformer.cli.classifiers import add_classify_verb
from tfx_transformer.cli.data import KINDS, add_columns, add_table_options, check
from tfx_transformer.cli.engines import GENERATION, WRITING_ENGINES, add_engine, add_texts
from tfx_transformer.cli.models import FORMATS, chat, export, generate, info
from tfx_transformer.cli.predict import add_predict_verb
from tfx_transformer.cli.publish import add_publish_verb
from tfx_transformer.cli.recipes import copy_recipe, list_recipes, recipe_main, run_without_name
from tfx_transformer.cli.report import add_report_verb
from tfx_transformer.cli.scoring import evaluate
from tfx_transformer.cli.tokens import add_tokens_verb
from tfx_transformer.cli.vectors import add_vector_verbs

# What sacrebleu splits by without a download.
TOKENIZE = ("13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "none")
DESCRIPTION = "From a CSV to a Transformer that runs anywhere."


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits: 0 on success, 2 on bad input."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["run"] and len(arguments) > 1 and not arguments[1].startswith("-"):
        # A recipe's flags are its own, --json among them.
        chosen = argparse.Namespace(debug="--debug" in arguments, json=False)
        flags.run_action(lambda: flags.run(recipe_main(arguments[1]), arguments[2:]), chosen)
    chosen = parser().parse_args(arguments or ["--help"])
    wording.use(chosen.language)
    flags.run_action(lambda: chosen.action(chosen), chosen)


def parser() -> argparse.ArgumentParser:
    """Every verb with its arguments; each sets `action`."""
    top = argparse.ArgumentParser(prog="tfx-transformer", description=DESCRIPTION)
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)

    def verb(name: str, action: Callable[[argparse.Namespace], Any]) -> argparse.ArgumentParser:
        text = (action.__doc__ or "").strip()
        made = verbs.add_parser(name, help=text, description=text)
        made.set_defaults(action=action)
        flags.add_common_flags(made)
        flags.add_language_flag(made)
        return made

    one = verb("run", run_without_name)
    one.add_argument("recipe", help="its name, or the path of a copy")
    verb("recipes", list_recipes)
    one = verb("copy", copy_recipe)
    one.add_argument("recipe", help="name of the recipe")

    one = verb("check", check)
    one.add_argument("file", metavar="FILE|FOLDER", help="training data, as a recipe takes it")
    one.add_argument("--kind", choices=KINDS, help="what it holds [by the flags, or its header]")
    add_columns(one, KINDS)
    add_table_options(one)
    one.add_argument("--bundle", help="count with this bundle's tokenizer; else one is trained")
    one.add_argument("--max-length", type=int, default=128, help="tokens a model would read [128]")

    add_tokens_verb(verb)
    add_vector_verbs(verb)

    _add_model_verbs(verb)
    add_report_verb(verb)
    return top


def _add_model_verbs(verb: Callable) -> None:
    """The verbs that use a bundle; verb: makes the parser of a name and an action."""
    one = verb("generate", generate)
    one.add_argument("bundle", help="folder of a bundle, such as saved_models/en_ja")
    add_texts(one, "source or instruction")
    add_engine(one, "litert", WRITING_ENGINES)
    _add_generation(one)

    add_classify_verb(verb)
    add_predict_verb(verb)
    add_publish_verb(verb)

    one = verb("chat", chat)
    one.add_argument("bundle", help="folder of a bundle, such as saved_models/en_ja")
    one.add_argument("--system", default="", help="what the model is told before")
    add_engine(one)
    _add_generation(one)

    one = verb("evaluate", evaluate)
    one.add_argument("bundle", help="folder of a bundle, such as saved_models/en_ja")
    one.add_argument("file", metavar="FILE", help="table or text to score the bundle on")
    add_columns(one, ("pairs", "instructions", "labels", "images", "text"))
    add_table_options(one)
    add_engine(one, "keras", WRITING_ENGINES)
    one.add_argument(
        "--tokenize", choices=TOKENIZE, help="how BLEU splits words [by the references' script]"
    )
    one.add_argument(
        "--save", metavar="FILE.csv", help="write source, answer and reference (or mistakes) there"
    )
    _add_generation(one)

    one = verb("export", export)
    one.add_argument("bundle", help="or a checkpoint, which becomes one: a folder, hf://owner/name")
    one.add_argument("--name", help="of the bundle that a checkpoint becomes [its own]")
    one.add_argument("--overwrite", action="store_true", help="replace a bundle of that name")
    one.add_argument(
        "--to", default="saved_model,litert", help=f"{', '.join(FORMATS)} [saved_model,litert]"
    )
    one.add_argument(
        "--quantize",
        choices=("none", "int8", "int4"),
        default="none",
        help="number format of the weights; none is float32 [none]",
    )
    one.add_argument("--beams", type=int, default=4, help="width of exported beam search [4]")
    one.add_argument(
        "--context", type=int, help="tokens of prompt and answer of a decoder-only model [all]"
    )
    one.add_argument("--check", metavar="FILE.csv", help="verify on its texts or images")
    one.add_argument("--column", help="of them in --check [source, instruction, text or path]")

    one = verb("info", info)
    one.add_argument("bundle", help="or a checkpoint: a folder, hf://owner/name")


def _add_generation(verb: argparse.ArgumentParser) -> None:
    for name, (kind, default, text) in GENERATION.items():
        flag = "--" + name.replace("_", "-")
        verb.add_argument(flag, type=kind, default=default, help=text, metavar="")
    verb.add_argument(
        "--stop", action="append", default=[], help="end before this text; may repeat"
    )
