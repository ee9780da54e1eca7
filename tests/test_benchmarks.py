"""The benchmarks measure in turn, go on where they were, and print what README.md shows.

Two benchmarks of fake systems are written into a folder; nothing here looks at a time.
"""

import ast
import dataclasses
import importlib.util
import json
import os
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from tfx_transformer import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "benchmarks" / "README.md"

if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import (  # noqa: E402
    by_ctranslate2,
    harness,
    leads,
    machine,
    quality,
    read_tokens,
    report,
    stages,
    step_profile,
    tables,
    tokenize_memory,
)

# Each step is a line of the case's journal; "breaks" fails in its second step, its first timing.
TIMED = '''"""Two fakes.

    python -m benchmarks fake_timed
"""

import functools
import os

from benchmarks.tables import Case, System

UNIT = "steps/s"


def build(settings, name):
    def step():
        with open(settings["journal"], "a", encoding="utf-8") as file:
            file.write(f"{name} {os.getpid()} {os.environ.get('FAKE', '')}\\n")
        if name == "breaks" and open(settings["journal"]).read().count("breaks ") > 1:
            raise ValueError("fake | fault")
        print("a library prints")
        return 10 if name == "fast" else 1

    return step


SYSTEMS = tuple(
    System(name, name.title(), functools.partial(build, name=name), packages, {"FAKE": name})
    for name, packages in (
        ("slow", ()),
        ("fast", ("numpy",)),
        ("absent", ("no-such-package", "numpy")),
        ("breaks", ()),
    )
)
CASES = (
    Case("one", "Case one", {"journal": "JOURNAL"}),
    Case("two", "Case two", {"journal": "JOURNAL"}, ("there.csv", "elsewhere/file.csv")),
)


def share(settings, system):
    return "memory", 0.5
'''
SCORED = '''"""A fake table of scores."""

from benchmarks.tables import Case, System

UNIT = None


def build(settings):
    with open("JOURNAL", "a", encoding="utf-8") as file:
        file.write("scored\\n")
    return {"right, %": 93.75, "words": 12345.6, "file": "x"}


def fail(settings):
    return {}["lost"]


SYSTEMS = (System("good", "Good", build), System("bad", "Bad", fail))
CASES = (Case("one", "Case one", {}),)
'''


@pytest.fixture(scope="module")
def fakes(tmp_path_factory):
    """The folder with the modules `fake_timed` and `fake_scored`, which workers find too."""
    folder = tmp_path_factory.mktemp("fakes")
    for name, source in (("fake_timed", TIMED), ("fake_scored", SCORED)):
        source = source.replace("JOURNAL", str(folder / f"{name}.txt"))
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(folder))
    patch.setenv("PYTHONPATH", str(folder))
    yield folder
    patch.undo()


def options(folder: Path, **values) -> harness.Options:
    return harness.Options(folder / "results.jsonl", seconds=1e-6, threads=1, **values)


def measured(name: str, chosen: harness.Options) -> harness.Results:
    results = harness.Results(chosen.results)
    results.begin()
    harness.measure(tables.load(name), chosen, results)
    return results


def journal(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text(encoding="utf-8").splitlines()]


