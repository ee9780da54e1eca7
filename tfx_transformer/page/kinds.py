"""Descriptions of bundles for pages, by task: one row a task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tfx_transformer import bundle
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.page.chats import chat_spec
from tfx_transformer.page.tokenizers import tokenizer_spec
from tfx_transformer.prediction.classification import read_labels
from tfx_transformer.prediction.tags import read_tags
from tfx_transformer.text.prompts import ChatTemplate
from tfx_transformer.text.tokenizer import Tokenizer

Spec = dict[str, Any]


class Parts(NamedTuple):
    """A bundle to describe. path: its folder; values: its config.json."""

    path: Path
    values: dict[str, Any]

    @property
    def config(self) -> TransformerConfig:
        """The configuration of its architecture."""
        return TransformerConfig.from_dict(self.values["architecture"])

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the bundle."""
        return bundle.read_tokenizer(self.path, self.config.vocabulary_size)


def describe(parts: Parts) -> Spec:
    """Return the description of a bundle for `app/answers.js`: its kind, tokenizer, limits, labels.

    Raises:
        InputError: bundles of its task, or with its tokenizer or template, do not run in a page.
    """
    task = parts.values.get("task")
    if task not in TASKS:
        raise InputError(
            f"{parts.path}: a model of task {task!r} has no page.\n"
            f"  Tasks with a page: {', '.join(TASKS)}.\n"
            "  A masked model is a base: fine-tune it first."
        )
    return TASKS[task](parts)


def _text(parts: Parts, tokenizer: Tokenizer) -> Spec:
    """Return the description that all models of texts share."""
    config = parts.config
    around = tokenizer.frame
    ids = {
        "padding": config.padding_id,
        "start": config.start_id,
        "end": config.end_id,
        "prefix": list(tokenizer.prefix),
    }
    return {
        "tokenizer": tokenizer_spec(tokenizer),
        "ids": ids,
        "maxLength": config.max_sequence_length,
        "frame": {
            "before": list(around.before),
            "between": list(around.between),
            "after": list(around.after),
            "end": tokenizer.end_id,
        },
    }


def _translation(parts: Parts) -> Spec:
    tokenizer = parts.tokenizer()
    if tokenizer.target is not tokenizer:
        raise InputError(
            f"{parts.path}: its tokenizer (Marian's) is two SentencePiece models with rules of\n"
            "  their own for the forms of characters, which a page does not have.\n"
            "  Run the bundle by `tfx-transformer serve` or run.pyz."
        )
    return _text(parts, tokenizer) | {"kind": "translation"}


def _writing(parts: Parts) -> Spec:
    tokenizer = parts.tokenizer()
    if tokenizer.chat_template is None:
        return _text(parts, tokenizer) | {"kind": "continuation"}
    template = ChatTemplate.of(tokenizer)
    return _text(parts, tokenizer) | {"kind": "chat", "chat": chat_spec(template)}


def _classification(parts: Parts) -> Spec:
    config = parts.config
    labels = {
        "labels": read_labels(parts.values, config.num_classes, parts.path),
        "severalLabels": config.multi_label,
    }
    if config.image_size:
        image = {"size": config.image_size, "how": config.image_resize}
        return {"kind": "image", "image": image} | labels
    return _text(parts, parts.tokenizer()) | {"kind": "text"} | labels


def _regression(parts: Parts) -> Spec:
    return _text(parts, parts.tokenizer()) | {"kind": "number"}


def _embedding(parts: Parts) -> Spec:
    config = parts.config
    if config.image_size:
        raise InputError(f"{parts.path}: a model that turns images into vectors has no page.")
    prompts = {"prompts": dict(config.prompts), "defaultPrompt": config.default_prompt}
    return _text(parts, parts.tokenizer()) | {"kind": "vectors"} | prompts


def _tagging(parts: Parts) -> Spec:
    config = parts.config
    if config.image_size:
        raise InputError(f"{parts.path}: a model that tags images has no page.")
    described = _text(parts, parts.tokenizer())
    if why := _lost_places(described["tokenizer"]):
        raise InputError(
            f"{parts.path}: a page cannot say where the tokens are in a text, because this\n"
            f"  tokenizer {why} before it cuts the text.\n"
            "  Run the bundle by `tfx-transformer tag` or `tfx-transformer serve`."
        )
    tags = read_tags(parts.values, config.num_classes, parts.path)
    return described | {"kind": "tags", "labels": tags.names}


def _lost_places(spec: Spec) -> str:
    """Return the step of a tokenizer after which a page no longer knows the places of characters;
    empty if it has none."""
    if spec["kind"] == "pieces":
        return "(SentencePiece) replaces characters by others"
    if spec.get("compose"):
        return "composes characters, such as é from e and an accent,"
    return "takes out added tokens" if spec.get("cut") else ""


TASKS: dict[str, Callable[[Parts], Spec]] = {
    "causal": _writing,
    "classification": _classification,
    "embedding": _embedding,
    "regression": _regression,
    "seq2seq": _translation,
    "tagging": _tagging,
}
