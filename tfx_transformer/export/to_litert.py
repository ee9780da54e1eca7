"""TFLite (LiteRT) files: the conversion of a model's signatures."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfx_transformer import bundle, files
from tfx_transformer.console import COLUMNS, wrapped
from tfx_transformer.errors import InputError
from tfx_transformer.evaluation.rounding import Choice, check_four_bits
from tfx_transformer.export import compact, four_bit_file, gpu_graph, saved_model_file
from tfx_transformer.export.calibration import read_inputs
from tfx_transformer.export.converter import Converter
from tfx_transformer.export.kept_floats import keep_floats
from tfx_transformer.export.standalone import write_run_pyz
from tfx_transformer.export.tasks import task_of
from tfx_transformer.export.tensorflow_process import on_tensorflow
from tfx_transformer.generation import GenerationOptions
from tfx_transformer.images import read_image, resize
from tfx_transformer.models.saving import load


@on_tensorflow
def litert(
    path: str | os.PathLike,
    quantize: str | None = None,
    beams: int = 4,
    context: int | None = None,
    calibration: Sequence = (),
) -> None:
    """Add a TFLite file to a bundle: `model.tflite`, `model.int8.tflite` and so on.

    Args:
        path: the bundle's folder.
        quantize: None: float32; "int8": 8-bit weights, one scale per row; "int4": 4-bit weights,
            one scale for 32 of them. Both quantize activations to 8 bits while they run.
            "full_int8", for image classifiers only: activations have fixed scales too, for chips
            that compute with integers only.
        beams: also export beam search of this width; 1: greedy decoding and sampling only.
        context: most tokens of prompt and answer together, for a decoder-only model; None: the
            model's maximum. A cache of this size takes memory, full or not.
        calibration: some hundred examples like those of the training set: image files for
            "full_int8"; texts, tuples of texts or image files for "int4", whose weights are rounded
            so that the answers to them change least.

    Raises:
        InputError: the bundle is damaged, an argument has another value, or the model cannot be
            quantized in this way.
    """
    if quantize not in (None, "int8", "int4", "full_int8"):
        raise InputError(
            f"quantize is {quantize!r}.\n  Expected None, 'int8', 'int4' or 'full_int8'."
        )
    check_calibration(quantize, calibration)
    GenerationOptions(beams=beams)  # raises for an impossible width
    with Converter() as converter:
        model, tokenizer = load(path)
        longest = model.config.max_sequence_length
        if context is not None and not (task_of(model).has_context and 2 <= context <= longest):
            raise InputError(
                f"context is {context}.\n  Expected, of a decoder-only model, 2 to {longest:,}."
            )
        images = calibration_images(model, calibration) if quantize == "full_int8" else None
        inputs = read_inputs(model, tokenizer, calibration) if quantize == "int4" else None
        with bundle.updating(path) as folder:
            file = folder / bundle.LITERT[quantize or "float32"]
            drafts = bundle.read_config(folder).get("drafts", True)
            examples = {"images": images, "inputs": inputs, "drafts": drafts}
            conversion = Conversion(model, {quantize: file}, converter, beams, context, **examples)
            with conversion:
                write_run_pyz(folder)
            if quantize == "int4":
                note_choice(folder, conversion.choice)


def note_choice(folder: Path, choice: Choice | None) -> None:
    """Write into the config.json of a bundle how the weights of its int4 file were rounded.

    Args:
        folder: the bundle's folder.
        choice: the way; None: no rows were given.
    """
    facts = choice.to_dict() if choice else None
    bundle.write_config(folder, bundle.read_config(folder) | {"int4": facts})


def check_calibration(quantize: str | None, calibration: Sequence) -> None:
    """Raise if examples are given for a number format that does not need any.

    Raises:
        InputError: they are.
    """
    if len(calibration) and quantize not in ("int4", "full_int8"):
        raise InputError(
            f"calibration is given, and the weights become {quantize or 'float32'}.\n"
            "  Only int4 and full_int8 need examples. Quantize to int4, or drop it."
        )


def calibration_images(model, files: Sequence) -> np.ndarray:
    """Return the pixels from which "full_int8" learns its scales, float32 (images, size, size, 3).

    Raises:
        InputError: the model does not read images, or `files` is empty.
    """
    size = model.config.image_size
    if not size or not len(files):
        raise InputError(
            "full_int8 needs an image classifier and images of its training set.\n"
            "  Use int8 for other models."
        )
    method = model.config.image_resize
    return np.stack([resize(read_image(file), size, method) for file in files])


def convert(
    model,
    path: str | os.PathLike,
    quantize: str | None = None,
    beams: int = 1,
    context: int | None = None,
    rows: int | None = None,
    images: np.ndarray | None = None,
) -> None:
    """Write a model as one TFLite file; see `Conversion`."""
    files = {quantize: Path(path)}
    with (
        Converter() as converter,
        Conversion(model, files, converter, beams, context, rows, images),
    ):
        pass


class Conversion:
    """The conversion of a model to TFLite files, which exist when the block ends without an error.

    The model is traced once for all files. The converter runs in a process of its own, so that the
    block can do other things meanwhile.

    Args:
        model: a float32 model of any task but "masked".
        files: the file to write for each of None (float32), "int8" and "int4", or for "full_int8"
            alone; see `litert`.
        converter: see `converter`.
        beams, context, rows: see `tasks.Task`.
        images: float32 (images, size, size, 3), from which "full_int8" learns its scales.
        table: the functions of the files, as `tasks.Task.signatures` returns them; None: those of
            the model's task.
        byte_ends: in a "full_int8" file also input and output are uint8.
        inputs: inputs of the model by name, on which the weights of an "int4" file are rounded: see
            `calibration.join_inputs`; None: their scales alone are chosen.
        drafts: a model that writes gets steps that read several tokens: see `generation.drafting`.

    Attributes:
        choice: the way in which the weights of an "int4" file were rounded on the inputs; None: no
            such file, or no inputs.
        failed: the error of each file that could not be made. The block raises the first of them,
            after the other files were written.

    Raises:
        InputError: the model cannot be quantized in this way.
        RuntimeError: a file would need operations that LiteRT does not have, or would read
            variables that were never set.
    """

    def __init__(
        self,
        model,
        files: Mapping[str | None, Path],
        converter: Converter,
        beams: int = 1,
        context: int | None = None,
        rows: int | None = None,
        images: np.ndarray | None = None,
        table: dict[str, tuple] | None = None,
        byte_ends: bool = False,
        inputs: Mapping[str, Any] | None = None,
        drafts: bool = True,
    ) -> None:
        if "int4" in files:
            check_four_bits(model.config)
        self.model, self.files, self.converter, self.images = model, dict(files), converter, images
        self.table = table or task_of(model).signatures(model, beams, context, rows)
        if not drafts:
            self.table = {n: found for n, found in self.table.items() if "verify_" not in n}
        if images is not None and table is None:
            # The converter learns the scales of one signature only.
            self.table = {"run_1": self.table["run_1"]}
        self.byte_ends, self.inputs = byte_ends, inputs
        self.choice: Choice | None = None
        self.failed: dict[str | None, Exception] = {}
        # Next to the files, so that it is removed with an unfinished bundle.
        self._folder = tempfile.TemporaryDirectory(dir=next(iter(self.files.values())).parent)

    def __enter__(self) -> Conversion:
        try:
            self._trace()
            self.converter.submit(self._request())
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            if kind is None:
                self._write_files()
        finally:
            self._folder.cleanup()

    def _write_files(self) -> None:
        """Write the files that can be made; then raise the first error."""
        unconverted: RuntimeError | None = None
        try:
            self.converter.wait()
        except RuntimeError as error:  # perhaps some files were converted before
            unconverted = error
        for quantize, file in self.files.items():
            try:
                if unconverted is not None and not self.converted(quantize).is_file():
                    raise unconverted
                _check_operations(self.converted(quantize))
                files.write(file, self.finished(quantize))
            except Exception as error:
                self.failed[quantize] = error
        for error in self.failed.values():
            raise error

    def finished(self, quantize: str | None) -> bytes:
        """Return the file of a number format as it is written; a subclass may add to it."""
        content = self.converted(quantize).read_bytes()
        if quantize != "int4":
            return finish(content, keep_floats if quantize == "full_int8" else None)
        plain = compact.unpack(self.converted(None).read_bytes())

        def round_weights(file: Any) -> None:
            self.choice = four_bit_file.round_weights(file, plain, self.model, self.inputs)

        finished = finish(content, round_weights)
        if self.choice is not None:
            print("\n".join(wrapped(f"  {self.choice.sentence()}", COLUMNS, "    ")))
        return finished

    def _trace(self) -> None:
        """Write the functions of the model as a SavedModel, for the converter."""
        with _shared_tables(self.model):
            saved_model_file.write_functions(self.model, self.table, self._folder.name)

    def converted(self, quantize: str | None) -> Path:
        """Return the path of the converter's file, before `finished`."""
        return Path(self._folder.name, f"{quantize or 'float32'}.tflite")

    def _variants(self) -> set[str | None]:
        """Return the variants that the converter writes: with "int4" also float32, whose weights
        are rounded."""
        return {*self.files, *([None] if "int4" in self.files else [])}

    def _request(self) -> dict[str, Any]:
        request: dict[str, Any] = {
            "saved_model": self._folder.name,
            "names": list(self.table),
            "files": {q or "float32": str(self.converted(q)) for q in self._variants()},
        }
        if self.images is not None:
            request["calibration"] = str(Path(self._folder.name, "calibration.npy"))
            np.save(request["calibration"], self.images)
            request["byte_ends"] = self.byte_ends
        return request


