"""The figures of docs/quality.md: rerun, kept, and written into the page."""

import ast
import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tfx_transformer import bundle, runtime
from tfx_transformer.errors import InputError
from tfx_transformer.presets import presets_of

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import commands, quality, quality_scores, quality_table  # noqa: E402
from benchmarks.figures import BY_NAME, FIGURES, LINES, SECTIONS, Figure  # noqa: E402

RECORD = {
    "figure": "trec",
    "seed": 1,
    "score": 90.0,
    "interval": [87.0, 92.0],
    "int8": 89.6,
    "baseline": 88.2,
    "difference": [1.8, -0.5, 4.0],
    "megabytes": [4.0, 1.25],
    "processor_minutes": 3.5,
}


def test_the_page_has_the_kept_results():
    kept = quality.Kept(quality.RESULTS)
    assert {record["figure"] for record in kept.records} <= {figure.name for figure in FIGURES}
    page = quality_table.PAGE.read_text(encoding="utf-8")
    begin, end = f"{quality_table.BEGIN}\n\n", f"\n{quality_table.END}\n"
    assert page.count(begin) == page.count(end) == 1
    written = page.partition(begin)[2].partition(end)[0]
    assert written == quality_table.tables(kept.records), "python -m benchmarks quality --write"


def test_figures_train_with_flags_of_their_recipe_and_presets_that_ship():
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)
    assert [section for section in SECTIONS if section in {one.section for one in FIGURES}] == [
        *SECTIONS
    ]
    for figure in FIGURES:
        source = (ROOT / "recipes" / f"{figure.recipe}.py").read_text(encoding="utf-8")
        functions = [n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)]
        [main] = [function for function in functions if function.name == "main"]
        parameters = {argument.arg for argument in main.args.args} | {"preset"}
        flags = dict(zip(figure.train[::2], figure.train[1::2], strict=True))
        # Data, a base and a preset: the rest is the default.
        assert {name[2:] for name in flags} <= parameters
        assert {*flags} <= {
            *("--csv", "--images", "--text", "--validation", "--base", "--teacher", "--unlabelled"),
            "--preset",
            *("--source", "--target", "--first", "--second", "--score"),
        }
        if "--preset" in flags:
            assert flags["--preset"] in presets_of(figure.recipe)
        assert "test" not in " ".join(figure.train), "no training sees test rows"
        # A model of another figure is that of the same data, or of the base of the recipe.
        for name in (*figure.parents, *filter(None, [figure.model])):
            other = BY_NAME[name]
            assert not other.model and set(other.seeds) >= set(figure.seeds)
        if figure.model:
            assert figure.train == BY_NAME[figure.model].train


def test_a_table_has_means_over_the_seeds():
    second = RECORD | {"seed": 2, "score": 91.0, "difference": [2.8, 0.5, 5.0]}
    written = quality_table.tables([RECORD, second])
    [row] = [line for line in written.splitlines() if line.startswith("| TREC, 6 classes | **")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:6] == [
        *("**90.5** (87.0 to 92.0)", "2: 90.0 to 91.0", "89.6", "88.2", "+2.3 (0.0 to 4.5)")
    ]
    assert cells[-2:] == ["4.0 and 1.2", "4"]
    assert "| SST-2 | not measured; about" in written
    assert "classification_en/trec/train.csv --base minilm \\\n    --name trec-minilm" in written
    assert "--teacher saved_models/trec-minilm" in written
    assert max(len(line) for line in written.splitlines() if not line.startswith("|")) <= 120


