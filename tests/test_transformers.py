"""Hugging Face transformers computes of our folders what this package does.

Runs with ALL_TESTS=1 where TRANSFORMERS_PYTHON names an interpreter with PyTorch and transformers,
which this package does not need; see tests/conformance/README.md.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfx_transformer import export, runtime

HERE = Path(__file__).parent / "conformance"
PYTHON = os.environ.get("TRANSFORMERS_PYTHON")
CASES = {
    "translator": "bart",
    "language model": "gpt2",
    "classifier of texts": "bert_classifier",
    "classifier of images": "vit",
    "regressor": "bert_regressor",
    "tagger": "bert_tags",
    "embedder": "bert_model",
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="TRANSFORMERS_PYTHON names no interpreter"),
]

# Argument: a folder of transformers. Standard input: questions. Prints ids and answers.
ANSWER = """
import json, sys
import transformers
folder = sys.argv[1]
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
found = []
for question in json.load(sys.stdin):
    messages = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    ids = prompt["input_ids"][0].tolist()
    longest = model.config.max_position_embeddings
    written = model.generate(**prompt, do_sample=False, max_length=longest)[0, len(ids):]
    found.append([ids, tokenizer.decode(written, skip_special_tokens=True)])
print(json.dumps(found))
"""


def run(*arguments, **settings):
    """Run the interpreter that has transformers; return what it prints."""
    result = subprocess.run(
        [PYTHON, *map(str, arguments)], capture_output=True, text=True, timeout=500, **settings
    )
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    return result.stdout


def test_saved_models_compute_alike(tmp_path):
    sys.path.insert(0, str(HERE))
    import save_models

    save_models.main(tmp_path, *CASES.values())
    lines = run(HERE / "check_saved.py", tmp_path).splitlines()
    assert [line.split()[0] for line in lines[:-1]] == sorted(CASES.values())


def test_an_assistant_answers_as_the_runtime(assistant, tmp_path):
    """Its prompts, by the chat template, and its answers; exported from a bundle trained here."""
    path = assistant.copy(tmp_path)
    export.transformers(path)
    questions = assistant.texts[:20]
    printed = run("-c", ANSWER, path / "transformers", input=json.dumps(questions))
    model = runtime.load(path, "float32")
    expected = [[model.encode(text), model.generate(text)] for text in questions]
    assert json.loads(printed) == expected
