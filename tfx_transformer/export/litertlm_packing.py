"""The parts that `.litertlm` files of every task share: the tokenizer, and the packing."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from litert_lm_builder import litertlm_builder

from tfx_transformer import files
from tfx_transformer.runtime.litertlm import CONTROL
from tfx_transformer.text.hugging_face import rename_special
from tfx_transformer.text.tokenizer import Tokenizer

# The LiteRT-LM that these files are tested with; older ones warn, and run them too.
_RUNTIME = "0.18.0"

# The kinds of models in a file, with their numbers.
Kind = litertlm_builder.TfLiteModelType


def packed_tokenizer(tokenizer: Tokenizer, prompt: str = "") -> str:
    """Return the `tokenizer.json` of a `.litertlm` file.

    LiteRT-LM encodes a whole prompt as one text, in which it cannot distinguish the template's
    special tokens from those that a user typed. So the names of special tokens begin with `CONTROL`
    here, which only a template writes. Answers leave them out, as `Tokenizer.decode` does.

    Args:
        tokenizer: of the model.
        prompt: text that is put before each text that is not empty.
    """
    tree = json.loads(tokenizer.to_json())
    # The post-processor is left out: the template or LiteRT-LM puts the tokens around a text.
    tree = rename_special(tree, tokenizer.special_tokens, CONTROL + "{}")
    hide = {"type": "Replace", "pattern": {"Regex": CONTROL + ".*"}, "content": ""}
    decoders = [hide, tree["decoder"]] if tree.get("decoder") else [hide]
    tree["decoder"] = {"type": "Sequence", "decoders": decoders}
    if prompt:
        steps = [{"type": "Prepend", "prepend": prompt}]
        steps += [tree["normalizer"]] if tree.get("normalizer") else []
        tree["normalizer"] = {"type": "Sequence", "normalizers": steps}
    return json.dumps(tree, ensure_ascii=False)


def write_file(
    file: Path, tokenizer_json: str, metadata: Any, models: Mapping[Kind, bytes]
) -> None:
    """Write a `.litertlm` file.

    Args:
        file: its path.
        tokenizer_json: see `packed_tokenizer`.
        metadata: the protocol buffer `LlmMetadata` or `EmbeddingMetadata`.
        models: the TFLite file of each kind.
    """
    metadata.min_runtime_version = _RUNTIME
    builder = litertlm_builder.LitertLmFileBuilder()
    # The builder reads its input files only when it builds.
    with tempfile.TemporaryDirectory(dir=file.parent) as temporary:
        tokenizer_file = Path(temporary, "tokenizer.json")
        metadata_file = Path(temporary, "metadata.pb")
        tokenizer_file.write_text(tokenizer_json, encoding="utf-8")
        metadata_file.write_bytes(metadata.SerializeToString())
        for kind, content in models.items():
            model_file = Path(temporary, f"{kind.value}.tflite")
            model_file.write_bytes(content)
            builder.add_tflite_model(str(model_file), kind)
        builder.add_hf_tokenizer(str(tokenizer_file))
        if metadata.DESCRIPTOR.name == "EmbeddingMetadata":
            builder.add_embedding_metadata(str(metadata_file))
        else:
            builder.add_llm_metadata(str(metadata_file))
        with files.replacing(file) as unfinished, unfinished.open("wb") as stream:
            builder.build(stream, validate_metadata=True)