def test_the_row_of_a_student_has_its_size_and_its_teacher():
    student = RECORD | {"figure": "trec-student", "parameters": 1_849_000}
    both = [
        student | {"seed": seed, "teacher": [96.0 + seed, -6.0, -8.0 - seed, -4.0]}
        for seed in (1, 2)
    ]
    written = quality_table.tables(both)
    assert "| 1.8 million parameters; teacher 97.5: -6.0 (-9.5 to -4.0); aim 92; " in written
    preferred = {"figure": "preferences", "seed": 1, "score": 90.0, "interval": [77.0, 96.0]}
    cost = {"megabytes": [1.0, 0.0], "processor_minutes": None, "before": 32.5}
    written = quality_table.tables([preferred | cost])
    assert "| **90.0** (77.0 to 96.0) | 1 |  | base 32.5; aim 90 | 1.0 |  |" in written


def test_results_are_kept_in_order_and_a_broken_file_is_refused(tmp_path):
    path = tmp_path / "kept" / "quality.json"
    kept = quality.Kept(path)
    for figure, seed in (("sst2", 1), ("trec", 2), ("trec", 1), ("trec", 2)):
        kept.put(RECORD | {"figure": figure, "seed": seed, "score": len(kept.records)})
    read = quality.Kept(path)
    assert [quality._key(record) for record in read.records] == [
        *(("trec", 1), ("trec", 2), ("sst2", 1))
    ]
    assert read.records[1]["score"] == 3, "the newer one"
    read.put(RECORD | {"figure": "sms_spam"})
    kept.put(RECORD | {"figure": "aozora"})
    both = [record["figure"] for record in quality.Kept(path).records]
    assert both == ["trec", "trec", "sst2", "sms_spam", "aozora"], "of two processes"
    for wrong in ("[", "[3]", '[{"figure": "trec"}]', "7"):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(ValueError, match="is not a list of results"):
            quality.Kept(path)
    with pytest.raises(SystemExit) as ended:
        command.main(["quality", "--results", str(path), "--list"])
    assert ended.value.code == 2


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """A `benchmarks quality` that trains nothing: the flags of each training, and its runner."""
    trained = []

    def train(settings, recipe, name, *flags, shown):
        trained.append([recipe, name, *flags])
        if name == "drawn-2":
            raise RuntimeError("no room")
        Path(settings["work"], "saved_models", name).mkdir(parents=True, exist_ok=True)

    found = {name: value for name, value in RECORD.items() if name not in ("figure", "seed")}
    monkeypatch.setattr(commands, "train", train)
    monkeypatch.setattr(quality, "scores", lambda *_: found)

    def run(*flags: str) -> int:
        places = ("--work", str(tmp_path / "work"), "--results", str(tmp_path / "kept.json"))
        return command.main(["quality", *places, *flags])

    return trained, run


def test_what_is_kept_is_not_run_again(fake, tmp_path, capsys):
    trained, run = fake
    only = ("--only", "labelled_text", "--seeds", "3,5")
    assert run(*only) == run(*only) == 0
    assert trained == [
        ["text_classification", f"labelled_text-{seed}", "--seed", seed] for seed in ("3", "5")
    ]
    kept = json.loads((tmp_path / "kept.json").read_text(encoding="utf-8"))
    assert [(one["figure"], one["seed"], one["score"]) for one in kept] == [
        *(("labelled_text", 3, 90.0), ("labelled_text", 5, 90.0))
    ]
    assert all(one["processor_minutes"] >= 0 and one["commit"] for one in kept)
    assert run(*only, "--again") == 0
    assert trained[2:] == [[*one, "--overwrite"] for one in trained[:2]]
    # A bundle that was trained, but not scored, is scored.
    (tmp_path / "kept.json").unlink()
    assert run(*only) == 0 and len(trained) == 4
    assert "labelled_text, seed 5: 90 (baseline 88.2; +1.8, -0.5 to 4.0)" in capsys.readouterr().out


