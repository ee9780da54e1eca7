"""Bundles: saved and loaded alike, written whole or not at all, and doubted until verified."""

import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from resealed import change_config, digest, reseal

from tfx_transformer import bundle, files, runtime
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.models.saving import load, model_card, save, update_config
from tfx_transformer.models.tasks import Seq2SeqLM
from tfx_transformer.text.tokenizer import Tokenizer

TOKENIZERS = Path(__file__).parent / "conformance" / "tokenizers"
INPUTS = {
    "encoder_token_ids": np.array([[70, 80, 90, 2, 0], [5, 6, 7, 8, 2]], "int32"),
    "decoder_token_ids": np.array([[1, 100, 101], [1, 102, 0]], "int32"),
}


def make(seed=0):
    """A model of uneven sizes with random weights, and its tokenizer."""
    tokenizer = Tokenizer.train(["the cat sat on the mat", "猫が好きです"], 270)
    config = TransformerConfig(
        vocabulary_size=tokenizer.vocabulary_size,
        num_layers=1,
        num_decoder_layers=2,
        num_heads=3,
        hidden_dim=18,
        intermediate_dim=7,
        max_sequence_length=11,
    )
    model = Seq2SeqLM(config)
    random = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        weight.assign(random.normal(size=weight.shape))
    return model, tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "small"
    model, tokenizer = make()
    save(path, model, tokenizer, scores={"bleu": 31.25})
    return path, model, tokenizer


@pytest.fixture
def copy(saved, tmp_path):
    """A bundle to damage."""
    return shutil.copytree(saved[0], tmp_path / "small")


def tree(path):
    """Every file below a folder and what it holds."""
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


# Saving and loading


def test_a_loaded_model_computes_the_same(saved):
    path, model, tokenizer = saved
    again, its_tokenizer = load(path)
    np.testing.assert_array_equal(model(INPUTS), again(INPUTS))
    assert again.config == model.config
    assert its_tokenizer.to_json() == tokenizer.to_json()
    assert its_tokenizer.encode("the cat 猫") == tokenizer.encode("the cat 猫")


def test_other_weights_compute_something_else(saved):
    # What the test above compares would also be equal if nothing depended on the weights.
    other, _ = make(seed=1)
    assert not np.allclose(saved[1](INPUTS), other(INPUTS), atol=0.1)


def test_safetensors_holds_every_weight_by_its_path(saved):
    path, model, _ = saved
    tensors = safetensors.numpy.load_file(path / "model.safetensors")
    assert tensors.keys() == {w.path for w in model.trainable_weights}
    assert sum(t.size for t in tensors.values()) == model.count_params()
    assert {t.dtype for t in tensors.values()} == {np.dtype("float32")}


def test_the_folder_holds_what_it_says(saved):
    path, model, _ = saved
    names = ["README.md", "SHA256SUMS", "config.json", "model.safetensors", "tokenizer.json"]
    assert sorted(os.listdir(path)) == names
    sums = dict(line.split("  ")[::-1] for line in (path / "SHA256SUMS").read_text().splitlines())
    assert sums == {name: digest(path / name) for name in names if name != "SHA256SUMS"}
    config = bundle.read_config(path)
    assert config["format"] == 1 and config["task"] == "seq2seq"
    assert config["parameters"] == model.count_params()
    assert config["architecture"] == model.config.to_dict()
    assert config["scores"] == {"bleu": 31.25}
    assert config["versions"].keys() >= {"keras", "tensorflow", "tiktoken"}
    assert {oct((path / name).stat().st_mode)[-3:] for name in names} == {"644"}


def test_a_model_of_mixed_precision_is_saved_as_float32(tmp_path):
    _, tokenizer = make()
    config = make()[0].config
    save(tmp_path / "half", Seq2SeqLM(config, dtype="mixed_bfloat16"), tokenizer)
    tensors = safetensors.numpy.load_file(tmp_path / "half" / "model.safetensors")
    assert {t.dtype for t in tensors.values()} == {np.dtype("float32")}
    assert load(tmp_path / "half")[0].compute_dtype == "float32"


