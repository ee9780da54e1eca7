"""The teacher of a training: a large model whose answers a small one, the student, learns."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfx_transformer import bundle
from tfx_transformer.console import doing
from tfx_transformer.data.image_files import image_digests
from tfx_transformer.data.labelled_image import LabelledImages
from tfx_transformer.data.labelled_text import LabelledTexts
from tfx_transformer.data.taught_tag import word_logits
from tfx_transformer.errors import InputError
from tfx_transformer.prediction.tags import Tags
from tfx_transformer.reprs import quantity, short_list
from tfx_transformer.text.spans import tag_names
from tfx_transformer.training.answers import AnswerFile
from tfx_transformer.training.past import Past, open_bundle

# Prompts that it is asked together: beam search holds the logits of all of them.
_PROMPTS = 32


class Teacher:
    """A trained model that answers texts or images for a student. Its weights are read for the
    first one whose answer is not known.

    Args:
        source: a bundle, or a folder, name or address of a checkpoint that has a head.
        tasks: the tasks that it may have, such as "classification".
        images: True if it is to read images instead of texts.

    Attributes:
        source: as given.
        images: as given.
        folder: its folder.
        labels: names of its classes.
        multi_label: True if an example may have several labels.
        columns: number of texts in a row.
        past: the past of its bundle.

    Raises:
        InputError: it is missing; or its model has another task, has no head, reads images instead
            of texts or the other way round, calls tools, or needs a token that names the language
            to write.
    """

    def __init__(self, source: str | os.PathLike[str], *tasks: str, images: bool = False) -> None:
        from tfx_transformer.models.pretrained import check_source, is_checkpoint, local_folder

        self.source, self.images = str(source), images
        if self.source.startswith("keras://"):
            raise InputError(
                f"the teacher {source} has no head, so it cannot answer.\n"
                "  Expected a bundle, such as --teacher saved_models/large."
            )
        check_source(self.source)
        self.folder = local_folder(self.source)
        self._is_checkpoint = is_checkpoint(self.folder)
        self.labels: list[str] = []
        self.multi_label = False
        self.columns = 1
        self._calls_tools = False
        found = self._read_checkpoint() if self._is_checkpoint else self._read_bundle()
        if found not in tasks:
            raise InputError(
                f"the teacher {source} is a model of task {found!r}.\n"
                f"  Expected a model of task {' or '.join(map(repr, tasks))}."
            )
        if self._calls_tools:
            raise InputError(
                f"the teacher {source} calls tools: all its answers are calls.\n"
                "  Choose a model that writes texts."
            )
        self.past = Past("" if self._is_checkpoint else self.folder)
        self._model: Any = None

    def _read_bundle(self) -> str:
        """Read the attributes from a bundle's config.json, and return its task."""
        config = bundle.read_config(self.folder)
        self._check_kind(config["architecture"].get("image_size"))
        self.labels = list(config.get("labels") or [])
        self.multi_label = bool(config["architecture"].get("multi_label"))
        self.columns = config.get("text_columns") or 1
        self._calls_tools = bool(config.get("tools"))
        return str(config.get("task"))

    def _read_checkpoint(self) -> str:
        """Read the attributes from a checkpoint's config.json, and return its task."""
        from tfx_transformer.models.pretrained import Source, labels_of
        from tfx_transformer.models.pretrained.families import has_head

        source = Source.read(self.folder)
        self._check_kind(source.config.get("image_size"))
        if source.config["model_type"] in source.family.only_bases:
            raise InputError(
                f"the teacher {self.source}: a {source.config['model_type']} needs a token that "
                "names the language to write, which cannot be given here.\n"
                "  Fine-tune it first (--base) on pairs of two languages, and name the bundle "
                "that this makes."
            )
        if source.sentence is None and not has_head(source.family, source.config):
            raise InputError(
                f"the teacher {self.source} has no head, so it cannot answer.\n"
                "  Fine-tune it first (--base), and name the bundle that this makes."
            )
        self.labels = labels_of(source.config, source.folder)
        problem = source.config.get("problem_type")
        self.multi_label = len(self.labels) == 1 or problem == "multi_label_classification"
        return source.own

    def _check_kind(self, image_size: Any) -> None:
        """Raise if it reads images instead of texts, or the other way round."""
        if bool(image_size) != self.images:
            there, wanted = ("texts", "images") if self.images else ("images", "texts")
            raise InputError(
                f"the teacher {self.source} reads {there}, not {wanted}.\n"
                f"  Choose one that reads {wanted}."
            )

    def check(
        self,
        examples: LabelledTexts | LabelledImages,
        multi_label: bool = False,
        more: Sequence[str] = (),
    ) -> None:
        """Raise if the teacher cannot label the rows of the data.

        Args:
            examples: labelled rows of the data.
            multi_label: True if a row may have several labels.
            more: other labels of the student.

        Raises:
            InputError: it does not know a label, it gives one label a row and the data have several
                or the other way round, or it reads another number of columns.
        """
        labels = {label for several in examples.labels for label in several}
        self._check_labels(labels | set(more), self.labels, examples.path)
        if self.multi_label != multi_label:
            one, several = "one label a row", "several labels a row"
            more_labels = "" if self.images else " With --separator a cell may have several labels."
            raise InputError(
                f"the teacher {self.source} gives {several if self.multi_label else one}, but the "
                f"data have {several if multi_label else one}.\n"
                f"  Expected a teacher of the same kind.{more_labels}"
            )
        if isinstance(examples, LabelledTexts):
            self.check_columns(len(examples.texts[0]))

    def check_tags(self, labels: Sequence[str], path: str) -> list[str]:
        """Return the labels of a tagger's spans. Raise if it cannot mark all spans of the data.

        Args:
            labels: labels of the spans.
            path: of the data, for the message.

        Raises:
            InputError: it does not know a label, or it has not both tags of each label.
        """
        known = Tags(self.labels).labels
        self._check_labels(set(labels), known, path)
        if missing := sorted(set(tag_names(known)) - set(self.labels)):
            raise InputError(
                f"the teacher {self.source} has no tag {missing[0]!r}.\n"
                "  Expected the tags of IOB2: O, and for each label B- for the first word of a\n"
                "  span and I- for its others."
            )
        return known

    def _check_labels(self, labels: set[str], known: Sequence[str], path: str) -> None:
        """Raise if a label is not known."""
        if unknown := sorted(labels - set(known)):
            missing = sorted(set(known) - labels)
            others = f"; it knows {short_list(missing)}, which no row has" if missing else ""
            raise InputError(
                f"{path}: the teacher {self.source} does not know the labels "
                f"{short_list(unknown)}{others}.\n"
                "  Expected a teacher with all labels of the data: train one on them, or rename "
                "the labels."
            )

    def check_columns(self, columns: int) -> None:
        """Raise if the teacher reads another number of texts in a row.

        Raises:
            InputError: it does.
        """
        if not self._is_checkpoint and self.columns != columns:
            raise InputError(
                f"the teacher {self.source} reads {quantity(self.columns, 'text')} in a row, but "
                f"--text names {columns}.\n"
                "  Expected as many columns as the teacher was trained on."
            )

    @functools.cached_property
    def _key(self) -> str:
        """The digest of its files."""
        total = hashlib.sha256()
        if not self._is_checkpoint:  # files are compared with these sums when they are opened
            total.update(json.dumps(bundle.listed_sums(self.folder)).encode())
            return total.hexdigest()
        for file in sorted(self.folder.rglob("*")):
            if file.is_file():
                total.update(f"{file.relative_to(self.folder)}\0{file.stat().st_size}\0".encode())
                with file.open("rb") as opened:
                    total.update(hashlib.file_digest(opened, "sha256").digest())
        return total.hexdigest()

    def open(self, beams: int = 1) -> Any:
        """Return its predictor, which is loaded once: see `open_bundle`.

        Args:
            beams: hypotheses of beam search that it must be able to compare.

        Raises:
            InputError: it is damaged, or has no tokenizer.
        """
        if self._model is None:
            self._model = self._load() if self._is_checkpoint else open_bundle(self.folder, beams)
        return self._model

    def close(self) -> None:
        """Forget the model, which frees its memory; `open` loads it again."""
        self._model = None

    def _load(self) -> Any:
        from tfx_transformer.models.decoding import text_generator
        from tfx_transformer.models.predicting import predictor
        from tfx_transformer.models.pretrained import from_pretrained
        from tfx_transformer.training.base import text_base

        if self.images:
            return predictor(from_pretrained(self.folder)[0], labels=self.labels)
        model, tokenizer = text_base(self.folder)
        if model.writes:
            return text_generator(model, tokenizer)
        return predictor(model, tokenizer, self.labels)

    def logits(self, inputs: Sequence[Any], path: Path, names: Sequence[str]) -> np.ndarray:
        """Return the logits of the classes of each example, float32 (inputs, classes).

        Args:
            inputs: the texts of each row; or images, as `LabelledImages.files`.
            path: file of known answers, which new ones join; see `AnswerFile`.
            names: the classes, in the order of the columns.
        """
        if not self.images:
            found = self._read(inputs, path)
        else:
            digests = image_digests(inputs)
            files = dict(zip(digests, inputs, strict=True))

            def ask(some: list[str]) -> list[bytes]:
                return _as_bytes(self.open().logits([files[digest] for digest in some]))

            found = self._answer(digests, path, ask)
        return found[:, [self.labels.index(name) for name in names]]

    def numbers(self, texts: Sequence[Sequence[str]], path: Path) -> np.ndarray:
        """Return the number that a regressor predicts for each row, float32 (rows,).

        Args:
            texts: the texts of each row.
            path: file of known answers, which new ones join; see `AnswerFile`.
        """
        return self._read(texts, path)[:, 0]

    def _read(self, texts: Sequence[Sequence[str]], path: Path) -> np.ndarray:
        """Return the outputs for the texts of each row, float32 (rows, outputs)."""

        def ask(some: list[Sequence[str]]) -> list[bytes]:
            model = self.open()
            return _as_bytes(model.run_rows(model.rows(some)))

        return self._answer(list(map(list, texts)), path, ask)

    def words(self, texts: Sequence[str], path: Path, names: Sequence[str]) -> list[np.ndarray]:
        """Return the logits of a tagger for the words of each text, float32 (words, tags).

        Words are those of `text.words.words`. See `word_logits`, also for words without an answer.

        Args:
            texts: the texts.
            path: file of known answers, which new ones join; see `AnswerFile`.
            names: the tags, in the order of the columns.
        """

        def ask(some: list[str]) -> list[bytes]:
            found = self.open().tokens(some)
            tables = (word_logits(*pair, self.labels) for pair in zip(some, found, strict=True))
            return [table.astype("<f4").tobytes() for table in tables]

        found = AnswerFile(path, f"{self._key} words").answer(list(texts), ask, self._show)
        order = [self.labels.index(name) for name in names]
        shape = (-1, len(self.labels))
        return [np.frombuffer(v, "<f4").reshape(shape)[:, order].astype("float32") for v in found]

    def vectors(
        self, texts: Sequence[str], path: Path, role: Literal["query", "document"]
    ) -> np.ndarray:
        """Return the vector of each text, float32 (texts, width).

        Args:
            path: file of known answers, which new ones join; see `AnswerFile`.
            role: name of the prompt: "query" for first texts of pairs, "document" for second ones.
        """

        def ask(some: list[Sequence[str]]) -> list[bytes]:
            model = self.open()
            name = model.config.prompt_name(role)
            return _as_bytes(model.embed([text for _, text in some], name))

        return self._answer([(role, text) for text in texts], path, ask)

    def texts(
        self, prompts: Sequence[Any], path: Path, beams: int = 1, most: int | None = None
    ) -> list[str]:
        """Return the text that the teacher writes for each prompt.

        Args:
            prompts: texts, or conversations for a chat model; longer ones than it reads are cut.
            path: file of known answers, which new ones join; see `AnswerFile`.
            beams: hypotheses of beam search; 1: greedy.
            most: most tokens of a text; None: as many as it can write.
        """
        options = {"beams": beams} | ({"max_new_tokens": most} if most else {})

        def ask(some: list[Any]) -> list[bytes]:
            found = self.open(beams).generate(some, truncate=True, **options)
            return [text.encode("utf-8", "surrogatepass") for text in found]

        limit = f", {most} tokens" if most else ""
        known = AnswerFile(path, f"{self._key} {beams} beams{limit}")
        found = known.answer(prompts, ask, self._show, block=_PROMPTS)
        return [value.decode("utf-8", "surrogatepass") for value in found]

    def _answer(
        self, inputs: Sequence[Any], path: Path, ask: Callable[[list[Any]], Sequence[bytes]]
    ) -> np.ndarray:
        """Return the answers to inputs, float32 (inputs, width). The model is asked for those that
        are not in the file yet."""
        found = AnswerFile(path, self._key).answer(inputs, ask, self._show)
        return np.stack([np.frombuffer(value, "<f4") for value in found]).astype("float32")

    def _show(self, done: int, total: int) -> None:
        noun = "images" if self.images else "texts"
        doing(f"the teacher answers: {done:,} of {total:,} {noun}")


def _as_bytes(rows: np.ndarray) -> list[bytes]:
    return [row.astype("<f4").tobytes() for row in rows]
