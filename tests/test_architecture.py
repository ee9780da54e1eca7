"""The house holds: one direction, a lower half without TensorFlow, plain recipes.

Imports are read from the source, those inside functions too, so that nothing needs to be imported
to see where it points. Two tests start a process and look at what was really imported.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "tfx_transformer"

# A module may import from its own floor and from those below. A folder stands for all in it.
FLOORS = {
    "annotations": 0,
    "bases": 0,  # the table of checkpoints to begin with, which conclusions name too
    "reprs": 0,
    "errors": 0,
    "console": 0,
    "files": 0,
    "installation": 0,  # which of the two wheels is installed
    "json_files": 0,
    "registration": 0,
    "renamed": 0,
    "resources": 0,
    "config": 0,
    "clusters": 0,  # the hosts that a process's environment names
    "devices": 0,  # what --devices says, before a framework starts
    "flags": 0,
    "arguments": 0,  # what was typed; run.pyz looks at it too
    "flag_parser": 0,
    "evaluation": 0,
    "pictures": 0,
    "presets": 0,  # the table of settings that have a name
    "planning": 0,  # arithmetic over a configuration
    "text": 0,
    "vectors": 0,
    "wording": 0,  # the texts that a run, its card and its report end with
    "images": 0,
    "data": 1,
    "generation": 1,
    "prediction": 1,
    "bundle": 2,
    "model_card": 2,  # the README of a bundle
    "runtime": 2,
    "search": 3,  # an index on disk over the runtime; needs no framework
    "report": 2,  # pictures and tables of what a run has recorded; needs no framework
    "layers": 3,
    "models": 4,
    "training": 5,
    "export": 6,
    "page": 7,  # a page over the runtime and the exported files
    "serve": 7,  # a server over the runtime
    "cli": 8,
    "__main__": 8,
    "__init__": 8,
}
# What trains; the floors below the layers do without.
FRAMEWORKS = {"tensorflow", "tensorflow_text", "keras", "keras_hub", "keras_nlp", "torch", "jax"}
# What runs a bundle must not need.
HEAVY = FRAMEWORKS | {
    "PIL",
    "matplotlib",
    "pandas",
    "sacrebleu",
    "safetensors",
    "sentencepiece",
    "sklearn",
    "tokenizers",
}
# What one module of the runtime may import, inside functions, and why.
LIGHT = {
    # Training a vocabulary needs it; reading and using one does not.
    ("text.tokenizer", "tokenizers"),
    # Runs the tokenizers of checkpoints that tiktoken cannot run.
    ("text.hugging_face", "tokenizers"),
    # Normalizes what Marian's tokenizer reads.
    ("text.sentencepiece", "sentencepiece"),
    # Image classifiers read files; text models do without.
    ("images", "PIL"),
    # Batches for training are in the same folder as the formats of tables, which an index reads.
    ("data.batches", "tensorflow"),
}
# The only functions outside `export` that may import a framework beside Keras, and why.
FRAMEWORK_IN = {
    "layers.remat": "_again_on_jax",  # the order of a gradient, which Keras has no name for
    # Batches reach Keras as a tf.data.Dataset; what is in them is made by NumPy.
    "data.batches": "tf_dataset",
    # Generation is one compiled graph on the backend that has graphs.
    "models.decoding": "compile_function",
    # Gradients that Keras has no name for: of a loop, and of one logit of many.
    "models.token_scores": "_tensorflow",
    # A preset is fetched by the package whose it is.
    "models.pretrained.keras_hub": "from_preset",
}


class Import(NamedTuple):
    target: str  # dotted name, with the name behind `from` if that is a module of ours
    function: str | None  # the outermost function or class around it; None: at import of the module
    line: int


@cache
def modules() -> dict[str, Path]:
    """Every module by its name in the package, such as `layers.attention` and `layers.__init__`."""
    folder = ROOT / PACKAGE
    files = sorted(folder.rglob("*.py"))
    return {".".join(file.relative_to(folder).with_suffix("").parts): file for file in files}


def sources() -> list[Path]:
    """Every file of Python in the repository."""
    folders = (PACKAGE, "recipes", "tests", "benchmarks", "docs")
    return [p.relative_to(ROOT) for f in folders for p in sorted((ROOT / f).rglob("*.py"))]


def resolve(target: str) -> str | None:
    """The module of ours that a dotted name means, or None if it is none of ours."""
    head, _, name = target.partition(".")
    if head != PACKAGE:
        return None
    while name:
        for candidate in (name, f"{name}.__init__"):
            if candidate in modules():
                return candidate
        name = name.rpartition(".")[0]  # the last part is something in a module
    return "__init__"


@cache
def imports_of(source: str) -> list[Import]:
    """All imports of a source text.

    >>> imports_of("import a.b\\ndef f():\\n    from c import d")
    [Import(target='a.b', function=None, line=1), Import(target='c.d', function='f', line=3)]
    """
    return list(_imports(ast.parse(source), None))


def _imports(node: ast.AST, function: str | None) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue  # only a type checker reads it
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, function, child.lineno)
        elif isinstance(child, ast.ImportFrom):
            start = "." * child.level + (child.module or "")
            for alias in child.names:
                yield Import(f"{start}.{alias.name}", function, child.lineno)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _imports(child, function or child.name)
        else:
            yield from _imports(child, function)


@cache
def module_imports(module: str) -> tuple[Import, ...]:
    return tuple(imports_of(modules()[module].read_text(encoding="utf-8")))


def floor(module: str) -> int:
    """Of a module; one that no line of the table covers is an error."""
    return FLOORS[module.partition(".")[0]]


def of_floor(*floors: int) -> list[str]:
    return [module for module in modules() if FLOORS.get(module.partition(".")[0]) in floors]


def reachable(module: str) -> dict[str, str]:
    """All modules of ours that importing a module reaches, each with the one that reached it.

    Importing `a.b` runs `a/__init__.py` too. Imports inside functions count: a bundle is to run
    without what they need.
    """
    reached, waiting = {module: "the test"}, [module]
    while waiting:
        current = waiting.pop()
        targets = [resolve(found.target) for found in module_imports(current)]
        parts = current.split(".")[:-1]
        targets += [".".join([*parts[:n], "__init__"]) for n in range(len(parts) + 1)]
        for target in targets:
            if target is not None and target not in reached:
                reached[target] = current
                waiting.append(target)
    return reached


def test_every_module_has_a_floor():
    assert "layers.attention" in modules(), "the package was not found"
    homeless = sorted({m.partition(".")[0] for m in modules()} - FLOORS.keys())
    assert not homeless, f"give these a floor in DESIGN and in this table: {homeless}"


def test_imports_go_down():
    upward = [
        f"{module} (floor {floor(module)}), line {found.line}: {found.target} ({floor(target)})"
        for module in modules()
        for found in module_imports(module)
        if (target := resolve(found.target)) and floor(target) > floor(module)
    ]
    assert not upward


def test_imports_are_absolute():
    relative = [
        f"{module}, line {found.line}: {found.target}"
        for module in modules()
        for found in module_imports(module)
        if found.target.startswith(".")
    ]
    assert not relative


@cache
def defined(module: str) -> set[str]:
    """The names that a module has when it is imported."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def missing_names(source: str) -> list[str]:
    """Return the names that a source imports from our modules and that do not exist."""
    missing = []
    for found in imports_of(source):
        module = resolve(found.target)
        if module is None:
            continue
        package = (
            f"{PACKAGE}.{module}".removesuffix(".__init__").removesuffix("__init__").rstrip(".")
        )
        name = found.target.removeprefix(package).removeprefix(".").partition(".")[0]
        if name and name not in defined(module):
            missing.append(f"line {found.line}: {found.target}")
    return missing


