"""The blocks of code in README.md and the pages of docs/, and data to run them on."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
JAPANESE = ROOT / "README.ja.md"
PAGES = (README, ROOT / "docs" / "python.md", ROOT / "docs" / "commands.md")
# Enough rows to see that a training works, few enough to do it in seconds.
ROWS = 120
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
    """Write the first rows of every table of the repository."""
    folder.mkdir()
    for path in [*(ROOT / "datasets").glob("*.csv"), *(ROOT / "datasets").glob("*.jsonl")]:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / path.name).write_text("".join(lines[: ROWS + 1]), "utf-8")
