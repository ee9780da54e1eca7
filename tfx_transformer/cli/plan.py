"""The verb plan: say by arithmetic if a training fits into memory, and its time and cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tfx_transformer import planning
from tfx_transformer.config import TransformerConfig
from tfx_transformer.console import COLUMNS, wrapped
from tfx_transformer.devices import keras_backend
from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity

# Tasks of the models that can be planned: those of one stack.
_TASKS = ("causal", "masked", "classification", "regression", "tagging", "embedding")
# Task of a new model by its style; others are decoder-only.
_NEW_TASKS = {"bert": "masked"}
# Share of the memory that a plan uses; the rest is for the framework and for gaps between arrays.
_USABLE = 0.9
# Context and vocabulary of a new model.
_CONTEXT, _VOCABULARY = 1_024, 32_000


@dataclasses.dataclass(frozen=True)
class NewModel:
    """The architecture of a new model, as recipes take it.

    Attributes:
        size: Size of a new model.
        style: Family that a new model resembles.
        layers: Number of its layers; 0: as its size says.
        heads: Number of its attention heads; 0: as its size says.
        width: Width of its vectors; 0: as its size says.
        vocabulary_size: Tokens in its vocabulary.
    """

    size: Literal["nano", "tiny", "small", "base"] = "base"
    style: Literal["gpt2", "llama", "bert", "classifier"] = "llama"
    layers: int = 0
    heads: int = 0
    width: int = 0
    vocabulary_size: int = _VOCABULARY

    def task_and_config(self, length: int) -> tuple[str, TransformerConfig]:
        """Return its task, and its architecture with a context of `length` tokens."""
        sizes = {"num_layers": self.layers, "num_heads": self.heads, "hidden_dim": self.width}
        config = TransformerConfig.of_size(
            self.size, self.vocabulary_size, self.style, max_sequence_length=length, **sizes
        )
        return _NEW_TASKS.get(self.style, "causal"), config


@dataclasses.dataclass(frozen=True)
class Machine:
    """The devices that train.

    Attributes:
        device: Device to train on, with the memory and speed of its data sheet; cpu: this machine,
            whose speed is measured.
        devices: Number of devices; each holds the whole model.
        memory (GB): Memory of a device. [as the device has]
        tflops (NUMBER): Speed of a device, in trillions of operations a second. [as the device has]
        utilisation: Share of this speed that the training reaches, from 0 to 1. [0.4; on cpu
            0.65, or 0.4 with dropout]
        bandwidth (GB): Gigabytes a second that a device sends to the next one. 50 is a network of
            400 Gbit/s for each device.
        price (NUMBER): Price of one device for one hour. [none]
    """

    device: Literal[
        "h200", "h100", "a100-80", "a100-40", "l4", "rtx4090", "t4", "tpu-v5e", "tpu-v5p", "cpu"
    ] = "h100"
    devices: int = 1
    memory: float | None = None
    tflops: float | None = None
    utilisation: float | None = None
    bandwidth: float = 50.0
    price: float | None = None

    def check(self) -> None:
        """Raise if a number is out of range."""
        if self.devices < 1:
            raise InputError(f"--devices is {self.devices}.\n  Expected 1 or more.")
        if self.utilisation is not None and not 0 < self.utilisation <= 1:
            raise InputError(
                f"--utilisation is {self.utilisation:g}.\n  Expected more than 0, at most 1."
            )
        for name in ("memory", "tflops", "bandwidth", "price"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"--{name} is {value:g}.\n  Expected more than 0.")

    def known(self, precision: planning.Precision, dropout: float) -> planning.Device:
        """Return the device, with the numbers of the flags where they are given. Of cpu the speed
        is measured.

        Args:
            precision: format of the arithmetic in which it is measured.
            dropout: of the model; it decides the share of this speed that a training reaches.

        Raises:
            InputError: the memory of this machine is not known.
        """
        found = _this_machine(self, precision, dropout) if self.device == "cpu" else None
        found = found or planning.DEVICES[self.device]
        return planning.Device(
            found.memory if self.memory is None else self.memory * 1e9,
            found.speed if self.tflops is None else self.tflops * 1e12,
            found.utilisation if self.utilisation is None else self.utilisation,
        )


def _this_machine(
    machine: Machine, precision: planning.Precision, dropout: float
) -> planning.Device:
    """Return this machine as a device. Numbers that flags give are not measured."""
    from tfx_transformer.training import estimate

    memory = machine.memory or estimate.machine_memory()
    if memory is None:
        raise InputError("the memory of this machine is not known.\n  Add --memory GB.")
    number = "float32" if precision == "float32" else "bfloat16"
    speed = machine.tflops or estimate.operations_per_second(number)
    return planning.Device(memory, speed, planning.cpu_utilisation(dropout))


def plan(
    *,
    base: str = "",
    model: NewModel,
    tokens: float = 1e9,
    length: int = 0,
    batch_size: int = 32,
    precision: planning.Precision = "mixed_bfloat16",
    method: Literal["full", "lora"] = "full",
    base_dtype: planning.BaseDtype = "float32",
    rank: int = 8,
    machine: Machine,
) -> dict[str, Any]:
    """Say if a training fits into memory, with which settings, and its time and cost.

    Memory is counted for Keras on TensorFlow, or with KERAS_BACKEND=jax on JAX, where attention
    need not hold all its scores.

    Args:
        base (FOLDER): Bundle, or checkpoint: a folder, an address, a name of tfx-transformer bases,
            or hf://owner/name. Its config.json is enough.
        model: Architecture of a new model.
        tokens (NUMBER): Tokens of the whole training, such as 1e9.
        length: Tokens of a text; 0: the context, at most 1,024.
        batch_size: Texts in one training step, on all devices together.
        precision: Number format of the arithmetic.
        method: full trains all weights; lora trains adapters of a frozen base.
        base_dtype: Number format of the frozen base, with lora; float32: as precision.
        rank: Rank of the adapters.
        machine: Devices that train.
    """
    machine.check()
    for name, value in (("batch-size", batch_size), ("rank", rank), ("tokens", tokens)):
        if not 1 <= value < float("inf"):
            raise InputError(f"--{name} is {value}.\n  Expected 1 or more.")
    if length < 0:
        raise InputError(f"--length is {length}.\n  Expected 1 or more; 0: the context.")
    if method == "full" and base_dtype != "float32":
        raise InputError(
            f"--base-dtype is {base_dtype}, but --method full trains all weights.\n"
            "  Add --method lora, which freezes the base, or leave out --base-dtype."
        )
    if batch_size % machine.devices:
        raise InputError(
            f"--batch-size {batch_size} cannot be divided among {machine.devices} devices.\n"
            f"  Give a multiple of {machine.devices}."
        )
    task, config = read_architecture(base) if base else model.task_and_config(length or _CONTEXT)
    length = length or min(config.max_sequence_length, _CONTEXT)
    if length > config.max_sequence_length:
        raise InputError(
            f"--length is {length}, but {base} reads {config.max_sequence_length} tokens at most.\n"
            "  Give a shorter --length."
        )
    if precision == "bfloat16" and base_dtype == "float32":
        base_dtype = "bfloat16"  # as the precision
    adapters = base_dtype if method == "lora" else ""
    on = {"backend": keras_backend(), "gpu": not machine.device.startswith(("tpu", "cpu"))}
    training = planning.Training(precision, adapters, rank, **on)
    sizes = _sizes(task, config, training)
    rows = batch_size // machine.devices
    device = machine.known(precision, config.dropout)
    available = _USABLE * device.memory
    step = planning.best_step(config, sizes, rows, length, training, available)
    whole = planning.scale(
        config,
        sizes,
        batch_size * length,
        length,
        step.training,
        machine.devices,
        device.speed * device.utilisation,
        machine.bandwidth * 1e9,
    )
    seconds = (whole.computing + whole.communicating) * tokens / (batch_size * length)
    hours = seconds / 3600
    result = {
        "parameters": sizes.parameters,
        "trained": sizes.trained,
        "length": length,
        "fits": step.memory.all <= available,
        "memory": planning.to_dict(step.memory),
        "device_memory": round(device.memory),
        "rows_at_once": step.rows,
        "accumulate": step.accumulate,
        "remat": step.training.remat,
        "backend": step.training.backend,
        "tflops": device.speed / 1e12,
        "utilisation": device.utilisation,
        "hours": hours,
        "device_hours": hours * machine.devices,
        "computing": whole.share,
        "cost": hours * machine.devices * (machine.price or 0.0),
        "checkpoint": round(planning.checkpoint_bytes(sizes)),
    }
    print("\n".join(_lines(result, machine, tokens, adapters)))
    return result


def _tflops(speed: float) -> str:
    """Return trillions of operations a second, such as 989 or 0.21."""
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"


def read_architecture(base: str) -> tuple[str, TransformerConfig]:
    """Return the task and the architecture of a bundle or a checkpoint. Only config.json is read.

    Args:
        base: a folder, its address, the name of a base, or hf://owner/name.

    Raises:
        InputError: the base does not exist, its family is unknown, or it is an encoder-decoder or a
            model of images.
    """
    from tfx_transformer.data import remote
    from tfx_transformer.models.pretrained.hub import HUB, Repository
    from tfx_transformer.models.pretrained.named import locate

    place = locate(base)
    if place.startswith(HUB):
        return _read(Repository.of(place).description()[0], base)
    if remote.is_address(place):
        with remote.copied(remote.file_at(f"{place.rstrip('/')}/config.json")) as file:
            return _read(file.parent, base)
    if not Path(place).is_dir():
        raise InputError(
            f"{base}: there is no such folder.\n"
            "  Give a bundle or the folder of a checkpoint; its config.json is enough."
        )
    return _read(Path(place), base)


def _read(folder: Path, base: str) -> tuple[str, TransformerConfig]:
    from tfx_transformer import bundle
    from tfx_transformer.models.pretrained import Source, is_checkpoint, labels_of

    if not is_checkpoint(folder):
        values = bundle.read_config(folder)
        _check_planned(base, values.get("task"), values["architecture"])
        return values["task"], TransformerConfig.from_dict(values["architecture"])
    source = Source.read(folder)
    task, fields = source.own, source.family.read(source.config, source.own)
    _check_planned(base, task, fields)
    from tfx_transformer.models.saving import TASKS  # starts TensorFlow

    if TASKS[task].has_classes:
        fields["num_classes"] = len(labels_of(source.config, folder))
    if not TASKS[task].scores_tokens:
        fields["tie_embeddings"] = True
    return task, TransformerConfig(**fields)


def _check_planned(base: str, task: Any, fields: Mapping[str, Any]) -> None:
    """Raise if a model cannot be planned; `fields`: of its architecture."""
    if task not in _TASKS or fields.get("image_size"):
        what = "of images" if fields.get("image_size") else f"of the task {task!r}"
        raise InputError(
            f"{base}: a model {what} cannot be planned.\n"
            "  Give a decoder-only or an encoder-only model of texts."
        )


def _sizes(task: str, config: TransformerConfig, training: planning.Training) -> planning.Sizes:
    from tfx_transformer.models.saving import TASKS
    from tfx_transformer.models.work import sizes

    return sizes(TASKS[task], config, training)


def _lines(result: dict[str, Any], machine: Machine, tokens: float, base_dtype: str) -> list[str]:
    from tfx_transformer.cli.terminal import align  # not for --help: it imports a tokenizer

    memory = result["memory"]
    sizes = {name: memory[name] for name in ("weights", "gradients", "optimizer", "activations")}
    sizes["in all"] = memory["all"]
    frozen = f", frozen in {base_dtype}" if base_dtype else ""
    lines = [
        f"{result['parameters']:,} parameters{frozen}",
        *align([[name, f"{size / 1e9:,.2f} GB"] for name, size in sizes.items()], words=1),
    ]
    keras_on = planning.BACKENDS.get(result["backend"], result["backend"])
    usable = f"{100 * _USABLE:.0f} % of {result['device_memory'] / 1e9:,.0f} GB"
    have = f"{usable} with Keras on {keras_on}"
    if not result["fits"]:
        smallest = "" if frozen.endswith("nf4") else "--method lora --base-dtype nf4, "
        lines.append(
            f"Does not fit into {have}, not even one text of {result['length']:,} tokens with "
            f"rematerialisation. Use {smallest}a shorter --length, or more memory."
        )
    else:
        lines.append(f"Fits into {have}: {_step(result, machine)}.")
    if result["fits"] and result["remat"]:
        lines.append("It fits only with rematerialisation: train with --remat.")
    is_here = machine.device == "cpu" and machine.devices == 1
    place = "this machine" if is_here else quantity(machine.devices, "device")
    speed = f"{_tflops(result['tflops'])} TFLOP/s"
    if machine.device == "cpu" and machine.tflops is None:
        speed = f"the {speed} that were measured now"
    time = (
        f"Time: {_duration(result['hours'])} for {tokens:,.0f} tokens on {place}, at "
        f"{100 * result['utilisation']:.0f} % of {speed}"
    )
    if machine.devices > 1:
        time += f"; {100 - 100 * result['computing']:.0f} % of it adds gradients over the devices"
    lines.append(f"{time}.")
    if machine.price is not None:
        lines.append(f"Cost: {result['cost']:,.2f}, at {machine.price:,.2f} for a device's hour.")
    if not base_dtype:
        lines.append(f"A checkpoint takes {result['checkpoint'] / 1e9:,.2f} GB.")
    return [part for line in lines for part in wrapped(line, COLUMNS, "  ")]


def _step(result: dict[str, Any], machine: Machine) -> str:
    """Return what is computed at once, as a clause."""
    rows = quantity(result["rows_at_once"], "text")
    who = "a step" if machine.devices == 1 else "in a step each device"
    parts = result["accumulate"]
    if parts == 1:
        return f"{who} computes {rows} of {result['length']:,} tokens at once"
    return (
        f"{who} computes {rows} of {result['length']:,} tokens at a time (train with "
        f"--accumulate {parts})"
    )


def _duration(hours: float) -> str:
    """Return a time in minutes, hours or days."""
    if hours < 1:
        return f"{60 * hours:,.1f} minutes"
    return f"{hours:,.1f} hours" if hours < 72 else f"{hours / 24:,.0f} days"
