"""A Llama-shaped model of half a billion parameters.

A checkpoint of random bfloat16 weights in the shape of Qwen2.5-0.5B (24 layers of 896, 14 query and
2 key/value heads, 151,936 tokens) is written once, and then loaded, LoRA-trained, exported and run.
Each row is a process of its own, so that its peak of memory is its own; processes that it starts
count too.

    python -m benchmarks real_size

It takes about 8 minutes on 2 cores, 18 GB of memory and 2 GB of disk. Expect a peak of 1.07 times
the model to load it, and 6 GB to train it.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.tables import KERAS, OURS, Case, Settings, System

UNIT = None
CASES = (Case("qwen2-0.5b", "494 million parameters", {}),)
CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": 151_936,
    "hidden_size": 896,
    "intermediate_size": 4_864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "bos_token_id": 151_643,
    "eos_token_id": 151_645,
}
CONTEXT = 512


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a checkpoint."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    narrow = width // config["num_attention_heads"] * config["num_key_value_heads"]
    found = {
        "model.embed_tokens.weight": (config["vocab_size"], width),
        "model.norm.weight": (width,),
    }
    for layer in range(config["num_hidden_layers"]):
        begin = f"model.layers.{layer}."
        for name, rows in (("q", width), ("k", narrow), ("v", narrow)):
            found[f"{begin}self_attn.{name}_proj.weight"] = (rows, width)
            found[f"{begin}self_attn.{name}_proj.bias"] = (rows,)
        found[f"{begin}self_attn.o_proj.weight"] = (width, width)
        found[f"{begin}mlp.gate_proj.weight"] = (inner, width)
        found[f"{begin}mlp.up_proj.weight"] = (inner, width)
        found[f"{begin}mlp.down_proj.weight"] = (width, inner)
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"{begin}{name}.weight"] = (width,)
    return found


def write(folder: Path, config: dict[str, Any] = CONFIG) -> None:
    """Write the checkpoint, tensor by tensor; its file appears whole."""
    import ml_dtypes
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    header, offset = {}, 0
    for name, shape in shapes(config).items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    numbers = np.random.default_rng(1)
    unfinished = folder / "unfinished"
    with unfinished.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes(config).items():
            values = numbers.standard_normal(shape, "float32") * 0.02 + ("norm" in name)
            file.write(values.astype(ml_dtypes.bfloat16).tobytes())
    unfinished.replace(folder / "model.safetensors")


def peak_bytes(of_children: bool = False) -> int:
    """The most memory that this process has had, or the largest that it has started."""
    import resource  # not on Windows

    usage = resource.RUSAGE_CHILDREN if of_children else resource.RUSAGE_SELF
    return resource.getrusage(usage).ru_maxrss * 1024


def load(folder: Path, dtype: str = "float32"):
    """The model, and the seconds that loading took."""
    import tfx_transformer as tfx

    begin = time.monotonic()
    model, _ = tfx.from_pretrained(folder, dtype, max_length=CONTEXT)
    return model, time.monotonic() - begin


def stage_load(folder: Path, dtype: str = "float32") -> dict:
    import keras

    import tfx_transformer as tfx

    # A small model first: the memory of the frameworks is not the model's.
    tfx.CausalLM(tfx.TransformerConfig.of_size("nano", 300, "llama"))
    before = peak_bytes()
    model, seconds = load(folder, dtype)
    size = sum(keras.ops.size(w) * (4 if w.dtype == "float32" else 2) for w in model.weights)
    peak = peak_bytes() - before
    return {
        "seconds": seconds,
        "what": f"{float(size) / 1e9:.2f} GB of weights, peak {peak / float(size):.2f} times that",
    }


def stage_load_bfloat16(folder: Path) -> dict:
    return stage_load(folder, "bfloat16")


def stage_lora(folder: Path) -> dict:
    import numpy as np

    import tfx_transformer as tfx

    model, _ = load(folder)
    tfx.add_adapters(model, rank=8, base_dtype="int8")
    model.compile(tfx.training.adamw(1e-3))
    ids = np.random.default_rng(2).integers(0, 1_000, (2, 129)).astype("int32")
    batch = ({"token_ids": ids[:, :-1]}, ids[:, 1:], np.ones((2, 128), "float32"))
    times = []
    for _ in range(5):
        begin = time.monotonic()
        model.train_on_batch(*batch)
        times.append(time.monotonic() - begin)
    return {"seconds": sorted(times)[2], "what": "a step of 256 tokens"}


def stage_export(folder: Path) -> dict:
    from tfx_transformer.export.to_litert import convert

    model, _ = load(folder)
    begin, file = time.monotonic(), folder / "model.int8.tflite"
    convert(model, file, "int8", context=CONTEXT, rows=1)
    seconds = time.monotonic() - begin
    return {"seconds": seconds, "what": f"a file of {file.stat().st_size / 1e6:.0f} MB"}


def stage_run(folder: Path) -> dict:
    if not (folder / "model.int8.tflite").exists():
        stage_export(folder)
    from tfx_transformer.generation import GenerationOptions
    from tfx_transformer.models.pretrained import config_of
    from tfx_transformer.models.pretrained.checkpoint import Checkpoint
    from tfx_transformer.models.pretrained.families import family_of
    from tfx_transformer.runtime.causal import CausalEngine

    checkpoint = Checkpoint(folder)
    family = family_of(checkpoint.config, folder)
    config = config_of(checkpoint, family, "causal", None, CONTEXT)
    engine = CausalEngine(folder / "model.int8.tflite", config)
    prompt = list(range(100, 164))
    engine.generate_ids([prompt], GenerationOptions(max_new_tokens=2))
    begin = time.monotonic()
    engine.generate_ids([prompt], GenerationOptions(max_new_tokens=33))
    seconds = time.monotonic() - begin
    return {"seconds": seconds, "what": f"33 tokens: {33 / seconds:.1f} tokens/s"}


def measured(settings: Settings, stage: Callable[[Path], dict]) -> dict[str, Any]:
    """The result of a stage, with its peaks of memory."""
    folder = Path(settings["work"], "real_size")
    if not (folder / "model.safetensors").exists():
        write(folder)
    found = stage(folder)
    return {
        "seconds": round(found["seconds"], 2),
        "what": found["what"],
        "peak, GB": round(peak_bytes() / 1e9, 1),
        "peak of a child, GB": round(peak_bytes(of_children=True) / 1e9, 1),
    }


SYSTEMS = tuple(
    System(f"tfx-{name}", title, functools.partial(measured, stage=stage), OURS, KERAS)
    for name, title, stage in (
        ("load", "loaded in float32", stage_load),
        ("load-bf16", "loaded in bfloat16", stage_load_bfloat16),
        ("lora", "LoRA on int8 weights, a step", stage_lora),
        ("export", "TFLite int8, written", stage_export),
        ("run", "TFLite int8, run", stage_run),
    )
)
