"""Draw docs/architecture.png: the floors of the house, and which folder imports which.

    python docs/draw_architecture.py

Floors are those that `tests/test_architecture.py` holds; imports are read from the source, those
inside functions too. An arrow goes down from a folder to one that it imports; the thicker it is,
the more files import. Small helpers at the bottom, which all may import, are left out.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "tfx_transformer"
# All import them, or they import all.
LEFT_OUT = {
    "__init__",
    "__main__",
    "annotations",
    "arguments",
    "clusters",
    "console",
    "devices",
    "errors",
    "files",
    "flag_parser",
    "installation",
    "json_files",
    "registration",
    "renamed",
    "reprs",
    "resources",
    "wording",
}
SIZE = (14, 11)  # inches
BOX = (1.75, 0.62)  # width and height of a box, in the units of the picture


def read_floors() -> dict[str, int]:
    """Return the floor of every folder and file, from the architecture test."""
    tree = ast.parse((ROOT / "tests" / "test_architecture.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "FLOORS":
            return ast.literal_eval(node.value)
    raise ValueError("tests/test_architecture.py has no FLOORS")


def count_imports(places: set[str]) -> Counter[tuple[str, str]]:
    """Return how many files of one place import another: {(importing, imported): files}."""
    found: Counter[tuple[str, str]] = Counter()
    for file in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = file.relative_to(ROOT / PACKAGE).with_suffix("").parts
        imported = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
                rest = (node.module or "").split(".")[1:]
                imported |= {rest[0]} if rest else {alias.name for alias in node.names}
        found.update((parts[0], place) for place in imported & places if place != parts[0])
    return found


def draw(file: Path) -> None:
    """Write the picture."""
    floors = {name: floor for name, floor in read_floors().items() if name not in LEFT_OUT}
    rows: defaultdict[int, list[str]] = defaultdict(list)
    for name, floor in floors.items():
        rows[floor].append(name)
    widest = max(map(len, rows.values()))
    places = {}
    for floor, names in rows.items():
        step = widest / len(names)
        for index, name in enumerate(sorted(names)):
            places[name] = ((index + 0.5) * step * 2.0, floor * 1.35)

    figure, axes = plt.subplots(figsize=SIZE)
    for (importing, imported), count in count_imports(set(floors)).items():
        if importing not in places:
            continue
        (x, y), (to_x, to_y) = places[importing], places[imported]
        level = y == to_y
        arrow = FancyArrowPatch(
            (x, y if level else y - BOX[1] / 2),
            (to_x, to_y if level else to_y + BOX[1] / 2),
            arrowstyle="-|>",
            mutation_scale=9,
            connectionstyle="arc3,rad=-0.35" if level else "arc3,rad=0",
            shrinkA=28 if level else 0,
            shrinkB=28 if level else 0,
            linewidth=0.6 + 0.25 * min(count, 10),
            color="#6b7a90",
            alpha=0.55,
            zorder=1,
        )
        axes.add_patch(arrow)
    for name, (x, y) in places.items():
        corner = (x - BOX[0] / 2, y - BOX[1] / 2)
        style = {"boxstyle": "round,pad=0.02,rounding_size=0.12", "linewidth": 1.2, "zorder": 2}
        axes.add_patch(FancyBboxPatch(corner, *BOX, fc="#f4f7fb", ec="#2f4b7c", **style))
        folder = (ROOT / PACKAGE / name).is_dir()
        label = f"{name}/" if folder else f"{name}.py"
        axes.text(x, y, label, ha="center", va="center", fontsize=9, zorder=3)
    for floor in rows:
        axes.text(-0.55, floor * 1.35, f"floor {floor}", va="center", ha="right", color="#6b7a90")
    axes.set_xlim(-1.2, widest * 2.0)
    axes.set_ylim(-1.4, max(rows) * 1.35 + 0.8)
    axes.axis("off")
    figure.savefig(file, dpi=110, bbox_inches="tight", facecolor="white")
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).with_name("architecture.png"))
