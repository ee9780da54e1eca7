"""Bundles that someone made to do harm, under correct sums where sums would stop them: each is
refused, by name, before it costs memory, and nothing in it is run.

`measure.py` holds the same cases to a second and 500 MB each.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import socket
import struct
import zipfile
from pathlib import Path

import pytest

from tfx_transformer import bundle, runtime
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.models.lora import load_adapters
from tfx_transformer.models.saving import load, save
from tfx_transformer.models.tasks import CausalLM
from tfx_transformer.prediction.classification import read_labels
from tfx_transformer.text.tokenizer import Tokenizer

TABLE = "embedding/embeddings"
CONFIG, SUMS, TOKENIZER = "config.json", "SHA256SUMS", "tokenizer.json"
WEIGHTS = "model.safetensors"
TERABYTE = 1 << 40


class Trap:
    """Unpickling it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("trapped",)


def make_bundle(path: Path) -> CausalLM:
    """A small bundle to damage; returns its model."""
    tokenizer = Tokenizer.train(["the cat sat on the mat"], 270)
    config = TransformerConfig(
        vocabulary_size=tokenizer.vocabulary_size,
        num_layers=1,
        num_heads=3,
        hidden_dim=18,
        intermediate_dim=7,
        max_sequence_length=11,
    )
    model = CausalLM(config)
    save(path, model, tokenizer)
    return model


def reseal(path: Path) -> None:
    """Makes the sums fit what is in the bundle, as someone who means harm would."""
    names = [name for name in sorted(os.listdir(path)) if name != SUMS]
    sums = [hashlib.sha256((path / name).read_bytes()).hexdigest() for name in names]
    lines = [f"{digest}  {name}\n" for digest, name in zip(sums, names, strict=True)]
    (path / SUMS).write_text("".join(lines), encoding="utf-8")


def listed(name: str):
    """One more line in the list of sums."""

    def damage(path: Path) -> None:
        with (path / SUMS).open("a", encoding="utf-8") as file:
            file.write(f"{'0' * 64}  {name}\n")

    return damage


def holding(name: str, data: bytes, sealed: bool = True):
    """A file that holds something else, or one more, under the right sum."""

    def damage(path: Path) -> None:
        (path / name).write_bytes(data)
        if sealed:
            reseal(path)

    return damage


def vast(name: str, size: int = TERABYTE):
    """A file of a terabyte, with no byte written."""

    def damage(path: Path) -> None:
        with (path / name).open("r+b") as file:
            file.truncate(size)

    return damage


def replaced(name: str, make):
    """Something else than a file in its place."""

    def damage(path: Path) -> None:
        (path / name).unlink(missing_ok=True)
        make(path / name)

    return damage


def linked(target: str):
    return lambda path: path.symlink_to(target)