def test_the_model_card():
    config = {
        "task": "seq2seq",
        "parameters": 1234567,
        "architecture": {
            "num_layers": 2,
            "num_decoder_layers": 3,
            "hidden_dim": 64,
            "num_heads": 4,
            "vocabulary_size": 8000,
            "max_sequence_length": 128,
        },
        "scores": {"bleu": 31.25, "exact_match": 0.5},
        "data": {},
    }
    card = model_card("en_de", config)
    assert card.startswith("---\nlibrary_name: tfx-transformer\npipeline_tag: translation\n")
    assert "\n---\n\n# en_de\n\nA Transformer that turns a text into another" in card
    assert "1,234,567 parameters: 2 + 3 layers of width 64, 4 heads, a vocabulary of" in card
    assert "a vocabulary of 8,000 tokens, texts of at most 128 tokens." in card
    assert "pip install ai-edge-litert numpy tiktoken\n    python run.pyz 'I love cats.'\n" in card
    assert "## Scores\n\n- BLEU: 31.2\n- exact match: 50.0 %\n" in card
    assert "## Data" not in card and "## Verified" not in card


# Writing


def test_what_exists_is_refused(saved):
    path, model, tokenizer = saved
    before = tree(path)
    with pytest.raises(InputError, match=r"exists already\.\n  .*--overwrite"):
        save(path, model, tokenizer)
    assert tree(path) == before


def test_overwriting_replaces_the_whole_folder(copy):
    (copy / "saved_model").mkdir()
    (copy / "saved_model" / "old.pb").write_bytes(b"old")
    model, tokenizer = make(seed=1)
    save(copy, model, tokenizer, overwrite=True)
    assert not (copy / "saved_model").exists()
    np.testing.assert_array_equal(load(copy)[0](INPUTS), model(INPUTS))
    assert os.listdir(copy.parent) == ["small"]


def test_an_empty_folder_may_be_overwritten(tmp_path):
    (tmp_path / "small").mkdir()
    save(tmp_path / "small", *make(), overwrite=True)
    bundle.verify(tmp_path / "small")


def make_folder(path):
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")


def make_file(path):
    path.write_text("years of work")


def make_link(path):
    make_folder(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def make_dead_link(path):
    path.symlink_to("nowhere")


@pytest.mark.parametrize("occupy", [make_folder, make_file, make_link, make_dead_link])
def test_what_is_no_bundle_is_never_replaced(tmp_path, occupy):
    path = tmp_path / "work"
    occupy(path)
    before = tree(tmp_path), sorted(os.listdir(tmp_path))
    with pytest.raises(InputError, match="other than a bundle"), bundle.writing(path, True):
        pass
    assert (tree(tmp_path), sorted(os.listdir(tmp_path))) == before


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="file/sub/small cannot be written"),
        bundle.writing(tmp_path / "file" / "sub" / "small"),
    ):
        pass


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_nothing_new_behind(tmp_path, error):
    with pytest.raises(error), bundle.writing(tmp_path / "new") as folder:
        (folder / "config.json").write_text("{}")
        raise error
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("write", [lambda path: bundle.writing(path, True), bundle.updating])
def test_a_failure_leaves_the_old_bundle_as_it_was(copy, write):
    before = tree(copy)
    with pytest.raises(RuntimeError), write(copy) as folder:
        bundle.write_config(folder, {"format": 99})
        raise RuntimeError
    assert tree(copy) == before
    assert os.listdir(copy.parent) == ["small"]
    bundle.verify(copy)


def test_a_failed_save_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        save(tmp_path / "new", *make(), scores={"bleu": float("nan")})
    assert os.listdir(tmp_path) == []


def test_nobody_sees_a_bundle_before_it_is_complete(tmp_path):
    with bundle.writing(tmp_path / "deep" / "new") as folder:
        bundle.write_config(folder, {"format": 1, "architecture": {}})
        assert not (tmp_path / "deep" / "new").exists()
    bundle.verify(tmp_path / "deep" / "new")


def test_updating_adds_and_keeps(copy):
    before = tree(copy)
    with bundle.updating(copy) as folder:
        (folder / "extra").mkdir()
        (folder / "extra" / "a.bin").write_bytes(b"a")
    after = tree(copy)
    assert after["extra/a.bin"] == b"a"
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"SHA256SUMS"}
    bundle.verify(copy)


