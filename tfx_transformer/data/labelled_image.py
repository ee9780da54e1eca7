"""Images with labels, from a folder for each label or a CSV, to batches for `fit`."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tfx_transformer import reprs
from tfx_transformer.arguments import flag_for
from tfx_transformer.data.batches import Batches, BatchPlan, tf_dataset
from tfx_transformer.data.examples import Examples
from tfx_transformer.data.formats import TableFiles, is_table_folder
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
from tfx_transformer.images import check_image, image_size, pixels_of, read_image, resize

# Endings of image names; the content of a file decides its format.
_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})

# A longer path is probably a text in the wrong column.
_LONGEST_SHOWN = 300

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
        """A hash of each file's bytes: equal for copies, whatever their names."""
        return in_threads(_digest, self.files)


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
    base = "working folder" if is_table(path) else "folder of the table"
    problems = in_threads(functools.partial(_problem, base=base), found.files)
    bad = [i for i, problem in enumerate(problems) if problem]
    if bad and not skip_bad_rows:
        place = "" if is_folder else f"{found.path}, row {found.rows[bad[0]]}: "
        flag = flag_for("skip_bad_rows")
        skip = f"\n  Or pass {flag} (skip_bad_rows=True) to leave out such images\n"
        skip += "  (they are then listed among the bad rows)."
        raise InputError(f"{place}{problems[bad[0]]}{skip if flag else ''}")
    if len(bad) == len(found):
        raise InputError(
            f"{found.path}: none of the {len(bad)} images can be used.\n  {problems[0]}"
        )
    bad_rows = found.bad_rows + [
        BadRow(
            found.rows[i],
            None if is_folder else image,
            problems[i].partition("\n")[0].removesuffix("."),
            (str(found.files[i]), *found.labels[i]),
        )
        for i in bad
    ]
    kept = found.take([i for i, problem in enumerate(problems) if not problem])
    if not is_table(path):  # rows in memory may have any names
        bad_rows.sort(key=lambda row: row.row)
    return dataclasses.replace(kept, bad_rows=bad_rows)


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
    problems = in_threads(functools.partial(_problem, base="folder of the table"), files)
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
    if image_size < 1:
        raise InputError(
            f"image_size is {image_size}.\n  Expected 1 or more; a base that reads texts has 0."
        )
    ids = examples.targets(names)
    labels = np.eye(len(names), dtype="float32")[ids]
    weight = example_weights(weights, ids, len(names))
    kept = None
    if len(examples) * image_size * image_size * 3 < _MEMORY:
        kept = decode_images(examples.files, image_size, image_resize)
    plan = BatchPlan(np.zeros(len(examples)), batch_size, shuffle=shuffle, seed=seed)

    def batch(indices):
        if kept is None:
            files = [examples.files[i] for i in indices]
            pixels = decode_images(files, image_size, image_resize)
        else:
            pixels = kept[indices]
        return {"images": pixels.astype("float32")}, labels[indices], weight[indices]

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


def in_threads(function: Callable, arguments: Iterable) -> list:
    """Apply a function on all cores: files are read and decoded outside Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, arguments))


def _in_folder(folder: Path) -> LabelledImages:
    """All files of the label folders, usable or not, sorted by label and name."""
    inside = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    for entry in inside:
        if entry.is_file() and entry.suffix.lower() in _SUFFIXES:
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
        convert={"image": _as_image} | dict.fromkeys(of_labels, as_label),
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


def _as_image(value: Any) -> str | np.ndarray:
    """A path as a text, an image in memory as pixels; see `sources.as_text`."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "convert") or isinstance(value, np.ndarray):
        return pixels_of(value)
    return as_text(value)


def _pixels(file: Any) -> np.ndarray:
    return file if isinstance(file, np.ndarray) else read_image(file)


def _digest(file: Any) -> str:
    if isinstance(file, np.ndarray):
        return hashlib.sha256(f"{file.shape}".encode() + file.tobytes()).hexdigest()
    return hashlib.sha256(file.read_bytes()).hexdigest()


def size_of(file: Any) -> tuple[int, int]:
    """Return width and height of an image, by the header of its file."""
    if isinstance(file, np.ndarray):
        return file.shape[1], file.shape[0]
    return image_size(file)


def _problem(file: Any, base: str) -> str | None:
    """Return the text of an InputError if an image cannot be used, else None. `base`: name of the
    folder where paths start."""
    if isinstance(file, np.ndarray):
        return None
    # os.path returns False, without an error, for a text that cannot be a path.
    if os.path.isdir(file):
        return f"{file}: this is a folder.\n  Images stand directly in the folder of their label."
    if not os.path.exists(file):
        return _missing(file, base)
    try:
        check_image(file)
    except InputError as error:
        return str(error)
    return None


def _missing(file: Path, base: str) -> str:
    name = str(file)
    name = name if len(name) <= _LONGEST_SHOWN else f"{name[: _LONGEST_SHOWN - 1]}…"
    if not os.path.isdir(file.parent):
        folder = str(file.parent)[:_LONGEST_SHOWN]
        return f"{name}: there is no folder {folder}.\n  Paths start at the {base}."
    names = [entry.name for entry in file.parent.iterdir()]
    nearest = difflib.get_close_matches(file.name[:_LONGEST_SHOWN], names, n=1, cutoff=0.0)
    hint = f"The nearest name in that folder is {nearest[0]!r}. " if nearest else ""
    return f"{name}: there is no such file.\n  {hint}Paths start at the {base}."
