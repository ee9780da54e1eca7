"""The command: what each verb answers, and how it says what is wrong with its input."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
from processes import everything_in, process
from trained import BEAMS, MAX_LENGTH

from tfx_transformer import bundle, cli, resources, runtime
from tfx_transformer.errors import InputError
from tfx_transformer.export.saved_model_generator import SavedModelGenerator
from tfx_transformer.models.saving import load
from tfx_transformer.text.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"tensorflow", "keras", "pandas", "matplotlib", "sacrebleu", "numpy", "tiktoken"}


def write_csv(path, rows, header=("source", "target")):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="session")
def references(trained, tmp_path_factory):
    """A CSV of 30 texts; a third of the references are what the model answers."""
    texts = trained.texts[:30]
    answers = runtime.load(trained.path).generate(texts)
    targets = [a if i % 3 == 0 else f"{a[:-1]}ね。" for i, a in enumerate(answers)]
    path = tmp_path_factory.mktemp("references") / "references.csv"
    return write_csv(path, zip(texts, targets, strict=True))


def first_rows(table, count, path):
    lines = table.read_text("utf-8").splitlines(True)
    path.write_text("".join(lines[: count + 1]), encoding="utf-8")
    return path


# Help


def test_help_imports_nothing_heavy():
    verbs = ["run", "recipes", "copy", "check", "tokens", "generate", "chat", "evaluate", "export"]
    verbs.append("info")
    code = f"""
import sys
from tfx_transformer import cli
for arguments in ["--help"], *([verb, "--help"] for verb in {verbs}):
    try:
        cli.main(arguments)
    except SystemExit as end:
        assert end.code == 0, arguments