def test_a_base_and_a_teacher_are_trained_first(fake, tmp_path):
    trained, run = fake
    assert run("--only", "preferences,preferences-others", "--seeds", "2") == 0
    base = str(tmp_path / "work" / "saved_models" / "assistant-2")
    assert trained == [
        ["instruction_finetuning", "assistant-2", "--seed", "2"],
        ["preference_finetuning", "preferences-2", "--base", base, "--seed", "2"],
    ]
    kept = json.loads((tmp_path / "kept.json").read_text(encoding="utf-8"))
    assert [one["figure"] for one in kept] == ["preferences", "preferences-others"]
    table = tmp_path / "classification_en" / "trec"
    table.mkdir(parents=True)
    (table / "test.csv").write_text("text,label\nHow far?,number\n", encoding="utf-8")
    data = ("--only", "trec-student", "--seeds", "1", "--data", str(tmp_path))
    assert run(*data) == 1 and len(trained) == 2, "the rows of the teacher are missing"
    (table / "train.csv").write_text("text,label\nHow far?,number\n", encoding="utf-8")
    assert run(*data) == run(*data, "--again") == 0
    rows = ["--csv", str(table / "train.csv")]
    teacher = str(tmp_path / "work" / "saved_models" / "trec-minilm-1")
    student = [*rows, "--teacher", teacher, "--seed", "1"]
    assert trained[2:] == [
        ["text_classification", "trec-minilm-1", *rows, "--base", "minilm", "--seed", "1"],
        ["text_classification", "trec-student-1", *student],
        ["text_classification", "trec-student-1", *student, "--overwrite"],
    ]


def test_a_failed_figure_is_named_and_the_others_go_on(fake, tmp_path, monkeypatch, capsys):
    trained, run = fake

    def unreadable(*_):
        raise InputError("not a label")

    assert run("--only", "drawn", "--seeds", "2,1") == 1
    assert [one[1] for one in trained] == ["drawn-2", "drawn-1"]
    assert "drawn, seed 2: failed: no room" in capsys.readouterr().err
    assert run("--only", "trec") == 1
    assert "trec, seed 3: failed: give the folder of the data" in capsys.readouterr().err
    assert run("--only", "trec", "--data", str(tmp_path)) == 1
    assert "failed: there is not a file" in capsys.readouterr().err
    assert run("--list") == 0 and "kept: seeds 1" in capsys.readouterr().out
    table = tmp_path / "classification_en" / "trec"
    table.mkdir(parents=True)
    for name in ("train.csv", "test.csv"):
        (table / name).write_text("text,label\nHow far?,number\n", encoding="utf-8")
    monkeypatch.setattr(quality, "scores", unreadable)
    assert run("--only", "trec,drawn", "--data", str(tmp_path), "--seeds", "1", "--again") == 1
    failed = capsys.readouterr().err
    assert "trec, seed 1: failed: not a label" in failed
    assert "drawn, seed 1: failed: not a label" in failed
    with pytest.raises(SystemExit):
        run("--seeds", "1,b")
    assert "--seeds: '1,b' is not a list such as 1,2,3" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("--only", "trek")
    assert "there is not a figure 'trek'; choose from" in capsys.readouterr().err


def test_few_rows_are_drawn_from_each_class():
    labels = list("abcab" * 7) + ["d"]
    drawn = {seed: quality.drawn_rows(labels, 3, seed) for seed in (1, 2)}
    for rows in drawn.values():
        assert Counter(labels[row] for row in rows) == {"a": 3, "b": 3, "c": 3, "d": 1}
        assert rows == sorted(rows)
    assert drawn[1] != drawn[2] and drawn[1] == quality.drawn_rows(labels, 3, 1)


def test_texts_without_labels_are_lines_of_a_file(tmp_path):
    rows = 'question,answer\n"Who  was\nshe?",Ada\n  ,none\nWho is it?,no one\nひと？,木\n'
    (tmp_path / "other.csv").write_text(rows, encoding="utf-8")
    train = ("--unlabelled", LINES)
    (tmp_path / "test.csv").write_text("text,label\nwho is  it ?,person\n", encoding="utf-8")
    texts = ("DATA/other.csv", "question")
    figure = Figure("x", "students", "x", "x", train, "DATA/test.csv", lines=texts)
    settings = {"data": str(tmp_path), "work": str(tmp_path)}
    flag, path = quality._training(figure, 1, settings)
    assert flag == "--unlabelled"
    assert Path(path).read_text(encoding="utf-8") == "Who was she?\nひと？\n"
    (tmp_path / "other.csv").unlink()
    assert quality._missing(figure, {**settings, "data": tmp_path}).endswith("other.csv")


