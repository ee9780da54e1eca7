"""Vectors by Google's LiteRT-LM, from the `.litertlm` file of an embedder's bundle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfx_transformer import bundle, flags
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.runtime import litertlm_file


@bundle.consistent_read
def load(path: str | os.PathLike) -> LiteRTLMEmbedder:
    """Return the embedder of a bundle, run by LiteRT-LM.

    Args:
        path: the bundle's folder.

    Raises:
        InputError: the bundle is damaged or holds no `.litertlm` file of an embedder, or LiteRT-LM
            is not installed or cannot read it.
    """
    path = Path(path)
    bundle.verify(path, [bundle.CONFIG, bundle.LITERTLM])
    if not (path / bundle.LITERTLM).is_file():
        raise InputError(
            f"{path} holds no {bundle.LITERTLM}.\n"
            f"  Make one of an embedder: tfx-transformer export {path} --to litertlm"
        )
    config = TransformerConfig.from_dict(bundle.read_config(path)["architecture"])
    return LiteRTLMEmbedder(path / bundle.LITERTLM, config.normalize)


class LiteRTLMEmbedder:
    """Embeds texts by LiteRT-LM; a text that is too long is cut, as by `TextEmbedder`.

    Args:
        file: a file that `export.litertlm` wrote.
        normalize: True if the vectors have length 1.

    Raises:
        InputError: LiteRT-LM is not installed or cannot read the file, or the file is not safe: see
            `litertlm_file.check`.
    """

    def __init__(self, file: str | os.PathLike, normalize: bool = True) -> None:
        try:
            import litert_lm
        except ImportError as error:
            raise InputError("LiteRT-LM is not installed.\n  pip install litert-lm") from error
        with flags.silence():
            litertlm_file.check(file, embeds=True)
        litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
        self._options: Any = litert_lm.EmbeddingOptions(
            normalize=normalize,
            input_overflow_strategy=litert_lm.InputOverflowStrategy.TRUNCATE,
        )
        try:
            with flags.silence():
                # The default cache is a file next to the model, which is not part of a bundle.
                self.engine = litert_lm.EmbeddingEngine(str(file), cache_dir=":nocache")
        except RuntimeError as error:
            raise InputError(f"{file} cannot be read by LiteRT-LM: {error}") from error

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of texts, float32 (texts, width).

        Raises:
            InputError: LiteRT-LM cannot embed a text.
        """
        try:
            found = self.engine.compute_embedding_batch(list(texts), self._options)
        except RuntimeError as error:
            raise InputError(f"LiteRT-LM cannot embed these texts: {error}") from error
        return np.array([one.embedding for one in found], "float32")