def test_systems_are_timed_in_turn_and_finished_rows_are_kept(fakes, tmp_path):
    lines = fakes / "fake_timed.txt"
    chosen = options(tmp_path, rounds=2, cases=["one"])
    results = measured("fake_timed", chosen)

    steps = journal(lines)
    assert [step[0] for step in steps] == [
        *("slow", "fast", "breaks"),  # once each, untimed
        *("slow", "fast", "breaks"),  # which breaks, and is left alone from now on
        *("slow", "fast"),
    ]
    assert all(name == environment for name, _, environment in steps)
    assert len({(name, pid) for name, pid, _ in steps}) == len({pid for _, pid, _ in steps}) == 3
    assert len({str(os.getpid()), *(pid for _, pid, _ in steps)}) == 4

    values = [line for line in results.lines if "value" in line]
    order = ["slow", "fast", "limit-gemm", "limit-memory"]
    assert [line["system"] for line in values] == order * 2
    assert [line["round"] for line in values] == [0] * 4 + [1] * 4
    assert report.failures(results) == ["fake_timed one: breaks: ValueError: fake | fault"]

    # Nothing is left to do for the finished ones; the broken one is tried again.
    lines.unlink()
    again = measured("fake_timed", chosen)
    assert {step[0] for step in journal(lines)} == {"breaks"}
    lines.unlink()
    finished = [line for line in again.lines if line.get("system") in ("slow", "fast")]
    assert [line["round"] for line in finished if "value" in line] == [0, 0, 1, 1]

    # One round more is one timing more of each, and quick ones are kept apart.
    more = options(tmp_path, rounds=3, cases=["one"], only=["slow", "fast"])
    measured("fake_timed", more)
    assert [step[0] for step in journal(lines)] == ["slow", "fast"] * 2
    lines.unlink()
    quick = options(tmp_path, rounds=1, cases=["one"], only=["slow"], quick=True)
    measured("fake_timed", quick)
    assert [step[0] for step in journal(lines)] == ["slow"] * 2
    assert "Fast" not in report.render(
        tables.load("fake_timed"), quick, harness.Results(quick.results)
    )

    text = report.render(tables.load("fake_timed"), chosen, harness.Results(chosen.results))
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in rows[2:]] == ["Fast", "Slow", "Absent", "Breaks"]
    assert rows[2][3] == "1.00" and float(rows[3][3].strip("~")) < 1
    assert "%" in rows[2][4] and "(memory)" in rows[2][4]
    assert rows[4][1] == "not installed: `pip install no-such-package`"
    assert rows[5][1] == "failed: ValueError: fake \\| fault"
    assert len({len(row) for row in rows}) == 1
    assert "Case two: skipped" not in text


def test_a_case_without_its_data_says_so(fakes, tmp_path):
    table = tables.load("fake_timed")
    bare = options(tmp_path, cases=["two"])
    assert "Case two: skipped: give the folder" in report.render(
        table, bare, measured("fake_timed", bare)
    )
    (tmp_path / "there.csv").touch()
    some = options(tmp_path, cases=["two"], data=tmp_path)
    assert report.render(table, some, measured("fake_timed", some)).endswith(
        "Case two: skipped: the folder of `--data` has no elsewhere/file.csv."
    )


def test_scores_are_measured_once(fakes, tmp_path):
    chosen = options(tmp_path)
    for _ in range(2):
        results = measured("fake_scored", chosen)
    assert journal(fakes / "fake_scored.txt") == [["scored"]]
    text = report.render(tables.load("fake_scored"), chosen, results)
    assert "| system | right, % | words | file |" in text
    assert "| Good | 93.75 | 12,346 | x |" in text
    assert "| Bad | failed: KeyError: 'lost' |  |  |" in text


def test_results_survive_an_interruption_and_refuse_what_they_cannot_compare(tmp_path):
    path = tmp_path / "results.jsonl"
    results = harness.Results(path)
    results.begin()
    results.add(table="a", case="b", system="c", quick=False, round=0, value=1.5)
    whole = path.read_bytes()
    for cut in (1, 10, len(whole.splitlines()[1])):
        path.write_bytes(whole + whole.splitlines()[1][:cut])
        read = harness.Results(path)
        assert read.lines == results.lines and path.read_bytes() == whole
    for wrong in ("{", "[]", "3", '{"run": "x"}', '{"value": 1}'):
        path.write_text(whole.decode() + wrong + "\n", encoding="utf-8")
        with pytest.raises(ValueError, match=r"results\.jsonl, line 3 is not a result"):
            harness.Results(path)
    other = machine.describe() | {"cores": 999}
    path.write_text(json.dumps({"run": 1, "machine": other}) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="another machine"):
        harness.Results(path).begin()


def test_the_machine_of_a_run_without_measurements_is_not_shown(tmp_path):
    results = harness.Results(tmp_path / "results.jsonl")
    for commit in ("first", "second", "third"):
        results.run += 1
        results.add(machine=machine.describe() | {"commit": commit})
        if commit != "second":
            results.add(table="a", case="b", system="c", quick=False, round=0, value=1.5)
    assert re.findall(r"commit (\w+)", report.machines(results)) == ["first", "third"]


