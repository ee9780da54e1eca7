"""Whatever a file holds, it is read or refused: nothing else is raised.

Hypothesis makes the files here; `fuzz.py` makes many more, and measures time and memory.
"""

from __future__ import annotations

import json

import fuzz
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfx_transformer import bundle
from tfx_transformer.data.conversations import read_instructions
from tfx_transformer.errors import InputError

# Every example writes its file anew, so they can share one folder.
short = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)


def read_or_refused(target: str, folder, data: bytes) -> bool:
    """Whether a file is read; any exception but an InputError that says something fails."""
    name, read = fuzz.TARGETS[target]
    path = folder / name
    path.write_bytes(data)
    try:
        read(path)
    except InputError as error:
        assert str(error).strip()
        return False
    return True


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_valid_files_are_read(tmp_path, target):
    assert all(read_or_refused(target, tmp_path, data) for data in fuzz.examples(target))


@pytest.mark.parametrize("target", fuzz.TARGETS)
@pytest.mark.filterwarnings("ignore")
def test_mutations_are_read_or_refused(tmp_path, target):
    results = [read_or_refused(target, tmp_path, data) for data in fuzz.inputs(target, 300, seed=2)]
    assert not all(results), "some are damaged"


@pytest.mark.parametrize("target", fuzz.TARGETS)
@given(data=st.binary(max_size=300))
@short
def test_any_bytes_are_read_or_refused(tmp_path, target, data):
    read_or_refused(target, tmp_path, data)


@given(data=st.data())
@short
def test_any_value_in_a_configuration(tmp_path, data):
    """One value, anywhere in it, is replaced by another JSON value."""
    config = json.loads(fuzz.examples("config")[0])
    place = data.draw(st.sampled_from([config, config["architecture"]]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(values)
    read_or_refused("config", tmp_path, json.dumps(config).encode())


@given(data=st.data())
@short
def test_any_value_in_a_tokenizer(tmp_path, data):
    tree = json.loads(fuzz.examples("tokenizer")[0])
    place = data.draw(
        st.sampled_from([tree, tree["model"], tree["model"]["vocab"], tree["added_tokens"][0]])
    )
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(values)
    read_or_refused("tokenizer", tmp_path, json.dumps(tree).encode())


@given(line=values | st.fixed_dictionaries({"messages": values}))
@short
def test_any_json_in_a_line(tmp_path, line):
    path = tmp_path / "lines.jsonl"
    good = {"instruction": "a", "output": "b"}
    path.write_text("\n".join(map(json.dumps, [good, line, good])))
    read = read_instructions(path, skip_bad_rows=True)
    assert read.rows[0] == 1 and read.rows[-1] == 3, "the lines around it stay"
    assert [bad.row for bad in read.bad_rows] in ([], [2])


@given(text=st.text(max_size=30))
@short
def test_any_text_in_a_configuration_can_be_written_again(tmp_path, text):
    """A text that a later print or save would fail at is refused where it is read."""
    config = json.loads(fuzz.examples("config")[0]) | {"labels": [text, f"{text}!"]}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert bundle.read_config(tmp_path) == config


def test_an_input_is_a_function_of_seed_and_number():
    assert [*fuzz.inputs("csv", 3, 1, first=2)] == [*fuzz.inputs("csv", 5, 1)][2:]
    assert [*fuzz.inputs("csv", 5, 1)] != [*fuzz.inputs("csv", 5, 2)]


def test_a_finding_is_told(tmp_path, monkeypatch):
    path = tmp_path / "file"
    monkeypatch.setattr(fuzz, "BYTES", 1 << 60)  # other tests of this process may hold much
    assert fuzz.problem(lambda path: None, path) == ""
    assert fuzz.problem(lambda path: 1 / 0, path) == "ZeroDivisionError: division by zero"
    monkeypatch.setattr(fuzz, "BYTES", 1)
    assert fuzz.problem(lambda path: None, path).endswith("bytes of memory")
    monkeypatch.setattr(fuzz, "SECONDS", -1)
    assert fuzz.problem(lambda path: None, path).endswith("seconds")
