"""Folders that Hugging Face transformers loads."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tfx_transformer import bundle, files
from tfx_transformer.models.pretrained import from_pretrained
from tfx_transformer.models.pretrained.saving import save_pretrained
from tfx_transformer.models.saving import load, parameters
from tfx_transformer.text.conventions import Frame
from tfx_transformer.text.tokenizer import Tokenizer


def transformers(path: str | os.PathLike) -> None:
    """Add `transformers/` to a bundle: config.json, model.safetensors and the tokenizer's files.

    The loader of checkpoints then reads the folder, which must give the same model.

    Raises:
        InputError: transformers has no architecture that computes the same as the model.
        RuntimeError: the folder reads as another model.
    """
    model, tokenizer = load(path)
    labels = bundle.read_config(path).get("labels")
    with bundle.updating(path) as folder:
        target = folder / bundle.TRANSFORMERS
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        save_pretrained(target, model, labels)
        if tokenizer is not None:
            _write_tokenizer(target, tokenizer, model.text_frame(tokenizer))
        _check(target, model)


def _write_tokenizer(target: Path, tokenizer: Tokenizer, frame: Frame | None) -> None:
    bundle.write_tokenizer(target, tokenizer)
    if tokenizer.settings is not None:
        return  # a checkpoint's own files
    tree = json.loads((target / bundle.TOKENIZER).read_text(encoding="utf-8"))
    tree["post_processor"] = _template(tokenizer, frame)
    files.write(target / bundle.TOKENIZER, json.dumps(tree, ensure_ascii=False))
    names = {index: name for name, index in tokenizer.special_tokens.items()}
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": names[tokenizer.padding_id],
        "bos_token": names[tokenizer.start_id],
        "eos_token": names[tokenizer.end_id],
        "clean_up_tokenization_spaces": False,
    }
    if tokenizer.chat_template is not None:
        settings["chat_template"] = tokenizer.chat_template
    text = json.dumps(settings, ensure_ascii=False, indent=2) + "\n"
    files.write(target / "tokenizer_config.json", text)


def _template(tokenizer: Tokenizer, frame: Frame | None) -> dict[str, Any] | None:
    """Return the `post_processor` of `tokenizers` that frames texts; None without a frame."""
    if frame is None:
        return None
    names = {index: name for name, index in tokenizer.special_tokens.items()}

    def special(ids) -> list[dict]:
        return [{"SpecialToken": {"id": names[i], "type_id": 0}} for i in ids]

    def text(letter: str) -> list[dict]:
        return [{"Sequence": {"id": letter, "type_id": 0}}]

    before, between, after = map(special, (frame.before, frame.between, frame.after))
    used = {*frame.before, *frame.between, *frame.after, tokenizer.end_id}
    return {
        "type": "TemplateProcessing",
        "single": [*before, *text("A"), *after],
        "pair": [*before, *text("A"), *between, *text("B"), *after],
        "special_tokens": {
            names[i]: {"id": names[i], "ids": [i], "tokens": [names[i]]} for i in sorted(used)
        },
    }


def _check(target: Path, model) -> None:
    """Raise if the loader of checkpoints reads the folder as another model."""
    read, _ = from_pretrained(target, task=model.task)
    ours, theirs = parameters(model), parameters(read)
    for name, variable in ours.items():
        expected, found = (np.asarray(v.value, "float32") for v in (variable, theirs[name]))
        if not np.allclose(found, expected, rtol=1e-6, atol=1e-6):
            raise RuntimeError(f"{target}: {name} reads otherwise than it was written.")
