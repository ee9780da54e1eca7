"""Trainings that are divided among devices and hosts, beside those on one device: a table.

    python tests/layouts.py                        # all rows
    python tests/layouts.py --training packed --training texts --layout "4 processes"

For each kind and layout: the largest difference of a loss from that on one device (20 steps, and
the validation of 4 epochs); if each example was read once in every epoch; and if a run ended with
the same weights and losses, to the bit, after one of its processes had been killed (SIGKILL) at
step 7 and the run had been repeated. Hosts are processes of this machine. It needs JAX.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS), str(TESTS / "faults"), str(TESTS.parent)]
from on_jax import xla_flags  # noqa: E402

if __name__ == "__main__":
    os.environ.update(KERAS_BACKEND="jax", JAX_PLATFORMS="cpu", XLA_FLAGS=xla_flags(1))

import numpy as np  # noqa: E402
from divided_runs import At, Ended, on_hosts, train  # noqa: E402

KINDS = ("texts", "packed", "own rows", "lora", "images")
# Title -> hosts, devices of each, parts of the weights; and the host that is killed.
LAYOUTS: dict[str, tuple[tuple[int, int, int], int]] = {
    "8 devices": ((1, 8, 1), 0),
    "2 processes": ((2, 1, 1), 0),
    "4 processes": ((4, 1, 1), 2),
    "2 processes of 4 devices, weights in 4 parts": ((2, 4, 4), 1),
}


def row(kind: str, title: str, alone: dict, folder: Path) -> str:
    """Return a row of the table.

    Args:
        kind: the training.
        title: the layout.
        alone: what `train` returns on one device.
        folder: folder of the checkpoints.
    """
    place, victim = LAYOUTS[title]
    straight = results(run(kind, folder / "straight", place))
    names = ("losses", "validation")
    difference = max(
        np.abs(np.subtract(one[name], alone[name])).max() for one in straight for name in names
    )
    killed = run(kind, folder / "killed", place, victim)
    assert killed[victim].status == -9, killed
    again = results(run(kind, folder / "killed", place))
    same = all(again[0][name] == straight[0][name] for name in ("weights", "validation"))
    cells = (kind, title, f"{difference:.1e}", _word(read_once(straight)), _word(same))
    return f"| {' | '.join(cells)} |"


def run(kind: str, folder: Path, place: tuple[int, int, int], victim: int = -1) -> list[Ended]:
    """Train on a layout, and kill the host `victim` after step 7."""

    def work(index: int) -> dict:
        stop = [At(7, lambda: os.kill(os.getpid(), 9))] if index == victim else []
        return train(kind, folder, stop, save_minutes=0 if victim < 0 else 1e-9)

    return on_hosts(work, *place)


def results(ended: list[Ended]) -> list[dict]:
    """Return the results of hosts that ended well."""
    assert {one.status for one in ended} == {0}, ended
    return [one.result for one in ended]


def read_once(straight: list[dict]) -> bool:
    """Return True if all hosts together read each example once in every epoch."""
    for epoch in range(4):
        steps = [one["read"][5 * epoch : 5 * epoch + 5] for one in straight]
        given = [example for step in sum(steps, []) for example in step if np.any(example)]
        if sorted(given) != sorted(straight[0]["labels"]):
            return False
    return True


def _word(holds: bool) -> str:
    return "yes" if holds else "no"


def selected(arguments: list[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return the kinds of trainings and the titles of layouts of a command; by default all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for flag, names in (("--training", KINDS), ("--layout", LAYOUTS)):
        parser.add_argument(flag, action="append", choices=list(names), help="May be repeated.")
    found = parser.parse_args(arguments)
    return found.training or KINDS, found.layout or list(LAYOUTS)


def main(kinds: Sequence[str], titles: Sequence[str]) -> None:
    import jax  # pyright: ignore[reportMissingImports]

    print("| training | layout | difference of losses | read once | killed and repeated |")
    print("|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        # Processes read what others have compiled.
        jax.config.update("jax_compilation_cache_dir", str(Path(folder, "compiled")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        for kind in kinds:
            (alone,) = results(run(kind, Path(folder, kind), (1, 1, 1)))
            for number, title in enumerate(titles):
                print(row(kind, title, alone, Path(folder, kind, str(number))), flush=True)


if __name__ == "__main__":
    main(*selected(sys.argv[1:]))
