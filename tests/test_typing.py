"""Type checkers accept the Python of README.md, docs/ and a script, and catch what is misspelt."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import PAGES, ROOT, blocks

import tfx_transformer as tfx

USER = ROOT / "tests" / "typed_user.py"

# Each line has the mistake that its comment names.
MISTAKES = """\
import tfx_transformer as tfx
from tfx_transformer import runtime

tfx.Clasifier  # attribute
tfx.data.read_pears("a.csv")  # attribute
tfx.data.read_pairs("a.csv", sources="en")  # call
runtime.load("bundle", kind=runtime.TextEmbedder).generate("a")  # attribute
tfx.load("bundle", task="causal")[0].config.hiden_dim  # attribute
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory) -> Path:
    """A folder with the pages' Python, a user's script and one of mistakes."""
    folder = tmp_path_factory.mktemp("typing")
    shown = [block for page in PAGES for block in blocks(page.read_text(encoding="utf-8"))]
    python = "\n".join(block.code for block in shown if block.language == "python")
    (folder / "readme.py").write_text(python, "utf-8")
    (folder / "user.py").write_text(USER.read_text(encoding="utf-8"), "utf-8")
    (folder / "mistakes.py").write_text(MISTAKES, "utf-8")
    return folder


@pytest.mark.slow  # pyright, the other checker, reads the same scripts
def test_mypy_strict(scripts):
    # "silent": of the package, which for a user is an installed one, only the types are read.
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "-O", "json"]
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "readme.py", "user.py", "mistakes.py"],
        cwd=scripts, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    errors = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    errors = [error for error in errors if error["severity"] == "error"]
    assert not done.stderr
    check(errors, [(error["file"], error["line"]) for error in errors])


def test_pyright(scripts):
    settings = {"typeCheckingMode": "standard", "extraPaths": [str(ROOT)]}
    (scripts / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    pyright = Path(sys.executable).parent / "basedpyright"
    command = [pyright, "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run(command, cwd=scripts, capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 3, done.stderr
    errors = [error for error in report["generalDiagnostics"] if error["severity"] == "error"]
    places = [(Path(e["file"]).name, e["range"]["start"]["line"] + 1) for e in errors]
    check(errors, places)


def check(errors: list[dict], places: list[tuple[str, int]]) -> None:
    """Right scripts have no error, and every line of the wrong one has."""
    right = [
        error for error, (file, _) in zip(errors, places, strict=True) if file != "mistakes.py"
    ]
    assert not right, json.dumps(right, indent=1)
    lines = MISTAKES.splitlines()
    wrong = {number for number, line in enumerate(lines, start=1) if "#" in line}
    assert {line for _, line in places} == wrong


def test_checkers_see_the_names_that_are_resolved():
    """The imports under TYPE_CHECKING say what the table of `__getattr__` says."""
    tree = ast.parse(Path(tfx.__file__).read_text(encoding="utf-8"))
    conditions = [node for node in tree.body if isinstance(node, ast.If)]
    (block,) = (node for node in conditions if ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {}
    for found in block.body:
        (alias,) = found.names
        assert alias.asname == alias.name, "only a name that is given again is exported"
        seen[alias.name] = found.module.removeprefix("tfx_transformer").removeprefix(".")
    assert seen == tfx._MODULE_OF | dict.fromkeys(tfx._MODULES, "")


def test_the_users_script_has_every_public_name():
    nodes = list(ast.walk(ast.parse(USER.read_text(encoding="utf-8"))))
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    used |= {node.name for node in nodes if isinstance(node, ast.alias)}
    modules = (tfx.data, tfx.evaluation, tfx.layers, tfx.pictures, tfx.training, tfx.export)
    public = {*tfx.__all__}.union(*(module.__all__ for module in modules))
    assert not public - used


def test_the_wheel_says_that_it_is_typed():
    assert Path(tfx.__file__).with_name("py.typed").is_file()