print("imported", *sorted(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    help_texts, _, imported = done.stdout.rpartition("imported")
    assert not HEAVY & set(imported.split())
    assert all(f"usage: tfx-transformer {verb} " in help_texts for verb in verbs)
    assert done.stderr == ""


def test_no_verb_and_a_wrong_verb(command):
    status, output, _ = command()
    assert status == 0 and output.startswith("usage: tfx-transformer")
    status, output, errors = command("translate")
    assert (status, output) == (2, "")
    assert "invalid choice: 'translate'" in errors


# Recipes


def test_recipes_are_listed_with_their_purpose(command):
    status, output, _ = command("recipes")
    names = sorted(path.stem for path in (ROOT / "recipes").glob("*.py"))
    assert status == 0
    lines = output.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == names
    assert max(map(len, lines)) <= 80
    assert "Train a translator on a table of sentence pairs." in output


def test_a_recipe_is_copied_once(command, tmp_path):
    status, output, _ = command("copy", "translation")
    assert (status, output) == (0, "translation.py: edit it, then run  python translation.py\n")
    copied = tmp_path / "translation.py"
    assert copied.read_bytes() == resources.recipe_path("translation").read_bytes()
    copied.write_text("edited")
    status, output, errors = command("copy", "translation")
    assert (status, output) == (2, "")
    assert errors.startswith("translation.py exists already.\n")
    assert copied.read_text() == "edited"


def test_a_recipes_parameters_are_its_flags(command):
    status, output, _ = command("run", "translation", "--help")
    assert status == 0
    assert "Train a translator on a table of sentence pairs" in output
    assert "--vocabulary-size" in output and "[1000]" in output
    assert "--overwrite, --no-overwrite" in output and "--json" in output


def test_a_copied_recipe_runs_by_its_path(command, tmp_path):
    (tmp_path / "double_it.py").write_text(
        '"""Doubles a number."""\n\n'
        "def main(number=1, name='x', loud=False):\n"
        "    print('working')\n"
        "    return {'answer': 2 * number, 'name': name, 'loud': loud}\n"
    )
    status, output, errors = command("run", "double_it.py", "--number", 21, "--loud", "--json")
    assert (status, errors) == (0, "working\n")
    assert json.loads(output) == {"answer": 42, "name": "x", "loud": True}
    assert command("run", "double_it.py", "--number", 21, "--no-loud") == (0, "working\n", "")
    status, output, errors = command("run", "double_it.py", "--number", "many")
    assert (status, output) == (2, "")
    assert "--number is 'many'.\n  Expected a whole number. See: " in errors


# Data


def test_check_counts(command, tmp_path):
    write_csv(tmp_path / "my.csv", [("a b", "x"), ("a b", "x"), ("c", "y")])
    status, output, _ = command("check", "my.csv", "--json")
    figures = json.loads(output)
    assert status == 0
    assert (figures["rows"], figures["duplicates"], figures["bad_rows"]) == (3, 1, [])
    status, output, errors = command("check", "my.csv")
    assert (status, errors) == (0, "")
    assert output.startswith("my.csv\n  rows      3 ('source' → 'target')\n")


def test_check_counts_with_a_bundles_tokenizer(command, trained, tmp_path):
    text = "I love cats and 猫."
    write_csv(tmp_path / "my.csv", [(text, "猫")])
    count = Tokenizer.load(trained.path / "tokenizer.json").count(text)
    for length, truncated in ((count, 1), (count + 1, 0)):
        flags = ("--bundle", trained.path, "--max-length", length, "--json")
        figures = json.loads(command("check", "my.csv", *flags)[1])
        assert figures["source_tokens"] == [count] * 4
        assert figures["truncated"] == truncated


def test_check_lists_bad_rows(command, tmp_path):
    write_csv(tmp_path / "my.csv", [("a", "x"), ("b", ""), ("c", "z")])
    status, output, _ = command("check", "my.csv", "--skip-bad-rows")
    assert status == 0
    assert "1 bad row left out" in output
    assert "  row 3, column target: column 'target' is empty" in output
    _, output, errors = command("check", "my.csv", "--skip-bad-rows", "--json")
    assert json.loads(output)["bad_rows"] == [[3, "target", "column 'target' is empty"]]
    assert "row 3" in errors, "what is for people goes to standard error"


# Answers


def test_generate_by_each_engine(command, trained):
    texts = trained.texts[:3]
    answers = runtime.load(trained.path).generate(texts)
    for engine in ("litert", "keras", "saved_model"):
        status, output, errors = command("generate", trained.path, *texts, "--engine", engine)
        assert (status, output.splitlines(), errors) == (0, answers, "")
    status, output, _ = command("generate", trained.path, *texts, "--json")
    expected = [{"text": t, "answer": a} for t, a in zip(texts, answers, strict=True)]
    assert json.loads(output) == {"answers": expected}


def test_flags_of_generation_arrive(command, trained):
    generator = runtime.load(trained.path, "int8")
    text = trained.texts[0]
    for options in (
        {"beams": BEAMS, "length_penalty": 0.5},
        {"temperature": 1.5, "seed": 7, "top_k": 40, "top_p": 0.9},
        {"max_new_tokens": 3, "repetition_penalty": 1.25},
    ):
        given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        output = command("generate", trained.path, text, "--variant=int8", *given)[1]
        assert output == generator.generate(text, **options) + "\n"


def test_evaluate_scores_as_sacrebleu(command, trained, references):
    status, output, _ = command(
        "evaluate", trained.path, references, "--engine=litert", "--save=answers.csv", "--json"
    )
    scores = json.loads(output)
    with open("answers.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    with references.open(encoding="utf-8", newline="") as file:
        given = list(csv.DictReader(file))
    answers = [row["answer"] for row in table]
    targets = [row["target"] for row in given]
    assert [row["source"] for row in table] == [row["source"] for row in given]
    assert [row["reference"] for row in table] == targets
    assert answers == runtime.load(trained.path).generate(trained.texts[:30])

    bleu = sacrebleu.corpus_bleu(answers, [targets], tokenize="char").score
    chrf = sacrebleu.corpus_chrf(answers, [targets]).score
    assert status == 0
    assert scores == {
        "bleu": round(bleu, 2),
        "chrf": round(chrf, 2),
        "exact_match": 0.3333,
        "count": 30,
        "bleu_tokenize": "char",
    }
    assert 0 < bleu < 100


def test_evaluate_tells_keras_perplexity(command, trained, references):
    few = first_rows(references, 6, Path("few.csv"))
    status, output, _ = command("evaluate", trained.path, few, "--json")
    assert status == 0
    # The same by hand: each pair by itself, without padding.
    model, tokenizer = load(trained.path)
    losses = []
    with few.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            source = [*tokenizer.encode(row["source"]), tokenizer.end_id]
            target = [*tokenizer.encode(row["target"]), tokenizer.end_id]
            inputs = {
                "encoder_token_ids": np.array([source]),
                "decoder_token_ids": np.array([[tokenizer.start_id, *target[:-1]]]),
            }
            logits = np.asarray(model(inputs))[0].astype("float64")
            sums = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
            losses += (sums - logits[np.arange(len(target)), target]).tolist()
    expected = np.exp(np.mean(losses))
    assert json.loads(output)["perplexity"] == pytest.approx(expected, rel=1e-3)


def test_evaluate_splits_words_as_told(command, trained, references):
    flags = ("--engine=litert", "--tokenize=13a")
    status, output, _ = command("evaluate", trained.path, references, *flags)
    assert status == 0
    assert "(tokenize=13a)" in output and "exactly right 33.3 % of 30" in output


def test_info(command, trained):
    status, output, _ = command("info", trained.path)
    assert status == 0
    front_matter, card = (trained.path / "README.md").read_text("utf-8").split("\n---\n\n", 1)
    assert front_matter.startswith("---\n") and output.startswith(card)
    status, output, errors = command("info", trained.path, "--json")
    told = json.loads(output)
    assert told["architecture"] == bundle.read_config(trained.path)["architecture"]
    assert told["files"]["model.tflite"] == (trained.path / "model.tflite").stat().st_size
    assert errors.startswith("# small\n")


def test_export_and_check(command, trained, references, tmp_path):
    path = trained.copy(tmp_path)
    with bundle.updating(path) as folder:
        shutil.rmtree(folder / "saved_model")
        (folder / "model.tflite").unlink()
        (folder / "model.int8.tflite").unlink()
    flags = ("--to=litert", "--beams=1", "--check", references, "--json")
    status, output, _ = command("export", path, *flags)
    assert status == 0
    results = json.loads(output)
    assert results.keys() == {"TFLite float32"}
    assert (results["TFLite float32"]["identical"], results["TFLite float32"]["of"]) == (30, 30)
    assert bundle.read_config(path)["verified"] == results
    status, _, errors = command("generate", path, "I love cats.", f"--beams={BEAMS}")
    assert status == 2
    assert "Export again with --beams 4." in errors


def test_an_export_that_differs_is_an_error_and_goes(command, trained, references, tmp_path,
                                                     monkeypatch):  # fmt: skip
    path = trained.copy(tmp_path)
    answer, load_tflite = SavedModelGenerator.generate, runtime.load
    monkeypatch.setattr(
        SavedModelGenerator,
        "generate",
        lambda *arguments, **options: [f"{text}!" for text in answer(*arguments, **options)],
    )

    def load_or_fail(path, variant):
        generator = load_tflite(path, variant)
        if variant == "int8":
            monkeypatch.setattr(generator.engine, "generate_ids", lambda *arguments: 1 / 0)
        return generator

    monkeypatch.setattr(runtime, "load", load_or_fail)
    for name in ("saved_model", "litert"):
        monkeypatch.setattr(f"tfx_transformer.export.{name}", lambda *_: None)
    flags = ("--to=saved_model,litert", "--quantize=int8", "--check", references)
    status, output, errors = command("export", path, *flags)
    assert (status, "Traceback" in errors) == (2, False)
    assert "SavedModel: REMOVED: 0 of 30 answers identical to Keras" in errors
    assert "TFLite int8: REMOVED: could not be run: division by zero" in errors
    assert "TFLite float32" not in output, "it was not exported now"
    left = {file.name for file in path.iterdir()}
    assert "model.tflite" in left and not left & {"saved_model", "model.int8.tflite"}
    verified = bundle.read_config(path)["verified"]
    assert [name for name in verified if verified[name].get("removed")] == [
        "SavedModel", "TFLite int8",
    ]  # fmt: skip
    assert "- SavedModel: REMOVED: 0 of 30" in (path / "README.md").read_text("utf-8")
    bundle.verify(path)


def test_export_without_texts_says_that_nothing_was_verified(command, trained, monkeypatch):
    made = []
    monkeypatch.setattr("tfx_transformer.export.saved_model", lambda path: made.append(path))
    status, output, _ = command("export", trained.path, "--to", "saved_model")
    assert (status, made) == (0, [trained.path])
    assert "not verified" in output


def test_the_note_on_int4_without_rows_is_for_files_in_int4(command, trained, monkeypatch):
    monkeypatch.setattr("tfx_transformer.export.saved_model", lambda path: None)
    monkeypatch.setattr("tfx_transformer.export.litert", lambda *_: None)
    for formats, is_told in (("saved_model", False), ("saved_model,litert", True)):
        flags = ("--to", formats, "--quantize", "int4")
        status, output, _ = command("export", trained.path, *flags)
        assert (status, "--calibration FILE.csv" in output) == (0, is_told)


# Bad input


CYRILLIC = "source,target\nпривет,слово\n".encode("cp1251")


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (b"source,target\na,b\n", ["--source", "sorce"], ["'sorce'", "'source', 'target'"]),
        (None, [], ["my.csv: there is no such file."]),
        (b"", [], ["my.csv: the file is empty.", "Expected: a header row (source,target)"]),
        (b"source,target\n", [], ["there is a header, but no row below it"]),
        (b"source,target\na,\n", [], ["my.csv, row 2: column 'target' is empty.", "--skip-bad"]),
        (b"source,target\na\n", [], ["my.csv, row 2: "]),
        (b"source;a,target;b\n1;2,3;4\n", [], ["not certain what separates", "--delimiter"]),
        (CYRILLIC, [], ["the encoding is not certain", "--encoding cp1251"]),
        ("folder", [], ["my.csv: this is a folder."]),
    ],
    ids=[
        "wrong column", "missing", "empty", "no rows", "no target", "short row", "separators",
        "Cyrillic", "folder",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "verb",
    [
        ["check", "my.csv"],
        ["evaluate", "{bundle}", "my.csv"],
        ["run", "translation", "--csv", "my.csv", "--name", "new"],
    ],
    ids=["check", "evaluate", "run"],
)
def test_bad_files(command, trained, tmp_path, verb, content, arguments, message):
    if content == "folder":
        (tmp_path / "my.csv").mkdir()
    elif content is not None:
        (tmp_path / "my.csv").write_bytes(content)
    before = everything_in(tmp_path)
    verb = [argument.replace("{bundle}", str(trained.path)) for argument in verb]
    status, output, errors = command(*verb, *arguments)
    assert (status, output) == (2, "reading the data\n" if verb[0] == "run" else "")
    assert all(part in errors for part in message), errors
    assert "Traceback" not in errors
    first, *rest = errors.rstrip("\n").split("\n")
    assert first.startswith("my.csv") and all(line.startswith("  ") for line in rest)
    assert everything_in(tmp_path) == before


def test_a_wrong_column_names_the_nearest(command, tmp_path):
    write_csv(tmp_path / "my.csv", [("a", "b")], header=("english", "german"))
    status, _, errors = command("check", "my.csv", "--source", "englsh", "--target", "german")
    assert status == 2
    assert "The columns there are: 'english', 'german'." in errors
    assert "english" in errors.replace("'english', 'german'", "").replace("'englsh'", "")


BUNDLE = "{bundle}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "translaton"], "There is no recipe 'translaton'.\n  The nearest is 'translation'"),
        (["run", "./nowhere.py"], "there is no recipe nowhere.py"),
        (["run", "--json", "translation"], "name a recipe"),
        (["copy", "translaton"], "There is no recipe 'translaton'."),
        (["run", "translation", "--epochs", "many"], "--epochs is 'many'.\n  Expected a whole"),
        (["run", "translation", "--epochs", "1.5"], "--epochs is '1.5'."),
        (["run", "translation", "--epoch", "1", "--csvs", "x"], "unrecognized arguments"),
        (["run", "translation", "pairs.csv"], "Did you mean --csv pairs.csv? See: "),
        (["run", "tagging", "--csv", "x"], "The nearest flag is --data. See: "),
        (["run", "translation", "--name", "../x"], "--name '../x' cannot be a folder's name"),
        (["run", "translation", "--name", ""], "--name '' cannot be a folder's name"),
        (["info", "nowhere"], "nowhere is not a bundle: there is no such folder"),
        (["generate", "nowhere", "text"], "nowhere is not a bundle"),
        (["generate", "nowhere", "text", "--engine=keras"], "nowhere is not a bundle"),
        (["generate", "nowhere", "text", "--engine=saved_model"], "nowhere is not a bundle"),
        (["export", "nowhere"], "nowhere is not a bundle"),
        (["generate", BUNDLE, "x", "--beams=0"], "beams is 0.\n  Expected a whole number from 1"),
        (["generate", BUNDLE, "x", "--beams=3"], f"decodes with 1 or {BEAMS} beams, not with 3"),
        (["generate", BUNDLE, "x", "--beams=two"], "--beams is 'two'."),
        (["generate", BUNDLE, "x", "--top-p=2"], "top_p is 2.0."),
        (["generate", BUNDLE, "x", "--temperature=-1"], "temperature is -1.0."),
        (["generate", BUNDLE, "x", "--temperature=nan"], "temperature is nan."),
        (["generate", BUNDLE, "x", "--seed=-1"], "seed is -1."),
        (["generate", BUNDLE, "x", "--max-new-tokens=0"], "max_new_tokens is 0."),
        (["generate", BUNDLE, "x", f"--beams={BEAMS}", "--temperature=1"], "exclude each other"),
        (["generate", BUNDLE, "x", "--engine=torch"], "invalid choice: 'torch'"),
        pytest.param(  # test_assistant.py draws
            *(["generate", BUNDLE, "x", "--engine=saved_model", "--beams=4"], "decodes greedily"),
            marks=pytest.mark.slow,
        ),
        (["generate", BUNDLE, "x", "--variant=int2"], "invalid choice: 'int2'"),
        (["generate", BUNDLE, "x", "--variant=int4"], "holds no int4 file for LiteRT"),
        (["generate", BUNDLE, "x", "--variant=int8", "--engine=keras"], "--engine keras has none"),
        (["chat", BUNDLE], "no chat template"),
        (["check", "x.csv", "--max-length=0"], "--max-length is 0"),
        (["generate", BUNDLE, "cats and " * 30], f"the model reads {MAX_LENGTH}."),
        (["generate", BUNDLE], "there is no text.\n  Give texts"),
        (["generate", BUNDLE, "a", "--csv=b.csv"], "there are texts and --csv"),
        (["generate", BUNDLE, "mails.csv"], "'mails.csv' looks like a file, and would be"),
        (["generate", BUNDLE, "mails.csv"], "--csv FILE.csv --column COLUMN"),
        (["generate", BUNDLE, "a", "/tmp/x/y"], "'/tmp/x/y' looks like a f"),
        (["generate", BUNDLE, "photo.HEIC"], "reads texts, not images"),
        (["generate", BUNDLE, "x", "--top-k=3", "--temperature=0"], "exclude each other"),
        (["generate", BUNDLE, "x", "--length-penalty=0.5"], "without beams"),
        (["evaluate", BUNDLE, "x.csv", "--tokenize=words"], "invalid choice: 'words'"),
        (["evaluate", BUNDLE, "x.csv", "--save=no/a.csv"], "--save no/a.csv cannot be written"),
        (["evaluate", BUNDLE, "x.csv", "--save=."], "--save . cannot be written"),
        (["export", BUNDLE, "--to=onnx"], "--to 'onnx' is not a format.\n  Formats: saved_model, "),
        (["export", BUNDLE, "--to=litert", "--beams=0"], "beams is 0."),
        (["export", BUNDLE, "--check=no.csv"], "no.csv: there is no such file."),
        (["export", BUNDLE, "--quantize=int2"], "invalid choice: 'int2'"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_bad_arguments(command, trained, tmp_path, arguments, message):
    sums = (trained.path / "SHA256SUMS").read_bytes()
    given = [a.replace(BUNDLE, str(trained.path)) for a in arguments]
    status, output, errors = command(*given)
    assert (status, output) == (2, "")
    assert message in errors
    assert "Traceback" not in errors and "fault of the program" not in errors
    assert everything_in(tmp_path) == []
    assert (trained.path / "SHA256SUMS").read_bytes() == sums


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        (["info"], "model.safetensors"),
        (["generate", "-"], "model.tflite"),
        (["export"], "model.safetensors"),
    ],
)
def test_a_damaged_bundle_is_named(command, trained, tmp_path, verb, name):
    path = trained.copy(tmp_path)
    with (path / name).open("ab") as file:
        file.write(b"\0")
    before = everything_in(tmp_path)
    status, output, errors = command(verb[0], path, *verb[1:])
    assert (status, output) == (2, "")
    assert f"{name} does not have the checksum in SHA256SUMS" in errors
    assert everything_in(tmp_path) == before


def test_a_bundle_that_exists_is_refused_before_any_work(command, tmp_path, monkeypatch):
    monkeypatch.setattr("tfx_transformer.data.read_pairs", lambda *_, **__: pytest.fail("work"))
    (tmp_path / "saved_models" / "mine").mkdir(parents=True)
    (tmp_path / "saved_models" / "mine" / "thesis.txt").write_text("years of work")
    before = everything_in(tmp_path)
    status, _, errors = command("run", "translation", "--name", "mine")
    assert status == 2
    assert "exists already" in errors and "--overwrite" in errors
    status, _, errors = command("run", "translation", "--name", "mine", "--overwrite")
    assert status == 2
    assert "saved_models/mine is something other than a bundle" in errors
    assert everything_in(tmp_path) == before


def test_a_recipe_that_fails_leaves_no_bundle(command, tmp_path):
    for wrong in (["--size", "huge"], ["--dropout", "2"], ["--vocabulary-size", "10"]):
        status, _, _ = command("run", "translation", "--name", "new", *wrong)
        assert status == 2
        assert not (tmp_path / "saved_models").exists()
        assert not [name for name in everything_in(tmp_path) if "/." in name or name[0] == "."]


# Statuses


def broken(*_):
    raise RuntimeError("the moon is full")


def test_a_fault_of_the_program_says_so(command, monkeypatch):
    monkeypatch.setattr(resources, "recipes", broken)
    status, output, errors = command("recipes")
    assert (status, output) == (1, "")
    assert errors == (
        "RuntimeError: the moon is full\n  This is a fault of the program, not of the input. "
        "Run it again with --debug for the traceback.\n"
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.EIO, "Input/output error", "a.csv"), "a.csv: Input/output error.\n  Check"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "File name too long.\n  Check"),
        (MemoryError(), "there is not enough memory.\n  Make batches"),
        (RuntimeError("OOM when allocating tensor with shape[9]"), "there is not enough memory.\n"),
    ],
)
def test_what_the_system_refuses_is_not_a_fault_of_the_program(
    command, monkeypatch, error, message
):
    def refuse(*_):
        raise error

    monkeypatch.setattr(resources, "recipes", refuse)
    status, _, errors = command("recipes")
    assert status == 2 and errors.startswith(message)


