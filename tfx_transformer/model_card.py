"""The README of a bundle: a model card with the front matter that Hugging Face reads."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tfx_transformer import bundle, files, wording
from tfx_transformer.evaluation.comparison import Comparison
from tfx_transformer.evaluation.rounding import Choice
from tfx_transformer.report.measures import duration_text, lower_is_better, value_text
from tfx_transformer.report.texts import speaker
from tfx_transformer.reprs import significant
from tfx_transformer.wording import say

Config = Mapping[str, Any]


class _Task(NamedTuple):
    """The row of a task.

    Attributes:
        name: ending of the names of its texts in `wording.TEXTS`.
        pipeline: name of the task on the hub.
        call: the method that answers; "": none is shown.
        stacks: fields that count layers.
        limits: names of further limits in `wording.TEXTS`.
        is_base: True if its models must be fine-tuned before they answer.
        length: name of the text on long inputs in `wording.TEXTS`.
    """

    name: str
    pipeline: str = ""
    call: str = "generate"
    stacks: tuple[str, ...] = ("num_layers",)
    limits: tuple[str, ...] = ()
    is_base: bool = False
    length: str = "card limits length"


_TASKS = {
    "causal": _Task("causal", "text-generation", limits=("card limits facts",)),
    "classification": _Task(
        "classification", "text-classification", "classify", limits=("card limits labels",)
    ),
    "embedding": _Task("embedding", "sentence-similarity", "embed"),
    "masked": _Task("masked", "fill-mask", is_base=True),
    "regression": _Task(
        "regression", "text-classification", "predict", limits=("card limits numbers",)
    ),
    "seq2seq": _Task("seq2seq", "translation", stacks=("num_layers", "num_decoder_layers")),
    "tagging": _Task(
        "tagging",
        "token-classification",
        "tag",
        limits=("card limits spans",),
        length="card limits windows",
    ),
}
# The row of a generator that calls functions, and that of any other task.
_CALLS = _Task("tools", "text-generation", limits=("card limits calls",))
_OTHER = _Task("other", call="")
_TAGS = ["transformer", "keras", "tensorflow", "litert", "tflite"]
# Score -> the name of the metric on the hub.
_METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "f1",
    "micro_f1": "f1",
    "entity_f1": "f1",
    "precision": "precision",
    "recall": "recall",
    "exact_match": "exact_match",
    "bleu": "bleu",
    "chrf": "chrf",
    "perplexity": "perplexity",
    "spearman": "spearmanr",
    "mae": "mae",
    "r2": "r_squared",
}
# Entries of the section on the data that have a name in `wording.TEXTS`.
_DATA = ("file", "teacher", "unlabelled", "rehearsed")
# Facts of the training that have a name in `wording.TEXTS`.
_TRAINING = ("epochs", "best_epoch", "val_loss", "seconds", "waiting")
_FORMATS = (
    bundle.WEIGHTS,
    *bundle.LITERT.values(),
    bundle.SAVED_MODEL,
    bundle.LITERTLM,
    bundle.MEDIAPIPE,
)


def model_card(name: str, config: Config, folder: Path | None = None) -> str:
    """Return the text of a bundle's README.

    Args:
        name: name of the bundle.
        config: its `config.json`.
        folder: its folder, to list the sizes of its files; None: without that list.
    """
    parts = [
        _front_matter(name, config),
        f"# {name}\n\n{_summary(config)}",
        _usage(config, name, folder),
        _labels(config),
        _tools(config),
        _target(config),
        _data(config),
        _scores(config),
        _limits(config),
        _training(config),
        _files(config, folder),
        _list(say("card verified"), config.get("verified")),
        _licence(config),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def update_config(path: str | os.PathLike, **details: Any) -> None:
    """Add details, JSON values, to the `config.json` and the README of a bundle."""
    path = Path(path)
    with bundle.updating(path, [bundle.CONFIG]) as folder:
        config = bundle.read_config(folder) | details
        bundle.write_config(folder, config)
        files.write(folder / "README.md", model_card(path.name, config, folder))


def body(card: str) -> str:
    """Return a card without its front matter."""
    if not card.startswith("---\n"):
        return card
    return card[4:].partition("\n---\n")[2].lstrip("\n")


def _row(config: Config) -> _Task:
    return _CALLS if config.get("tools") else _TASKS.get(config["task"], _OTHER)


def _front_matter(name: str, config: Config) -> str:
    """Return the lines that the hub reads, in YAML."""
    import yaml

    is_image = bool(config["architecture"].get("image_size"))
    pipeline = "image-classification" if is_image else _row(config).pipeline
    facts = config.get("training_data", {})
    fields = {
        "library_name": "tfx-transformer",
        "pipeline_tag": pipeline,
        "tags": _TAGS,
        "language": facts.get("languages"),
        "license": config.get("license"),
        "base_model": config.get("base"),
    }
    scores = config.get("scores") or {}
    results = [
        {"type": _METRICS[measure], "name": measure, "value": value}
        for measure, value in scores.items()
        if measure in _METRICS
    ]
    if results:
        file = (config.get("data") or {}).get("file") or name
        fields["metrics"] = sorted({result["type"] for result in results})
        found = {
            "task": {"type": pipeline},
            "dataset": {"name": f"{file} (held out)", "type": file},
            "metrics": results,
        }
        fields["model-index"] = [{"name": name, "results": [found]}]
    text = yaml.safe_dump(
        {field: value for field, value in fields.items() if value},
        sort_keys=False,
        allow_unicode=True,
    )
    return f"---\n{text}---"


def _summary(config: Config) -> str:
    """Return a sentence on the kind and size of the model."""
    architecture = config["architecture"]
    layers = " + ".join(str(architecture[name]) for name in _row(config).stacks)
    heads = architecture["num_heads"]
    limit = architecture["max_sequence_length"]
    if size := architecture.get("image_size"):
        reads = say("card reads images", size=size, vectors=limit)
    else:
        reads = say("card reads texts", tokens=architecture["vocabulary_size"], limit=limit)
    return say(
        "card summary",
        task=say(f"card task {_row(config).name}"),
        parameters=config["parameters"],
        depth=say("card layer" if layers == "1" else "card layers", layers=layers),
        width=architecture["hidden_dim"],
        heads=say("card head" if heads == 1 else "card heads", heads=heads),
        reads=reads,
    )


def _usage(config: Config, name: str, folder: Path | None) -> str:
    """Return the section on running the model in a shell, in Python and on a phone."""
    row = _row(config)
    if row.is_base:
        return f"## {say('card usage')}\n\n{say('card base usage', path=name)}"
    example = example_of(config)
    lines = [
        f"## {say('card usage')}",
        "",
        say("card shell"),
        "",
        f"    pip install ai-edge-litert numpy {_needs(config)}",
        f"    python run.pyz {shlex.join(example)}",
        "",
    ]
    if row.call:
        given = repr(example[0] if len(example) == 1 else tuple(example))
        lines += [
            "Python (`pip install tfx-transformer`):",
            "",
            "    from tfx_transformer import runtime",
            f"    model = runtime.load({name!r})",
            f"    print(model.{row.call}([{given}]))",
            "",
        ]
    size = config["architecture"].get("image_size")
    lines.append(say("card phone images", size=size) if size else say("card phone"))
    if folder is not None and (folder / bundle.LITERTLM).exists():
        lines[-1] += " " + say("card litertlm")
    return "\n".join(lines)


def _needs(config: Config) -> str:
    if config["architecture"].get("image_size"):
        return "pillow"
    return "tiktoken jinja2" if config.get("chat") else "tiktoken"


def example_of(config: Config) -> list[str]:
    """Return the example input of a model's README: a text, the texts of a row, or an image. It is
    the user's, or a fixed one: never a row of the data."""
    is_image = config["architecture"].get("image_size")
    example = config.get("example", "photo.jpg" if is_image else "I love cats.")
    if isinstance(example, str):
        return [example] + [""] * (config.get("text_columns", 1) - 1) * (not is_image)
    return list(example)


