"""tfx-transformer-runtime: the wheel of the same sources that runs bundles without TensorFlow."""

import csv
import email
import json
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from processes import python

import tfx_transformer
from tfx_transformer import installation
from tfx_transformer.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = {"export", "layers", "models", "pictures", "training"}
# Top-level modules that the wheel does not require, extras apart.
NOT_REQUIRED = [
    "tensorflow",
    "keras",
    "keras_hub",
    "keras_nlp",
    "torch",
    "jax",
    "matplotlib",
    "matplotlib_fontja",
    "pandas",
    "sacrebleu",
    "safetensors",
    "scipy",
    "sklearn",
    "tokenizers",
    "sentencepiece",
    "PIL",
    "openpyxl",
    "pyarrow",
    "huggingface_hub",
    "ml_dtypes",
    "litert_lm",
    "litert_lm_builder",
    "llguidance",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    builder = pytest.importorskip("hatchling.builders.wheel").WheelBuilder
    folder = tmp_path_factory.mktemp("wheel")
    return Path(next(builder(str(ROOT / "runtime_wheel")).build(directory=str(folder))))


@pytest.fixture(scope="module")
def unpacked(wheel):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(wheel.parent / "unpacked")
    return wheel.parent / "unpacked"


@pytest.fixture(scope="module")
def metadata(unpacked):
    (file,) = unpacked.glob("*.dist-info/METADATA")
    return email.message_from_string(file.read_text("utf-8"))


def test_it_has_all_of_the_package_but_what_needs_tensorflow(unpacked):
    package = ROOT / "tfx_transformer"
    expected = {
        file.relative_to(package): file.read_bytes()
        for file in package.rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    expected = {place: data for place, data in expected.items() if place.parts[0] not in LEFT_OUT}
    inside = unpacked / "tfx_transformer"
    found = {f.relative_to(inside): f.read_bytes() for f in inside.rglob("*") if f.is_file()}
    assert found == expected
    assert {path.name.partition("-")[0] for path in unpacked.iterdir()} == {
        "tfx_transformer",
        "tfx_transformer_runtime",
    }


def test_its_metadata_are_those_of_the_whole(metadata, unpacked):
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert metadata["Name"] == "tfx-transformer-runtime"
    assert metadata["Version"] == whole["version"] == tfx_transformer.__version__
    required = {_parts(r) for r in metadata.get_all("Requires-Dist") if ";" not in r}
    assert {name for name, _ in required} == {
        "ai-edge-litert",
        "docstring-parser",
        "filelock",
        "jinja2",
        "numpy",
        "pyyaml",
        "regex",
        "tiktoken",
    }
    assert required <= {_parts(r) for r in whole["dependencies"]}
    extras = set(metadata.get_all("Provides-Extra"))
    assert extras == {"checkpoints", "forms", "images", "search", "serve", "tables"}
    serve = {_parts(r) for r in metadata.get_all("Requires-Dist") if "'serve'" in r}
    assert serve == {_parts(r) for r in whole["optional-dependencies"]["serve"]}
    (licence,) = unpacked.glob("*.dist-info/licenses/LICENSE")
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()
    (scripts,) = unpacked.glob("*.dist-info/entry_points.txt")
    assert "tfx-transformer = tfx_transformer.cli:main" in scripts.read_text()


def _parts(requirement):
    """Return the name and the sorted bounds of a requirement, without its marker."""
    name, bounds = re.fullmatch(r"([\w.-]+)(.*)", requirement.partition(";")[0].strip()).groups()
    return name, tuple(sorted(bounds.split(",")))


USE = """
    import contextlib, importlib, io, json, pathlib, sys
    package = pathlib.Path(sys.argv[1], "tfx_transformer")
    sys.path.insert(0, sys.argv[1])
    names = [file.relative_to(package.parent).with_suffix("") for file in package.rglob("*.py")]
    names = [".".join(name.parts).removesuffix(".__init__") for name in sorted(names)]
    for name in names:
        if not name.endswith("__main__"):
            assert importlib.import_module(name).__file__.startswith(sys.argv[1])

    import tfx_transformer
    from tfx_transformer.cli import flags, main

    flags.hush = lambda: None  # it redirects descriptor 2, past the text files below

    def run(*arguments):
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                main(arguments)
            except SystemExit as end:
                return [end.code, output.getvalue(), errors.getvalue()]

    try:
        tfx_transformer.Classifier
    except ModuleNotFoundError as error:
        missing = str(error)
    verbs = {name: run(name, "saved_models/topics") for name in ("run", "copy", "export")}
    states = run("vectors", "weights", "saved_models/topics")
    sys.modules.update(dict.fromkeys([n for n in sys.modules if n.startswith("uvicorn")]))
    sys.modules.pop("tfx_transformer.serve.server")
    served = run("serve", "saved_models/topics")
    sys.__stdout__.write(json.dumps([len(names), missing, verbs, states, served, run("--help")]))
"""


def test_all_of_it_runs_without_what_it_does_not_require(unpacked, tmp_path):
    output = python(USE, unpacked, cwd=tmp_path, blocked=tuple(NOT_REQUIRED))
    modules, missing, verbs, weights, served, (status, usage, _) = json.loads(output)
    assert modules > 150
    remedy = "  pip uninstall tfx-transformer-runtime\n  pip install tfx-transformer"
    place = "is not in tfx-transformer-runtime, the part without TensorFlow.\n"
    assert missing == f"tfx_transformer.Classifier {place}{remedy}"
    for verb, answer in verbs.items():
        assert answer == [2, "", f"The verb {verb} {place}{remedy}\n"]
    assert weights == [2, "", f"tfx_transformer.models {place}{remedy}\n"]
    wanted = 'pip install "tfx-transformer-runtime[serve]"'
    assert served == [2, "", f"the package uvicorn is missing.\n  {wanted}\n"]
    offered = set(re.findall(r"^    (\w+) ", usage, re.MULTILINE))
    assert status == 0
    assert {"generate", "classify", "tag", "embed", "predict", "serve", "page"} <= offered
    assert not {"run", "recipes", "copy", "bases", "export", "tokenize", "plan"} & offered


def installed(folder, versions, parts=LEFT_OUT):
    for name, version in versions.items():
        (folder / f"{name}-{version}.dist-info").mkdir()
    for part in parts:
        (folder / "tfx_transformer" / part).mkdir(parents=True)
    return folder / "tfx_transformer"


@pytest.mark.parametrize(
    "versions",
    [
        {"tfx_transformer": "1.2.0"},
        {"tfx_transformer_runtime": "1.2.0"},
        {"tfx_transformer": "1.2.0", "tfx_transformer_runtime": "1.2.0"},
        {"tfx_transformer": "1.2.0", "tfx_transformer_other": "3.0"},
    ],
)
def test_one_version_is_accepted(versions, tmp_path, monkeypatch):
    monkeypatch.setattr(installation, "_PACKAGE", installed(tmp_path, versions))
    installation.check_versions()


@pytest.mark.parametrize(("second", "parts"), [("1.3.0", LEFT_OUT), ("1.2.0", {"layers"})])
def test_two_versions_and_hidden_files_are_refused(second, parts, tmp_path, monkeypatch):
    versions = {"tfx_transformer": "1.2.0", "tfx_transformer_runtime": second}
    monkeypatch.setattr(installation, "_PACKAGE", installed(tmp_path, versions, parts))
    with pytest.raises(InputError) as caught:
        installation.check_versions()
    assert str(caught.value) == (
        f"tfx-transformer 1.2.0 and tfx-transformer-runtime {second} are installed in one "
        "environment, and share their files.\n"
        "  pip uninstall tfx-transformer-runtime\n"
        "  pip install --force-reinstall --no-deps tfx-transformer"
    )


def test_this_package_is_whole():
    assert installation.is_complete()
    assert set(installation.LEFT_OUT) == LEFT_OUT
    assert not installation.leaves_out("tfx_transformer.models.saving")
    assert installation.requirement("forms") == '"tfx-transformer[forms]"'


@pytest.fixture(scope="module")
def installed_wheel(wheel, tmp_path_factory):
    """An empty environment with the wheel and its extra `images`: a function that runs a command of
    it in a new folder, and the megabytes that the wheel took without the extra."""
    folder = tmp_path_factory.mktemp("environment")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    venv.create(folder / "venv", with_pip=True)
    (packages,) = (folder / "venv" / "lib").glob("*/site-packages")
    before = size_of(packages)

    def run(*command):
        done = subprocess.run(
            [folder / "venv" / "bin" / command[0], *map(str, command[1:])],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    constraints = ("--quiet", "--no-compile", "--constraint", ROOT / "constraints.txt")
    run("pip", "install", *constraints, wheel)
    megabytes = (size_of(packages) - before) / 1e6
    run("pip", "install", *constraints, f"{wheel}[images]")
    run("pip", "check")
    run("python", "-c", "import importlib.util as u; assert not u.find_spec('tensorflow')")
    return run, megabytes


@pytest.fixture
def answers_of(installed_wheel):
    """A function that returns the JSON of a verb of the installed command."""
    run, _ = installed_wheel
    return lambda *words: json.loads(run("tfx-transformer", *words, "--json"))


@pytest.mark.slow  # installs packages
def test_its_size(installed_wheel, record_property):
    _, megabytes = installed_wheel
    record_property("megabytes", megabytes)
    if sys.platform == "linux":
        assert megabytes < 160, "README of the wheel says 136"


@pytest.mark.slow
def test_models_that_write_answer_in_an_empty_environment(
    answers_of, trained, assistant, page_bundles
):
    from tfx_transformer import runtime

    for path, texts in [
        (trained.path, trained.texts[:60:15]),
        (assistant.path, assistant.texts[:4]),
        (page_bundles / "writer", ["the cat", "dog 猫", "a"]),
    ]:
        found = answers_of("generate", path, *texts, "--max-new-tokens", 20)
        expected = runtime.load(path).generate(texts, max_new_tokens=20)
        assert [answer["answer"] for answer in found["answers"]] == expected
        assert len(set(expected)) > 1


@pytest.mark.slow
def test_models_that_read_answer_in_an_empty_environment(
    answers_of, installed_wheel, text_classifier, image_classifier, text_embedder, page_bundles,
    tmp_path,
):  # fmt: skip
    from tfx_transformer import runtime

    texts = text_classifier.inputs[:5]
    for path, inputs in [
        (text_classifier.path, texts),
        (image_classifier.path, image_classifier.inputs),
    ]:
        found = answers_of("classify", path, *inputs)["answers"]
        expected = runtime.load(path).classify(inputs)
        assert [answer["label"] for answer in found] == [one.label for one in expected]

    found = answers_of("embed", text_embedder.path, *texts)["vectors"]
    assert abs(runtime.load(text_embedder.path).embed(texts) - found).max() < 1e-6

    found = answers_of("tag", page_bundles / "tagger", *texts)["answers"]
    expected = runtime.load(page_bundles / "tagger").tag(texts)
    ends = [[(span["start"], span["end"], span["label"]) for span in one["spans"]] for one in found]
    assert ends == [[entity[:3] for entity in one] for one in expected] and any(ends)

    run, _ = installed_wheel
    table = tmp_path / "texts.csv"
    table.write_text("\n".join(["text", *texts]) + "\n", "utf-8")
    labels = [one.label for one in runtime.load(text_classifier.path).classify(texts)]
    numbers = runtime.load(page_bundles / "regressor").predict(texts)
    for path, expected in [(text_classifier.path, labels), (page_bundles / "regressor", numbers)]:
        run("tfx-transformer", "predict", path, table, "--save", tmp_path / f"{path.name}.csv")
        with (tmp_path / f"{path.name}.csv").open(encoding="utf-8") as file:
            found = [row[1] for row in csv.reader(file)][1:]
        if expected is labels:
            assert found == labels
        else:
            assert np.abs(np.array(found, float) - numbers).max() < 1e-4


@pytest.mark.slow
def test_it_serves_in_an_empty_environment(wheel, installed_wheel, text_classifier):
    run, _ = installed_wheel
    constraints = ("--quiet", "--no-compile", "--constraint", ROOT / "constraints.txt")
    run("pip", "install", *constraints, f"{wheel}[serve]")
    code = "import tfx_transformer.serve.server as s; s.Service([__import__('sys').argv[1]])"
    run("python", "-c", code, text_classifier.path)


def size_of(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
