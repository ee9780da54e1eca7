"""Images with labels, from a folder for each label or a CSV, to batches for `fit`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tfx_transformer import reprs
from tfx_transformer.data.batches import Batches, BatchPlan, tf_dataset
from tfx_transformer.data.examples import Examples
from tfx_transformer.data.formats import TableFiles, is_table_folder
from tfx_transformer.data.image_files import (
    SUFFIXES,
    image_digests,
    in_threads,
    problems_of,
    usable_images,
)
from tfx_transformer.data.joined import (
    join_examples,
    label_columns,
    row_labels,
    without_open_rows,
)
from tfx_transformer.data.labels import example_weights, label_ids, split_stratified
from tfx_transformer.data.sources import TableData, as_label, as_text, is_table
from tfx_transformer.data.tables import BadRow, read_table
from tfx_transformer.errors import InputError
from tfx_transformer.images import image_size, pixels_of, read_image, resize

# Resized images are kept in memory up to this many bytes.
_MEMORY = 2 * 1024**3


@dataclasses.dataclass(frozen=True, repr=False)
class LabelledImages(Examples):
    """Image files, their labels, and the table row of each.

    Images of a folder are numbered from 1 in the order of their labels and names. Images read from
    memory are pixels, uint8 (height, width, 3), instead of files.
    """

    files: list[Any]
    labels: list[tuple[str, ...]]
    rows: list[Any]
    path: str = ""
    bad_rows: list[BadRow] = dataclasses.field(default_factory=list)
    tables: Sequence[int] | None = None
    predicted: Sequence[bool] | None = None
    open_rows: int = 0

    parts: ClassVar[tuple[str, ...]] = ("files", "labels")
    noun: ClassVar[str] = "image"

    def shown(self, index: int) -> str:
        file = self.files[index]
        is_held = isinstance(file, np.ndarray)
        name = f"{file.shape[1]} × {file.shape[0]} pixels" if is_held else str(file)
        return f"{name} → {reprs.short_list(self.labels[index])}"

    @property
    def inputs(self) -> list[Any]:
        """The images to classify."""
        return self.files

    def targets(self, names: Sequence[str]) -> np.ndarray:
        """int32 (examples,): see `labels.label_ids`."""
        return label_ids(self.labels, names, path=self.path or "labelled images", rows=self.rows)

    def keys(self) -> Iterator[str]:
        """Yield a hash of each file's bytes: see `Examples.keys`."""
        return iter(self.digests())

    def digests(self) -> list[str]:
        """See `image_digests`."""
        return image_digests(self.files)


def read_labelled_images(
    path: TableData,
    image: str = "path",
    label: str = "label",
    *,
    skip_bad_rows: bool = False,
) -> LabelledImages:
    """Find labelled images and check that each can be decoded.

    Args:
        path: a folder that holds one folder of images for each label, or a table of paths and
            labels, or several as `formats.table_files` returns them. In a folder, names that begin
            with a dot are skipped. Or a table in memory: a pandas DataFrame, a dictionary of
            columns, or a list of (image, label) or of dictionaries; its images are paths, Pillow
            images or arrays, uint8 (height, width, 3).
        image, label: names of the table's two columns; paths start at the table's folder.
        skip_bad_rows: leave out images that cannot be used and list them in `bad_rows`, instead of
            refusing all. Their `values` are path and label.

    Raises:
        InputError: an image is missing, not an image, damaged or too large (see
            `images.read_image`); a folder is empty, or an image is outside the folders of the
            labels; no image is usable; for a table see `tables.read_table`.
    """
    if isinstance(path, TableFiles):
        return join_examples(
            [
                read_labelled_images(part, image, label, skip_bad_rows=skip_bad_rows)
                for part in path.paths
            ],
            os.fspath(path),
        )
    is_folder = not is_table(path) and os.path.isdir(path) and not is_table_folder(path)
    found = _in_folder(Path(path)) if is_folder else _in_table(path, image, label, skip_bad_rows)
    column = None if is_folder else image
    return usable_images(found, found.labels, column, is_table(path), skip_bad_rows)


def read_image_files(path: str | os.PathLike[str], column: str = "path") -> list[Path]:
    """Return the image files that a column of a table names, or those of a folder that has a folder
    of images for each label. Each can be decoded.

    Args:
        path: the table or folder; in a table paths start at its folder.
        column: name of the column of the paths.

    Raises:
        InputError: see `read_labelled_images`.
    """
    if os.path.isdir(path) and not is_table_folder(path):
        return read_labelled_images(path).files
    table = read_table(path, {"column": column})
    files = [Path(table.path).parent / cell.strip() for cell in table.columns["column"]]
    problems = problems_of(files, "folder of the table")
    for row, problem in zip(table.rows, problems, strict=True):
        if problem:
            raise InputError(f"{table.path}, row {row}: {problem}")
    return files


def split_labelled_images(
    examples: LabelledImages, share: float = 0.1, seed: int = 0
) -> tuple[LabelledImages, LabelledImages]:
    """Return training and validation images, a share of every label; see `labels.split_stratified`.

    Copies of a file go to the same side.
    """
    inside, outside = split_stratified(
        examples.labels, examples.digests(), share, seed, path=examples.path or "labelled images"
    )
    return examples.take(inside), examples.take(outside)


