"""Models written as folders that Hugging Face transformers loads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors.numpy

from tfx_transformer import files
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.models.pretrained.families import FAMILIES
from tfx_transformer.models.pretrained.family import Family, Tensor, shared_task
from tfx_transformer.models.pretrained.sentence import STEM, projections_of, write_sentence
from tfx_transformer.models.saving import TASKS, parameters

# Fields that are not part of the architecture: rates of training, and ids, which config.json has
# under other names.
_NO_ARCHITECTURE = (
    "dropout",
    "stochastic_depth",
    "padding_id",
    "start_id",
    "end_id",
    "num_classes",
    "multi_label",
    "image_resize",
)
# Fields of a head, which a bare encoder does not have.
_READ_OUT = ("pooling", "pooler", "pooler_activation", "pooler_norm")
# Fields that are in modules.json, or not needed.
_SENTENCE = ("projections", "normalize", "prompts", "default_prompt")


def save_pretrained(
    folder: Path, model: keras.Model, labels: list[str] | None = None
) -> tuple[Family, dict[str, Any]]:
    """Write config.json and model.safetensors, in float32; for an embedder also the files of
    sentence-transformers, for an image classifier preprocessor_config.json.

    Args:
        folder: an existing folder.
        model: the model.
        labels: names of a classifier's classes.

    Returns: the family, and the content of config.json.

    Raises:
        InputError: transformers has no architecture that computes the same; the message names the
            differences from the nearest.
    """
    family, config = family_for(model.config, model.task)
    name = _architecture(family, config, model)
    config |= {"architectures": [name], "torch_dtype": "float32"}
    if labels:
        config["id2label"] = {str(index): label for index, label in enumerate(labels)}
        config["label2id"] = {label: index for index, label in enumerate(labels)}
        if model.config.multi_label:
            config["problem_type"] = "multi_label_classification"
    if model.gives_number:
        config |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
        config["problem_type"] = "regression"
    places = projections_of(model.config.to_dict())
    tensors = _tensors(family, {**config, "projections": places}, model)
    if name.endswith("Model") and model.makes_vectors:
        dense = {n: tensors.pop(n) for n in list(tensors) if n.startswith(STEM)}
        tensors = {key.removeprefix(family.prefix): array for key, array in tensors.items()}
        write_sentence(folder, model.config, dense)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    if "preprocessor" in config:
        _write_json(folder / "preprocessor_config.json", config.pop("preprocessor"))
    _write_json(folder / "config.json", config)
    return family, config


def family_for(config: TransformerConfig, task: str) -> tuple[Family, dict[str, Any]]:
    """Return the family that can express a whole architecture, and its config.json.

    Raises:
        InputError: no family can.
    """
    nearest: list[str] | None = None
    for family in FAMILIES:
        if task not in family.serves:
            continue
        values = family.to_config(config, task)
        if values["model_type"] not in family.model_types:
            continue
        if config.pooling == "class_tokens":
            values["architectures"] = ["WithTeacher"]
        try:
            reread = TransformerConfig(**family.read(values, task), **_ids(config))
        except InputError:
            continue
        different = _differences(config, reread, task)
        if not different:
            return family, values
        if nearest is None or len(different) < len(nearest):
            nearest = different
    what = ", ".join(nearest or [f"task {task!r}"])
    raise InputError(
        f"no model of Hugging Face transformers computes this one; nothing there has {what}.\n"
        "  Models loaded by --base can be written, and those of --style gpt2, llama or bert."
    )


def _ids(config: TransformerConfig) -> dict[str, Any]:
    ids = {"start_id": config.start_id, "end_id": config.end_id}
    return ids | {"num_classes": config.num_classes, "multi_label": config.multi_label}


def _differences(config: TransformerConfig, reread: TransformerConfig, task: str) -> list[str]:
    model = TASKS[task]
    left_out = _NO_ARCHITECTURE + _SENTENCE
    if model.makes_vectors or not model.pools:
        left_out += _READ_OUT
    if "num_decoder_layers" not in model.stacks:
        left_out += ("num_decoder_layers",)
    if config.position != "relative" and not config.relative_scores:
        left_out += ("relative_buckets", "relative_distance")
    if config.position != "rotary":
        left_out += ("rope_theta", "local_rope_theta")
    names = (field.name for field in dataclasses.fields(config) if field.name not in left_out)
    return [
        f"{name} {getattr(config, name)!r}"
        for name in names
        if not _equal(getattr(config, name), getattr(reread, name))
    ]


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float):
        return bool(np.isclose(ours, theirs, rtol=1e-6, atol=0))
    return ours == theirs


def _architecture(family: Family, config: Mapping[str, Any], model: keras.Model) -> str:
    """Return the class of transformers, such as "BertForMaskedLM"."""
    wanted = shared_task(model.task)
    endings = [ending for ending, task in family.tasks.items() if task == wanted]
    if not endings:  # an embedder of a family that writes: its bare stack
        endings = sorted((e for e in family.tasks if e.endswith("Model")), key=len, reverse=True)
    ending = endings[0]
    if model.config.pooling == "class_tokens":
        ending = next(e for e in endings if e.endswith("WithTeacher"))
    return _CLASSES[config["model_type"]] + ending


_CLASSES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "mpnet": "MPNet",
    "modernbert": "ModernBert",
    "gpt2": "GPT2",
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "smollm3": "SmolLM3",
    "phi3": "Phi3",
    "gemma": "Gemma",
    "gemma2": "Gemma2",
    "gemma3_text": "Gemma3",
    "gpt_neox": "GPTNeoX",
    "opt": "OPT",
    "t5": "T5",
    "mt5": "MT5",
    "bart": "Bart",
    "mbart": "MBart",
    "m2m_100": "M2M100",
    "marian": "Marian",
    "vit": "ViT",
    "deit": "DeiT",
}


def _tensors(family: Family, config: Mapping[str, Any], model) -> dict[str, np.ndarray]:
    variables = parameters(model)
    arrays = {path: np.asarray(v.value, "float32") for path, v in variables.items()}
    tensors = {}
    for place in family.places(config, model.task, variables):
        if isinstance(place, Tensor):
            array = arrays[place.ours]
            if place.change == "transposed":
                array = array.T
            elif place.change == "less_one":
                array = array - 1
            tensors[place.theirs] = array
        else:
            saved = place.save([arrays[path] for path in place.ours])
            tensors |= dict(zip(place.theirs, saved, strict=True))
    if not model.config.tie_embeddings:  # then transformers ties nothing
        tensors |= {n: tensors[other] for n, other in family.same.items() if other in tensors}
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    text = json.dumps(values, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    files.write(file, text)