def _labels(config: Config) -> str:
    if not config.get("labels"):
        return ""
    return f"## {say('card labels')}\n\n{', '.join(config['labels'])}"


def _tools(config: Config) -> str:
    """Return the section on the functions that a model calls, or ""."""
    if not config.get("tools"):
        return ""
    names = ", ".join(config["tools"])
    return f"## {say('card tools')}\n\n{say('card declared', names=names, file=bundle.TOOLS)}"


def _target(config: Config) -> str:
    """Return the column that a regressor predicts, with mean and standard deviation, or ""."""
    target = config.get("target")
    if not target:
        return ""
    mean, deviation = (significant(target[name], 4) for name in ("mean", "deviation"))
    return say("card target", column=target["column"], mean=mean, deviation=deviation)


def _data(config: Config) -> str:
    """Return the section on the training data: file, rows and columns, but no content."""
    data = config.get("data") or {}
    if teacher := data.get("teacher"):
        data = data | {"teacher": say("card taught", teacher=teacher)}
    facts = {say(f"card {n}") if n in _DATA else n: value for n, value in data.items()}
    training_data = config.get("training_data", {})
    names = ("rows", "held_out_rows", "tokens", "columns")
    for name in names:
        if value := training_data.get(name):
            text = ", ".join(value) if isinstance(value, list) else f"{value:,}"
            facts[say(f"card {name}")] = text
    return _list(say("card data"), facts)