def test_scores_are_those_of_the_answers(tmp_path, monkeypatch):
    texts = {"cat": ("my cat purrs", "a cat sleeps"), "rain": ("rain falls", "cold rain today")}
    rows = [f"{text},{label}" for label, both in texts.items() for text in both]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *rows * 5]), encoding="utf-8")
    test = [f"the cat {count},cat" for count in range(4)] + [f"rain {i},rain" for i in range(6)]
    (tmp_path / "test.csv").write_text("\n".join(["text,label", *test]), encoding="utf-8")
    answers = {"float32": ["cat"] * 6 + ["rain"] * 4, "int8": ["cat"] * 5 + ["rain"] * 5}
    answers["teacher"] = ["cat"] * 4 + ["rain"] * 5 + ["cat"]

    def load(bundle, variant):
        written = answers["teacher" if bundle == "large" else variant]
        found = [SimpleNamespace(label=label) for label in written]
        return SimpleNamespace(classify=lambda inputs: found)

    monkeypatch.setattr(runtime, "load", load)
    monkeypatch.setattr(commands, "minutes", lambda bundle: 1.5)
    monkeypatch.setattr(commands, "megabytes", lambda *_: {"file, MB": 2.0})
    figure = Figure(
        *("x", "scratch", "x", "text_classification"),
        ("--csv", "DATA/train.csv"),
        "DATA/test.csv",
        rows_per_class=4,
    )
    settings = {"data": str(tmp_path), "work": str(tmp_path)}
    training = quality._training(figure, 1, settings)
    found = quality_scores.scores(figure, settings, "bundle", training)
    # 8 of 10 are right; F1 is 8 / 10 for cats and 8 / 10 for rain. TF-IDF has all of them right.
    assert (found["score"], found["int8"], found["macro_f1"]) == (80.0, 90.0, 80.0)
    assert (found["baseline"], found["baseline_f1"]) == (100.0, 100.0)
    assert found["rows"] == [8, 10], "of the rows that were drawn"
    assert found["megabytes"] == [2.0, 2.0]
    # Wilson (1927): (0.8 + z²/20 ± z sqrt(0.016 + z²/400)) / (1 + z²/10)
    z = 1.959964
    middle, half = 0.8 + z * z / 20, z * np.sqrt(0.016 + z * z / 400)
    np.testing.assert_allclose(
        found["interval"],
        [100 * (middle + s * half) / (1 + z * z / 10) for s in (-1, 1)],
        atol=0.01,
    )
    difference, low, high = found["difference"]
    assert difference == -20.0 and -51 < low < -20 < high < 15
    assert "teacher" not in found
    monkeypatch.setattr(bundle, "read_config", lambda folder: {"parameters": 1_900_000})
    taught = [*training, "--teacher", "large"]
    found = quality_scores.scores(figure, settings, "bundle", taught)
    # The teacher has 9 of 10 right, and errs elsewhere.
    assert found["teacher"][:2] == [90.0, -10.0] and found["parameters"] == 1_900_000
    assert found["teacher"][2] < -10 < found["teacher"][3]