def test_debug_lets_every_error_through(monkeypatch):
    for verb in ("copy", "run"):
        with pytest.raises(InputError, match="no recipe 'translaton'"):
            cli.main([verb, "translaton", "--debug"])
    monkeypatch.setattr(resources, "recipes", broken)
    with pytest.raises(RuntimeError, match="the moon is full"):
        cli.main(["recipes", "--debug"])


def test_an_interrupt_is_no_fault(command, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(resources, "recipes", interrupt)
    assert command("recipes") == (130, "", "\nInterrupted.\n")


# In a process of its own, with everything that libraries write


@pytest.mark.slow(but=["litert"])  # a classifier runs TensorFlow by default: test_cli_classify.py
@pytest.mark.parametrize("engine", ["litert", "keras", "saved_model"])
def test_only_answers_are_written(trained, tmp_path, engine):
    texts = trained.texts[:2]
    answers = runtime.load(trained.path).generate(texts)
    done = process("generate", trained.path, *texts, "--engine", engine, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == answers
    assert everything_in(tmp_path) == []


def test_bad_input_is_one_message(tmp_path):
    done = process("check", "no.csv", "--json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "no.csv: there is no such file.\n  Check the path.\n"


def test_debug_shows_the_traceback(tmp_path):
    done = process("check", "no.csv", "--debug", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" in done.stderr and "InputError: no.csv" in done.stderr


def test_a_reader_that_leaves_is_no_error(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tfx_transformer.cli", "recipes"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
