"""LoRA adapters as PEFT saves them; and `info`, which approves only what can be loaded.

What an adapter makes of its base is computed here by hand, with the formulas of the papers.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tfx_transformer.errors import InputError
from tfx_transformer.models.pretrained import from_pretrained
from tfx_transformer.models.pretrained.describing import describe_source

sys.path.insert(0, str(Path(__file__).parent / "conformance"))
from fixtures import fixture_of  # noqa: E402
from weights import write_checkpoint  # noqa: E402

RANK, ALPHA = 3, 5.0


def write_adapter(base: Path, changes: dict, **settings) -> Path:
    """Writes adapter and settings beside the base; changes: tensors by name."""
    folder = base.parent / "adapter"
    folder.mkdir()
    values = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA} | settings
    values.setdefault("base_model_name_or_path", str(base))
    (folder / "adapter_config.json").write_text(json.dumps(values), "utf-8")
    tensors = {f"base_model.model.{name}": array for name, array in changes.items()}
    safetensors.numpy.save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def numbers(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype("float32")


@pytest.fixture
def base(tmp_path):
    """Writes the checkpoint of a case; returns its folder and its tensors."""

    def write(name: str):
        folder = write_checkpoint(tmp_path / name, fixture_of(name)[0])
        return folder, safetensors.numpy.load_file(folder / "model.safetensors")

    return write


def assert_merged(base: Path, tensors: dict, adapter: Path, changed: dict) -> None:
    """The adapter on its base is the model whose tensors were changed by hand."""
    merged = base.parent / "merged"
    shutil.copytree(base, merged)
    safetensors.numpy.save_file(tensors | changed, merged / "model.safetensors")
    ids = {"token_ids": np.array([[5, 7, 11, 13, 17]], "int32")}
    expected, actual, plain = (
        np.asarray(from_pretrained(f)[0](ids)) for f in (merged, adapter, base)
    )
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert np.abs(plain - expected).max() > 1e-2


def parts(name: str, tensors: dict) -> tuple[str, np.ndarray, np.ndarray, dict]:
    out, inner = tensors[f"{name}.weight"].shape
    a, b = numbers(RANK, inner, seed=1), numbers(out, RANK, seed=2)
    return f"{name}.weight", a, b, {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}


@pytest.mark.parametrize("root", [False, True])
def test_lora_is_added_to_its_base(root, base):
    folder, tensors = base("llama")
    name, a, b, stored = parts("model.layers.1.self_attn.q_proj", tensors)
    adapter = write_adapter(folder, stored, use_rslora=root)
    scale = ALPHA / (RANK**0.5 if root else RANK)
    assert_merged(folder, tensors, adapter, {name: tensors[name] + scale * b @ a})


def test_dora_scales_each_output(base):
    folder, tensors = base("llama")
    layer = "model.layers.0.mlp.down_proj"
    name, a, b, stored = parts(layer, tensors)
    sizes = 1 + numbers(len(b), seed=3) ** 2
    adapter = write_adapter(
        folder, stored | {f"{layer}.lora_magnitude_vector": sizes}, alpha_pattern={"down_proj": 7}
    )
    kernel = tensors[name] + 7 / RANK * b @ a
    kernel = kernel / np.linalg.norm(kernel, axis=1, keepdims=True) * sizes[:, None]
    assert_merged(folder, tensors, adapter, {name: kernel})


def test_kernels_of_gpt2_lie_the_other_way(base):
    folder, tensors = base("gpt2")
    layer = "transformer.h.0.attn.c_attn"
    inner, out = tensors[f"{layer}.weight"].shape
    a, b = numbers(RANK, inner, seed=1), numbers(out, RANK, seed=2)
    stored = {f"{layer}.lora_A.weight": a, f"{layer}.lora_B.weight": b}
    adapter = write_adapter(folder, stored, fan_in_fan_out=True)
    kernel = tensors[f"{layer}.weight"] + ALPHA / RANK * (b @ a).T
    assert_merged(folder, tensors, adapter, {f"{layer}.weight": kernel})


def test_what_was_trained_in_full_replaces_the_base(base):
    folder, tensors = base("llama")
    head = numbers(*tensors["lm_head.weight"].shape, seed=4)
    name, a, b, stored = parts("model.layers.0.self_attn.o_proj", tensors)
    adapter = write_adapter(
        folder, stored | {"lm_head.weight": head}, base_model_name_or_path="../llama"
    )
    changed = {name: tensors[name] + ALPHA / RANK * b @ a, "lm_head.weight": head}
    assert_merged(folder, tensors, adapter, changed)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_model_name_or_path": "somebody/base"}, "of .somebody.base.*not here"),
        ({"base_model_name_or_path": None}, "of None"),
        ({"peft_type": "IA3"}, "an adapter of kind IA3"),
        ({"task_type": "SEQ_CLS"}, "the head is in the adapter"),
    ],
)  # fmt: skip
def test_adapters_that_cannot_be_applied_are_named(settings, message, base):
    folder, tensors = base("llama")
    _, _, _, stored = parts("model.layers.0.self_attn.o_proj", tensors)
    adapter = write_adapter(folder, stored, **settings)
    with pytest.raises(InputError, match=message):
        from_pretrained(adapter)


def test_adapters_of_other_bases_are_named(base):
    folder, tensors = base("llama")
    a, b = numbers(RANK, 7, seed=1), numbers(9, RANK, seed=2)
    layer = "model.layers.0.self_attn.o_proj"
    adapter = write_adapter(folder, {f"{layer}.lora_A.weight": a, f"{layer}.lora_B.weight": b})
    with pytest.raises(InputError, match=r"has shapes \(3, 7\) and \(9, 3\)"):
        from_pretrained(adapter)
    shutil.rmtree(adapter)
    adapter = write_adapter(folder, {"odd.lora_A.weight": a, "odd.lora_B.weight": b})
    with pytest.raises(InputError, match="odd is not a layer of the base"):
        from_pretrained(adapter)


# info


def test_info_refuses_what_loading_refuses(base, command):
    folder, tensors = base("gpt2")
    broken = [
        ({n: t for n, t in tensors.items() if "ln_f.weight" not in n}, "ln_f.weight is missing"),
        (tensors | {"transformer.odd": np.zeros(3, "float32")}, "odd has no place"),
        (
            tensors | {"transformer.wpe.weight": np.zeros((83, 31), "float32")},
            "wpe.weight has shape",
        ),
    ]
    for changed, message in broken:
        safetensors.numpy.save_file(changed, folder / "model.safetensors")
        for look in (from_pretrained, lambda path: describe_source(str(path))):
            with pytest.raises(InputError, match=message):
                look(folder)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    assert command("info", folder)[0] == 0
    from_pretrained(folder)  # what `info` looked at takes no memory, and leaves nothing behind


@pytest.mark.parametrize("name", ["model.gguf", "model.onnx", "tf_model.h5", "model.safetensors"])
def test_a_file_instead_of_a_folder_is_named(name, tmp_path, command):
    (tmp_path / name).write_bytes(b"x")
    for path in (tmp_path / name, tmp_path):
        status, _, error = command("info", path)
        assert status == 2 and (name in error or path == tmp_path)
        with pytest.raises(InputError):
            from_pretrained(path)
