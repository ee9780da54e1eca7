"""The worked examples of CONTRIBUTING.md work: they are performed on a copy of the package."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import warm

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

# Uses what the examples add: a checkpoint of the family, a model of the task, the export target.
USE = """
import json
import sys
sys.path[0] = {copy!r}
import numpy as np
import tfx_transformer as tfx
from tfx_transformer import runtime
from tfx_transformer.cli import main

assert tfx.__file__.startswith({copy!r}), tfx.__file__

model, _ = tfx.from_pretrained("toy")
np.save("logits.npy", model(np.array([[3, 1, 4, 1, 5, 9, 2]])))
assert tfx.TransformerConfig(**tfx.TransformerConfig.to_dict(model.config)) == model.config

tokenizer = tfx.Tokenizer.train(["the cat sees a dog"] * 5, 270)
config = tfx.TransformerConfig.of_size(
    "nano", tokenizer.vocabulary_size, "bert", num_layers=1, max_sequence_length=11
)
mapper = tfx.Mapper(config)
tfx.save("mapper", mapper, tokenizer)
tfx.export.litert("mapper")
print(tfx.export.verify("mapper", ["the cat", "a dog sees", ""]))

texts = ["the cat", "a dog"]
np.save("keras.npy", tfx.predictor(mapper, tokenizer).embed(texts))
np.save("places.npy", runtime.load("mapper").embed(texts))


def command(*arguments):
    try:
        main(arguments)
    except SystemExit as stop:
        assert not stop.code, stop.code


with open("in.csv", "w") as file:
    file.write("text\\nthe cat\\na dog\\n")
command("predict", "mapper", "in.csv", "--save", "out.csv")
command("export", "mapper", "--to", "word2vec")
with open("mails.rec", "w") as file:
    file.write("text: Hello\\nlabel: a\\n\\nlabel: b\\ntext: Good: bye\\n\\ntext: no\\n")
read = tfx.data.read_labelled_texts("mails.rec", skip_bad_rows=True)
with open("read.json", "w") as file:
    json.dump([read.texts, read.labels, read.rows, [bad.row for bad in read.bad_rows]], file)
command("predict", "mapper", "mails.rec", "--save", "out.jsonl")
table = tfx.load("mapper")[0].embedding.embeddings
np.save("table.npy", table)
"""


def blocks(section: str) -> list[tuple[str, str, str]]:
    """The code of a section of the guide: (language, file, text)."""
    text = GUIDE.partition(f"\n### {section}")[2].partition("\n### ")[0].partition("\n## ")[0]
    found = []
    for language, code in re.findall(r"```(python|diff)\n(.*?)```", text, re.DOTALL):
        first, _, rest = code.partition("\n")
        found.append((language, first.removeprefix("# ").removeprefix("--- "), rest))
    return found


def changed(text: str, diff: str) -> str:
    """A text with the hunks of a diff applied; each must fit at exactly one place."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines()
        before = "".join(f"{line[1:]}\n" for line in lines if line[:1] in (" ", "-", ""))
        after = "".join(f"{line[1:]}\n" for line in lines if line[:1] in (" ", "+", ""))
        assert text.count(before) == 1, f"{text.count(before)} places for:\n{hunk}"
        text = text.replace(before, after)
    return text


EXAMPLES = {
    "A family of checkpoints: 2 files": 2,
    "A task: 7 files": 7,
    "A format of tables: 2 files": 2,
    "An export target: 3 files": 3,
}