def written(path: Path, quick: bool, **values: list[float]) -> harness.Results:
    """Results of the table `fake_timed`, case "one": the timings of each system, one a round."""
    results = harness.Results(path)
    results.begin()
    for system, timings in values.items():
        for turn, value in enumerate(timings):
            row = {"table": "fake_timed", "case": "one", "system": system.replace("_", "-")}
            results.add(**row, quick=quick, round=turn, value=value)
    return results


@pytest.fixture
def peers(fakes):
    """The fake table with two systems of ours."""
    table = tables.load("fake_timed")
    names = {"slow": "tfx-a", "fast": "peer", "absent": "tfx", "breaks": "other"}
    systems = [dataclasses.replace(s, name=names[s.name], packages=()) for s in table.systems]
    return dataclasses.replace(table, systems=systems), table.cases[0]


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        # Ratios within rounds, though the machine became slower: 1.5, 2 and 1.25.
        ([6, 4, 2.5], "Lead, Slow beside Fast: 1.50 (1.25 to 2.00)."),
        ([6, 4, 2], "No lead, Slow beside Fast: 1.50 (1.00 to 2.00)."),
        ([2, 1, 1], "No lead, Slow beside Fast: 0.50 (0.50 to 0.50)."),
        ([9], "No lead is known, Slow beside Fast: it needs two rounds of both."),
    ],
)
def test_a_lead_is_the_spread_of_ratios(peers, tmp_path, ours, expected):
    table, case = peers
    results = written(tmp_path / "a.jsonl", True, tfx_a=ours, peer=[4, 2, 2], other=[1, 1, 1])
    assert list(leads.lead(table, case, True, results)) == [expected]
    text = report.render(table, options(tmp_path, cases=["one"], quick=True), results)
    assert text.endswith("\n\n" + expected)
    alone = written(tmp_path / "b.jsonl", True, tfx_a=ours)
    assert not list(leads.lead(table, case, True, alone)), "nothing to compare with"
    # The system that is named "tfx" alone is ours too.
    both = written(tmp_path / "c.jsonl", True, tfx_a=ours, tfx=[99] * 3)
    assert not list(leads.lead(table, case, True, both)), "both are ours"


def test_what_moved_is_named(peers, tmp_path):
    table, case = peers
    new = written(tmp_path / "new.jsonl", True, tfx_a=[3, 3.1], tfx=[2.1, 2.2], peer=[2, 2])
    for ours, expected in (
        ([6, 6.4, 6.2], ["Moved, Slow beside Fast: 3.10 before, 1.52 now."]),
        ([2.2, 2.4, 2.3], ["Moved, Slow beside Fast: 1.15 before, 1.52 now."]),
        ([3.12, 3.14, 3.12], []),  # apart, but near
        ([2.5, 6, 4], []),  # the spreads touch
        ([], []),
    ):
        path = tmp_path / f"old{len(list(tmp_path.iterdir()))}.jsonl"
        old = written(path, False, tfx_a=ours, peer=[2, 2, 2])
        assert list(leads.moved(table, case, True, new, old)) == expected
        chosen = options(tmp_path, cases=["one"], quick=True)
        assert all(line in report.render(table, chosen, new, old) for line in expected)


def test_a_quick_run_of_all_is_of_speed_and_goes_on(fakes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tables, "TABLES", ("fake_timed", "fake_scored"))
    load = tables.load
    monkeypatch.setattr(tables, "load", lambda name: load(name.removeprefix("benchmarks.")))
    journal_of = {name: fakes / f"{name}.txt" for name in tables.TABLES}
    for file in journal_of.values():
        file.unlink(missing_ok=True)
    arguments = ["all", "--quick", "--only", "slow,fast,absent", "--seconds", "1e-6"]
    for _ in range(2):
        assert command.main(arguments) == 0
        text = capsys.readouterr().out
        assert "## Two fakes" in text and "not installed: `pip install no-such-package`" in text
        assert "No lead" not in text, "none of them is ours"
        steps = [step[0] for step in journal(journal_of["fake_timed"])]
        assert steps == ["slow", "fast"] * 3, "once untimed, then two rounds, and never again"
    assert not journal_of["fake_scored"].exists()
    (file,) = (tmp_path / "runs" / "benchmarks").glob("*.jsonl")
    assert file.name == f"quick-{machine.commit()}.jsonl"


