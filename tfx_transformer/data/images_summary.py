"""What was read of labelled images: labels, sizes, copies, and what was seen in training."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

from tfx_transformer.data.labelled_image import LabelledImages, in_threads, size_of
from tfx_transformer.data.labels import alike_labels, alike_line
from tfx_transformer.data.summary import rows_left_out, share_of

# More labels than these are counted, but not all of them named.
_LABELS_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class LabelledImagesSummary:
    """Figures of one set of labelled images.

    labels: examples of each known label; duplicates: files whose bytes and label stand in the set
    before; contradictions: files whose bytes stand there before with another label; overlap: files
    that training shows too; sizes: width and height of each image, as its header has them.
    """

    name: str
    path: str
    images: int
    bad_rows: int
    labels: dict[str, int]
    duplicates: int
    contradictions: int
    overlap: int
    sizes: list[tuple[int, int]]

    def single(self) -> list[str]:
        """The labels of a single example: it is not held out, so nothing measures them."""
        return [name for name, count in self.labels.items() if count == 1]

    def size_range(self) -> list[tuple[int, int]]:
        """Width and height of the images that have the fewest, the middle and the most pixels."""
        by_pixels = sorted(self.sizes, key=lambda size: size[0] * size[1])
        return [by_pixels[0], by_pixels[len(by_pixels) // 2], by_pixels[-1]]

    def panels(self, max_length: int) -> tuple[dict[str, list[int]], int]:
        """No panels: images have no length in tokens.

        Args:
            max_length: of the model.
        """
        return {}, max_length

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The table, for a terminal."""
        left_out = rows_left_out(self.bad_rows, "bad image")
        smallest, middle, largest = (f"{w} x {h}" for w, h in self.size_range())
        sizes = f"from {smallest} to {largest}, half ≤ {middle}"
        lines = [
            f"{self.name:<11} {self.path}",
            f"  images    {self.images:,}{left_out}",
            f"  labels    {self._label_line()}",
            f"  pixels    {sizes if len(set(self.sizes)) > 1 else smallest}",
            f"  repeated  {self._share(self.duplicates)}",
        ]
        if single := self.single():
            more = f" and {len(single) - _LABELS_SHOWN} more" if len(single) > _LABELS_SHOWN else ""
            shown = ", ".join(map(repr, single[:_LABELS_SHOWN]))
            lines.insert(3, f"  single    {shown}{more}: one example, which only one side can have")
        if warning := alike_line(list(self.labels)):
            lines.insert(3, warning)
        if self.contradictions:
            share = self._share(self.contradictions, "with another label too")
            lines.append(f"  doubtful  {share}")
        if self.name != "training":
            lines.append(f"  overlap   {self._share(self.overlap, 'in training too')}")
        return lines

    def to_dict(self) -> dict:
        """The figures as JSON values, without the single sizes."""
        values = dataclasses.asdict(self)
        del values["sizes"]
        return values | {
            "tokens": 0,
            "single": self.single(),
            "alike": alike_labels(list(self.labels)),
            "sizes": self.size_range(),
        }

    def _label_line(self) -> str:
        counts = collections.Counter(self.labels).most_common()
        if len(counts) <= _LABELS_SHOWN:
            return f"{len(counts)}: " + ", ".join(f"{name!r} {count:,}" for name, count in counts)
        (most, largest), (least, smallest) = counts[0], counts[-1]
        return f"{len(counts):,}, from {least!r} {smallest:,} to {most!r} {largest:,}"

    def _share(self, part: int, which: str = "") -> str:
        return share_of(part, self.images, which, noun="image")


def describe_labelled_images(
    training: LabelledImages, held_out: LabelledImages | None, names: Sequence[str]
) -> list[LabelledImagesSummary]:
    """The figures of training images and, if given, of held-out ones.

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
