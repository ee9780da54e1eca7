"""LoRA adapters as PEFT saves them, applied to the checkpoint that they were trained on.

W' = W + s B A,  s = alpha / r or alpha / sqrt(r);  of DoRA m (W + s B A) / |W + s B A|, |.| of each
output. Hu et al. (2021), Kalajdzievski (2023), Liu et al. (2024).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.json_files import read_object
from tfx_transformer.models.pretrained.checkpoint import Checkpoint, StoredTensor, read_header
from tfx_transformer.models.pretrained.hub import ADAPTER, ADAPTER_WEIGHTS, base_folder
from tfx_transformer.models.pretrained.refusals import no_weights

_PARTS = re.compile(
    r"\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
    r"(\.default)?(\.weight)?$"
)
# PEFT's names for a layer of the base inside its own layer.
_WRAPPER = re.compile(r"\.(modules_to_save(\.default)?|base_layer)\.")
# Settings of an adapter that change its numbers and are not implemented here.
_NOT_DONE = ("layer_replication", "trainable_token_indices", "exclude_modules_for_loading")


@dataclasses.dataclass(frozen=True)
class Adapted(StoredTensor):
    """A tensor of the base with its adapter added.

    Attributes:
        base: W.
        a, b: A (r, inputs) and B (outputs, r).
        scale: s.
        magnitude: m of DoRA; None for LoRA.
        flipped: True if W is stored as (inputs, outputs).
    """

    base: StoredTensor
    a: StoredTensor
    b: StoredTensor
    scale: float
    magnitude: StoredTensor | None
    flipped: bool

    def read(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return its rows from `start` to `stop`, float32."""
        update = self.scale * _floats(self.b) @ _floats(self.a)
        kernel = _floats(self.base)
        kernel = kernel + (update.T if self.flipped else update)
        if self.magnitude is not None:
            axis = 0 if self.flipped else 1
            norms = np.linalg.norm(kernel, axis=axis, keepdims=True)
            sizes = _floats(self.magnitude).reshape(norms.shape)
            kernel = kernel * (sizes / norms)
        return kernel[: self.shape[0]][start:stop]


def is_adapter(folder: Path) -> bool:
    """Return True if a folder has an adapter, but not the weights of a whole model."""
    whole = ("model.safetensors", "model.safetensors.index.json")
    return (folder / ADAPTER).is_file() and not any((folder / name).is_file() for name in whole)


def base_of(folder: Path) -> Path:
    """Return the folder of the checkpoint that an adapter was trained on.

    Raises:
        InputError: the adapter is of another kind than LoRA or DoRA, or its base is missing.
    """
    settings = read_object(folder / ADAPTER)
    kind = str(settings.get("peft_type", "LORA")).upper()
    other = [name for name in _NOT_DONE if settings.get(name)]
    if kind != "LORA" or other:
        raise InputError(
            f"{folder / ADAPTER}: an adapter of kind {kind}{''.join(f' with {n}' for n in other)}."
            "\n  Only LoRA and DoRA are applied. merge_and_unload() of PEFT, then save_pretrained, "
            "makes a whole checkpoint."
        )
    name = settings.get("base_model_name_or_path")
    base = base_folder(name, folder) if isinstance(name, str) and name else None
    if base is None:
        raise InputError(
            f"{folder} is a LoRA adapter (adapter_config.json) of {name!r}, and that checkpoint is "
            "not here.\n  Fetch it, `hf download NAME`, or put its folder there; then repeat the "
            "command."
        )
    return base


def check_task(folder: Path, own: str) -> None:
    """Raise if an adapter has a head that its base does not have.

    Args:
        folder: folder of the adapter.
        own: task of the base.

    Raises:
        InputError: the tasks differ; the message says how to merge.
    """
    from tfx_transformer.models.saving import TASKS

    task, base = read_object(folder / ADAPTER).get("task_type"), TASKS[own]
    has_head = base.has_classes or base.gives_number
    if task in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS") and not has_head:
        raise InputError(
            f"{folder}: the adapter is for the task {task}, its base for {own!r}: the head is in "
            "the adapter.\n  merge_and_unload() of PEFT, then save_pretrained, makes a whole "
            "checkpoint."
        )


def apply_adapter(checkpoint: Checkpoint, folder: Path) -> None:
    """Add an adapter to the tensors of its base.

    Raises:
        InputError: a tensor of the adapter has no tensor of the base, or does not fit it.
    """
    file = folder / ADAPTER_WEIGHTS
    if not file.is_file():
        raise no_weights(folder, (f.name for f in folder.iterdir()))
    settings = read_object(folder / ADAPTER)
    parts: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in read_header(file).items():
        name = name.removeprefix("base_model.model.")
        found = _PARTS.search(name)
        if found:
            parts.setdefault(name[: found.start()], {})[found[1]] = tensor
        else:  # trained in full: modules_to_save, biases, tables
            name = _WRAPPER.sub(".", name)
            checkpoint.tensors[_name_in(checkpoint, name) or name] = tensor
    for module, tensors in parts.items():
        name = _name_in(checkpoint, f"{module}.weight")
        if name is None:
            raise InputError(f"{file}: {module} is not a layer of the base {checkpoint.folder}.")
        checkpoint.tensors[name] = _adapt(checkpoint.tensors[name], tensors, settings, module, file)


def _adapt(
    base: StoredTensor,
    tensors: Mapping[str, StoredTensor],
    settings: Mapping[str, Any],
    module: str,
    file: Path,
) -> Adapted:
    table = "lora_embedding_A" in tensors
    stem = "lora_embedding_" if table else "lora_"
    try:
        a, b = tensors[f"{stem}A"], tensors[f"{stem}B"]
    except KeyError as error:
        raise InputError(f"{file}: {module} has no {error}.") from error
    flipped = table or bool(settings.get("fan_in_fan_out"))
    expected = (b.shape[0], a.shape[-1]) if len(a.shape) == len(b.shape) == 2 else None
    shape = base.shape[::-1] if flipped else base.shape
    if expected != shape or a.shape[0] != b.shape[-1]:
        raise InputError(
            f"{file}: {module} has shapes {a.shape} and {b.shape}, its base {base.shape}.\n"
            "  Take the base that the adapter was trained on."
        )
    rank = a.shape[0]
    alpha = _match(settings.get("alpha_pattern"), module, settings.get("lora_alpha", rank))
    scale = float(alpha) / (rank**0.5 if settings.get("use_rslora") else rank)
    magnitude = tensors.get("lora_magnitude_vector")
    return Adapted(
        base.file, base.offset, np.dtype("float32"), base.shape, base, a, b, scale, magnitude,
        flipped,
    )  # fmt: skip


def _match(patterns: Any, module: str, default: Any) -> Any:
    """Return the value of the first pattern that matches the end of a module's name."""
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", module):
            return value
    return default


def _name_in(checkpoint: Checkpoint, name: str) -> str | None:
    """Return the name of the base's tensor for a tensor of the adapter; one of the two names may
    have a prefix more. None if there is not exactly one."""
    if name in checkpoint.tensors:
        return name
    ends = [n for n in checkpoint.tensors if n.endswith(f".{name}") or name.endswith(f".{n}")]
    return ends[0] if len(ends) == 1 else None


def _floats(tensor: StoredTensor) -> np.ndarray:
    return tensor.read().astype("float32")
