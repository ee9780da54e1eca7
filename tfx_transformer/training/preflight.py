"""Checks of a run's settings, before TensorFlow starts."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfx_transformer import bases, bundle, devices
from tfx_transformer.config import TransformerConfig
from tfx_transformer.console import begin
from tfx_transformer.data.splits import check_share
from tfx_transformer.errors import InputError
from tfx_transformer.evaluation.rounding import check_four_bits
from tfx_transformer.training.checkpoints import Checkpoints
from tfx_transformer.training.folder import CHECKPOINTS
from tfx_transformer.training.identity import Identity, differences, name_of
from tfx_transformer.training.limits import check_ends, check_rates, rounds

# Settings that are counts, and the least of each.
_COUNTS = {
    "accumulate": 1,
    "batch_size": 1,
    "epochs": 0,
    "quantization_epochs": 1,
    "rank": 1,
    "teacher_beams": 1,
    "turns": 1,
    "vocabulary_size": 1,
}
# Settings that are shares.
_SHARES = (
    "token_dropout",
    "new_names",
    "label_smoothing",
    "mix",
    "dropout",
    "stochastic_depth",
    "teacher_share",
)

# Setting of a recipe -> field of a configuration.
_FIELDS = {
    "layers": "num_layers",
    "heads": "num_heads",
    "width": "hidden_dim",
    "context": "max_sequence_length",
    "max_length": "max_sequence_length",
    "dropout": "dropout",
    "ngram_buckets": "ngram_buckets",
    "linear_buckets": "linear_buckets",
    "linear_cells": "linear_cells",
    "linear_patches": "linear_patches",
    "image_size": "image_size",
    "conv_layers": "conv_layers",
    "patch_size": "patch_size",
    "pooling": "pooling",
}
# Recipe -> task of the bundles that it can begin with; "": several.
_TASKS = {
    "embedding": "",
    "image_classification": "classification",
    "instruction_finetuning": "causal",
    "preference_finetuning": "causal",
    "pretraining": "",
    "tagging": "",
    "text_classification": "",
    "text_regression": "",
    "tool_calling": "causal",
    "translation": "seq2seq",
}
# Task -> recipe that makes a bundle of it.
_MAKERS = {
    "causal": "instruction_finetuning",
    "classification": "image_classification",
    "seq2seq": "translation",
}
# Vocabulary size of a new model as long as it is not known.
_SOME_TOKENS = 1000


def check_settings(settings: Mapping[str, Any], recipe: Callable[..., Any] | None = None) -> None:
    """Raise if a run with these settings is bound to fail, and join the other hosts, if any.

    Args:
        settings: settings of the run, by the names of the recipe's parameters.
        recipe: the function whose arguments they are; see `Run`.

    Raises:
        InputError: a number is out of range; the frozen weights have a format, but none are frozen;
            weights are to be rounded in the training, and it cannot, or no such file is made;
            a setting does nothing without another one; the base or the tokenizer is missing; the
            architecture is impossible; a package is not installed; the folder of the run has an
            interrupted run with other settings; or not all hosts come.
    """
    _check_numbers(settings)
    _check_frozen(settings)
    _check_teacher(settings)
    _check_rounded(settings)
    _check_unused(settings, recipe)
    _check_interrupted(settings, recipe)
    check_logger(settings.get("log", ""))
    if settings.get("base"):
        decoder_only = bool(settings.get("decoder_only"))
        _check_base(str(settings["base"]), name_of(recipe), decoder_only)
    else:
        _check_architecture(settings)
    if devices.in_use().place.count > 1:
        from tfx_transformer.training import hosts  # before anything is computed

        hosts.join()
    begin("reading the data")


def check_logger(name: str) -> None:
    """Raise if the package of a logger is not installed.

    Args:
        name: "wandb" or "mlflow"; "": none.

    Raises:
        InputError: it is not installed; the message has the command that installs it.
    """
    if name and importlib.util.find_spec(name) is None:
        raise InputError(f"--log {name}: the package is not installed.\n  pip install {name}")


def check_base_given(settings: Mapping[str, Any]) -> None:
    """Raise if a run that trains a model further has no base.

    Raises:
        InputError: the setting "base" is empty.
    """
    if not settings.get("base"):
        raise InputError(
            "--base is empty.\n"
            "  Expected the assistant to train further, such as --base saved_models/assistant.\n"
            "  `tfx-transformer run instruction_finetuning` makes one."
        )


def _check_numbers(settings: Mapping[str, Any]) -> None:
    for name, least in _COUNTS.items():
        value = settings.get(name)
        if value is not None and value < least:
            raise InputError(f"{name} is {value}.\n  Expected {least} or more.")
    for name in _SHARES:
        value = settings.get(name)
        if value is not None and not 0 <= value <= 1:
            raise InputError(f"{name} is {value}.\n  Expected from 0 to 1.")
    check_share(settings.get("share", 0.5))
    if "steps" in settings:
        rounds(settings["steps"], settings["validate_every"])
    beta = settings.get("beta")
    if beta is not None and not beta > 0:
        raise InputError(f"beta is {beta}.\n  Expected more than 0.")
    # The recipe fills in what is None, by its data.
    given = {name: value for name, value in settings.items() if value is not None}
    check_ends(given.get("patience", 1), given.get("minutes", 0))
    names = ("learning_rate", "warmup_steps", "layer_decay", "average")
    check_rates(**{name: given[name] for name in names if name in given})


def _check_frozen(settings: Mapping[str, Any]) -> None:
    """Raise if frozen weights have a number format of their own, but all weights are trained."""
    if settings.get("base_dtype") and settings.get("method") == "full":
        raise InputError(
            f"--base-dtype is {settings['base_dtype']}, but --method full trains all weights.\n"
            "  Add --method lora or dora, which freeze the base, or leave out --base-dtype."
        )


def _check_rounded(settings: Mapping[str, Any]) -> None:
    """Raise if the last epochs are to round weights but cannot, or if no file has such weights."""
    form = settings.get("quantization_aware")
    if not form:
        return
    flag = f"--quantization-aware is {form}"
    if form == "int4" and settings.get("quantize") != form:
        raise InputError(
            f"{flag}, but no int4 file is exported.\n"
            "  Add --quantize int4, or leave out --quantization-aware."
        )
    if settings.get("method", "full") != "full":
        raise InputError(
            f"{flag}, but --method {settings['method']} trains adapters, which are not rounded.\n"
            "  Choose --method full, or leave out --quantization-aware."
        )
    if devices.in_use().several or devices.in_use().place.count > 1:
        raise InputError(
            f"{flag}, but the training uses several devices.\n"
            "  Leave out --quantization-aware, or --devices and --hosts."
        )


def _check_teacher(settings: Mapping[str, Any]) -> None:
    """Raise if the teacher is missing, or if a setting contradicts it: texts without labels need a
    teacher, hard negatives are of no use with one; or if nothing is learned from it."""
    if teacher := settings.get("teacher"):
        from tfx_transformer.models.pretrained import check_source

        check_source(str(teacher))
        if not 0 < settings.get("temperature", 1) < math.inf:
            raise InputError(f"temperature is {settings['temperature']}.\n  Expected more than 0.")
        if settings.get("hard_negatives"):
            raise InputError(
                "--hard-negatives is of no use with --teacher, which gives all cosines.\n"
                "  Drop one of them."
            )
        if not settings.get("teacher_share", 1):
            _check_answers(settings)
    elif settings.get("unlabelled"):
        noun = "images" if "image_size" in settings else "texts"
        raise InputError(
            f"--unlabelled is {settings['unlabelled']}, but there is no --teacher to answer its "
            f"{noun}.\n  Add --teacher, such as a bundle that was made with --base, or leave out "
            "--unlabelled."
        )


def _check_answers(settings: Mapping[str, Any]) -> None:
    """Raise if nothing is learned from the teacher, whose share of the loss is 0."""
    if "teacher_answers" not in settings:  # the loss alone has answers of the teacher
        raise InputError(
            "--teacher-share is 0, so nothing is learned from --teacher.\n"
            "  Raise --teacher-share, or leave out --teacher."
        )
    if settings["teacher_answers"] == "keep" and not settings.get("unlabelled"):
        raise InputError(
            "--teacher-share is 0, but --teacher-answers is keep, so nothing is learned from "
            "--teacher.\n"
            "  Add --teacher-answers replace or join, or --unlabelled; or leave out --teacher."
        )


def _check_unused(settings: Mapping[str, Any], recipe: Callable[..., Any] | None) -> None:
    """Raise if a setting that does nothing has another value than its default."""
    parameters = {} if recipe is None else inspect.signature(recipe).parameters
    for name, (reason, remedy) in _unused(settings).items():
        if name in parameters and settings[name] != parameters[name].default:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(
                f"{flag} is {settings[name]}, but {reason}.\n  {remedy}, or leave out {flag}."
            )


def _unused(settings: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the settings that do nothing beside the others: name -> the reason and a remedy."""
    found = {}
    if not settings.get("teacher"):
        names = {"teacher_share", "teacher_answers", "teacher_beams"} & settings.keys()
        if "teacher_share" in names:  # elsewhere it is the temperature of another loss
            names.add("temperature")
        found |= dict.fromkeys(names, ("there is no --teacher", "Add --teacher"))
    elif "teacher_share" in settings:
        reason = "labels are not smoothed with --teacher"
        found["label_smoothing"] = (reason, "Train without --teacher")
        if not settings["teacher_share"]:
            reason = "no probabilities are learned with --teacher-share 0"
            found["temperature"] = (reason, "Raise --teacher-share")
        if "teacher_answers" in settings and settings["teacher_share"] and not settings.get("base"):
            reason = "the model gets the tokenizer of --teacher"
            found["vocabulary_size"] = (reason, "Add --teacher-share 0")
    if settings.get("linear_cells") == 0:
        reason = "there is no linear classifier with --linear-cells 0"
        found["linear_patches"] = (reason, "Leave out --linear-cells")
    if not settings.get("quantization_aware"):
        reason = "there is no --quantization-aware"
        found["quantization_epochs"] = (reason, "Add --quantization-aware")
    if settings.get("base") and "case" in settings:
        found["case"] = ("the tokenizer of --base says how it reads", "Begin a new model")
    if settings.get("loss") == "orpo":
        reason = "--loss orpo learns to write the chosen answers without it"
        found["sft_weight"] = (reason, "Choose --loss dpo")
    if settings.get("csv") and not settings.get("rehearse"):
        reason = "no rows are rehearsed"
        found["rehearse_weight"] = (reason, "Add --rehearse FILE, rows of the base's training")
    return found