def _scores(config: Config) -> str:
    """Return the section on scores, the conclusion and the calibration, or ""."""
    name_of = speaker(wording.language())
    shown = {}
    for name, value in (config.get("scores") or {}).items():
        lower = f" ({name_of('lower')})" if lower_is_better(name) else ""
        text = value_text(name, value) if isinstance(value, float) else value
        shown[name_of("held out" if name == "count" else name) + lower] = text
    text = _list(say("card scores"), shown)
    if not text:
        return ""
    conclusion = config.get("conclusion") or {}
    if sentences := conclusion.get("sentences", {}).get(wording.language()):
        text += "\n\n" + "\n".join(sentences)
    if calibration := config.get("calibration"):
        is_changed = calibration["temperature"] != 1
        text += "\n\n" + say(
            "card calibration" if is_changed else "card calibration not needed",
            temperature=calibration["temperature"],
            count=calibration["count"],
            before=100 * calibration["before"]["calibration_error"],
            after=100 * calibration["after"]["calibration_error"],
        )
    return text


def _limits(config: Config) -> str:
    """Return the section on intended use and limits."""
    lines = [say(f"card use {_row(config).name}")]
    if config["architecture"].get("image_size"):
        lines.append(say("card limits images"))
    else:
        limit = config["architecture"]["max_sequence_length"]
        lines += [say("card limits data"), say(_row(config).length, limit=limit)]
    lines += map(say, _row(config).limits)
    lines.append(say("card limits people"))
    return f"## {say('card limits')}\n\n" + "\n".join(f"- {line}" for line in lines)


def _training(config: Config) -> str:
    """Return the section on the training: its time, settings and versions, or ""."""
    facts = dict(config.get("training") or {})
    settings = dict(config.get("settings") or {})
    if not facts and not settings:
        return ""
    if "seconds" in facts:
        facts["seconds"] = duration_text(facts["seconds"], speaker(wording.language()))
    if "waiting" in facts:
        facts["waiting"] = f"{100 * facts['waiting']:.1f} %"
    lines = [
        f"- {say(f'card {name}') if name in _TRAINING else name}: {value}"
        for name, value in facts.items()
    ]
    if settings:
        flags = ", ".join(f"`{_flag(name, value)}`" for name, value in settings.items())
        lines.append(f"- {say('card settings')}: {flags}")
    versions = ", ".join(f"{name} {v}" for name, v in (config.get("versions") or {}).items())
    if versions:
        lines.append(f"- {say('card versions')}: {versions}")
    return f"## {say('card training')}\n\n" + "\n".join(lines)


def _flag(name: str, value: Any) -> str:
    """Return a setting as the flag of a recipe."""
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {value}"


def _files(config: Config, folder: Path | None) -> str:
    """Return a table of the model's files: size and, if measured, milliseconds per example and the
    change of the score by quantization; and the way in which 4-bit weights were rounded."""
    if folder is None:
        return ""
    costs = {row["file"]: row for row in config.get("costs") or []}
    rows = []
    for file in _FORMATS:
        place = folder / file
        if not place.exists():
            continue
        size = bundle.size_of(place)
        cost = costs.get(file, {})
        time, change = cost.get("milliseconds"), cost.get("change")
        cells = [file, f"{size / 1e6:,.2f} MB", "" if time is None else f"{time:.1f}"]
        rows.append([*cells, _change(change)])
    if not rows:
        return ""
    heads = [say(f"card {name}") for name in ("file", "size", "milliseconds", "change")]
    columns = 4 if any(row[3] for row in rows) else 3
    lines = ["| " + " | ".join(row[:columns]) + " |" for row in (heads, *rows)]
    rule = "|---|" + "---:|" * 2 + "---|" * (columns - 3)
    table = "\n".join([f"## {say('card files')}", "", lines[0], rule, *lines[1:]])
    rounded = Choice.from_dict(config.get("int4"))
    if rounded is None or not (folder / bundle.LITERT["int4"]).exists():
        return table
    return f"{table}\n\n{rounded.sentence()}"


def _change(figures: Any) -> str:
    """Return the comparison of a file with the float32 file, in words; "" if there is none that can
    be read."""
    try:
        return Comparison.from_dict(figures).change() if figures else ""
    except (KeyError, TypeError, ValueError):  # another version or person wrote it
        return ""


def _licence(config: Config) -> str:
    """Return the section on the licence of the model, and on that of its base."""
    licence = config.get("license")
    lines = [say("card licence", licence=licence) if licence else say("card no licence")]
    if base := config.get("base"):
        lines.append(say("card base", base=base))
    return f"## {say('card licences')}\n\n" + "\n".join(lines)


def _list(title: str, facts: Mapping[str, Any] | None) -> str:
    """Return a section of facts, one in each line; results of `verify` by their summaries."""
    if not facts:
        return ""
    shown = (
        f"- {key}: {value.get('summary', value) if isinstance(value, Mapping) else value}"
        for key, value in facts.items()
    )
    return f"## {title}\n\n" + "\n".join(shown)
