"""Files of checkpoints that would take all memory or all time are refused before they do."""

from __future__ import annotations

from pathlib import Path

import hostile_files
import pytest
from outcomes import outcomes_of
from slow import ALL_TESTS

from tfx_transformer import json_files
from tfx_transformer.errors import InputError
from tfx_transformer.text.tokenizer import Tokenizer

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def outcomes():
    """By default their values take 1.2 times the memory that they may take, and a third of the time
    of files as large as real ones."""
    return outcomes_of("hostile_files", **{} if ALL_TESTS else {"HOSTILE_BYTES": "12000000"})


@pytest.mark.parametrize("name", hostile_files.CASES)
def test_a_hostile_file_is_refused_in_time(outcomes, name):
    outcome = outcomes[name]
    assert outcome["good"], outcome
    assert "\n  " in outcome["said"], "a remedy follows"


def test_the_file_is_named(outcomes):
    assert "/tokenizer.json: it holds more values than" in outcomes["lists"]["said"]
    assert "/tokenizer_config.json: it holds more values" in outcomes["many settings"]["said"]
    assert "/merges.txt: it has more lines" in outcomes["many lines"]["said"]
    assert "/model.safetensors: it holds more values" in outcomes["many tensors"]["said"]


def test_the_good_ones_are_read(tmp_path):
    hostile_files.write(tmp_path, hostile_files.GOOD)
    assert Tokenizer.from_pretrained(tmp_path).vocabulary_size == 2


def test_as_many_values_as_real_models_have_are_read(tmp_path):
    """The dimensions of Gemma 3's tokenizer.json, its short lines and its wide characters."""
    text = '{"vocab": {' + ",\n".join(f'"{n:07}▁": {n}' for n in range(262_144)) + '}, "merges": ['
    text += ",\n".join(['[\n    "ab",\n    "😀"\n  ]'] * 514_906) + "]}"
    path = tmp_path / "tokenizer.json"
    path.write_text(text, encoding="utf-8")
    assert len(json_files.read_object(path)["merges"]) == 514_906


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff{}", "is not JSON: 'utf-8' codec"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b"[" * 100_000, "is not JSON: maximum recursion"),
        (b'{"a": ' * 100_000, "is not JSON: maximum recursion"),
        (b"1" * 10_000, "is not JSON"),
        (b"[1]", "it is not a JSON object"),
        (b"null", "it is not a JSON object"),
    ],
)
def test_what_is_no_object_is_refused(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        json_files.read_object(path)
    assert str(path) in str(refused.value)


def test_what_python_reads_is_read(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"a": 1, "a": 2, "b": NaN, "c": "\\ud800"}')
    values = json_files.read_object(path)
    assert (values["a"], values["c"]) == (2, "\ud800") and values["b"] != values["b"]
    with pytest.raises(InputError, match="missing.json: cannot be read: No such file"):
        json_files.read_object(tmp_path / "missing.json")


def test_an_error_names_its_file_once():
    error = InputError("it is torn.\n  Copy it again.").in_file("a.json")
    assert str(error) == "a.json: it is torn.\n  Copy it again." and error.file == "a.json"
    assert error.in_file("b.json") is error
