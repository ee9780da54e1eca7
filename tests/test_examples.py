"""The programs of examples/ give the answers of the runtime, where they can be run.

Node.js needs LITERT_JS, as in tests/browser/README.md. C++ needs LITERT_HEADERS, a copy of LiteRT's
repository with an empty litert/build_common/build_config.h, and g++, ICU and nlohmann/json.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tfx_transformer import bundle, files, images, page, runtime

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TEXTS = [
    "the cat sees a dog!",
    "a 猫 が 見る\n\tand … 3.14159 don't",
    "Ünïcödé, カタカナー and 한국어 \N{GRINNING FACE}",
    "",
    "the dog " * 40,  # is cut
    "THE CAT sees a Dog, İ Ⱥ ΑΣ",
]


def check_answers(command, folder, **options):
    """Compare the JSON lines that a program prints with the answers of the runtime."""
    command = [*map(str, command), str(folder), *TEXTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    expected = runtime.load(folder).classify(TEXTS)
    assert [answer["text"] for answer in answers] == TEXTS
    for answer, one in zip(answers, expected, strict=True):
        assert answer["probabilities"].keys() == one.probabilities.keys()
        for label, probability in one.probabilities.items():
            assert abs(answer["probabilities"][label] - probability) < 1e-6, (answer, label)
    different = {tuple(np.round(list(one.probabilities.values()), 4)) for one in expected}
    assert len(different) > 3, "the answers differ"


@pytest.fixture(params=["softmax", "sigmoid", "lower case"])
def classifier(request, tmp_path):
    """The path of a bundle with one label for each text, with several, or that reads texts in lower
    case."""
    name = "topic_classifier" if request.param == "sigmoid" else "text_classifier"

    def path():
        folder = request.getfixturevalue(name).path
        if request.param != "lower case":
            return folder
        changed = shutil.copytree(folder, tmp_path / "lower")
        with bundle.updating(changed) as unfinished:
            file = unfinished / bundle.TOKENIZER
            tree = json.loads(file.read_text("utf-8")) | {"normalizer": {"type": "Lowercase"}}
            files.write(file, json.dumps(tree))
        return changed

    return path


# Marks, which skip before any bundle is made.
needs_node = pytest.mark.skipif(
    shutil.which("node") is None or "LITERT_JS" not in os.environ,
    reason="Node.js and LITERT_JS are needed: see tests/browser/README.md",
)
needs_cpp = pytest.mark.skipif(
    shutil.which("g++") is None or "LITERT_HEADERS" not in os.environ,
    reason="g++ and LITERT_HEADERS, a copy of LiteRT's repository, are needed",
)


@needs_node
def test_node_labels_as_the_runtime(classifier, tmp_path):
    shutil.copytree(EXAMPLES / "node", tmp_path / "node")
    (tmp_path / "node" / "node_modules").symlink_to(Path(os.environ["LITERT_JS"]).resolve())
    check_answers(["node", tmp_path / "node" / "classify.js"], classifier())


@pytest.fixture
def ask(tmp_path):
    """A function that gives requests, [name, request, options], to ask.js with a bundle's page,
    and returns its answers."""

    def run(path, requests):
        files = page.page_files(path, litert_js=os.environ["LITERT_JS"])
        folder = page.write_page(files, tmp_path / path.name).parent
        done = subprocess.run(
            ["node", str(EXAMPLES / "node" / "ask.js"), str(folder)],
            input="".join(f"{json.dumps(request)}\n" for request in requests),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


@needs_node
@pytest.mark.parametrize("name", ["translator", "writer", "assistant"])
def test_node_writes_as_the_runtime(name, page_bundles, ask):
    texts = [text[:40] for text in TEXTS if text]
    options = {"maxNewTokens": 9, "temperature": 0.9, "topK": 7, "seed": 3}
    requests = [["answer", {"text": text}, {"maxNewTokens": 9}] for text in texts]
    requests += [["answer", {"text": text}, options] for text in texts]
    if name == "assistant":  # each is a conversation of its own
        requests = [one for request in requests for one in (["reset", {}], request)]
    found = [answer["text"] for answer in ask(page_bundles / name, requests) if answer]
    model = runtime.load(page_bundles / name)
    python = {"max_new_tokens": 9, "temperature": 0.9, "top_k": 7, "seed": 3}
    expected = model.generate(texts, max_new_tokens=9)
    expected += [model.generate(text, **python) for text in texts]
    assert found == expected and len(set(expected)) > 4


@needs_node
def test_node_reads_as_the_runtime(page_bundles, text_embedder, image_classifier, ask):
    found = ask(text_embedder.path, [["many", {"texts": TEXTS}]])
    expected = runtime.load(text_embedder.path).embed(TEXTS)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)

    texts = [text for text in TEXTS if text]
    found = ask(page_bundles / "regressor", [["answer", {"texts": [text]}] for text in texts])
    expected = runtime.load(page_bundles / "regressor").predict(texts)
    np.testing.assert_allclose([one["value"] for one in found], expected, atol=1e-5)
    assert np.ptp(expected) > 0.1

    found = ask(page_bundles / "tagger", [["answer", {"text": text}] for text in texts])
    spans = [[(s["start"], s["end"], s["label"]) for s in one["spans"]] for one in found]
    expected = runtime.load(page_bundles / "tagger").tag(texts)
    assert spans == [[entity[:3] for entity in one] for one in expected] and any(spans)

    requests = []
    for file in image_classifier.inputs:
        pixels = images.read_image(file).astype("uint8")
        height, width, _ = pixels.shape
        given = {"pixels": pixels.reshape(-1).tolist(), "width": width, "height": height}
        requests.append(["answer", given])
    ranked = [answer["ranked"] for answer in ask(image_classifier.path, requests)]
    found = [[p["probability"] for p in sorted(one, key=lambda p: p["id"])] for one in ranked]
    expected = runtime.load(image_classifier.path).probabilities(image_classifier.inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The C++ program, compiled."""
    import ai_edge_litert

    library, program = Path(ai_edge_litert.__path__[0]), tmp_path_factory.mktemp("cpp") / "classify"
    command = ["g++", "-std=c++20", "-Wall", "-Wextra", "-Wno-missing-field-initializers"]
    command += [f"-I{folder}" for folder in os.environ["LITERT_HEADERS"].split(os.pathsep)]
    command += [EXAMPLES / "cpp" / "classify.cc", "-o", program, f"-L{library}", "-lLiteRt"]
    command += ["-licuuc", "-licui18n", f"-Wl,-rpath,{library}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return program


@needs_cpp
def test_cpp_labels_as_the_runtime(compiled, classifier):
    check_answers([compiled], classifier())


@needs_cpp
def test_cpp_computes_as_the_runtime(compiled, page_bundles, text_embedder):
    for path, method in [(page_bundles / "regressor", "predict"), (text_embedder.path, "embed")]:
        done = subprocess.run([compiled, path, *TEXTS], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        found = np.array([json.loads(line)["output"] for line in done.stdout.splitlines()])
        expected = getattr(runtime.load(path), method)(TEXTS).reshape(len(TEXTS), -1)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.ptp(expected, axis=0).max() > 0.1, "the answers differ"


def test_the_table_lists_all_examples():
    table = (EXAMPLES / "README.md").read_text("utf-8")
    programs = [f for f in EXAMPLES.rglob("*") if f.suffix in (".js", ".cc", ".kt", ".swift")]
    programs = [f for f in programs if "node_modules" not in f.parts]
    assert len(programs) == 7
    for file in programs:
        (row,) = [
            line for line in table.splitlines() if f"]({file.parent.name}/{file.name})" in line
        ]
        run = file.suffix in (".js", ".cc")
        assert ("not compiled here" in row) != run, row
        assert "see README.md" in file.read_text("utf-8")