def test_updating_without_hard_links(copy, monkeypatch):
    def refuse(*_):
        raise OSError("no hard links here")

    before = tree(copy)
    monkeypatch.setattr(os, "link", refuse)
    with bundle.updating(copy):
        pass
    assert tree(copy) == before


def test_a_damaged_bundle_is_not_updated(copy):
    (copy / "README.md").write_text("forged")
    with pytest.raises(InputError, match="checksum"), bundle.updating(copy):
        pass


def write_text(folder, text):
    bundle.write_config(folder, {"format": 1, "architecture": {}, "text": text})


def text_of(path):
    bundle.verify(path)
    return bundle.read_config(path)["text"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_bundle_that_appeared_meanwhile_is_not_replaced(tmp_path, monkeypatch, exchanges):
    if not exchanges:
        monkeypatch.setattr(files, "exchange", lambda *_: False)
    path = tmp_path / "new"
    with pytest.raises(InputError, match="exists already"), bundle.writing(path) as late:
        write_text(late, "late")
        with bundle.writing(path) as early:
            write_text(early, "early")
    assert text_of(path) == "early" and os.listdir(tmp_path) == ["new"]
    with bundle.writing(path, overwrite=True) as late:
        write_text(late, "late")
        with bundle.writing(path, overwrite=True) as early:
            write_text(early, "earlier")
        assert text_of(path) == "earlier"
    assert text_of(path) == "late" and os.listdir(tmp_path) == ["new"]


def test_what_appeared_meanwhile_and_is_no_bundle_stays(tmp_path):
    path = tmp_path / "new"
    with pytest.raises(InputError, match="other than"), bundle.writing(path, True) as folder:
        write_text(folder, "new")
        make_folder(path)
    assert tree(tmp_path) == {"new/thesis.txt": b"years of work"}


def test_two_updates_at_once_lose_no_file(copy):
    with pytest.raises(InputError, match="was replaced"), bundle.updating(copy) as slow:
        (slow / "slow.bin").write_bytes(b"s")
        with bundle.updating(copy) as quick:
            (quick / "quick.bin").write_bytes(b"q")
    assert (copy / "quick.bin").is_file() and not (copy / "slow.bin").exists()
    bundle.verify(copy)


KILLED = """
import os, signal, sys
from pathlib import Path
from tfx_transformer import bundle, files, runtime
path = Path(sys.argv[1])
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "renames":
    files.exchange = lambda *_: False
    move = os.rename
    os.rename = lambda a, b: die() if a.name.endswith(".writing") and done(b) else move(a, b)
    done = lambda b: b == path and not path.exists()
with bundle.writing(path, overwrite=True) as folder:
    bundle.write_config(folder, {"format": 1, "architecture": {}, "text": "new"})
    if sys.argv[2] == "block":
        die()
"""


@pytest.mark.parametrize("moment", ["block", "renames"])
def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path, moment):
    path = tmp_path / "some"
    with bundle.writing(path) as folder:
        write_text(folder, "old")
    for name in (".some-notes", ".some-20260101", ".some-0123abcd.writing"):  # of the user
        (tmp_path / name).mkdir()
    arguments = [sys.executable, "-c", KILLED, path, moment]
    assert subprocess.run(arguments).returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) > 4 - (moment == "renames")
    with pytest.raises(InputError, match="exists already"), bundle.writing(path):
        pass
    assert text_of(path) == "old"
    left = [".some-0123abcd.writing", ".some-20260101", ".some-notes", "some"]
    assert sorted(os.listdir(tmp_path)) == left


def test_the_folder_of_a_living_writer_is_left_alone(tmp_path):
    path = tmp_path / "some"
    with bundle.writing(path) as first:
        write_text(first, "first")
        with pytest.raises(RuntimeError), bundle.writing(path):
            raise RuntimeError
    assert text_of(path) == "first"


@pytest.mark.parametrize("place", [".", "/", "..", "x" * 250])
def test_a_place_without_a_name_of_its_own(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError), bundle.writing(place):
        pass
    assert os.listdir(tmp_path) == []


# Verifying


def remove(path):
    (path / "tokenizer.json").unlink()


def add(path):
    (path / "surprise.py").write_text("print()")


def add_below(path):
    (path / "saved_model").mkdir()
    (path / "saved_model" / "saved_model.pb").write_bytes(b"")