def test_a_ratio_is_of_the_same_round():
    # Round by round 0.5, 0.25, 1; the ratio of the medians would be 4 / 8.
    fastest = {(1, 0): 8.0, (1, 1): 16.0, (1, 2): 4.0}
    assert report.ratio({(1, 0): 4.0, (1, 1): 4.0, (1, 2): 4.0}, fastest) == "0.50"
    assert report.ratio({(1, 1): 4.0, (1, 2): 3.0}, fastest) == "0.50"
    assert report.ratio({(2, 0): 4.0, (2, 1): 4.0}, fastest) == "~0.50"
    assert [report.number(value) for value in (0.12345, 12.345, 100.4, 12345.6, 3, "x")] == [
        *("0.1235", "12.35", "100", "12,346", "3", "x")
    ]


def test_the_list_names_every_table(capsys):
    assert command.main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [table["name"] for table in listed] == list(tables.TABLES)
    for table in listed:
        assert f"python -m benchmarks {table['name']}" in table["about"], "its command"
        assert re.search(r"takes .*\d+ .*minutes|takes \d+ ", table["about"]), "its duration"
        assert "Expect" in table["about"]
        names = [part["name"] for kind in ("cases", "systems") for part in table[kind]]
        assert names and len(set(names)) == len(names)
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert set(tables.TABLES) <= modules
    assert command.main(["list"]) == 0
    assert capsys.readouterr().out.count("systems:") == len(listed)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nothing"], "there is not a table 'nothing'; choose from list, all, generate"),
        (["all", "--rounds", "0"], "--rounds"),
        (["all", "--data", "no such folder"], "there is not a folder no such folder"),
        (["all", "--python", "torch"], "'torch' is not PART=PATH"),
        (["list", "all"], "list has no other names"),
        (["all", "--seconds", "nan"], "--seconds"),
        (["all", "--cases", "nothing"], "no case and system has such names"),
        (["encoder", "--only", "nothing"], "no case and system has such names"),
    ],
)
def test_wrong_arguments_are_refused(arguments, expected, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err


def test_readme_commands_parse(tmp_path):
    text = README.read_text(encoding="utf-8")
    commands = re.findall(r"python -m benchmarks ([^`\n]+)", text)
    named = set()
    for line in commands:
        arguments = shlex.split(line.replace("DATA", str(tmp_path)), comments=True)
        if arguments[0] == "quality":
            assert quality.parser().parse_args(arguments[1:])
            continue
        given = command.parser().parse_args(arguments)
        assert set(given.names) <= {*tables.TABLES, "all", "list"}, line
        named |= set(given.names)
    assert named >= set(tables.TABLES), "every table has its command"


def test_readers_of_tokens_read_a_file_that_is_made_once(tmp_path):
    settings = {"tokens": 100 * 35 * 1_024, "quick": True, "work": str(tmp_path)}
    file = read_tokens.token_file(settings)
    assert file.stat().st_size == 2 * 35 * 1_024
    assert read_tokens.token_file(settings) == file and len(list(tmp_path.iterdir())) == 1
    # Of 35 blocks 34 are read, from any offset, in two batches of 32 rows; the last is filled up.
    for read in (read_tokens.arrays, read_tokens.batches):
        assert list(read(file, 0, 1)) == [32 * 1_024] * 2
        for host, rows in enumerate((11, 11, 10)):
            assert read_tokens.epoch(read, file, host, 3)["tokens"] == 2 * rows * 1_024


def test_memory_of_tokenizing_is_by_tenths_of_the_text_and_wrong_ids_are_found(tmp_path):
    documents, size = tokenize_memory.write(tmp_path / "text.jsonl", 20_000)
    lines = (tmp_path / "text.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    assert texts == [tokenize_memory.document(number) for number in range(documents)]
    assert len(set(texts)) == documents > 3
    assert size - len(texts[-1]) < 20_000 <= size == len("".join(texts).encode())

    samples = [(0, 10), (9, 30), (55, 7), (99, 1), (100, 2)]
    assert tokenize_memory.tenths(samples, 100) == [20, 7, 1.5]

    tokenizer = Tokenizer.train(texts[:2], 300)
    ids = [one for text in texts[:3] for one in (*tokenizer.encode(text), tokenizer.end_id)]
    np.array(ids, "uint16").tofile(tmp_path / "training.bin")
    assert tokenize_memory.compare(tmp_path, tokenizer, [0, 1, 2]) == 3
    ids[-2] += 1
    np.array(ids, "uint16").tofile(tmp_path / "training.bin")
    assert tokenize_memory.compare(tmp_path, tokenizer, [0, 1]) == 3
    with pytest.raises(AssertionError, match="document 2 differs"):
        tokenize_memory.compare(tmp_path, tokenizer, [0, 2])


def test_ctranslate2_in_int8_has_a_row_with_one_thread_and_one_with_all():
    systems = by_ctranslate2.ctranslate2_systems(lambda settings, kind: (settings["threads"], kind))
    found = {system.title: system.build({"threads": 2}) for system in systems}
    assert found == {
        "CTranslate2 int8, 1 thread": (1, "int8"),
        "CTranslate2 int8": (2, "int8"),
        "CTranslate2 float32": (2, "float32"),
    }


def test_what_the_benchmarks_import_from_the_package_is_there():
    names = [
        (path.name, found.module, alias.name)
        for path in sorted((ROOT / "benchmarks").glob("*.py"))
        for found in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(found, ast.ImportFrom) and (found.module or "").startswith("tfx_transformer")
        for alias in found.names
    ]
    assert len(names) > 20
    for file, module, name in names:
        found = importlib.import_module(module)
        if not hasattr(found, name):
            assert importlib.util.find_spec(f"{module}.{name}"), f"{file}: {module}.{name}"


@pytest.mark.parametrize(
    ("table", "setting", "recipe"),
    [
        ("translation_quality", "train", "translation"),
        ("text_quality", "train", "text_classification"),
        ("text_quality", "reader", "pretraining"),
        ("image_quality", "train", "image_classification"),
        ("finetuning", "before", "pretraining"),
        ("finetuning", "after", "instruction_finetuning"),
        ("preference_quality", "train", "preference_finetuning"),
    ],
)
def test_flags_of_the_trainings_are_parameters_of_the_recipe(table, setting, recipe):
    source = (ROOT / "recipes" / f"{recipe}.py").read_text(encoding="utf-8")
    functions = [n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)]
    [main] = [function for function in functions if function.name == "main"]
    parameters = {argument.arg for argument in main.args.args} - {"name", "minutes"}
    seen = 0
    for case in tables.load(f"benchmarks.{table}").cases:
        given = case.settings.get(setting, ())
        assert len(given) % 2 == 0
        for flag in given[::2]:
            assert flag.removeprefix("--").replace("-", "_") in parameters, (case.name, flag)
            seen += 1
    assert seen > 5


def test_operations_of_a_step_are_summed_by_type():
    events = [
        ("model/expand/MatMul:_MklMatMul", 3.0),
        ("model/contract/MatMul:_MklMatMul", 1.0),
        ("model/Erfc:Erfc", 1.0),
        ("ExecutorState::Process", 7.0),  # contains the others
        ("train", 9.0),
    ]
    found = step_profile.seconds_by_type(events)
    assert found == {"_MklMatMul": 4.0, "Erfc": 1.0}
    assert step_profile.table(found, steps=10)[2:] == [
        "| all | 500.0 | 100 % |",
        "| products | 400.0 | 80 % |",
        "| _MklMatMul | 400.0 | 80 % |",
        "| Erfc | 100.0 | 20 % |",
    ]


def test_every_stage_is_there():
    """A function with another name would be left out of the table without a word."""
    missing = []
    for place in stages.STAGES:
        module, _, path = place.partition(":")
        file = ROOT.joinpath(*module.split("."))
        file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = {getattr(node, "name", None) for node in ast.walk(tree)}
        if path.rpartition(".")[2] not in names:
            missing.append(place)
    assert not missing