def test_imported_names_are_there():
    """Imports inside functions too, which a test may never reach."""
    missing = [
        f"{path}, {name}"
        for path in sources()
        for name in missing_names((ROOT / path).read_text(encoding="utf-8"))
    ]
    assert not missing


def test_missing_names_are_seen():
    source = "def f():\n    from tfx_transformer.errors import InputError, WrongError\n"
    source += "import tfx_transformer.datas\nfrom tfx_transformer.data import pairs, pears\n"
    source += "import tfx_transformer as tfx\nfrom tfx_transformer import data, dates, Tokenizer"
    names = [line.rpartition(".")[2] for line in missing_names(source)]
    assert names == ["WrongError", "datas", "pears", "dates"]


def frameworks(modules: list[str], refused: set[str]) -> list[str]:
    """The lines that import a framework where none of `FRAMEWORK_IN` allows it."""
    return [
        f"{module}, line {found.line}: {found.target}"
        for module in modules
        for found in module_imports(module)
        if found.target.partition(".")[0] in refused
        and (found.function is None or found.function != FRAMEWORK_IN.get(module))
    ]


def test_the_lower_half_needs_no_framework():
    assert not frameworks(of_floor(0, 1, 2), FRAMEWORKS)


def test_layers_and_models_run_on_any_backend():
    assert not frameworks(of_floor(3, 4), FRAMEWORKS - {"keras"})


