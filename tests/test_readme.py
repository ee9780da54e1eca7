"""What README.md shows works: its Python and its shell blocks run, in order, in an empty folder.

A block under a line `<!-- not run -->` is left out (installing, minutes of training), and so is
every block that is neither `python` nor `bash`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"

# Enough rows to see that a training works, few enough to do it in seconds.
ROWS = 300

_BLOCK = re.compile(
    r"^(?P<skip><!-- not run -->\n\n?)?```(?P<language>python|bash)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    language: str
    line: int  # of the first line of code
    code: str


def blocks(text: str) -> list[Block]:
    return [
        Block(found["language"], text.count("\n", 0, found.start("code")) + 1, found["code"])
        for found in _BLOCK.finditer(text)
        if not found["skip"]
    ]


def write_datasets(folder: Path) -> None:
    """Writes the first rows of every CSV of the repository."""
    folder.mkdir()
    for path in (ROOT / "datasets").glob("*.csv"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / path.name).write_text("".join(lines[: ROWS + 1]), "utf-8")


def test_every_block_runs(tmp_path, monkeypatch):
    shown = blocks(README.read_text(encoding="utf-8"))
    assert {block.language for block in shown} == {"python", "bash"}

    write_datasets(tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)
    # `tfx-transformer` and `python` are those of this environment.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)

    namespace = {"__name__": "__main__"}
    for block in shown:
        if block.language == "python":
            # Empty lines before it, so that a traceback names the line of the README.
            source = "\n" * (block.line - 1) + block.code
            exec(compile(source, str(README), "exec"), namespace)
        else:
            command = ["bash", "-euo", "pipefail", "-c", block.code]
            done = subprocess.run(command, capture_output=True, text=True)
            where = f"README.md, line {block.line}:\n{block.code}\n"
            assert done.returncode == 0, where + done.stdout + done.stderr


def test_blocks_are_found_where_they_stand():
    text = (
        "# Title\n\n```python\na = 1\nb = 2\n```\n\n```text\nnot code\n```\n\n"
        "<!-- not run -->\n```bash\nmake demo\n```\n\nthen\n\n```bash\necho\n```\n"
    )
    assert blocks(text) == [Block("python", 4, "a = 1\nb = 2\n"), Block("bash", 20, "echo\n")]