def flip_one_bit(path):
    data = bytearray((path / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "model.safetensors").write_bytes(data)


def shorten(path):
    with (path / "model.safetensors").open("r+b") as file:
        file.truncate(100)


def link_file(path):
    (path / "tokenizer.json").rename(path.parent / "tokenizer.json")
    (path / "tokenizer.json").symlink_to(path.parent / "tokenizer.json")


def link_folder(path):
    (path / "saved_model").symlink_to(path.parent)


def link_sums(path):
    (path / "SHA256SUMS").rename(path.parent / "sums")
    (path / "SHA256SUMS").symlink_to(path.parent / "sums")


def pipe(path):
    (path / "README.md").unlink()
    os.mkfifo(path / "README.md")


def no_sums(path):
    (path / "SHA256SUMS").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove, "tokenizer.json is missing"),
        (add, "surprise.py is not listed in SHA256SUMS"),
        (add_below, "saved_model/saved_model.pb is not listed in SHA256SUMS"),
        (flip_one_bit, "model.safetensors does not have the checksum"),
        (shorten, "model.safetensors does not have the checksum"),
        (link_file, "tokenizer.json is a link"),
        (link_folder, "saved_model is a link"),
        (link_sums, "SHA256SUMS is a link"),
        (pipe, "README.md is not a regular file"),
        (no_sums, "SHA256SUMS is missing"),
    ],
)
def test_damage_is_named(copy, damage, message):
    bundle.verify(copy)
    damage(copy)
    with pytest.raises(InputError, match=message):
        bundle.verify(copy)
    with pytest.raises(InputError, match=message):
        load(copy)


@pytest.mark.parametrize("name", ["../secret", "{absolute}", "./../secret", "sub/../../secret"])
def test_sums_reach_nothing_outside_the_folder(copy, name):
    secret = copy.parent / "secret"
    secret.write_text("a secret")
    name = name.replace("{absolute}", str(secret))
    with (copy / "SHA256SUMS").open("a") as file:
        file.write(f"{digest(secret)}  {name}\n")
    with pytest.raises(InputError, match="is missing"):
        bundle.verify(copy)


@given(st.binary(max_size=200))
def test_sums_may_hold_anything(saved, data):
    folder = saved[0].parent / "sums"
    folder.mkdir(exist_ok=True)
    shutil.copy(saved[0] / "config.json", folder)
    (folder / "SHA256SUMS").write_bytes(data)
    with pytest.raises(InputError):
        bundle.verify(folder)


# What is hashed


@pytest.fixture
def hashed(monkeypatch):
    """The files that are hashed, in order."""
    names, real = [], bundle._digest
    monkeypatch.setattr(bundle, "_digest", lambda path: names.append(path) or real(path))
    return names


def with_exports(path):
    """Add files of exports, which are none."""
    (path / "saved_model").mkdir()
    for name in ("model.tflite", "model.int8.tflite", "model.litertlm", "saved_model/graph.pb"):
        (path / name).write_bytes(b"no model")
    reseal(path)
    return path


def test_loading_hashes_what_it_opens_and_each_file_once(copy, hashed):
    load(with_exports(copy))
    names = [path.name for path in hashed]
    assert sorted(names) == ["config.json", "model.safetensors", "tokenizer.json"]


@pytest.mark.parametrize(
    ("variant", "file"), [(None, "model.tflite"), ("int8", "model.int8.tflite"), ("int4", None)]
)
def test_the_runtime_hashes_the_one_model_that_it_runs(copy, hashed, variant, file):
    with pytest.raises(InputError):  # no model is in them
        runtime.load(with_exports(copy), variant)
    assert {path.name for path in hashed} == {"config.json", "tokenizer.json", file} - {None}
    assert len(hashed) == len(set(hashed))


def test_all_files_of_a_folder_that_is_opened_are_hashed(copy, hashed):
    bundle.verify(with_exports(copy), ["saved_model", "config.json", "not there"])
    assert sorted(path.name for path in hashed) == ["config.json", "graph.pb"]


