"""Texts answered by the SavedModel of a bundle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from tfx_transformer import bundle
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.export import saved_model_file
from tfx_transformer.generation import GenerationOptions
from tfx_transformer.generation.preprocessors import new_preprocessor
from tfx_transformer.generation.text import Prompt, TextGenerator, before_stop, is_one_prompt
from tfx_transformer.models.decoding import pad_source


def _only_message(text: Prompt) -> str:
    if isinstance(text, str):
        return text
    if len(text) > 1:
        raise InputError(
            "the SavedModel takes one message, not a conversation.\n  Use --engine litert or keras."
        )
    return text[0]["content"]


class SavedModelGenerator:
    """Answers texts with the SavedModel of a bundle, as `generation.text.TextGenerator` does.

    Args:
        path: the bundle's folder.
        batch_size: most texts that run together.

    Raises:
        InputError: the bundle has no SavedModel, or one that must not be run: see
            `saved_model_file.check`.
    """

    def __init__(self, path: str | os.PathLike, batch_size: int = 64) -> None:
        folder = Path(path, bundle.SAVED_MODEL)
        if not folder.is_dir():
            raise InputError(
                f"{path} holds no SavedModel.\n"
                f"  Make one: tfx-transformer export {path} --to saved_model"
            )
        self.model = saved_model_file.load(folder)
        self.batch_size = batch_size
        self._by_ids = None
        tokenizer = bundle.read_tokenizer(path)
        if not tokenizer.is_plain:
            config = bundle.read_config(path)
            engine = _IdEngine(self.model, TransformerConfig.from_dict(config["architecture"]))
            self._by_ids = TextGenerator(engine, new_preprocessor(config["task"], tokenizer))

    def generate(
        self, texts: Prompt | Sequence[Prompt], truncate: bool = True, **options
    ) -> str | list[str]:
        """Return the greedy answer to a text, or a list of answers for a list; longer texts are cut
        to the model's maximum.

        Raises:
            InputError: `options` are other than greedy decoding with stop texts, or a conversation
                has more than one message.
        """
        single = is_one_prompt(texts)
        texts = [_only_message(text) for text in ([texts] if single else texts)]
        given = GenerationOptions(**options)
        stop = given.stop
        if given != GenerationOptions(stop=stop, free=given.free):
            raise InputError(
                "the SavedModel decodes greedily, to the end or a stop text.\n"
                "  For beams, sampling and the like use --engine litert or keras."
            )
        if self._by_ids is not None:
            answers = self._by_ids.generate(texts, truncate=truncate, free=True)
        else:
            answers = self._serve(texts)
        answers = [before_stop(answer, stop) for answer in answers]
        return answers[0] if single else answers

    def _serve(self, texts: Sequence[str]) -> list[str]:
        answers: list[str] = []
        for start in range(0, len(texts), self.batch_size):
            batch = self.model.serve(tf.constant(texts[start : start + self.batch_size]))
            answers += [text.decode("utf-8") for text in batch["texts"].numpy()]
        return answers


class _IdEngine:
    """A `generation.text.Engine` of a SavedModel that takes ids."""

    def __init__(self, served, config: TransformerConfig) -> None:
        self.served, self.config = served, config

    def generate_ids(self, source_ids: Sequence[Sequence[int]], options, on_ids=None):
        """Return the greedy answers, int32 (batch, limit)."""
        token_ids = pad_source(source_ids, self.config.padding_id)
        lengths = tf.constant([len(ids) for ids in source_ids], tf.int32)
        return self.served.serve(tf.constant(token_ids), lengths)["token_ids"].numpy()
