"""The loss of score by 8 and 4 bits.

Models that the recipes train by default answer rows that they never saw: by the float32 file, the
int8 file, and two int4 files, whose weights are rounded to nearest as LiteRT's quantizer does, or
on 256 training rows (`tfx_transformer/export/choosing.py`). The same models are trained again with
`--quantization-aware int4`; their float32 and int4 files answer too. "points" is the change of the
score against the first float32 file, with its paired 95 % interval; "rounded" is the way that was
chosen on training rows, before a test row is read.

    python -m benchmarks four_bit_files

It takes about 50 minutes on 2 cores, most of it for ten trainings; measured were 25 minutes for
the first five. A bundle that is in the folder for work as saved_models/int4-RECIPE or
int4-aware-RECIPE is not trained again. Expect less than a point by int8.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import commands
from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = None
# Training rows that weights are rounded on, and on which the ways to round are compared.
ROWS = 256
# Arguments of a training that allows for the rounding.
AWARE = ("--quantize", "int4", "--quantization-aware", "int4")

CASES = (
    Case("demo", "translation by default, en_ja_heldout.csv: % exact", {"recipe": "translation"}),
    Case(
        "topics",
        "text_classification by default, labelled_text_heldout.csv: % right",
        {"recipe": "text_classification"},
    ),
    Case(
        "assistant",
        "instruction_finetuning by default, instructions_heldout.csv: % exact",
        {"recipe": "instruction_finetuning"},
    ),
    Case(
        "images",
        "image_classification by default, images/test: % right",
        {"recipe": "image_classification"},
    ),
    Case(
        "similar",
        "embedding by default, en_ja_heldout.csv: % of pairs found",
        {"recipe": "embedding"},
    ),
)


def scores(settings: Settings, way: str) -> dict[str, Any]:
    """The score of a file on test rows, its change, and its size."""
    from tfx_transformer import bundle, runtime

    recipe = settings["recipe"]
    trained = Path(commands.bundle(settings, recipe, f"int4-{recipe}"))
    copies = _copies(trained, recipe)
    plain = folder = copies["nearest" if way == "nearest" else "rounded"]
    if way.startswith("aware"):
        folder = Path(commands.bundle(settings, recipe, f"int4-aware-{recipe}", *AWARE))
    variant = way.removeprefix("aware-")
    variant = variant if variant in ("float32", "int8") else "int4"
    choice = bundle.read_config(folder).get("int4") or {}
    found = _TESTS[recipe](runtime.load(plain, "float32"), runtime.load(folder, variant))
    low, high = found.difference or (0.0, 0.0)
    size = (folder / bundle.LITERT[variant]).stat().st_size
    return {
        "score, %": round(100 * found.new, 2),
        "points": f"{100 * (found.new - found.old):+.2f} ({100 * low:.2f} to {100 * high:.2f})",
        "rows": found.count,
        "file, MB": round(size / 1e6, 2),
        "rounded": choice["way"] if way in ("rounded", "aware") else "",
    }


def _copies(trained: Path, recipe: str) -> dict[str, Path]:
    """Copies of a bundle with its TFLite files, by the way in which the int4 file is rounded. They
    are made in one conversion, unless they are there."""
    from tfx_transformer import bundle, files
    from tfx_transformer.export.calibration import read_inputs
    from tfx_transformer.export.converter import Converter
    from tfx_transformer.export.to_litert import Conversion, finish, note_choice
    from tfx_transformer.models.saving import load

    copies = {way: trained.with_name(f"{trained.name}-{way}") for way in ("nearest", "rounded")}
    if all(copy.exists() for copy in copies.values()):
        return copies
    names = {None: "float32", "int8": "int8", "int4": "int4"}
    made = {
        quantize: trained.with_name(f"{trained.name}.{name}.tflite")
        for quantize, name in names.items()
    }
    nearest = trained.with_name(f"{trained.name}.nearest.tflite")

    class Both(Conversion):
        """Also keeps the file with weights rounded to nearest."""

        def finished(self, quantize):
            if quantize == "int4":
                files.write(nearest, finish(self.converted(quantize).read_bytes()))
            return super().finished(quantize)

    model, tokenizer = load(trained)
    inputs = read_inputs(model, tokenizer, _TRAINING[recipe]()[:ROWS])
    with Converter() as converter, Both(model, made, converter, inputs=inputs) as both:
        pass
    for way, copy in copies.items():
        with bundle.updating(trained) as folder:
            for quantize, name in names.items():
                file = nearest if (way, quantize) == ("nearest", "int4") else made[quantize]
                files.write(folder / bundle.LITERT[name], file.read_bytes())
            note_choice(folder, both.choice if way == "rounded" else None)
        unfinished = copy.with_name(f"{copy.name}.part")
        for old in (unfinished, copy):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(trained, unfinished).rename(copy)
    for file in (nearest, *made.values()):
        file.unlink()
    return copies


def _path(name: str) -> str:
    return str(commands.ROOT / "datasets" / name)


def _inputs_of_images(name: str) -> tuple[list[str], list[str]]:
    """The files and the labels of a folder of images."""
    from tfx_transformer import data

    rows = data.read_labelled_images(_path(f"images/{name}"))
    return list(rows.files), [label for (label,) in rows.labels]


def _training_texts(file: str, read: str, inputs: Callable[[Any], Sequence]) -> list:
    from tfx_transformer import data

    return list(inputs(getattr(data, read)(_path(file))))


_TRAINING: dict[str, Callable[[], list]] = {
    "translation": lambda: _training_texts("en_ja.csv", "read_pairs", lambda x: x.source),
    "text_classification": lambda: _training_texts(
        "labelled_text.csv", "read_labelled_texts", lambda x: [text for (text,) in x.texts]
    ),
    "instruction_finetuning": lambda: _training_texts(
        "instructions.csv", "read_instructions", lambda x: x.first_prompts()
    ),
    "image_classification": lambda: _inputs_of_images("train")[0],
    "embedding": lambda: _training_texts("en_ja.csv", "read_pairs", lambda x: x.source),
}


def _exact(read: str, file: str, plain: Any, other: Any) -> Any:
    """The comparison of the shares of answers that are equal to the reference."""
    from tfx_transformer import data
    from tfx_transformer.evaluation.comparison import compare_shares

    rows = getattr(data, read)(_path(file))
    if read == "read_pairs":
        prompts, references = rows.source, rows.target
    else:
        prompts, references = rows.first_prompts(), rows.answers()
    right = [
        [
            answer.strip() == reference.strip()
            for answer, reference in zip(
                model.generate(list(prompts), truncate=True), references, strict=True
            )
        ]
        for model in (plain, other)
    ]
    return compare_shares("exact_match", *map(np.array, right))


def _labels(plain: Any, other: Any, inputs: Sequence[Any], truth: Sequence[str]) -> Any:
    """The comparison of the shares of labels that are right."""
    from tfx_transformer.evaluation.comparison import compare_shares

    right = [
        [answer.label == label for answer, label in zip(model.classify(inputs), truth, strict=True)]
        for model in (plain, other)
    ]
    return compare_shares("accuracy", *map(np.array, right))


def _topics(plain: Any, other: Any) -> Any:
    from tfx_transformer import data

    rows = data.read_labelled_texts(_path("labelled_text_heldout.csv"))
    texts, labels = ([cell for (cell,) in cells] for cells in (rows.texts, rows.labels))
    return _labels(plain, other, texts, labels)


def _similar(plain: Any, other: Any) -> Any:
    from tfx_transformer import data
    from tfx_transformer.training.trials import compare_vectors

    rows = data.read_pairs(_path("en_ja_heldout.csv"))
    vectors = [
        list(zip(model.embed(list(rows.source)), model.embed(list(rows.target)), strict=True))
        for model in (plain, other)
    ]
    return compare_vectors(None, *vectors)


_TESTS: dict[str, Callable[[Any, Any], Any]] = {
    "translation": functools.partial(_exact, "read_pairs", "en_ja_heldout.csv"),
    "text_classification": _topics,
    "instruction_finetuning": functools.partial(
        _exact, "read_instructions", "instructions_heldout.csv"
    ),
    "image_classification": lambda plain, other: _labels(plain, other, *_inputs_of_images("test")),
    "embedding": _similar,
}

SYSTEMS = tuple(
    System(f"tfx-{way}", title, functools.partial(scores, way=way), OURS, KERAS)
    for way, title in (
        ("float32", "float32"),
        ("int8", "int8"),
        ("nearest", "int4, to nearest"),
        ("rounded", "int4, on training rows"),
        ("aware-float32", "float32, trained for int4"),
        ("aware", "int4, trained for it"),
    )
)