def test_the_exceptions_are_needed():
    for module, function in FRAMEWORK_IN.items():
        others = FRAMEWORKS - {"keras"}
        used = {f.function for f in module_imports(module) if f.target.partition(".")[0] in others}
        assert used == {function}, f"{module}: take it out of FRAMEWORK_IN"


@pytest.mark.parametrize("start", ["runtime.__init__", "serve.server"])
def test_a_bundle_runs_without_the_rest(start):
    reached = reachable(start)
    assert {"config", "text.tokenizer", "generation.loop"} <= reached.keys()
    heavy = [
        f"{module} (imported by {reached[module]}) imports {found.target}"
        for module in reached
        for found in module_imports(module)
        if found.target.partition(".")[0] in HEAVY
        and not (found.function and (module, found.target.partition(".")[0]) in LIGHT)
    ]
    assert not heavy


def test_run_pyz_has_what_it_needs():
    """It holds all files and folders that the runtime reaches, without what only a recipe's command
    imports."""
    source = (ROOT / PACKAGE / "export" / "standalone.py").read_text(encoding="utf-8")
    (parts,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PARTS"
    )
    reached = {module.partition(".")[0] for module in reachable("runtime.__init__")}
    for_recipes = {"clusters", "devices", "flag_parser", "presets", "wording"}
    assert {part.removesuffix(".py") for part in parts} == reached - for_recipes


@pytest.mark.parametrize(
    "source",
    [
        "import tfx_transformer",
        "import tfx_transformer.runtime",
        "import sys\n"
        "from tfx_transformer.cli import main\n"
        "sys.argv = ['tfx-transformer', '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code",
    ],
    ids=["package", "runtime", "help"],
)
def test_what_starts_at_once_imports_nothing_heavy(source):
    report = "import sys\nprint('imported:', *sorted({n.partition('.')[0] for n in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", f"{source}\n{report}"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.rpartition("imported:")[2].split())
    assert PACKAGE in imported
    assert not imported & HEAVY


def recipe_files() -> list[Path]:
    return sorted((ROOT / "recipes").glob("*.py"))


def test_there_are_recipes():
    assert "translation" in [path.stem for path in recipe_files()]


@pytest.mark.parametrize("path", recipe_files(), ids=lambda path: path.stem)
def test_a_recipe_reads_like_a_page(path):
    text = path.read_text(encoding="utf-8")
    assert "fmt: skip" not in text and "fmt: off" not in text
    tree = ast.parse(text)
    documentation = ast.get_docstring(tree) or ""
    assert f"tfx-transformer run {path.stem}" in documentation, "the docstring states its command"

    (main,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main")
    arguments = main.args
    assert arguments.vararg is None and arguments.kwarg is None
    assert len(arguments.defaults) == len(arguments.posonlyargs + arguments.args)
    assert None not in arguments.kw_defaults, "every parameter is a flag and has a default"
    assert all(argument.annotation for argument in arguments.args), "its type checks the flag"

    statements = [node for node in ast.walk(main) if isinstance(node, ast.stmt)]
    lines = [node.lineno for node in statements]
    assert len(lines) == len(set(lines)), "one statement a line"
    assert not any(isinstance(node, ast.NamedExpr) for node in ast.walk(main))


def test_nothing_imports_recipes():
    names = {"recipes", *(path.stem for path in recipe_files())}
    importing = [
        f"{path.relative_to(ROOT)}, line {found.line}: {found.target}"
        for folder in (PACKAGE, "recipes", "tests", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for found in imports_of(path.read_text(encoding="utf-8"))
        if found.target.partition(".")[0] in names
    ]
    assert not importing


def test_no_module_of_tests_imports_another():
    """Code that two of them need is in a module of its own, or a fixture in conftest.py."""
    importing = [
        f"{path}, line {found.line}: {found.target}"
        for path in sources()
        if path.name.startswith("test_")
        for found in imports_of((ROOT / path).read_text(encoding="utf-8"))
        if found.target.startswith("test_")
    ]
    assert not importing


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a.b, c", [("a.b", None, 1), ("c", None, 1)]),
        ("from a import b as c", [("a.b", None, 1)]),
        ("from . import b", [("..b", None, 1)]),
        ("def f():\n  def g():\n    import a", [("a", "f", 3)]),
        ("class C:\n  def f(self):\n    import a", [("a", "C", 3)]),
        ("if TYPE_CHECKING:\n  import a\nimport b", [("b", None, 3)]),
        ("try:\n  import a\nexcept ImportError:\n  import b", [("a", None, 2), ("b", None, 4)]),
    ],
)
def test_imports_are_seen_wherever_they_stand(source, expected):
    assert imports_of(source) == [Import(*found) for found in expected]