def listening(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket may have 107 bytes
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def architecture(**changes):
    def damage(path: Path) -> None:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        config["architecture"] |= changes
        holding(CONFIG, json.dumps(config).encode())(path)

    return damage


def configured(**changes):
    def damage(path: Path) -> None:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8")) | changes
        holding(CONFIG, json.dumps(config).encode())(path)

    return damage


def header(text: str | dict, data: int = 0) -> bytes:
    """A safetensors file with this header and so many bytes after it."""
    encoded = (text if isinstance(text, str) else json.dumps(text)).encode()
    return struct.pack("<Q", len(encoded)) + encoded + bytes(data)


def tensor(shape: list, begin: int = 0, end: int = 0, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def words(**changes):
    """A tokenizer.json with other parts of its model."""

    def damage(path: Path) -> None:
        tree = json.loads((path / TOKENIZER).read_text(encoding="utf-8"))
        for change in changes.values():
            change(tree)
        holding(TOKENIZER, json.dumps(tree).encode())(path)

    return damage


def bomb() -> bytes:
    """A zip of 10 kB that unpacks to 10 MB; a real one only takes longer to make."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(10_000_000))
    return data.getvalue()


TWO_TENSORS = '{"a": %s, "a": %s}' % ((json.dumps(tensor([1], 0, 4)),) * 2)  # noqa: UP031

# Name, what is done to a bundle, and what is said of it.
HOSTILE = [
    ("path upwards", listed("../secret"), "secret is missing"),
    ("absolute path", listed("/etc/passwd"), "/etc/passwd is missing"),
    ("path up from below", listed("saved_model/../../secret"), "secret is missing"),
    ("backslashes", listed("..\\secret"), "secret is missing"),
    ("no file of that name", listed("a\0b"), "is missing"),
    ("endless sums", vast(SUMS), "larger than any list of sums"),
    ("sums that are none", holding(SUMS, b"\xff\0" * 999, sealed=False), "is missing|not listed"),
    ("no sums", lambda path: (path / SUMS).unlink(), "SHA256SUMS is missing"),
    ("a sum that differs", holding(TOKENIZER, b"x", sealed=False), "not have the checksum"),
    ("one file more", holding("evil.py", b"1/0", sealed=False), "evil.py is not listed"),
    ("one file less", lambda path: (path / "README.md").unlink(), "README.md is missing"),
    ("configuration elsewhere", replaced(CONFIG, linked("/etc/passwd")), "config.json is a link"),
    ("endless device", replaced(WEIGHTS, linked("/dev/zero")), "model.safetensors is a link"),
    ("the whole disk", replaced("saved_model", linked("/")), "saved_model is a link"),
    ("a link to itself", replaced("README.md", linked("README.md")), "README.md is a link"),
    ("sums elsewhere", replaced(SUMS, linked("/dev/zero")), "SHA256SUMS is a link"),
    ("a pipe", replaced("README.md", os.mkfifo), "README.md is not a regular file"),
    ("a pipe of sums", replaced(SUMS, os.mkfifo), "SHA256SUMS is not a regular file"),
    ("a socket", replaced("README.md", listening), "README.md is not a regular file"),
    ("a bomb for Keras", holding("model.keras", bomb()), "model.keras may hold code"),
    ("a pickle", holding("model.pkl", pickle.dumps(Trap())), "model.pkl may hold code"),
    ("HDF5", holding("model.H5", b"\x89HDF\r\n\x1a\n"), "model.H5 may hold code"),
    ("a PyTorch file", holding("weights.pth", bomb()), "weights.pth may hold code"),
    ("a pickle for weights", holding(WEIGHTS, pickle.dumps(Trap())), "cannot be read as safet"),
    ("HDF5 for weights", holding(WEIGHTS, b"\x89HDF\r\n\x1a\n"), "cannot be read as safetensors"),
    ("a bomb for weights", holding(WEIGHTS, bomb()), "cannot be read as safetensors"),
    ("no weights", holding(WEIGHTS, b""), "cannot be read as safetensors"),
    ("endless header", holding(WEIGHTS, struct.pack("<Q", 1 << 63) + b"{}"), "cannot be read"),
    ("longer header", holding(WEIGHTS, struct.pack("<Q", 99) + b"{}"), "cannot be read"),
    ("deep header", holding(WEIGHTS, header("[" * 500_000)), "cannot be read"),
    ("exabytes", holding(WEIGHTS, header({TABLE: tensor([1 << 31, 1 << 31])})), "cannot be read"),
    ("sizes that overflow", holding(WEIGHTS, header({TABLE: tensor([1 << 63, 2])})), "cannot be"),
    ("a size below 0", holding(WEIGHTS, header({TABLE: tensor([-1], 0, 4)}, 4)), "cannot be read"),
    ("places that overlap", holding(WEIGHTS, header(
        {"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, 12)), "cannot be read"),
    ("places backwards", holding(WEIGHTS, header({"a": tensor([1], 8, 4)}, 8)), "cannot be read"),
    ("places with a gap", holding(WEIGHTS, header({"a": tensor([1], 4, 8)}, 8)), "cannot be read"),
    ("bytes left over", holding(WEIGHTS, header({"a": tensor([1], 0, 4)}, 400)), "cannot be read"),
    ("a name twice", holding(WEIGHTS, header(TWO_TENSORS, 4)), "cannot be read|no embedding"),
    ("another kind of number", holding(WEIGHTS, header(
        {TABLE: tensor([270, 18], 0, 9720, "BF16")}, 9720)), "cannot be read|needs|does not fit"),
    ("a kind that is none", holding(WEIGHTS, header(
        {TABLE: tensor([1], 0, 4, "PICKLE")}, 4)), "cannot be read"),
    ("other weights", holding(WEIGHTS, header(
        {TABLE: tensor([270, 18], 0, 19_440), "a": tensor([9_999], 19_440, 59_436)}, 59_436)),
        "does not fit the model"),
    ("ten thousand weights", holding(WEIGHTS, header(
        {str(i): tensor([0]) for i in range(10_000)})), "no embedding table"),
    ("two billion units", architecture(hidden_dim=2_000_000_000), "hidden_dim is 2000000000"),
    ("two billion layers", architecture(num_layers=2_000_000_000), "num_layers is 2000000000"),
    ("terabytes together", architecture(num_layers=256, intermediate_dim=262_144), "or more"),
    ("a large vocabulary", architecture(vocabulary_size=2_000_000), "no embedding table of shape"),
    ("many positions", architecture(position="learned", max_sequence_length=1 << 20), "or more"),
    ("no number", architecture(dropout=float("nan")), "dropout is nan"),
    ("a number without end", architecture(rope_theta=float("inf")), "rope_theta is inf"),
    ("a class to make", architecture(__class__="os.system"), "no field '__class__'"),
    ("a field of another type", architecture(position={"a": 1}), "position is"),
    ("a task that is none", configured(task=["causal"]), "'task' is not a name"),
    ("a task to run", configured(task="os.system"), "'os.system' is not known"),
    ("a format to come", configured(format=2), "format 2, this version reads format 1"),
    ("texts of a row by name", configured(text_columns="two"), "'text_columns' is 'two'"),
    ("no texts of a row", configured(text_columns=0), "Expected a whole number from 1"),
    ("columns without names", configured(columns=[7]), "'columns' is .7..\n  Expected a list"),
    ("labels without names", configured(labels={"a": 1}), "'labels' is .*\n  Expected a list"),
    ("scores that are a text", configured(scores="high"), "'scores' is 'high'"),
    ("checks that are numbers", configured(verified={"SavedModel": 7}), "an object of objects"),
    ("an example that is none", configured(example={"a": 1}), "Expected a text"),
    ("half a character", configured(labels=["\ud800"]), "is not JSON that can be read"),
    ("deep configuration", holding(CONFIG, b'{"architecture":' * 100_000), "is not JSON"),
    ("a long number", holding(CONFIG, b"1" * 100_000), "is not JSON"),
    ("UTF-16", holding(CONFIG, "{}".encode("utf-16")), "is not JSON"),
    ("a list", holding(CONFIG, b"[" + b"[]," * 99_999 + b"[]]"), "'architecture' is missing"),
    ("11 MiB", holding(CONFIG, b" " * (11 << 20)), "larger than any configuration"),
    ("tokens for gigabytes", words(
        a=lambda tree: tree["model"]["vocab"].update({"Ā": 1 << 31})), "not a byte-level BPE"),
    ("ids twice", words(
        a=lambda tree: tree["model"]["vocab"].update({"a": 7})), "not a byte-level BPE"),
    ("an id below 0", words(
        a=lambda tree: tree["added_tokens"][0].update({"id": -1})), "not a byte-level BPE"),
    ("no merges", words(a=lambda tree: tree["model"].update({"merges": [7]})), "not a byte-level"),
    ("deep words", holding(TOKENIZER, b"[" * 100_000), "not a byte-level BPE"),
    ("no words", holding(TOKENIZER, b"\xff"), "cannot be read as a tokenizer"),
    ("a template of 65 KiB", holding("chat_template.jinja", b"a" * (65 << 10)), "larger than any"),
    ("a template that is no text", holding("chat_template.jinja", b"\xff"), "is not UTF-8"),
]  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "small"
    return path, make_bundle(path)


@pytest.fixture
def copy(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(small[0], tmp_path / "small")


@pytest.mark.parametrize(
    ("damage", "message"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE]
)
def test_a_hostile_bundle_is_refused(copy, damage, message):
    damage(copy)
    with pytest.raises(InputError, match=message) as caught:
        load(copy)
    assert str(copy) in str(caught.value) or "TransformerConfig" in str(caught.value)
    with pytest.raises(InputError):
        runtime.load(copy)
    assert not Path("trapped").exists()


def test_the_bundle_that_is_damaged_loads(copy):
    assert load(copy)[0].count_params() > 0
    assert len(HOSTILE) == 75


def test_a_bomb_that_is_not_opened_is_no_harm(copy):
    holding("run.pyz", bomb())(copy)
    bundle.verify(copy)
    load(copy)


@pytest.mark.parametrize("data", [b"", b"\0\0\0\0TFL3", b"\x1c\0\0\0TFL3" + b"\xff" * 999, b"PK"])
def test_a_file_for_litert_that_is_none_is_refused(copy, data):
    holding("model.tflite", data)(copy)
    with pytest.raises(InputError, match="cannot be read as a TFLite model"):
        runtime.load(copy)


@pytest.mark.parametrize("labels", [None, "abc", ["a"], ["a", "b", "a"], ["a", "b", 3], {"a": 1}])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(InputError, match="are not the names of 3 classes"):
        read_labels({"labels": labels}, 3, "small")


@pytest.mark.parametrize(
    ("data", "size", "message"),
    [
        (b"", TERABYTE, "larger than any adapters"),
        (pickle.dumps(Trap()), 0, "cannot be read as adapters"),
        (header({"__metadata__": {"adapters": "[" * 9_999}}), 0, "cannot be read as adapters"),
        (header({"__metadata__": {"adapters": "{}"}}), 0, "is damaged: its checksum differs"),
        (header({"a": tensor([1 << 40])}), 0, "cannot be read as adapters"),
    ],
)
def test_hostile_adapters_are_refused(small, tmp_path, data, size, message):
    path = tmp_path / "adapters.safetensors"
    path.write_bytes(data)
    os.truncate(path, max(size, len(data)))
    with pytest.raises(InputError, match=message):
        load_adapters(path, small[1])


@pytest.mark.parametrize("without_exchange", [False, True])
def test_readers_see_one_bundle_while_it_is_replaced(tmp_path, without_exchange):
    """A small part of `make soak`."""
    from swap_bundles import readings

    found = readings(tmp_path, 40, without_exchange)
    assert found["first"] + found["second"] == 40, found
    assert found["left behind"] == 0
