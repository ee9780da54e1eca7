"""Images for a teacher to answer, with labels or without, and batches of its answers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tfx_transformer.data.batches import Batches
from tfx_transformer.data.formats import TableFiles, is_table_folder
from tfx_transformer.data.image_files import SUFFIXES, image_digests, usable_images
from tfx_transformer.data.joined import join_examples
from tfx_transformer.data.labelled_image import LabelledImages, as_image, image_batches
from tfx_transformer.data.labels import example_weights
from tfx_transformer.data.sources import TableData, is_table
from tfx_transformer.data.tables import BadRow, read_table
from tfx_transformer.data.taught_text import Unlabelled, taught_targets
from tfx_transformer.errors import InputError


@dataclasses.dataclass(frozen=True, repr=False)
class UnlabelledImages(Unlabelled):
    """Image files without labels, and the row of each in its table; those of a folder are numbered
    from 1 in the order of their paths. Images read from memory are pixels, uint8 (height, width,
    3)."""

    files: list[Any]
    rows: list[Any]
    path: str = ""
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    bad_rows: list[BadRow] = dataclasses.field(default_factory=list)

    parts: ClassVar[tuple[str, ...]] = ("files",)
    noun: ClassVar[str] = "image"

    def shown(self, index: int) -> str:
        file = self.files[index]
        is_held = isinstance(file, np.ndarray)
        return f"{file.shape[1]} × {file.shape[0]} pixels" if is_held else str(file)

    @property
    def inputs(self) -> list[Any]:
        """The images to classify."""
        return self.files

    def keys(self) -> Iterator[str]:
        """Yield a hash of each file's bytes: see `Examples.keys`."""
        return iter(image_digests(self.files))


def read_unlabelled_images(
    path: TableData, image: str = "path", *, skip_bad_rows: bool = False
) -> UnlabelledImages:
    """Read images without labels, for a teacher to answer, and check that each can be decoded.

    Args:
        path: a folder, whose images may be in folders of any depth: files with the ending of an
            image, except those whose name, or whose folder's name, begins with a dot; or a table of
            paths in any format (see `formats`) or in memory, as for `read_labelled_images`; or
            several of these as `formats.table_files` returns them.
        image: column of the paths of a table, which start at the table's folder.
        skip_bad_rows: leave out images that cannot be used and list them in `bad_rows`, instead of
            refusing all.

    Raises:
        InputError: a folder has no image; of an image and of a table, see `read_labelled_images`.
    """
    if isinstance(path, TableFiles):
        parts = [
            read_unlabelled_images(part, image, skip_bad_rows=skip_bad_rows) for part in path.paths
        ]
        return join_examples(parts, os.fspath(path))
    if not is_table(path) and os.path.isdir(path) and not is_table_folder(path):
        found, column = _below(Path(path)), None
    else:
        found, column = _in_table(path, image, skip_bad_rows), image
    return usable_images(found, [()] * len(found), column, is_table(path), skip_bad_rows)


def _below(folder: Path) -> UnlabelledImages:
    files = []
    for file in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if not is_hidden and file.suffix.lower() in SUFFIXES and file.is_file():
            files.append(file)
    if not files:
        raise InputError(
            f"{folder}: there is no image in or below this folder.\n"
            f"  Expected files that end in {', '.join(sorted(SUFFIXES))};\n"
            "  or name a table with a column of paths."
        )
    return UnlabelledImages(files, list(range(1, len(files) + 1)), str(folder))


def _in_table(data: TableData, image: str, skip_bad_rows: bool) -> UnlabelledImages:
    table = read_table(
        data, {"image": image}, skip_bad_rows=skip_bad_rows, convert={"image": as_image}
    )
    folder = table.path.parent if isinstance(table.path, Path) else Path()
    cells = table.columns["image"]
    return UnlabelledImages(
        [folder / cell.strip() if isinstance(cell, str) else cell for cell in cells],
        list(table.rows),
        str(table.path),
        {"image": image},
        table.bad_rows,
    )


def taught_images(
    examples: LabelledImages,
    names: Sequence[str],
    answers: np.ndarray,
    unlabelled: UnlabelledImages | None = None,
    *,
    image_size: int = 32,
    image_resize: Mapping[str, Any] | None = None,
    batch_size: int = 64,
    weights: np.ndarray | str | None = None,
    shuffle: bool = True,
    seed: int = 0,
) -> Batches:
    """Return a `tf.data.Dataset` of batches for `Classifier.fit` with `TaughtCrossentropy`.

    Each batch is ({`images`}, targets, sample weights) as that of `labelled_images`, but targets
    are float32 (batch, 2, names): see `taught_targets`.

    Args:
        answers: float (labelled + unlabelled images, names), the teacher's logits, those of the
            labelled images first.
        unlabelled: images without labels; None: none.
        names, image_size, image_resize, batch_size, weights, shuffle, seed: as for
            `labelled_images`; the weight of an image without a label is 1.

    Raises:
        InputError: as for `labelled_images`.
    """
    ids = examples.targets(names)
    targets, weight = taught_targets(
        np.eye(len(names), dtype="float32")[ids],
        example_weights(weights, ids, len(names)),
        answers,
    )
    return image_batches(
        [*examples.files, *([] if unlabelled is None else unlabelled.files)],
        targets,
        weight,
        image_size=image_size,
        image_resize=image_resize,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
    )