def test_an_archive_is_unpacked_once_into_the_folder_for_work(tmp_path):
    data, work = tmp_path / "data", tmp_path / "work"
    (tmp_path / "in" / "train").mkdir(parents=True)
    (tmp_path / "in" / "train.csv").write_text("path,label\n", encoding="utf-8")
    work.mkdir()
    shutil.make_archive(str(data / "images" / "some"), "zip", tmp_path / "in")
    figure = Figure("x", "images", "x", "image_classification", (), "", archive="images/some.zip")
    settings = {"data": data, "work": str(work)}
    assert quality._missing(figure, settings) == ""
    assert quality._unpacked(figure, settings) == str(work)
    (work / "some" / "train.csv").write_text("kept", encoding="utf-8")
    assert quality._unpacked(figure, settings) == str(work)
    assert (work / "some" / "train.csv").read_text(encoding="utf-8") == "kept"


def figure_of(score: str, *flags: str) -> Figure:
    return Figure("x", "language", "x", "x", (), "DATA/test.csv", score, evaluate=flags)


def test_scores_of_commands_are_taken_from_their_answers(tmp_path, monkeypatch):
    """The commands are faked: the scores and the flags of each."""
    asked = []
    answers = {
        "float32": {"bleu": 60.0, "exact_match": 0.8, "count": 10},
        "int8": {"bleu": 59.0, "exact_match": 0.7, "count": 10},
    }

    def tool(settings, verb, bundle, *flags, **_):
        asked.append([verb, *flags])
        if verb == "similar":
            ours = 0.75 if "float32" in flags else 0.74
            return {"spearman": {"TF-IDF": 0.69, Path(bundle).name: ours}}
        if "--engine" not in flags:
            return {"loss": 1.5, "intervals": {"loss": [1.4, 1.6]}}
        if "--save" in flags:
            rows = ["source,answer,reference", "a,a b c d e,a b c d e", "b,x y z w v,x y z w q"]
            Path(flags[flags.index("--save") + 1]).write_text("\n".join(rows), encoding="utf-8")
        return answers[flags[flags.index("--variant") + 1]]

    monkeypatch.setattr(commands, "tool", tool)
    monkeypatch.setattr(commands, "minutes", lambda bundle: 1.5)
    monkeypatch.setattr(commands, "megabytes", lambda *_: {})
    settings = {"data": str(tmp_path), "work": str(tmp_path)}
    folder = str(tmp_path / "mine")

    def found(score: str, *flags: str) -> dict:
        return quality_scores.scores(figure_of(score, *flags), settings, folder, ())

    exact = found("exact")
    assert (exact["score"], exact["int8"]) == (80.0, 70.0)
    assert exact["interval"] == [49.02, 94.33]  # Wilson (1927) for 8 of 10
    similar = found("Spearman", "--first", "one")
    assert (similar["score"], similar["int8"], similar["baseline"]) == (75.0, 74.0, 69.0)
    assert asked[-1][:4] == ["similar", "--csv", str(tmp_path / "test.csv"), "--first"]
    bleu = found("BLEU", "--beams", "5", "--tokenize", "none")
    assert (bleu["score"], bleu["int8"]) == (60.0, 59.0)
    assert bleu["interval"][0] < bleu["interval"][1]
    assert found("loss")["interval"] == [1.4, 1.6]
    assert all(one[1] == str(tmp_path / "test.csv") for one in asked if one[0] == "evaluate")
    answers["float32"] = {"exact_calls": 0.8, "count": 10}
    answers["int8"] = {"exact_calls": 0.6, "count": 10}
    calls = found("calls")
    assert (calls["score"], calls["int8"], calls["interval"]) == (80.0, 60.0, exact["interval"])
    record = tmp_path / "runs" / "mine" / "evaluation.json"
    record.parent.mkdir(parents=True)
    share = {"preferred": {"value": 0.9, "low": 0.7695, "high": 0.9604}}
    written = {"examples": 40, "scores": share, "baselines": {"the base": {"preferred": 0.325}}}
    record.write_text(json.dumps(written), encoding="utf-8")
    preferred = found("preferred")
    assert (preferred["score"], preferred["before"]) == (90.0, 32.5)
    assert preferred["interval"] == [76.95, 96.04]
