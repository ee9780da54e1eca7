"""A teacher that writes, whose probabilities of tokens a student learns."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfx_transformer import bundle
from tfx_transformer.data.packing import Example
from tfx_transformer.data.taught_token import likeliest_of
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import short_repr
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training.answers import AnswerFile
from tfx_transformer.training.teachers import Teacher


class TokenTeacher(Teacher):
    """A trained model that continues texts; a student learns its texts, and its probabilities of
    tokens.

    Args:
        source: a bundle, or a folder, name or address of a checkpoint; see `Teacher`.

    Raises:
        InputError: as for `Teacher`; or it has no chat template.
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        super().__init__(source, "causal")
        if self._is_checkpoint:
            is_chat = Tokenizer.from_pretrained(self.folder).chat_template is not None
        else:
            is_chat = bundle.read_config(self.folder).get("chat", True)
        if not is_chat:
            raise InputError(
                f"the teacher {source} has no chat template: it only continues texts.\n"
                "  Expected an assistant: tfx-transformer run instruction_finetuning makes one."
            )

    @functools.cached_property
    def writer(self) -> tuple[Any, Tokenizer]:
        """Its Keras model and its tokenizer, loaded once.

        Raises:
            InputError: it is damaged, or has no tokenizer.
        """
        from tfx_transformer.training.base import text_base

        return text_base(self.folder, task="causal")

    def check_tokens(
        self, max_length: int, base: tuple[Any, Tokenizer] | None = None, name: str = ""
    ) -> None:
        """Raise if a student cannot learn the probabilities of its tokens.

        Args:
            max_length: most tokens that the student reads.
            base: model and tokenizer that the student begins with; None: it gets the tokenizer of
                the teacher.
            name: name of the base, for the message.

        Raises:
            InputError: it reads fewer tokens, or an id is not the same token for both.
        """
        model, tokenizer = self.writer
        most = model.config.max_sequence_length
        if most < max_length:
            raise InputError(
                f"the teacher {self.source} reads {most} tokens, but --max-length is {max_length}."
                f"\n  Expected at most --max-length {most}."
            )
        if base is None:
            return
        # A model may have room for more tokens than its tokenizer has.
        if difference := _difference(base[1], tokenizer):
            own = f"the base {name}" if name else "the base"
            raise InputError(
                f"{own} and the teacher {self.source} have different tokenizers "
                f"({difference}), so the student cannot learn the teacher's probabilities of "
                "tokens.\n"
                "  Leave out --base, name one with the teacher's tokenizer, or let the student\n"
                "  learn the teacher's texts alone: --teacher-share 0 --teacher-answers replace."
            )

    def vocabulary(self) -> tuple[Tokenizer, int, dict[str, int]]:
        """Return its tokenizer, for a student; the size of its vocabulary; and the fields of a
        configuration that name its special ids."""
        model, tokenizer = self.writer
        names = ("padding_id", "start_id", "end_id")
        ids = {name: getattr(model.config, name) for name in names}
        return tokenizer, model.config.vocabulary_size, ids

    def next_tokens(
        self, examples: Sequence[Example], path: Path, temperature: float
    ) -> list[np.ndarray]:
        """Return the likeliest next tokens at each place of examples whose label has weight: see
        `NextTokens`. They are as many as `likeliest_of` says.

        Args:
            examples: ids by its tokenizer, and weights.
            path: file of known answers, which new ones join; see `AnswerFile`.
            temperature: divisor of the logits.
        """
        from tfx_transformer.training.next_tokens import NextTokens

        model, tokenizer = self.writer
        kept = likeliest_of(model.config.vocabulary_size)
        read = NextTokens(model, temperature, kept, tokenizer.vocabulary_size)
        texts = list(map(_as_text, examples))
        by_text = dict(zip(texts, examples, strict=True))

        def ask(some: list[str]) -> list[bytes]:
            found = read([by_text[text] for text in some])
            return [table.astype("<f4").tobytes() for table in found]

        key = f"{self._key} {kept} of {tokenizer.vocabulary_size} tokens at {temperature!r}"
        known = AnswerFile(path, key).answer(texts, ask, self._show)
        return [np.frombuffer(v, "<f4").reshape(-1, 2 * kept).astype("float32") for v in known]

    def close(self) -> None:
        """Forget the model, which frees its memory; `writer` and `open` load it again."""
        super().close()
        self.__dict__.pop("writer", None)


def _difference(own: Tokenizer, other: Tokenizer) -> str:
    """Return the first difference between the tokens of two tokenizers; "": their ids mean the
    same."""
    both = [one.tokens(range(one.vocabulary_size)) for one in (own, other)]
    for index, (mine, theirs) in enumerate(zip(*both, strict=False)):
        if mine != theirs:
            return f"token {index} is {short_repr(mine)} and {short_repr(theirs)}"
    counts = own.vocabulary_size, other.vocabulary_size
    return "" if counts[0] == counts[1] else "{:,} and {:,} tokens".format(*counts)


def _as_text(example: Example) -> str:
    """Return a text that is equal for examples with equal ids and places of weight."""
    ids, places = example.token_ids, np.flatnonzero(example.weights)
    return " / ".join(" ".join(map(str, numbers.tolist())) for numbers in (ids, places))
