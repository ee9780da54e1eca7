"""Every checkpoint of models/ loaded by this package and saved again for transformers.

    python tests/conformance/save_models.py FOLDER [CASE…]   where this package is installed
    python tests/conformance/check_saved.py FOLDER           where PyTorch and transformers are

The first writes two folders for each case, the checkpoint as it was and as it is saved again, and
the outputs of our model; the second loads both with transformers and compares. Run both after a
change of `models/pretrained/`. `tests/test_transformers.py` runs them with a case of each task.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from weights import write_checkpoint

from tfx_transformer.models.pretrained import from_pretrained
from tfx_transformer.models.pretrained.saving import save_pretrained

CASES = Path(__file__).parent / "models"


def padded(rows: list[list[int]], padding_id: int) -> np.ndarray:
    """int32 (rows, longest), filled up behind."""
    length = max(map(len, rows))
    return np.array([row + [padding_id] * (length - len(row)) for row in rows], "int32")


def outputs(model, case: dict, arrays) -> dict[str, np.ndarray]:
    """The model's inputs and what it makes of them, by the names that check_saved.py reads."""
    if model.config.image_size:
        return {"output": np.asarray(model({"images": arrays["images"].astype("float32")}))}
    ids = padded(case["inputs"]["token_ids"], model.config.padding_id)
    found = {"ids": ids, "lengths": np.array([len(row) for row in case["inputs"]["token_ids"]])}
    inputs = {"token_ids": ids}
    if model.task == "seq2seq":
        target = padded(case["inputs"]["decoder_token_ids"], model.config.padding_id)
        inputs = {"encoder_token_ids": ids, "decoder_token_ids": target}
        found["target"] = target
        found["target_lengths"] = np.array(
            [len(row) for row in case["inputs"]["decoder_token_ids"]]
        )
    elif model.task == "masked":
        inputs["masked_positions"] = np.tile(np.arange(ids.shape[1], dtype="int32"), (len(ids), 1))
    return found | {"output": np.asarray(model(inputs))}


def main(folder: Path, *names: str) -> None:
    """Write the folders of these cases; of all, if none is named."""
    files = [CASES / f"{name}.json" for name in names] or sorted(CASES.glob("*.json"))
    for file in files:
        case = json.loads(file.read_text(encoding="utf-8"))
        original = folder / file.stem / "original"
        original.mkdir(parents=True)
        model, _ = from_pretrained(write_checkpoint(original, case))
        labels = list(case["config"].get("id2label", {}).values())
        save_pretrained(folder / file.stem, model, labels)
        arrays = np.load(file.with_suffix(".npz"))
        np.savez(folder / file.stem / "expected.npz", **outputs(model, case, arrays))
        if "images" in arrays:
            np.save(folder / file.stem / "images.npy", arrays["images"])
        print(file.stem)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