def _check_interrupted(settings: Mapping[str, Any], recipe: Callable[..., Any] | None) -> None:
    """Raise if an interrupted run of that name had other settings and may not be replaced."""
    folder = Path("runs", settings["name"])
    before = Checkpoints(folder / CHECKPOINTS).peek() if folder.is_dir() else None
    if before is None:
        return
    # The recipe may fill in empty settings; `Run` compares them then.
    given = {name: value for name, value in settings.items() if value not in ("", None)}
    found = Identity({**before["settings"], **given}, recipe).changes(before)
    if found and not settings.get("overwrite"):
        raise differences(folder, found)


def _check_base(source: str, recipe: str, decoder_only: bool) -> None:
    """Raise if the base is missing, of an unknown family, or for other recipes."""
    from tfx_transformer.models.pretrained import check_source, is_checkpoint

    if not Path(source).exists():
        bases.check_recipe(source, recipe, decoder_only)
    check_source(source)
    if Path(source).is_dir() and not is_checkpoint(Path(source)):
        _check_bundle(source, recipe, decoder_only)


def _check_bundle(source: str, recipe: str, decoder_only: bool) -> None:
    """Raise if the recipe cannot begin with a bundle, by its config.json."""
    if recipe not in _TASKS:
        return
    config = bundle.read_config(Path(source))
    for_images = recipe == "image_classification"
    if bool(config["architecture"].get("image_size")) != for_images:
        there, wanted = ("texts", "images") if for_images else ("images", "texts")
        raise InputError(
            f"the base {source} reads {there}, not {wanted}.\n  Choose a base that reads {wanted}."
        )
    task = "causal" if decoder_only else _TASKS[recipe]
    if task and config.get("task") != task:
        raise InputError(
            f"{source}: its task is {config.get('task')!r}.\n"
            f"  Expected a bundle of task {task!r}: tfx-transformer run {_MAKERS[task]} makes one."
        )


def _check_architecture(settings: Mapping[str, Any]) -> None:
    """Raise if no model can have these sizes, or none whose weights are to be rounded."""
    if "size" not in settings:
        return
    if settings.get("tokenizer"):
        from tfx_transformer.text.tokenizer import Tokenizer

        Tokenizer.load(f"{settings['tokenizer']}/tokenizer.json")
    fields = {
        field: settings[name]
        for name, field in _FIELDS.items()
        if settings.get(name) not in ("", None)
    }
    tokens = 0 if "image_size" in settings else settings.get("vocabulary_size") or _SOME_TOKENS
    style = settings.get("style") or None
    config = TransformerConfig.of_size(settings["size"], tokens, style, **fields)
    if settings.get("quantization_aware") == "int4":
        check_four_bits(config)