def test_damage_is_noticed_before_a_file_is_opened_and_not_elsewhere(copy):
    with_exports(copy)
    with (copy / "model.tflite").open("ab") as file:
        file.write(b"!")
    model, _ = load(copy)
    assert model.task == "seq2seq"
    for reading in (runtime.load, bundle.verify):
        with pytest.raises(InputError, match="model.tflite does not have the checksum"):
            reading(copy)
    with pytest.raises(InputError, match="holds no int4 file"):
        runtime.load(copy, "int4")


def test_an_update_hashes_only_what_is_new(copy, hashed):
    there = sorted(path.name for path in copy.iterdir() if path.name != "SHA256SUMS")
    length = len((copy / "README.md").read_bytes())
    with bundle.updating(copy) as folder:
        assert sorted(path.name for path in hashed) == there, "the copy is verified"
        hashed.clear()
        files.write(folder / "new.txt", "new")
        files.write(folder / "README.md", "!" * length)
    assert sorted(path.name for path in hashed) == ["README.md", "new.txt"]
    bundle.verify(copy)


def test_an_update_of_the_configuration_hashes_no_weights(copy, hashed):
    with (copy / "model.safetensors").open("ab") as file:
        file.write(b"!")
    update_config(copy, scores={"bleu": 7})
    names = {path.name for path in hashed}
    assert names == {"config.json", "README.md"}
    assert bundle.read_config(copy)["scores"] == {"bleu": 7}
    with pytest.raises(InputError, match="model.safetensors does not have the checksum"):
        bundle.verify(copy)
    (copy / "config.json").write_text("{}")
    with pytest.raises(InputError, match="config.json does not have the checksum"):
        update_config(copy, scores={})


def test_every_file_of_a_tokenizer_is_known(tmp_path):
    """What reading a tokenizer opens is what `TOKENIZER_FILES` has hashed."""
    opened = []

    def watch(event, arguments):
        if opened is not None and event == "open" and isinstance(arguments[0], str | os.PathLike):
            opened.append(Path(arguments[0]))

    sys.addaudithook(watch)  # for ever
    known = set()
    for folder in sorted(path for path in TOKENIZERS.iterdir() if path.is_dir()):
        path = tmp_path / folder.name
        path.mkdir()
        bundle.write_tokenizer(path, Tokenizer.from_pretrained(folder))
        opened.clear()
        bundle.read_tokenizer(path)
        names = {file.name for file in opened if file.parent == path}
        assert names and names <= set(bundle.TOKENIZER_FILES), folder.name
        known |= names
    opened = None
    assert {"tokenizer.json", "source.spm"} <= known, "an ordinary one and Marian's"


# Reading the configuration


def test_no_bundle_names_those_beside_it(copy):
    with pytest.raises(InputError) as caught:
        bundle.read_config(copy.parent / "smal")
    assert str(caught.value) == (
        f"{copy.parent / 'smal'} is not a bundle: there is no such folder.\n"
        f"  Bundles in {copy.parent}: small."
    )
    with pytest.raises(InputError, match="is not a bundle"):
        bundle.verify(copy.parent / "smal")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 200_000, "is not JSON"),
        ('{"architecture": ' * 100_000, "is not JSON"),
        ("\xff\xfe", "'architecture' is missing|is not JSON"),
        ("1" * 10_000, "is not JSON"),
        ("[]", "'architecture' is missing"),
        ("null", "'architecture' is missing"),
        ('{"format": 1}', "'architecture' is missing"),
        ('{"format": 1, "architecture": []}', "'architecture' is missing"),
        ('{"format": 2, "architecture": {}}', r"format 2, this version reads format 1.\n  Update"),
        ('{"architecture": {}}', "format None"),
    ],
)
def test_a_configuration_that_is_none(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=message):
        bundle.read_config(tmp_path)


def test_a_huge_configuration_is_not_read(tmp_path):
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(1 << 40)  # a terabyte with no byte written
    with pytest.raises(InputError, match="larger than any configuration"):
        bundle.read_config(tmp_path)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8))
def test_any_json_is_a_configuration_or_an_input_error(tmp_path_factory, value):
    folder = tmp_path_factory.getbasetemp() / "any_json"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"format": 1, "architecture": value}))
    with pytest.raises(InputError):
        bundle.read_config(folder)


