"""Makes models/: what small models of every family answer in `transformers`.

    python tests/conformance/make_models.py            all cases
    python tests/conformance/make_models.py gpt2 t5    these

Needs `torch` and `transformers` beside `numpy` and `safetensors`; the tests need neither. Every
model is loaded from the folder that `weights.write_checkpoint` writes, as a user's would be.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from cases import CASES, Case
from safetensors import safe_open
from weights import OLD_ROPE, tensor, uniform, write_checkpoint

FOLDER = Path(__file__).parent / "models"
LENGTHS = (13, 17)
TARGET_LENGTHS = (11, 7)
NEW_TOKENS = 64
# Two tokens that are nearer to each other than this may change places in another library.
LEAST_MARGIN = 5e-4
LEAST_DIFFERENT = 8
CANDIDATES = 16


def make(name: str, case: Case) -> None:
    """Writes models/<name>.json and models/<name>.npz."""
    with tempfile.TemporaryDirectory() as folder:
        fixture = new_fixture(case, Path(folder, "new"))
        model = load(fixture, Path(folder, "written"))
        inputs = new_inputs(name, case.task, text_config(model))
        arrays = answers(model, case.task, inputs, fixture)
        for number, change in enumerate(case.matters):
            changed = {**fixture, "config": fixture["config"] | change}
            other = load(changed, Path(folder, f"changed_{number}"))
            difference = np.abs(first(answers(other, case.task, inputs, changed)) - first(arrays))
            assert difference.max() > 1e-2, f"{name}: {change} changes nothing"
        if fixture["rope_parameters"]:
            changed = {**fixture, "config": new_form(fixture)}
            other = load(changed, Path(folder, "new_form"))
            assert_same(first(answers(other, case.task, inputs, changed)), first(arrays), 1e-6)
        if case.task in ("causal", "seq2seq"):
            prompts, arrays["greedy"] = continuations(name, model, case.task)
            inputs["prompts"] = prompts
    images = inputs.pop("images", None)
    if images is not None:
        arrays["images"] = images
    fixture["inputs"] = inputs
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in fixture.items()]
    FOLDER.mkdir(exist_ok=True)
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    np.savez_compressed(FOLDER / f"{name}.npz", **arrays)
    spread = float(np.std(first(arrays)[first(arrays) != 0]))
    different = [len(set(row)) for row in arrays.get("greedy", np.zeros((0, 0))).tolist()]
    print(f"{name}: deviation {spread:.2f}, different tokens of {NEW_TOKENS}: {different}")


def first(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Logits, or vectors where there are none."""
    return next(iter(arrays.values()))


def assert_same(actual: np.ndarray, expected: np.ndarray, most: float) -> None:
    assert np.abs(actual - expected).max() <= most


# Models