@pytest.mark.parametrize(("section", "count"), EXAMPLES.items(), ids=lambda value: str(value)[:9])
def test_an_example_touches_as_many_files_as_it_says(section, count):
    assert len({file for _, file, _ in blocks(section)}) == count


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder in which the examples were performed and used."""
    folder = tmp_path_factory.mktemp("contributing")
    copy = folder / "copy"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tfx_transformer", copy / "tfx_transformer", ignore=ignore)
    for section in EXAMPLES:
        for language, name, code in blocks(section):
            file = copy / name
            assert file.exists() == (language == "diff"), name
            text = changed(file.read_text(encoding="utf-8"), code) if language == "diff" else code
            file.write_text(text, encoding="utf-8")
    write_toy(folder / "toy")
    environment = os.environ | {"PYTHONPATH": str(copy)}
    code = USE.replace("{copy!r}", repr(str(copy)))
    done = warm.run(["-c", code], cwd=folder, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


SIZES = {"words": 31, "depth": 2, "heads": 3, "width": 18, "inner": 11, "context": 13}


def write_toy(folder: Path) -> None:
    folder.mkdir()
    config = {"model_type": "toy", "architectures": ["ToyForCausalLM"], **SIZES}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    safetensors.numpy.save_file(toy_tensors(), folder / "model.safetensors")


def toy_tensors() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    width, inner = SIZES["width"], SIZES["inner"]
    shapes = {"words.weight": (SIZES["words"], width), "end.weight": (width,)}
    for i in range(SIZES["depth"]):
        shapes |= {f"block.{i}.{name}.weight": (width, width) for name in "qkvo"}
        shapes |= {f"block.{i}.norm_{n}.weight": (width,) for n in (1, 2)}
        shapes |= {f"block.{i}.{name}.weight": (inner, width) for name in ("up", "gate")}
        shapes[f"block.{i}.down.weight"] = (width, inner)
    return {n: random.normal(0, 0.5, shape).astype("float32") for n, shape in shapes.items()}


def test_the_family_computes_what_numpy_does(made):
    weights, x = toy_tensors(), None

    def norm(x, scale):
        return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6) * scale

    ids = np.array([3, 1, 4, 1, 5, 9, 2])
    heads, size = SIZES["heads"], SIZES["width"] // SIZES["heads"]
    angles = np.arange(len(ids))[:, None] * 10_000.0 ** (-np.arange(0, size, 2) / size)

    def rotate(x):  # (length, heads, size): halves, as in Llama
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        a, b = np.split(x, 2, -1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    x = weights["words.weight"][ids].astype("float64")
    for i in range(SIZES["depth"]):
        w = {n.removeprefix(f"block.{i}."): a for n, a in weights.items() if f"block.{i}." in n}
        h = norm(x, w["norm_1.weight"])
        q, k, v = ((h @ w[f"{n}.weight"].T).reshape(len(ids), heads, size) for n in "qkv")
        scores = np.einsum("qhd,khd->hqk", rotate(q), rotate(k)) / np.sqrt(size)
        scores = np.where(np.tri(len(ids), dtype=bool), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        x = x + np.einsum("hqk,khd->qhd", shares, v).reshape(len(ids), -1) @ w["o.weight"].T
        h = norm(x, w["norm_2.weight"])
        gate = h @ w["gate.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w["up.weight"].T)) @ w["down.weight"].T
    expected = norm(x, weights["end.weight"]) @ weights["words.weight"].T
    np.testing.assert_allclose(np.load(made / "logits.npy")[0], expected, rtol=1e-3, atol=1e-3)


def test_the_task_is_exported_verified_and_predicted(made):
    places = np.load(made / "places.npy")
    assert places.shape == (2, 2) and np.ptp(places) > 0
    np.testing.assert_allclose(places, np.load(made / "keras.npy"), atol=1e-5)
    config = json.loads((made / "mapper" / "config.json").read_text("utf-8"))
    assert config["task"] == "mapping"
    assert config["verified"]["TFLite float32"]["identical"] == 3
    rows = (made / "out.csv").read_text("utf-8").splitlines()
    assert rows[0] == "text,x,y"
    found = [[float(cell) for cell in row.split(",")[1:]] for row in rows[1:]]
    np.testing.assert_allclose(found, places, atol=1e-4)


def test_the_format_is_read_by_readers_and_commands(made):
    texts, labels, rows, bad = json.loads((made / "read.json").read_text("utf-8"))
    assert (texts, labels) == ([["Hello"], ["Good: bye"]], [["a"], ["b"]])
    assert (rows, bad) == ([1, 4], [7])
    lines = (made / "out.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["Hello", "Good: bye", "no"]
    assert all(isinstance(json.loads(line)["x"], float) for line in lines)


def test_the_export_target_is_in_the_bundle(made):
    lines = (made / "mapper" / "vectors.txt").read_text("utf-8").splitlines()
    table = np.load(made / "table.npy")
    assert lines[0] == f"{table.shape[0]} {table.shape[1]}"
    numbers = np.array([[float(x) for x in line.split(" ")[1:]] for line in lines[1:]])
    np.testing.assert_allclose(numbers, table, rtol=1e-5)
    assert "vectors.txt" in (made / "mapper" / "SHA256SUMS").read_text("utf-8")


def test_a_change_that_fits_nowhere_is_an_error():
    assert changed("a\nb\nc\n", " b\n+x\n") == "a\nb\nx\nc\n"
    assert changed("a\nb\nc\n", "-b\n+x\n@@\n+y\n c\n") == "a\nx\ny\nc\n"
    for diff in (" d\n+x\n", " a\n c\n+x\n"):
        with pytest.raises(AssertionError, match="0 places"):
            changed("a\nb\nc\n", diff)