# Hostile content under correct sums


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_dim": 2_000_000_000}, "hidden_dim is 2000000000"),
        ({"num_layers": 2_000_000_000}, "num_layers is 2000000000"),
        ({"num_layers": -1}, "num_layers is -1"),
        ({"num_layers": True}, "num_layers is True"),
        ({"num_layers": 1.0}, "num_layers is 1.0"),
        ({"num_layers": "1"}, "num_layers is '1'"),
        ({"num_layers": [1]}, "num_layers is"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"position": ["sinusoidal"]}, "position is"),
        ({"tie_embeddings": 1}, "tie_embeddings is 1"),
        ({"hiden_dim": 18}, "no field 'hiden_dim'. Did you mean 'hidden_dim'?"),
        ({"__class__": "os.system"}, "no field '__class__'"),
        # Within the bounds of each number, but terabytes together.
        ({"num_layers": 256, "intermediate_dim": 262_144}, "needs .* or more"),
        ({"num_decoder_layers": 256, "intermediate_dim": 262_144}, "needs .* or more"),
        ({"position": "learned", "max_sequence_length": 1_048_576}, "needs .* or more"),
        ({"hidden_dim": 32_766}, "needs .* or more"),
        ({"vocabulary_size": 2_000_000}, r"no embedding table of shape \(2000000, 18\)"),
    ],
)
def test_a_hostile_architecture_builds_nothing(copy, monkeypatch, changes, message):
    change_config(copy, **changes)
    monkeypatch.setattr(Seq2SeqLM, "__init__", lambda *_, **__: pytest.fail("a model was built"))
    with pytest.raises(InputError, match=message):
        load(copy)


def test_an_unknown_task_is_named(copy):
    config = json.loads((copy / "config.json").read_text("utf-8")) | {"task": "os.system"}
    (copy / "config.json").write_text(json.dumps(config))
    reseal(copy)
    with pytest.raises(InputError, match="'os.system' is not known; known are causal, seq2seq"):
        load(copy)


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def one_tensor(dtype, shape, data):
    header = {"embedding/embeddings": {"dtype": dtype, "shape": shape, "data_offsets": [0, data]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 1000,
        struct.pack("<Q", 2**63) + b"{}",
        one_tensor("BF16", [2, 2], 8),
        one_tensor("F8_E4M3", [2, 2], 4),
        one_tensor("F32", [2_000_000_000, 2_000_000_000], 8),
        one_tensor("PICKLE", [1], 4),
    ],
    ids=["empty", "garbage", "endless header", "bfloat16", "float8", "exabytes", "no dtype"],
)
def test_weights_that_are_none(copy, data):
    (copy / "model.safetensors").write_bytes(data)
    reseal(copy)
    with pytest.raises(InputError, match=r"model\.safetensors (cannot be read|holds no embedding)"):
        load(copy)


def test_a_pickle_is_not_run(copy):
    path = copy.parent / "trapped"
    (copy / "model.safetensors").write_bytes(pickle.dumps(Trap(str(path))))
    reseal(copy)
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load(copy)
    assert not path.exists()


def test_weights_that_do_not_fit_are_all_named(copy):
    tensors = safetensors.numpy.load_file(copy / "model.safetensors")
    tensors["decoder/final_norm/gamma"] = np.ones(17, "float32")
    tensors["encoder/extra"] = tensors.pop("encoder/final_norm/beta")
    safetensors.numpy.save_file(tensors, copy / "model.safetensors")
    reseal(copy)
    with pytest.raises(InputError) as caught:
        load(copy)
    assert str(caught.value) == (
        f"{copy / 'model.safetensors'} does not fit the model:\n"
        "  encoder/final_norm/beta is missing\n"
        "  encoder/extra is not part of it\n"
        "  decoder/final_norm/gamma has shape (17,), expected (18,)"
    )


def test_a_tokenizer_that_is_none(copy):
    (copy / "tokenizer.json").write_text('{"model": {}}')
    reseal(copy)
    with pytest.raises(InputError, match="tokenizer.json: not a byte-level BPE"):
        load(copy)


def test_a_cache_that_litertlm_left_is_no_damage(copy):
    cache = copy / "model.litertlm_1_2.xnnpack_cache"
    cache.write_bytes(b"x")
    bundle.verify(copy)
    with bundle.updating(copy):
        pass
    bundle.verify(copy)
    assert not cache.exists(), "it belonged to the files before"
