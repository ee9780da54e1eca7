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

from tfx_transformer import runtime

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TEXTS = [
    "the cat sees a dog!",
    "a 猫 が 見る\n\tand … 3.14159 don't",
    "Ünïcödé, カタカナー and 한국어 \N{GRINNING FACE}",
    "",
    "the dog " * 40,  # is cut
]


def check_answers(command, bundle, **options):
    """Compare the JSON lines that a program prints with the answers of the runtime."""
    command = [*map(str, command), str(bundle), *TEXTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    expected = runtime.load(bundle).classify(TEXTS)
    assert [answer["text"] for answer in answers] == TEXTS
    for answer, one in zip(answers, expected, strict=True):
        assert answer["probabilities"].keys() == one.probabilities.keys()
        for label, probability in one.probabilities.items():
            assert abs(answer["probabilities"][label] - probability) < 1e-6, (answer, label)
    different = {tuple(np.round(list(one.probabilities.values()), 4)) for one in expected}
    assert len(different) > 3, "the answers differ"


@pytest.fixture(params=["softmax", "sigmoid"])
def classifier(request):
    """The path of a bundle with one label for each text, or with several."""
    name = {"softmax": "text_classifier", "sigmoid": "topic_classifier"}[request.param]
    return lambda: request.getfixturevalue(name).path


def test_node_labels_as_the_runtime(classifier, tmp_path):
    if shutil.which("node") is None or "LITERT_JS" not in os.environ:
        pytest.skip("Node.js and LITERT_JS are needed: see tests/browser/README.md")
    shutil.copytree(EXAMPLES / "node", tmp_path / "node")
    (tmp_path / "node" / "node_modules").symlink_to(Path(os.environ["LITERT_JS"]).resolve())
    check_answers(["node", tmp_path / "node" / "classify.js"], classifier())


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The C++ program, compiled."""
    if shutil.which("g++") is None or "LITERT_HEADERS" not in os.environ:
        pytest.skip("g++ and LITERT_HEADERS, a copy of LiteRT's repository, are needed")
    import ai_edge_litert

    library, program = Path(ai_edge_litert.__path__[0]), tmp_path_factory.mktemp("cpp") / "classify"
    command = ["g++", "-std=c++20", "-Wall", "-Wextra", "-Wno-missing-field-initializers"]
    command += [f"-I{folder}" for folder in os.environ["LITERT_HEADERS"].split(os.pathsep)]
    command += [EXAMPLES / "cpp" / "classify.cc", "-o", program, f"-L{library}", "-lLiteRt"]
    command += ["-licuuc", "-licui18n", f"-Wl,-rpath,{library}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return program


def test_cpp_labels_as_the_runtime(compiled, classifier):
    check_answers([compiled], classifier())


def test_the_table_lists_all_examples():
    table = (EXAMPLES / "README.md").read_text("utf-8")
    programs = [f for f in EXAMPLES.rglob("*") if f.suffix in (".js", ".cc", ".kt", ".swift")]
    programs = [f for f in programs if "node_modules" not in f.parts]
    assert len(programs) == 6
    for file in programs:
        (row,) = [
            line for line in table.splitlines() if f"]({file.parent.name}/{file.name})" in line
        ]
        run = file.suffix in (".js", ".cc")
        assert ("not compiled here" in row) != run, row
        assert "see README.md" in file.read_text("utf-8")
