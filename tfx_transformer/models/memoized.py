"""Generation by a trained model that answers each prompt once."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import numpy as np

from tfx_transformer.generation import loop
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.generation.text import Engine, TextGenerator


class MemoizedEngine:
    """Runs a model whose weights do not change any more, and keeps its answers: a prompt that it
    has answered with the same options is not computed again.

    Args:
        engine: runs the model.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine, self.config = engine, engine.config
        self._rows: dict[tuple[GenerationOptions, tuple[int, ...]], np.ndarray] = {}

    def generate_ids(
        self,
        source_ids: Sequence[Sequence[int]],
        options: GenerationOptions,
        on_ids: loop.OnIds | None = None,
    ) -> np.ndarray:
        """See `generation.text.Engine`. Answers that are drawn, or watched by `on_ids`, are not
        kept."""
        if on_ids is not None or options.temperature:
            return self.engine.generate_ids(source_ids, options, on_ids)
        same = dataclasses.replace(options, free=False)  # no engine reads it
        keys = [(same, tuple(ids)) for ids in source_ids]
        if new := [key for key in dict.fromkeys(keys) if key not in self._rows]:
            rows = self.engine.generate_ids([ids for _, ids in new], options)
            self._rows.update(zip(new, rows, strict=True))
        found = [self._rows[key] for key in keys]
        answers = np.full((len(found), max(map(len, found))), self.config.padding_id, "int32")
        for answer, row in zip(answers, found, strict=True):
            answer[: len(row)] = row
        return answers

    def session(self) -> loop.Session:
        """See `generation.text.Engine`."""
        return self.engine.session()


def memoize(generator: TextGenerator) -> TextGenerator:
    """Return a generator of the same model that answers each prompt once: see `MemoizedEngine`."""
    made = copy.copy(generator)
    made.engine = MemoizedEngine(generator.engine)
    return made
