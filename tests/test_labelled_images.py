"""Labelled images from folders and CSVs: what is found, refused, split, batched and summed up."""

from __future__ import annotations

import collections
import csv
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfx_transformer.data.images_summary import describe_labelled_images
from tfx_transformer.data.labelled_image import (
    LabelledImages,
    labelled_images,
    read_labelled_images,
    split_labelled_images,
)
from tfx_transformer.errors import InputError

# `tfx_transformer.data` has a function of the same name.
module = importlib.import_module("tfx_transformer.data.labelled_image")


def draw(path: Path, colour, size=(5, 3)) -> Path:
    """A lossless image of one colour; a number means that grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (colour,) * 3 if isinstance(colour, int) else colour
    Image.new("RGB", size, colour).save(path, "PNG")
    return path


def write_table(path: Path, rows, header=("path", "label")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def folder(tmp_path):
    """Two labels, one of them with a space, and what is passed over."""
    root = tmp_path / "pets"
    for grey, name in enumerate(["dog/b.png", "dog/a.png", "dog/C.PNG", "big cat/a.jpeg"]):
        draw(root / name, grey)
    (root / ".cache").mkdir()
    (root / "dog" / ".DS_Store").write_bytes(b"Bud1")
    (root / "README.txt").write_text("where these come from")
    return root


def message_of(path, **options) -> str:
    with pytest.raises(InputError) as caught:
        read_labelled_images(path, **options)
    message = str(caught.value)
    first, *remedy = message.split("\n")
    assert first.startswith(str(path)), "the first line names the file"
    assert remedy and all(line.startswith("  ") for line in remedy), "an indented remedy follows"
    return message


# Reading


def test_a_folder_for_each_label(folder):
    read = read_labelled_images(folder)
    names = [file.relative_to(folder).as_posix() for file in read.files]
    assert names == ["big cat/a.jpeg", "dog/C.PNG", "dog/a.png", "dog/b.png"]
    assert read.labels == [("big cat",), ("dog",), ("dog",), ("dog",)]
    assert (read.rows, read.path, read.bad_rows, len(read)) == ([1, 2, 3, 4], str(folder), [], 4)
    assert read.take([3, 0]).files == [read.files[3], read.files[0]]
    assert read.take([3, 0]).labels == [("dog",), ("big cat",)]
    assert read.take([3, 0]).rows == [4, 1]


def test_a_table_of_paths(folder, tmp_path):
    rows = [["pets/dog/a.png", "NA"], [" pets/dog/b.png ", " 001 "], [folder / "dog/C.PNG", "NA"]]
    path = write_table(tmp_path / "train.csv", rows, ("file", "kind"))
    read = read_labelled_images(path, image="file", label="kind")
    assert read.files == [folder / "dog" / name for name in ("a.png", "b.png", "C.PNG")]
    assert read.labels == [("NA",), ("001",), ("NA",)]
    assert (read.rows, read.path) == ([2, 3, 4], str(path))
    with pytest.raises(InputError, match="no column 'path'"):
        read_labelled_images(path)


def test_folder_and_table_of_the_same_images(shared_data):
    root = shared_data / "images" / "cifar10_dcb_small"
    table = read_labelled_images(root / "test.csv")
    inside = read_labelled_images(root / "test")
    assert (inside.files, inside.labels) == (table.files, table.labels)
    assert collections.Counter(table.labels) == {("bird",): 100, ("cat",): 100, ("dog",): 100}


# What is refused, or listed


@pytest.fixture
def damaged(folder, tmp_path):
    """A table whose rows 3 to 7 are bad: (its path, what is wrong with each of them)."""
    whole = (folder / "dog/a.png").read_bytes()
    (tmp_path / "text.jpg").write_text("I am no image at all.")
    (tmp_path / "empty.png").touch()
    (tmp_path / "short.png").write_bytes(whole[:-30])
    bad = {
        "text.jpg": "text.jpg: this is not an image; it begins with b'I am no image at'",
        "empty.png": "empty.png: the file is empty",
        "short.png": "short.png: the image is damaged or cut short",
        "pets/dog/c.png": "c.png: there is no such file",
        "pets/dog": "dog: this is a folder",
    }
    rows = [["pets/dog/a.png", "dog"], *([name, "dog"] for name in bad), ["pets/dog/b.png", "dog"]]
    return write_table(tmp_path / "train.csv", rows), list(bad.values())


def test_bad_images_are_named_by_row(damaged, tmp_path):
    path, reasons = damaged
    header, good, *bad = path.read_text().splitlines()
    for row, reason in zip(bad, reasons, strict=False):
        path.write_text("\n".join([header, good, "", row]))
        message = message_of(path)
        assert message.startswith(f"{path}, row 4: ")
        assert reason in message.splitlines()[0]
        assert "--skip-bad-rows" in message and "folder of a label" not in message


def test_bad_images_are_listed(damaged):
    path, reasons = damaged
    with path.open("a") as file:
        file.write("pets/dog/a.png,\n")
    read = read_labelled_images(path, skip_bad_rows=True)
    assert [file.name for file in read.files] == ["a.png", "b.png"]
    assert read.rows == [2, 8]
    assert [bad.row for bad in read.bad_rows] == [3, 4, 5, 6, 7, 9]
    for bad, reason in zip(read.bad_rows, reasons, strict=False):
        assert reason in bad.reason
        assert (bad.column, bad.values[1]) == ("path", "dog")
        assert bad.values[0] in bad.reason
    assert (read.bad_rows[-1].column, read.bad_rows[-1].reason) == (
        "label",
        "column 'label' is empty",
    )


def test_a_missing_image_brings_the_nearest_name(folder, tmp_path):
    path = write_table(tmp_path / "train.csv", [["pets/dog/aa.png", "dog"]])
    assert "The nearest name in that folder is 'a.png'. " in message_of(path)
    path = write_table(tmp_path / "train.csv", [["dogs/a.png", "dog"]])
    assert f"there is no folder {tmp_path / 'dogs'}" in message_of(path)


def test_a_text_in_place_of_a_path(folder, tmp_path):
    for text in ("a dog that barks " * 10_000, "pets/dog/" + "a" * 100_000):
        path = write_table(tmp_path / "train.csv", [[text, "dog"]])
        message = message_of(path)
        assert message.startswith(f"{path}, row 2: {tmp_path}")
        assert "…: there is no such file." in message
        assert len(message) < 1_000


def test_nothing_can_be_used(tmp_path):
    path = write_table(tmp_path / "train.csv", [["a.png", "dog"], ["b.png", "cat"]])
    message = message_of(path, skip_bad_rows=True)
    assert "none of its 2 images can be used" in message
    assert "a.png: there is no such file" in message
    write_table(path, [["a.png", "dog"]])
    assert "train.csv: its only image cannot be used" in message_of(path, skip_bad_rows=True)


def test_bad_files_in_a_folder(folder):
    (folder / "dog" / "notes.txt").write_text("good boy")
    (folder / "dog" / "more").mkdir()
    message = message_of(folder)
    assert message.startswith(f"{folder / 'dog' / 'more'}: this is a folder")
    assert "the folder of a label has its images directly inside" in message
    read = read_labelled_images(folder, skip_bad_rows=True)
    assert (len(read), read.rows) == (4, [1, 2, 3, 4])
    notes = f"{folder / 'dog' / 'notes.txt'}: this is not an image; it begins with b'good boy'"
    assert [(bad.row, bad.column) for bad in read.bad_rows] == [(5, None), (6, None)]
    assert read.bad_rows[1].reason == notes
    (folder / "big cat" / "gone.png").symlink_to("nowhere.png")
    message = message_of(folder)
    assert "gone.png: there is no such file" in message and "table" not in message


def test_folders_that_are_no_data_set(folder, tmp_path):
    (folder / "bird").mkdir()
    assert "bird: there is no image of this label" in message_of(folder)
    (folder / "bird").rmdir()
    draw(folder / "stray.PNG", 1)
    assert "stray.PNG: the image is not in the folder of a label" in message_of(folder)
    (tmp_path / "nothing").mkdir()
    assert "no folder with images" in message_of(tmp_path / "nothing")
    assert "there is no such file" in message_of(tmp_path / "petz")


# Splitting


@pytest.fixture
def many(tmp_path):
    """17 dogs, 5 cats and a bird; dogs 3 and 4 are copies of dog 2."""
    counts = {"bird": 1, "cat": 5, "dog": 17}
    for place, (label, count) in enumerate(counts.items()):
        for number in range(count):
            grey = 2 if label == "dog" and number in (3, 4) else number
            draw(tmp_path / "many" / label / f"{number:02}.png", (grey, place, 0))
    return read_labelled_images(tmp_path / "many")


@pytest.mark.parametrize("seed", range(5))
def test_every_label_is_on_both_sides(many, seed):
    training, held_out = split_labelled_images(many, 0.2, seed)
    assert sorted(training.rows + held_out.rows) == many.rows
    assert not set(training.digests()) & set(held_out.digests())
    counts = collections.Counter(label for (label,) in held_out.labels)
    assert counts["bird"] == 0, "the only one is trained on"
    assert counts["cat"] == 1
    assert counts["dog"] in (3, 5), "3 of 15 different ones, copies go along"
    assert split_labelled_images(many, 0.2, seed) == (training, held_out)


# Batches


NAMES = ["bird", "cat", "dog"]


def test_a_batch_by_hand(tmp_path):
    table = [[draw(tmp_path / f"{n}.png", n), label] for n, label in enumerate(NAMES[::-1])]
    images = read_labelled_images(write_table(tmp_path / "a.csv", table))
    weights = [2, 3, 5]
    dataset = labelled_images(images, NAMES, image_size=7, weights=weights, shuffle=False)
    [(inputs, labels, sample_weights)] = dataset
    pixels = np.broadcast_to(np.array([0, 1, 2])[:, None, None, None], (3, 7, 7, 3))
    assert inputs["images"].numpy().tolist() == pixels.tolist()
    assert labels.numpy().tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert sample_weights.numpy().tolist() == [5, 3, 2]
    assert {t.dtype.name for t in (inputs["images"], labels, sample_weights)} == {"float32"}
    [(_, _, sample_weights)] = labelled_images(images, NAMES, shuffle=False)
    assert sample_weights.numpy().tolist() == [1, 1, 1]


def read_epoch(dataset) -> list[list[tuple[float, int]]]:
    """Of every batch the first two channels and the class of its images: who they are."""
    return [
        [
            (*pixels[0, 0, :2].tolist(), int(np.argmax(label)))
            for pixels, label in zip(inputs["images"].numpy(), labels.numpy(), strict=True)
        ]
        for inputs, labels, _ in dataset
    ]


@pytest.mark.parametrize("memory", [module._MEMORY, 0], ids=["kept", "decoded each time"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_image_is_seen_once_an_epoch(many, monkeypatch, memory, shuffle):
    monkeypatch.setattr(module, "_MEMORY", memory)
    dataset = labelled_images(many, NAMES, image_size=3, batch_size=5, shuffle=shuffle)
    epochs = [read_epoch(dataset) for _ in range(2)]
    inside = [np.asarray(Image.open(file))[0, 0, :2].tolist() for file in many.files]
    expected = [
        (*pixel, NAMES.index(label)) for pixel, (label,) in zip(inside, many.labels, strict=True)
    ]
    for batches in epochs:
        assert len(dataset) == len(batches) == 5
        assert sorted(map(len, batches)) == [3, 5, 5, 5, 5]
        seen = [image for batch in batches for image in batch]
        assert sorted(seen) == sorted(expected)
        assert (seen == expected) == (not shuffle)
    assert (epochs[0] == epochs[1]) == (not shuffle)


def test_kept_and_decoded_anew_are_the_same(shared_data, monkeypatch):
    images = read_labelled_images(shared_data / "images" / "cifar10_dcb_small" / "test.csv")
    images = images.take(range(0, 300, 11))

    def batches():
        dataset = labelled_images(images, NAMES, image_size=19, batch_size=7, seed=3)
        return [[x["images"].numpy(), y.numpy(), w.numpy()] for x, y, w in dataset]

    kept = batches()
    monkeypatch.setattr(module, "_MEMORY", 0)
    for one, other in zip(kept, batches(), strict=True):
        assert all(map(np.array_equal, one, other))


def test_an_unknown_label_is_named(many):
    with pytest.raises(InputError, match=r"many, row 7: the label 'dog' is unknown"):
        labelled_images(many, ["bird", "cat"])


def test_a_file_that_is_damaged_after_reading_is_named(many):
    many.files[4].write_text("overwritten")
    with pytest.raises(InputError, match="this is not an image"):
        labelled_images(many, NAMES)


# Figures


def test_figures_and_lines(tmp_path):
    def image(name, grey, size=(5, 3)):
        return draw(tmp_path / name, grey, size)

    files = [
        image("a.png", 1),
        image("b.png", 2, (7, 11)),
        image("c.png", 3, (2, 3)),
        image("d.png", 1),  # a copy of a.png
        image("e.png", 1),  # another one, with another label
    ]
    labels = [("dog",), ("cat",), ("dog",), ("dog",), ("bird",)]
    training = LabelledImages(files, labels, [2, 3, 4, 5, 6], "train.csv")
    held_out = training.take([2, 2])
    held_out = LabelledImages([*held_out.files, image("f.png", 9)], labels[:3], [2, 3, 4], "t.csv")
    first, second = describe_labelled_images(training, held_out, NAMES)
    assert first.to_dict() == {
        "name": "training",
        "path": "train.csv",
        "images": 5,
        "bad_rows": 0,
        "labels": {"bird": 1, "cat": 1, "dog": 3},
        "duplicates": 1,
        "contradictions": 1,
        "overlap": 0,
        "tokens": 0,
        "single": ["bird", "cat"],
        "alike": [],
        "sizes": [(2, 3), (5, 3), (7, 11)],
    }
    json.dumps(first.to_dict())
    assert first.lines() == [
        "training    train.csv",
        "  images    5",
        "  labels    3: 'dog' 3, 'bird' 1, 'cat' 1",
        "  single    'bird', 'cat': one example, which only one side can have",
        "  pixels    from 2 x 3 to 7 x 11, half ≤ 5 x 3",
        "  repeated  1 image (20.0 %)",
        "  doubtful  1 image (20.0 %) with another label too",
    ]
    assert (second.name, second.overlap, second.contradictions) == ("validation", 2, 1)
    assert second.lines()[-1] == "  overlap   2 images (66.7 %) in training too"


def test_many_labels_are_counted(tmp_path):
    names = [f"label {number}" for number in range(7)]
    files = [draw(tmp_path / "one.png", 1)] * 8
    labels = [(name,) for name in [*names, names[3]]]
    (summary,) = describe_labelled_images(
        LabelledImages(files, labels, list(range(8))), None, names
    )
    lines = summary.lines()
    assert lines[2] == "  labels    7, from 'label 6' 1 to 'label 3' 2"
    shown = "'label 0', 'label 1', 'label 2', 'label 4', 'label 5' and 1 more"
    assert lines[3].startswith(f"  single    {shown}: ")
    assert lines[4] == "  pixels    5 x 3"
