"""The summary of labelled images: labels, sizes, copies, and overlap with the training images."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from tfx_transformer.data.image_files import in_threads
from tfx_transformer.data.labelled_image import LabelledImages, size_of
from tfx_transformer.data.summary import Line, Summary, label_figures, label_lines


@dataclasses.dataclass(frozen=True, repr=False)
class LabelledImagesSummary(Summary):
    """Figures of one set of labelled images.

    labels: number of examples of each known label; duplicates: files with the bytes and label of an
    earlier one; contradictions: files with the bytes of an earlier one and another label; overlap:
    files that are in training too; sizes: width and height of each image, by its header.
    """

    images: int
    labels: dict[str, int]
    duplicates: int
    contradictions: int
    overlap: int
    sizes: list[tuple[int, int]]

    noun: ClassVar[str] = "image"

    def size_range(self) -> list[tuple[int, int]]:
        """Return width and height of the images with the fewest, the median and the most pixels."""
        by_pixels = sorted(self.sizes, key=lambda size: size[0] * size[1])
        return [by_pixels[0], by_pixels[len(by_pixels) // 2], by_pixels[-1]]

    def entries(self) -> list[Line]:
        smallest, middle, largest = (f"{w} x {h}" for w, h in self.size_range())
        sizes = f"from {smallest} to {largest}, half ≤ {middle}"
        lines = [
            ("images", f"{self.images:,}{self.left_out()}"),
            *label_lines(self.labels),
            ("pixels", sizes if len(set(self.sizes)) > 1 else smallest),
            ("repeated", self.share(self.duplicates, self.images)),
        ]
        if self.contradictions:
            share = self.share(self.contradictions, self.images, "with another label too")
            lines.append(("doubtful", share))
        if self.name != "training":
            lines.append(("overlap", self.share(self.overlap, self.images, "in training too")))
        return lines

    def figures(self) -> dict[str, Any]:
        return {"tokens": 0, "sizes": self.size_range()} | label_figures(self.labels)


def describe_labelled_images(
    training: LabelledImages, held_out: LabelledImages | None, names: Sequence[str]
) -> list[LabelledImagesSummary]:
    """Return the figures of training images and, if given, of held-out ones.

    Args:
        names: the known labels; others are not counted.
    """
    digests = training.digests()
    summaries = [_describe("training", training, digests, names, set())]
    if held_out:
        summaries.append(_describe("validation", held_out, held_out.digests(), names, set(digests)))
    return summaries


def _describe(
    name: str,
    examples: LabelledImages,
    digests: list[str],
    names: Sequence[str],
    shown: set[str],
) -> LabelledImagesSummary:
    counts = collections.Counter(label for labels in examples.labels for label in labels)
    distinct = set(zip(digests, examples.labels, strict=True))
    return LabelledImagesSummary(
        name=name,
        path=examples.path,
        images=len(examples),
        bad_rows=len(examples.bad_rows),
        labels={label: counts[label] for label in names},
        duplicates=len(digests) - len(distinct),
        contradictions=len(distinct) - len(set(digests)),
        overlap=sum(digest in shown for digest in digests),
        sizes=in_threads(size_of, examples.files),
    )