def labelled_images(
    examples: LabelledImages,
    names: Sequence[str],
    *,
    image_size: int = 32,
    image_resize: Mapping[str, Any] | None = None,
    batch_size: int = 64,
    weights: np.ndarray | str | None = None,
    shuffle: bool = True,
    seed: int = 0,
) -> Batches:
    """Return a `tf.data.Dataset` of batches for `Classifier.fit` and `evaluate`.

    Each batch is ({`images`}, labels, sample weights): float32 (batch, image_size, image_size, 3)
    from 0 to 255, float32 (batch, classes) with a 1 for the label, and float32 (batch,). Every
    iteration over the data set is the next epoch, in the order `BatchPlan` gives for (seed, epoch).

    Images are decoded once and kept if together they need less than 2 GiB at this size, else anew
    for each batch.

    Args:
        names: the classes, in the order of the model's outputs.
        image_size: images are resized to this width and height; see `images.resize`.
        image_resize: method of resizing, as in `TransformerConfig.image_resize`.
        weights: float (classes,), weight of an example of each class; "balanced": see
            `labels.class_weights`; None or "": 1.
        shuffle: False keeps the order of the images.

    Raises:
        InputError: a label is not one of `names`, or a file has changed and cannot be decoded.
    """
    ids = examples.targets(names)
    return image_batches(
        examples.files,
        np.eye(len(names), dtype="float32")[ids],
        example_weights(weights, ids, len(names)),
        image_size=image_size,
        image_resize=image_resize,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
    )


def image_batches(
    files: Sequence[Any],
    targets: np.ndarray,
    weight: np.ndarray,
    *,
    image_size: int,
    image_resize: Mapping[str, Any] | None = None,
    batch_size: int,
    shuffle: bool = True,
    seed: int = 0,
) -> Batches:
    """Return a `tf.data.Dataset` of batches of images and their targets.

    Args:
        files: the images.
        targets: (images, …), in the dtype of the batches.
        weight: float32 (images,).
        image_size, image_resize, batch_size, shuffle, seed: as for `labelled_images`.

    Raises:
        InputError: a file has changed and cannot be decoded, or `image_size` is below 1.
    """
    if image_size < 1:
        raise InputError(
            f"image_size is {image_size}.\n  Expected 1 or more; a base that reads texts has 0."
        )
    kept = None
    if len(files) * image_size * image_size * 3 < _MEMORY:
        kept = decode_images(files, image_size, image_resize)
    plan = BatchPlan(np.zeros(len(files)), batch_size, shuffle=shuffle, seed=seed)

    def batch(indices):
        if kept is None:
            pixels = decode_images([files[i] for i in indices], image_size, image_resize)
        else:
            pixels = kept[indices]
        return {"images": pixels.astype("float32")}, targets[indices], weight[indices]

    return tf_dataset(plan, batch)


def decode_images(
    files: Sequence[Any], image_size: int, image_resize: Mapping[str, Any] | None = None
) -> np.ndarray:
    """Return uint8 (files, image_size, image_size, 3): each image resized and rounded;
    `image_resize`: see `labelled_images`."""
    pixels = np.empty((len(files), image_size, image_size, 3), "uint8")

    def decode(index):
        pixels[index] = np.rint(resize(_pixels(files[index]), image_size, image_resize))

    in_threads(decode, range(len(files)))
    return pixels


def _in_folder(folder: Path) -> LabelledImages:
    """All files of the label folders, usable or not, sorted by label and name."""
    inside = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    for entry in inside:
        if entry.is_file() and entry.suffix.lower() in SUFFIXES:
            raise InputError(
                f"{entry}: the image is not in the folder of a label.\n"
                f"  Move it into one, such as {folder / 'dog' / entry.name}."
            )
    files, labels = [], []
    for entry in filter(Path.is_dir, inside):
        found = [file for file in sorted(entry.iterdir()) if not file.name.startswith(".")]
        files += found
        labels += [(entry.name,)] * len(found)
        if not found:
            raise InputError(
                f"{entry}: there is no image of this label.\n  Add some, or remove the folder."
            )
    if not files:
        raise InputError(
            f"{folder}: there is no folder with images in it.\n"
            "  Expected one folder for each label, named like it, such as dog/1.jpg, cat/1.jpg;\n"
            "  or name a CSV with columns for path and label."
        )
    return LabelledImages(files, labels, list(range(1, len(files) + 1)), str(folder))


def _in_table(data: TableData, image: str, label: str, skip_bad_rows: bool) -> LabelledImages:
    """The images of a table, usable or not."""
    of_labels = label_columns(data, label)
    table = read_table(
        data,
        {"image": image} | of_labels,
        skip_bad_rows=skip_bad_rows,
        allow_empty=of_labels if "predicted" in of_labels else (),
        convert={"image": as_image} | dict.fromkeys(of_labels, as_label),
    )
    folder = table.path.parent if isinstance(table.path, Path) else Path()
    labels, predicted = row_labels(table.columns)
    found = LabelledImages(
        [
            folder / cell.strip() if isinstance(cell, str) else cell
            for cell in table.columns["image"]
        ],
        labels,
        list(table.rows),
        str(table.path),
        table.bad_rows,
        predicted=predicted,
    )
    return found if predicted is None else without_open_rows(found)


def as_image(value: Any) -> str | np.ndarray:
    """Return a path as a text, an image in memory as pixels; see `sources.as_text`."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "convert") or isinstance(value, np.ndarray):
        return pixels_of(value)
    return as_text(value)


def _pixels(file: Any) -> np.ndarray:
    return file if isinstance(file, np.ndarray) else read_image(file)


def size_of(file: Any) -> tuple[int, int]:
    """Return width and height of an image, by the header of its file."""
    if isinstance(file, np.ndarray):
        return file.shape[1], file.shape[0]
    return image_size(file)
