"""The drawn pictures of birds, cats and dogs: the files are what their script draws."""

import collections
import runpy

import numpy as np
import pytest
from PIL import Image

from tfx_transformer import resources

COUNTS = {("train", label): 80 for label in ("bird", "cat", "dog")}
COUNTS |= {("test", label): 20 for label in ("bird", "cat", "dog")}


def pictures(folder) -> dict[str, bytes]:
    """RGB bytes of all pictures by name, such as "train/cat/07.png"."""
    found = {}
    for path in folder.rglob("*.png"):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (48, 48))
            found[path.relative_to(folder).as_posix()] = image.tobytes()
    return found


@pytest.fixture(scope="module")
def committed() -> dict[str, bytes]:
    return pictures(resources.dataset_path("images"))


def test_eighty_pictures_a_class_to_train_on_and_twenty_to_test_with(committed):
    assert collections.Counter(tuple(name.split("/")[:2]) for name in committed) == COUNTS
    numbers = {name for name in committed if name.startswith("train/dog/")}
    assert numbers == {f"train/dog/{number:02}.png" for number in range(80)}
    for split, label in COUNTS:
        assert resources.dataset_path(f"images/{split}/{label}").is_dir()


def test_the_folder_holds_pictures_only_and_stays_small(committed):
    folder = resources.dataset_path("images")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.relative_to(folder).as_posix() for path in files} == set(committed)
    assert sum(path.stat().st_size for path in files) < 1_500_000


@pytest.mark.slow(but=["some"])
@pytest.mark.parametrize("share", [0.2, 1], ids=["some", "all"])
def test_the_script_draws_these_pictures(committed, tmp_path, share):
    """Pixels, not files: another version of Pillow may compress them otherwise."""
    script = runpy.run_path(str(resources.dataset_path("draw_images.py")))
    counts = script["main"].__globals__["COUNTS"]
    counts.update({split: round(share * count) for split, count in counts.items()})
    script["main"](tmp_path)
    drawn = pictures(tmp_path)
    assert len(drawn) == round(share * len(committed))
    assert [name for name in drawn if drawn[name] != committed[name]] == []


def test_no_picture_occurs_twice_or_nearly_so(committed):
    """No two are the same, mirrored either: a mean of 5 in 255 is far above the noise of 2."""
    pixels = np.stack([np.frombuffer(data, np.uint8) for data in committed.values()])
    pixels = pixels.reshape(-1, 16, 3, 16, 3, 3).mean(axis=(2, 4))  # 16 x 16 are enough
    for number, one in enumerate(pixels[:-1]):
        others = pixels[number + 1 :]
        for seen in (one, one[:, ::-1]):
            assert abs(others - seen).mean(axis=(1, 2, 3)).min() > 5