def new_fixture(case: Case, folder: Path) -> dict[str, Any]:
    """Configuration and names of a new model, as `save_pretrained` writes them."""
    # A configuration keeps, and completes, the objects that it is given.
    config = getattr(transformers, case.config)(**copy.deepcopy(case.settings))
    model = getattr(transformers, case.architecture)(config)
    model.save_pretrained(folder)
    with safe_open(folder / "model.safetensors", "np") as file:
        tensors = {key: list(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config, rope_parameters = old_form(saved, case)
    return {
        "transformers": transformers.__version__,
        "architecture": case.architecture,
        "task": case.task,
        "config": config,
        "rope_parameters": rope_parameters,
        "files": case.files,
        "scales": case.scales,
        "tensors": tensors | case.tensors,
    }


def old_form(saved: dict[str, Any], case: Case) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """config.json as most published checkpoints have it, from before transformers 5; and the
    rotary settings in the new form."""
    config = {key: value for key, value in saved.items() if key not in case.unsaved}
    config["torch_dtype"] = config.pop("dtype")
    rope = config.pop("rope_parameters", None)
    if rope is not None:
        whole = dict(rope.get("full_attention", rope))
        config["rope_theta"] = whole.pop("rope_theta")
        config["rope_scaling"] = None if whole["rope_type"] == "default" else whole
        if "sliding_attention" in rope:
            config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
    return dict(sorted((config | case.settings | case.written).items())), rope


def new_form(fixture: dict[str, Any]) -> dict[str, Any]:
    """The same configuration with `rope_parameters`, as transformers 5 saves it."""
    config = {key: value for key, value in fixture["config"].items() if key not in OLD_ROPE}
    return config | {"rope_parameters": fixture["rope_parameters"]}


def load(fixture: dict[str, Any], folder: Path) -> Any:
    """The model of the fixture, every weight of it from the folder."""
    write_checkpoint(folder, fixture)
    model, info = getattr(transformers, fixture["architecture"]).from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
    )
    assert not any(info.values()), info
    for name in fixture["tensors"]:
        if name in model.state_dict():
            expected = tensor(name, fixture["tensors"][name], **fixture["scales"])
            assert np.array_equal(model.state_dict()[name].numpy(), expected), name
    return model.eval()


def text_config(model: Any) -> Any:
    """The configuration of what reads text, of a model that also sees images."""
    return getattr(model.config, "text_config", model.config)


# Inputs


def special_ids(config: Any) -> set[int]:
    """Tokens that are neither in texts nor in what is written."""
    names = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    return {getattr(config, name, None) for name in names} - {None}


def draw(name: str, length: int, config: Any) -> list[int]:
    """Token ids, none of them special."""
    ids = [i for i in range(config.vocab_size) if i not in special_ids(config)]
    return [ids[int(u * len(ids))] for u in uniform(name, length)]


def new_inputs(name: str, task: str, config: Any) -> dict[str, Any]:
    """Two rows of different lengths; images of one size."""
    if task == "image":
        shape = (2, config.image_size, config.image_size, 3)
        pixels = 256 * uniform(f"{name} images", int(np.prod(shape)))
        return {"images": pixels.astype("uint8").reshape(shape)}
    rows = [draw(f"{name} row {length}", length, config) for length in LENGTHS]
    if task == "seq2seq":
        rows = [[*row[:-1], config.eos_token_id] for row in rows]
        start = config.decoder_start_token_id
        targets = [[start, *draw(f"{name} target {n}", n - 1, config)] for n in TARGET_LENGTHS]
        return {"token_ids": rows, "decoder_token_ids": targets}
    inputs = {"token_ids": rows}
    if config.model_type in ("bert", "electra") and task != "embedding":
        inputs["segment_ids"] = [[0] * LENGTHS[0], [0] * 7 + [1] * (LENGTHS[1] - 7)]
    return inputs


def padded(rows: list[list[int]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, longest): the rows filled up at their ends, and 1 where there was something."""
    longest = max(map(len, rows))
    ids = [row + [padding] * (longest - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


# Answers


@torch.no_grad()
def answers(
    model: Any, task: str, inputs: dict[str, Any], fixture: dict[str, Any]
) -> dict[str, np.ndarray]:
    """What the model answers, by name: first the logits, or the vectors of an embedder. Where a
    row has ended they are 0."""
    if task == "image":
        return {"logits": model(pixel_values(inputs, fixture)).logits.numpy()}
    ids, mask = padded(inputs["token_ids"], text_config(model).pad_token_id or 0)
    batch = {"input_ids": ids, "attention_mask": mask}
    if task == "seq2seq":
        start = model.config.decoder_start_token_id
        batch["decoder_input_ids"], mask = padded(inputs["decoder_token_ids"], start)
    plain = model(**batch, output_hidden_states=True)
    arrays = read_out(plain, mask, task, fixture)
    if task == "masked":
        states = torch.stack(plain.hidden_states) * mask[None, :, :, None]
        arrays["hidden_states"] = states.numpy()
    if "segment_ids" in inputs:
        batch["token_type_ids"], _ = padded(inputs["segment_ids"], 0)
        of_pairs = first(read_out(model(**batch), mask, task, fixture))
        assert np.abs(of_pairs - first(arrays)).max() > 1e-2
        arrays["of_segments"] = of_pairs
    return arrays


def read_out(
    output: Any, mask: torch.Tensor, task: str, fixture: dict[str, Any]
) -> dict[str, np.ndarray]:
    if task == "embedding":  # sentence_transformers: Pooling, then Dense, then Normalize
        states = output.last_hidden_state
        pooled = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        if fixture["files"]["1_Pooling/config.json"].get("pooling_mode_lasttoken"):
            pooled = states[torch.arange(len(mask)), mask.sum(1) - 1]
        for name in sorted(name for name in fixture["tensors"] if "/" in name):
            pooled = pooled @ torch.tensor(tensor(name, fixture["tensors"][name])).T
        return {"vectors": torch.nn.functional.normalize(pooled).numpy()}
    if task in ("classification", "regression"):
        return {"logits": output.logits.numpy()}
    return {"logits": (output.logits * mask[:, :, None]).numpy()}


def pixel_values(inputs: dict[str, Any], fixture: dict[str, Any]) -> torch.Tensor:
    """float (images, 3, size, size), as an image processor makes them."""
    settings = fixture["files"]["preprocessor_config.json"]
    mean, deviation = (np.array(settings[f"image_{x}"], "float32") for x in ("mean", "std"))
    images = (inputs["images"].astype("float32") / 255 - mean) / deviation
    return torch.tensor(images.transpose(0, 3, 1, 2).copy())


# Generation


def continuations(name: str, model: Any, task: str) -> tuple[list[list[int]], np.ndarray]:
    """Two prompts of different lengths, and int32 (2, 64) what follows them.

    Of some prompts those are taken whose continuation has most different tokens, no special one,
    and no token that another nearly equals.
    """
    prompts, written = [], []
    for length in LENGTHS:
        candidates = [
            draw(f"{name} prompt {n}", length, text_config(model)) for n in range(CANDIDATES)
        ]
        if task == "seq2seq":
            candidates = [[*ids[:-1], model.config.eos_token_id] for ids in candidates]
        best = max(suitable(model, torch.tensor(candidates)), default=None)
        assert best is not None, f"{name}: no prompt of length {length} is suitable"
        prompts.append(candidates[best[1]])
        written.append(best[2])
    return prompts, np.array(written, "int32")


def suitable(model: Any, prompts: torch.Tensor) -> Iterator[tuple[int, int, list[int]]]:
    """(different tokens, which prompt, its continuation) of all that may be taken."""
    written, margins = greedy(model, prompts, use_cache=True)
    again, _ = greedy(model, prompts, use_cache=False)
    for index, row in enumerate(written.tolist()):
        if set(row) & special_ids(text_config(model)) or margins[index] < LEAST_MARGIN:
            continue
        assert row == again[index].tolist(), "the cache changes the continuation"
        if len(set(row)) >= LEAST_DIFFERENT:
            yield len(set(row)), index, row


def greedy(model: Any, prompts: torch.Tensor, use_cache: bool) -> tuple[np.ndarray, np.ndarray]:
    """int (prompts, 64), and the smallest distance between the best two logits of each."""
    config = text_config(model)
    # Without an end, and without what else the model's own settings would forbid or force.
    model.generation_config = transformers.GenerationConfig(
        pad_token_id=config.pad_token_id or 0,
        decoder_start_token_id=getattr(config, "decoder_start_token_id", None),
    )
    output = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        use_cache=use_cache,
        eos_token_id=None,
        return_dict_in_generate=True,
        output_logits=True,
    )
    logits = torch.stack(output.logits, 1)
    assert logits.shape[1] == NEW_TOKENS
    written = output.sequences[:, -NEW_TOKENS:].numpy()
    assert np.array_equal(written, logits.argmax(-1).numpy())
    best = logits.topk(2, -1).values
    return written, (best[..., 0] - best[..., 1]).min(1).values.numpy()


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    for wanted in sys.argv[1:] or CASES:
        make(wanted, CASES[wanted])