def test_names_are_resolved_to_modules():
    assert resolve("tfx_transformer.layers.attention.MultiHeadAttention") == "layers.attention"
    assert resolve("tfx_transformer.layers.TokenEmbedding") == "layers.__init__"
    assert resolve("tfx_transformer.bundle") == "bundle"
    assert resolve("tfx_transformer.Tokenizer") == "__init__"
    assert resolve("numpy") is None


def test_the_guards_that_security_names_are_there():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    table = text.partition("## What guards what")[2].partition("\n## ")[0]
    files = set(re.findall(r"`([\w/]+\.py)`", table))
    assert len(files) > 20
    assert not [f for f in files if not ((ROOT / PACKAGE / f).is_file() or (ROOT / f).is_file())]


TASKS = {"causal", "seq2seq", "masked", "classification", "embedding", "regression", "tagging"}


def names_of_tasks_compared(source: str) -> list[int]:
    """Lines where something is compared with the name of a task.

    >>> names_of_tasks_compared('if model.task == "causal":\\n    pass')
    [1]
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare | ast.MatchValue):
            parts = [part for part in ast.walk(node) if isinstance(part, ast.Constant)]
            if any(isinstance(part.value, str) and part.value in TASKS for part in parts):
                found.append(node.lineno)
    return found


def test_nobody_compares_the_name_of_a_task():
    """A task's own facts are in its row: in attributes of its model's class, and in a table of each
    stage, such as `runtime.tasks.TASKS`."""
    compared = [
        f"{module}, line {line}"
        for module, file in modules().items()
        for line in names_of_tasks_compared(file.read_text(encoding="utf-8"))
    ]
    assert not compared


def test_comparisons_are_seen():
    source = 'x == "causal"\ny in ("masked", "b")\nz = {"causal": 1}["causal"]\nz.get("masked")'
    assert names_of_tasks_compared(source) == [1, 2]
    assert names_of_tasks_compared('match x:\n    case "embedding":\n        pass') == [2]


def test_the_tables_have_the_tasks_that_there_are():
    import tfx_transformer.export.tasks
    import tfx_transformer.models.saving
    from tfx_transformer.cli import scoring
    from tfx_transformer.page.kinds import TASKS as shown
    from tfx_transformer.prediction.answers import PREDICTIONS
    from tfx_transformer.runtime import tasks
    from tfx_transformer.serve.tasks import TASKS as served

    assert tfx_transformer.models.saving.TASKS.keys() == TASKS
    answering = TASKS - {"masked"}
    assert tasks.TASKS.keys() == tfx_transformer.export.tasks.TASKS.keys() == answering
    assert PREDICTIONS.keys() == served.keys() == shown.keys() == answering
    assert scoring.KINDS.keys() <= answering


OPENINGS = re.compile(r"(What|Whether|Which|How|Where|Of an?)\b")
# Phrases that have to be read twice; "there is no …" is plain.
PHRASES = re.compile(
    r"(?<![Tt]here )\b(is|are) no (bundle|folder|image|number|label|class|file|name|JSON|padding)\b"
    r"|\b(told by|stands in|minds|bears|for want of|which else|whose it is)\b"
)


def documented(path: Path) -> Iterator[tuple[str, str]]:
    """The name and the docstring of a module, and of everything in it."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "name", "the module"), text


def test_docstrings_are_plain():
    files = [file.relative_to(ROOT) for m, file in modules().items() if not m.startswith("data.")]
    opened = [
        f"{file}: {name}"
        for file in files
        for name, text in documented(file)
        if OPENINGS.match(text)
    ]
    assert not opened, "a docstring opens with what it returns or does"
    texts = {file: (ROOT / file).read_text(encoding="utf-8") for file in files}
    assert not {str(f): PHRASES.search(t)[0] for f, t in texts.items() if PHRASES.search(t)}


def test_plain_english_is_told_from_other():
    for text in ("What is read.", "Whether it is.", "Of a text its length.", "How many there are."):
        assert OPENINGS.match(text)
    for text in ("Return what is read.", "Whatever it is.", "Often.", "Offsets."):
        assert not OPENINGS.match(text)
    for text in ("it is no bundle", "which are no padding", "it is told by its name"):
        assert PHRASES.search(text)
    for text in ("there is no bundle", "There is no file", "it is not a bundle", "reminds"):
        assert not PHRASES.search(text)
