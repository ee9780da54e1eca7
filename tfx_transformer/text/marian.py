"""Marian's tokenizer: one SentencePiece model for the source, another for the target."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tfx_transformer import files
from tfx_transformer.errors import InputError
from tfx_transformer.text import checkpoint_files, sentencepiece
from tfx_transformer.text.conventions import Conventions, conventions
from tfx_transformer.text.hugging_face import HuggingFaceTokenizer, without_surrogates

SOURCE, TARGET, VOCABULARY = "source.spm", "target.spm", "vocab.json"


class MarianFiles(NamedTuple):
    """The files of a folder: two serialized SentencePiece models, and tokens to ids."""

    source: bytes
    target: bytes
    vocabulary: dict[str, int]


class MarianTokenizer(HuggingFaceTokenizer):
    """Texts to ids of the one vocabulary that both languages share.

    A text may begin with the language to translate into, as in `>>fra<<`, if the model has several.

    Args:
        files: files of the checkpoint; they are kept.
        tokens: result of `marian_conventions`.
        side: "source" or "target".

    Raises:
        ValueError: a model cannot be read.
        InputError: the package `sentencepiece` is not installed.
    """

    def __init__(self, files: MarianFiles, tokens: Conventions, side: str = "source") -> None:
        self._files, self._ids = files, files.vocabulary
        self._unknown = files.vocabulary["<unk>"]
        data = getattr(files, side)
        model = sentencepiece.read_model(data)
        self._normalized = sentencepiece.normalizer(data)
        super().__init__(checkpoint_files.marian(model, files.vocabulary), tokens, "")
        # The runner has ids beyond the vocabulary, and other names for tokens that no text becomes.
        self.vocabulary_size = 1 + max(files.vocabulary.values())
        self._ordinary = {
            index: name for name, index in self._ids.items() if index not in self._special_ids
        }
        self.leading_space = True
        self._target = self if side == "target" else MarianTokenizer(files, tokens, "target")

    @property
    def target(self) -> MarianTokenizer:
        """The tokenizer of the language that the model writes."""
        return self._target

    def _encode(self, text: str, runner) -> list[int]:
        ids: list[int] = []
        if text.startswith(">>") and (end := text.find("<<")) >= 0:
            ids, text = [self._ids.get(text[: end + 2], self._unknown)], text[end + 2 :]
        found = super()._encode(self._normalized(without_surrogates(text)), runner)
        return ids + [i if i < self.vocabulary_size else self._unknown for i in found]

    def encode_with_offsets(self, text: str) -> Any:
        """Not supported: texts are normalized before they are cut, so places of tokens are lost.

        Raises:
            InputError: always.
        """
        raise InputError(
            "Marian's tokenizer does not say where its tokens are in a text.\n"
            "  Begin with another base, such as a BERT."
        )

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; special ids, and those beyond the vocabulary, are left out."""
        return self.decode_bytes(ids).decode("utf-8").strip()

    def to_json(self) -> str:
        """Not supported: no tokenizer.json can hold all that Marian's files hold.

        Raises:
            InputError: always.
        """
        raise InputError(
            "Marian's tokenizer is two SentencePiece models, which no tokenizer.json can hold.\n"
            "  Use it for its ids, or keep its own files: source.spm, target.spm, vocab.json."
        )

    def save(self, path: str | os.PathLike) -> None:
        """Writes the checkpoint's own files into the folder of `path`, instead of that file."""
        folder = Path(path).parent
        files.write(folder / SOURCE, self._files.source)
        files.write(folder / TARGET, self._files.target)
        files.write(folder / VOCABULARY, json.dumps(self._ids, ensure_ascii=False, indent=1))
        self.save_settings(folder)


def marian_conventions(
    vocabulary: Mapping[str, int], settings: Mapping[str, Any], architecture: Mapping[str, Any]
) -> Conventions:
    """Return Marian's conventions: the end token after a text is its only frame, and writing begins
    with the padding."""
    end, names = vocabulary["</s>"], ("</s>", "<unk>", "<pad>")
    tree = {
        "added_tokens": [{"content": name, "special": True} for name in names],
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [checkpoint_files.text_part("A"), checkpoint_files.token_part("</s>")],
            "pair": [
                checkpoint_files.text_part("A"),
                checkpoint_files.text_part("B"),
                checkpoint_files.token_part("</s>"),
            ],
            "special_tokens": {"</s>": {"ids": [end]}},
        },
    }
    settings = {key: value for key, value in settings.items() if key != "bos_token"}
    return conventions(tree, vocabulary, settings, architecture)
