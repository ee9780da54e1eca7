"""A Llama-shaped model of half a billion parameters: loaded, LoRA-trained, exported, run.

    python benchmarks/real_size.py --folder /tmp/half_a_billion

Writes a checkpoint of random bfloat16 weights in the shape of Qwen2.5-0.5B (24 layers of 896, 14
query and 2 key/value heads, 151,936 tokens), once. Each stage runs in a process of its own, so that
its peak of memory is its own; processes that a stage starts count too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

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


def shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of the checkpoint."""
    width, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    narrow = width // CONFIG["num_attention_heads"] * CONFIG["num_key_value_heads"]
    found = {
        "model.embed_tokens.weight": (CONFIG["vocab_size"], width),
        "model.norm.weight": (width,),
    }
    for layer in range(CONFIG["num_hidden_layers"]):
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


def write(folder: Path) -> None:
    """The checkpoint, tensor by tensor."""
    import ml_dtypes
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2), encoding="utf-8")
    header, offset = {}, 0
    for name, shape in shapes().items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    numbers = np.random.default_rng(1)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes().items():
            values = numbers.standard_normal(shape, "float32") * 0.02 + ("norm" in name)
            file.write(values.astype(ml_dtypes.bfloat16).tobytes())


def load(folder: Path, dtype: str = "float32"):
    """The model, and how long it took."""
    import tfx_transformer as tfx

    begin = time.monotonic()
    model, _ = tfx.from_pretrained(folder, dtype, max_length=CONTEXT)
    return model, time.monotonic() - begin


def stage_load(folder: Path, dtype: str = "float32") -> dict:
    import keras  # what is not of the model: the frameworks

    import tfx_transformer as tfx

    tfx.CausalLM(tfx.TransformerConfig.of_size("nano", 300, "llama"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model, seconds = load(folder, dtype)
    size = sum(keras.ops.size(w) * (4 if w.dtype == "float32" else 2) for w in model.weights)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    ratio = round(peak * 1024 / float(size), 3)
    return {"seconds": seconds, "model_gb": float(size) / 1e9, "peak_of_model": ratio}


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
    losses, times = [], []
    for _ in range(5):
        begin = time.monotonic()
        losses.append(float(model.train_on_batch(*batch)[0]))
        times.append(time.monotonic() - begin)
    return {"losses": losses, "seconds_a_step": sorted(times)[2], "tokens_a_step": 256}


def stage_export(folder: Path) -> dict:
    from tfx_transformer.export.litert import convert

    model, _ = load(folder)
    begin, file = time.monotonic(), folder / "model.int8.tflite"
    convert(model, file, "int8", context=CONTEXT, rows=1)
    return {"seconds": time.monotonic() - begin, "file_mb": file.stat().st_size / 1e6}


def stage_run(folder: Path) -> dict:
    """By LiteRT; and how far its logits are from Keras's."""
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
    return {"tokens_per_s": 33 / (time.monotonic() - begin)}


STAGES = {
    "load": stage_load,
    "load_bfloat16": stage_load_bfloat16,
    "lora": stage_lora,
    "export": stage_export,
    "run": stage_run,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--stage", choices=STAGES)
    chosen = parser.parse_args()
    if chosen.stage:
        found = STAGES[chosen.stage](chosen.folder)
        usages = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        peaks = [resource.getrusage(usage).ru_maxrss * 1024 / 1e9 for usage in usages]
        print(json.dumps(found | {"peak_gb": peaks[0], "peak_gb_of_a_child": peaks[1]}))
        return
    if not (chosen.folder / "model.safetensors").is_file():
        write(chosen.folder)
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    for stage in STAGES:
        command = [sys.executable, __file__, "--folder", str(chosen.folder), "--stage", stage]
        done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
        print(f"{stage:<14} {done.stdout.decode().splitlines()[-1]}", flush=True)


if __name__ == "__main__":
    main()