def finish(content: bytes, change: Callable[[Any], None] | None = None) -> bytes:
    """Return a converted file in a form that GPUs compute correctly, and in fewer bytes.

    Args:
        content: the file.
        change: changes the unpacked file first.

    Raises:
        RuntimeError: a GPU would still compute something wrongly.
    """
    model = compact.unpack(content)
    if change is not None:
        change(model)
    gpu_graph.adapt(model)
    compact.compact(model)
    if faults := gpu_graph.problems(model):
        raise RuntimeError("a GPU would answer wrongly:\n  " + "\n  ".join(faults[:9]))
    return compact.pack(model)


@contextlib.contextmanager
def _shared_tables(model):
    """Make look-up and read-out share one table in the file, and quantize all tables but those of
    single numbers, which would need a scale each.

    Ids are looked up by an operation that becomes EMBEDDING_LOOKUP: a table that GATHER reads stays
    float32 when the file is quantized. The input of the read-out passes an operation that
    changes nothing: else the converter would multiply the scale of the norm before it into a copy
    of the table.
    """

    @tf.function(autograph=False, experimental_implements="embedding_matmul")
    def lookup(table, ids):
        return tf.gather(table, ids)

    def lookup_any_shape(table, ids):
        vectors = lookup(table, tf.reshape(ids, [-1]))
        return tf.reshape(vectors, [*ids.shape, table.shape[1]])

    def call(inputs, reverse=False):
        if reverse:
            inputs = tf.maximum(inputs, inputs.dtype.min)
        return original_call(inputs, reverse)

    tables = [table for table in model.tables if table.output_dim > 1]
    tied = [model.embedding] if model.scores_tokens and model.embedding.tie_weights else []
    original_call = model.embedding.call
    for layer in tables:
        layer.lookup = lookup_any_shape
    for layer in tied:
        layer.call = call
    try:
        yield
    finally:
        for layer in tied:
            del layer.call
        for layer in tables:
            del layer.lookup


def _check_operations(path: str | os.PathLike) -> None:
    """Raise if a file has Flex operations (not in LiteRT) or VAR_HANDLEs (weights left behind)."""
    operations = operation_names(path)
    unwanted = sorted(o for o in operations if o.startswith("Flex") or o == "VAR_HANDLE")
    if unwanted:
        Path(path).unlink()
        raise RuntimeError(
            f"the TFLite file would hold {', '.join(unwanted)}, which LiteRT cannot run."
        )


def operation_names(path: str | os.PathLike) -> set[str]:
    """Return the names of all operations in a TFLite file, such as FULLY_CONNECTED or FlexErf."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    model = schema.Model.GetRootAs(Path(path).read_bytes(), 0)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    return {
        code.CustomCode().decode()
        if code.BuiltinCode() == schema.BuiltinOperator.CUSTOM
        else names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        for code in codes
    }
