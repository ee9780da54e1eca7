"""The command `tfx-transformer`. A verb imports what it needs, so that --help is immediate."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfx_transformer import __version__, flags, installation, wording
from tfx_transformer.arguments import use_flags
from tfx_transformer.cli import (
    bases,
    classifiers,
    data,
    models,
    page,
    plan,
    predict,
    publish,
    recipes,
    report,
    scoring,
    search,
    serve,
    similar,
    taggers,
    tokenize,
    tokens,
    vectors,
)
from tfx_transformer.cli.recipes import recipe_main
from tfx_transformer.errors import InputError
from tfx_transformer.flag_parser import FlagParser, Kinds, add_verb, bind

DESCRIPTION = "From a table to a Transformer that runs anywhere."
# A verb is a function: its signature is its arguments, its docstring is its help.
VERBS: Mapping[str, Callable[..., Any] | Kinds] = {
    "run": recipes.run_without_name,
    "recipes": recipes.list_recipes,
    "copy": recipes.copy_recipe,
    "bases": bases.list_bases,
    "check": data.check,
    "plan": plan.plan,
    "tokens": tokens.tokens,
    "tokenize": tokenize.tokenize,
    "embed": similar.embed,
    "similar": similar.similar,
    "index": search.index,
    "search": search.search,
    "vectors": vectors.VECTORS,
    "generate": models.generate,
    "classify": classifiers.classify,
    "tag": taggers.tag,
    "predict": predict.predict,
    "page": page.page,
    "publish": publish.publish,
    "serve": serve.serve,
    "chat": models.chat,
    "evaluate": scoring.evaluate,
    "export": models.export,
    "info": models.info,
    "report": report.write_report,
}
# Verbs that need what tfx-transformer-runtime leaves out; so do flags of others.
_NOT_IN_RUNTIME = ("run", "recipes", "copy", "bases", "export", "tokenize", "plan")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 on success, 2 on bad input."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # A recipe parses its own flags, --json too; the parser of the verbs finds --json of a verb.
    asked = argparse.Namespace(debug="--debug" in arguments, json=False)
    flags.run_action(lambda: _run(arguments), asked)


def _run(arguments: list[str]) -> None:
    """Run a recipe or a verb."""
    installation.check_versions()
    if arguments[:1] and arguments[0] in VERBS.keys() - _verbs().keys():
        raise InputError(installation.needs_all(f"The verb {arguments[0]}"))
    if arguments[:1] == ["run"] and len(arguments) > 1 and not arguments[1].startswith("-"):
        flags.run(recipe_main(arguments[1]), arguments[2:])
    parsed = parser().parse_args(arguments or ["--help"])
    wording.use(parsed.language)
    use_flags(parsed.parser.flags())
    flags.run_action(lambda: bind(parsed)(), parsed)


def _verbs() -> Mapping[str, Callable[..., Any] | Kinds]:
    """Return the verbs of the installed wheel."""
    left_out = () if installation.is_complete() else _NOT_IN_RUNTIME
    return {name: action for name, action in VERBS.items() if name not in left_out}


def parser() -> FlagParser:
    """Return the parser of all verbs; `flag_parser.bind` makes a call of what it parses."""
    top = FlagParser(prog="tfx-transformer", description=DESCRIPTION)
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name, action in _verbs().items():
        for level, made in enumerate(add_verb(verbs, name, action)):
            flags.add_common_flags(made, again=level > 0)
            flags.add_language_flag(made, again=level > 0)
    return top
