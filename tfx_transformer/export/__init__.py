"""Exports of trained models to files that run elsewhere, each compared with its model."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfx_transformer import bundle
from tfx_transformer.console import begin, doing
from tfx_transformer.errors import InputError
from tfx_transformer.evaluation.rounding import check_four_bits
from tfx_transformer.export import agreement
from tfx_transformer.export.calibration import training_rows
from tfx_transformer.export.converter import Converter
from tfx_transformer.export.repetition import repeats
from tfx_transformer.export.standalone import write_run_pyz
from tfx_transformer.export.tasks import TASKS
from tfx_transformer.export.tensorflow_process import on_tensorflow
from tfx_transformer.export.to_litert import (
    Conversion,
    calibration_images,
    litert,
    note_choice,
)
from tfx_transformer.export.to_litertlm import litertlm, write_litertlm
from tfx_transformer.export.to_mediapipe import mediapipe
from tfx_transformer.export.to_saved_model import saved_model, write_saved_model
from tfx_transformer.export.to_transformers import transformers
from tfx_transformer.export.verification import verify
from tfx_transformer.generation.text import Prompt
from tfx_transformer.models.decoding import KerasEngine
from tfx_transformer.models.lora import has_adapters
from tfx_transformer.models.memoized import MemoizedEngine
from tfx_transformer.models.predicting import EncoderEngine
from tfx_transformer.models.saving import load
from tfx_transformer.prediction.answers import TablePredictor
from tfx_transformer.reprs import duration

__all__ = [
    "agreement",
    "everything",
    "litert",
    "litertlm",
    "mediapipe",
    "saved_model",
    "training_rows",
    "transformers",
    "verify",
]

# Enough to show a difference; `tfx-transformer export --check` takes a whole file.
_SENTENCES = 200

_RUN = "run.pyz"
_NAMES = {file: name for name, file in agreement.FILES.items()}


@on_tensorflow
def everything(
    path: str | os.PathLike,
    inputs: Sequence,
    beams: int = 4,
    calibration: Sequence = (),
    only_missing: bool | None = None,
    generator: TablePredictor | None = None,
    int4: Mapping[str, Any] | None = None,
    written: Sequence[tuple[Prompt, str]] | None = None,
) -> dict[str, Any]:
    """Add SavedModel, TFLite float32 and int8 and `run.pyz` to a bundle, for a decoder-only model
    also `.litertlm`. Verify them on the first of the given texts or image files, remove an export
    that does not answer as the model does, and return the results of `verify`.

    Args:
        path: the bundle's folder.
        inputs: texts or image files.
        beams: see `litert`.
        calibration: image files of the training set, with which an image classifier also gets a
            TFLite file of integers only.
        only_missing: True: keep the exports that the bundle has. False: make all of them. None:
            keep them if some are missing or were never verified, as after an interruption; else
            make all of them.
        generator: generator or predictor of the trained model, with compiled functions. It gives
            the answers that the exports are compared with if it computes as the bundle's model
            does: in float32 and without adapters. None: compile the bundle's model.
        int4: inputs from `training_rows`: the bundle also gets a TFLite file of 4-bit weights,
            rounded so that its answers to them change least. None: no such file.
        written: prompts of held-out rows with their right answers, of a model that writes. If the
            answers repeat little of what is before them, TFLite files have no steps that read
            several tokens of a text, which make the export longer: see `generation.drafting`. None:
            they have such steps.

    Raises:
        InputError: an export could not be made. This and any other error is raised after all other
            exports were made and verified.
    """
    config = bundle.read_config(path)
    if config["task"] not in TASKS:
        print(f"A {config['task']} model is a base: fine-tune it with --base. It is not exported.")
        return {}
    more = TASKS[config["task"]].also
    wanted = [bundle.SAVED_MODEL, bundle.LITERT["float32"], bundle.LITERT["int8"]]
    wanted += [*more] + [bundle.LITERT["full_int8"]] * bool(calibration)
    wanted += [bundle.LITERT["int4"]] * (int4 is not None)
    missing = [name for name in wanted if not Path(path, name).exists()]
    if only_missing is False or (only_missing is None and not missing and "verified" in config):
        missing = wanted
    also = "".join(f", {name}" for name in more)
    formats = "float32 and int8" if int4 is None else "float32, int8 and int4"
    begin(f"exporting {path}/: SavedModel, TFLite {formats}{also}, run.pyz")
    if len(missing) < len(wanted):
        print(f"  there already: {', '.join(name for name in wanted if name not in missing)}")
    model, failed = None, {}
    if missing:
        with Converter() as converter:
            model, tokenizer = load(path)
            with bundle.updating(path) as folder:
                if written is not None:
                    drafts = repeats(model, tokenizer, written)
                    bundle.write_config(folder, bundle.read_config(folder) | {"drafts": drafts})
                exports = _Exports(folder, model, tokenizer, converter, missing)
                exports.make(beams, calibration[:_SENTENCES], int4)
                failed = exports.failed
    doing("comparing the exports with the model")
    known = generator if _computes_as_saved(generator) else None
    results = verify(path, list(inputs)[:_SENTENCES], model, generator=known)
    if "TFLite int4" in results and (rounded := bundle.read_config(path).get("int4")):
        results["TFLite int4"]["rounded"] = rounded
    for error in failed.values():
        if not isinstance(error, InputError):
            names = ", ".join(failed)
            error.add_note(f"So {path} has no {names}. Its other exports were verified.")
            raise error
    if failed:
        reasons = [f"{name}: {error}" for name, error in failed.items()]
        raise InputError(
            f"{path} has the trained model, but not all exports:\n  "
            + "\n  ".join(reasons)
            + "\n  The others were verified. Repeat the command to try these again."
        )
    return results


def _computes_as_saved(answering: Any) -> bool:
    """Return True if a generator or a predictor computes as the model that was saved: in float32,
    without adapters."""
    engine = getattr(answering, "engine", None)
    if isinstance(engine, MemoizedEngine):
        engine = engine.engine
    if not isinstance(engine, KerasEngine | EncoderEngine):
        return False
    model = engine.model
    return model.dtype_policy.name == "float32" and not has_adapters(model)


class _Exports:
    """The missing exports of a bundle; if one fails, the others are still made.

    Attributes:
        failed: the error of each export that could not be made, by its name.
    """

    def __init__(
        self, folder: Path, model, tokenizer, converter: Converter, missing: Sequence[str]
    ) -> None:
        self.folder, self.model, self.tokenizer = folder, model, tokenizer
        self.converter, self.missing = converter, missing
        self.failed: dict[str, Exception] = {}
        self._made, self._begin = 0, time.monotonic()
        self._has_tried_saved_model = False

    def make(
        self, beams: int, calibration: Sequence, int4: Mapping[str, Any] | None = None
    ) -> None:
        """Make all missing exports."""
        variants = {None: bundle.LITERT["float32"], "int8": bundle.LITERT["int8"]}
        if int4 is not None:
            try:
                check_four_bits(self.model.config)
                variants["int4"] = bundle.LITERT["int4"]
            except InputError as error:
                self.failed[bundle.LITERT["int4"]] = error
        targets = {q: self.folder / name for q, name in variants.items() if name in self.missing}
        if targets:
            self._convert(targets, beams, int4)
        self._save_model()
        with self._trying(_RUN):
            write_run_pyz(self.folder)
        if bundle.LITERTLM in self.missing and bundle.LITERT["int8"] not in self.failed:
            with self._trying(bundle.LITERTLM):
                write_litertlm(self.folder, self.model, self.tokenizer, self.converter, "int8")
        if bundle.LITERT["full_int8"] in self.missing:
            with self._trying(bundle.LITERT["full_int8"]):
                images = calibration_images(self.model, calibration)
                target = {"full_int8": self.folder / bundle.LITERT["full_int8"]}
                with Conversion(self.model, target, self.converter, images=images):
                    pass

    def _convert(
        self, targets: Mapping[str | None, Path], beams: int, int4: Mapping[str, Any] | None
    ) -> None:
        """Make TFLite files by one conversion, and the SavedModel meanwhile.

        Args:
            targets: see `Conversion`.
            beams, int4: see `everything`.
        """
        with self._trying(*(file.name for file in targets.values())) as failed:
            drafts = bundle.read_config(self.folder).get("drafts", True)
            conversion = Conversion(
                self.model, targets, self.converter, beams, inputs=int4, drafts=drafts
            )
            try:
                with conversion:
                    self._save_model()
            except Exception:
                if not conversion.failed:
                    raise
                failed |= {targets[q].name: error for q, error in conversion.failed.items()}
            if "int4" in targets and "int4" not in conversion.failed:
                note_choice(self.folder, conversion.choice)

    def _save_model(self) -> None:
        """Write the SavedModel, unless that was tried already."""
        if bundle.SAVED_MODEL in self.missing and not self._has_tried_saved_model:
            self._has_tried_saved_model = True
            with self._trying(bundle.SAVED_MODEL):
                write_saved_model(self.folder, self.model, self.tokenizer)

    @contextlib.contextmanager
    def _trying(self, *names: str) -> Iterator[dict[str, Exception]]:
        """Record the errors of the exports that the block makes, and remove what these have
        written; print the names of the other exports with the time since the beginning.

        Args:
            names: all exports of the block.

        Yields: a dictionary, into which the block may put the errors of single exports. If the
            block raises an error, it counts for all of them.
        """
        failed: dict[str, Exception] = {}
        try:
            yield failed
        except Exception as error:
            failed = dict.fromkeys(names, error)
        for name in names:
            if name in failed:
                self.failed[name] = failed[name]
                shutil.rmtree(self.folder / name, ignore_errors=True)
                with contextlib.suppress(OSError):
                    (self.folder / name).unlink()
                continue
            self._made += 1
            seconds = duration(time.monotonic() - self._begin)
            shown = _NAMES.get(name, name)
            print(f"  {self._made} of {len(self.missing) + 1}  {shown}, {seconds}", flush=True)
