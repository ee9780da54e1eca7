"""Compacted TFLite files: fewer bytes, the same answers."""

import importlib

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from tiny_models import CONVOLUTIONS, tiny_causal, tiny_encoder

from tfx_transformer import Classifier, TransformerConfig
from tfx_transformer.export import compact
from tfx_transformer.export.to_litert import convert
from tfx_transformer.runtime.causal import CausalEngine
from tfx_transformer.runtime.encoder import EncoderEngine

WORDS, PAIRS, LONGEST = 1009, 211, 19


def make_compact(content):
    """The same model in fewer bytes."""
    model = compact.unpack(content)
    compact.compact(model)
    return compact.pack(model)


def as_converted(model, path, quantize, **settings):
    """The file as the converter (in this process) and the quantizer leave it."""
    script = importlib.import_module("tfx_transformer.export.to_litert")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "finish", lambda content, *_: content)
        convert(model, path, quantize, **settings)
    return path


def both(model, folder, quantize, **settings):
    """A file as it is converted, and the same compacted."""
    before = as_converted(model, folder / "before.tflite", quantize, **settings)
    after = folder / "after.tflite"
    after.write_bytes(make_compact(before.read_bytes()))
    return before, after


@pytest.fixture(scope="module")
def nano():
    """The narrowest classifier of texts that recipes make, on a few words."""
    size = {"num_classes": 3, "max_sequence_length": LONGEST, "ngram_buckets": PAIRS}
    model = Classifier(TransformerConfig.of_size("nano", WORDS, **size))
    random = np.random.default_rng(5)
    model.ngrams.embeddings.assign(random.normal(size=(PAIRS, 64)))
    return model


@pytest.fixture(scope="module")
def int8(nano, tmp_path_factory):
    return both(nano, tmp_path_factory.mktemp("int8"), "int8")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    # Wide enough that the converter quantizes a layer: small ones stay float32.
    heads = {"num_heads": 4, "num_key_value_heads": 4}
    model = tiny_encoder(Classifier, num_classes=3, hidden_dim=32, **heads, **CONVOLUTIONS)
    return both(model, tmp_path_factory.mktemp("images"), "int8")


@pytest.fixture(scope="module")
def int4_model():
    """Decoder-only, and large enough for data behind the tables."""
    return tiny_causal(vocabulary_size=20_011, num_heads=4, hidden_dim=32, intermediate_dim=32)


@pytest.fixture(scope="module")
def int4(int4_model, tmp_path_factory):
    return both(int4_model, tmp_path_factory.mktemp("int4"), "int4", context=15, rows=1)


def unpacked(file):
    return schema.ModelT.InitFromPackedBuf(file.read_bytes(), 0)


def stored(model):
    """The tensors of a file that it holds data for: (tensor, buffer)."""
    pairs = [(t, model.buffers[t.buffer]) for graph in model.subgraphs for t in graph.tensors]
    return [(t, b) for t, b in pairs if np.size(b.data) or b.size]


def content(file):
    """All that a file computes, plainly: of each signature its operations in their order, with
    their settings, and each tensor with its shape, type, scales and data."""
    model, data = unpacked(file), file.read_bytes()

    def plain(value):
        if isinstance(value, list):
            return [plain(one) for one in value]
        if hasattr(value, "__dict__"):
            return {name: plain(field) for name, field in vars(value).items()}
        return value.tolist() if isinstance(value, np.ndarray) else value

    def of_tensor(tensor):
        buffer = model.buffers[tensor.buffer]
        held = b"" if buffer.data is None else bytes(buffer.data)
        held = data[buffer.offset :][: buffer.size] if buffer.size else held
        return {**plain(tensor), "name": None, "buffer": held}

    def of_operator(operator):
        code = plain(model.operatorCodes[operator.opcodeIndex])
        return {**plain(operator), "opcodeIndex": code}

    graphs = [
        ([of_tensor(t) for t in graph.tensors], [of_operator(o) for o in graph.operators])
        for graph in model.subgraphs
    ]
    return graphs, plain(model.signatureDefs), [plain(graph.inputs) for graph in model.subgraphs]


# Contents


@pytest.mark.slow(but=["int8", "int4"])
@pytest.mark.parametrize("kind", ["int8", "int4", "images"])
def test_nothing_is_lost(kind, request, tmp_path, monkeypatch):
    before = request.getfixturevalue(kind)[0]
    monkeypatch.setattr(compact, "_NARROW", 0)
    after = tmp_path / "after.tflite"
    after.write_bytes(make_compact(before.read_bytes()))
    assert content(after) == content(before)
    assert after.stat().st_size < before.stat().st_size


@pytest.mark.slow(but=["int8"])
@pytest.mark.parametrize("kind", ["int8", "images"])
def test_to_compact_again_changes_nothing(kind, request):
    after = request.getfixturevalue(kind)[1].read_bytes()
    assert make_compact(after) == after


def outer_names(file):
    """Of each signature: what its inputs and outputs are called outside and inside."""
    interpreter = Interpreter(str(file))
    names = {}
    for signature in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(signature)
        for details in (runner.get_input_details(), runner.get_output_details()):
            names |= {(signature, name): value["name"] for name, value in details.items()}
    return names


def test_inputs_and_outputs_keep_their_names(int8):
    before, after = map(outer_names, int8)
    assert after == before and len(after) == 8
    assert all(after.values())
    names = [t.name for graph in unpacked(int8[1]).subgraphs for t in graph.tensors]
    assert len([name for name in names if name]) == 8 < len(names), "inner tensors have none"


@pytest.mark.slow(but=["int8", "int4"])
@pytest.mark.parametrize("kind", ["int8", "int4", "images"])
def test_data_lies_at_multiples_of_16(kind, request):
    file = request.getfixturevalue(kind)[1]
    model = schema.Model.GetRootAs(file.read_bytes(), 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    # Field 0 of a buffer is its data.
    held = [b._tab.Vector(b._tab.Offset(4)) for b in buffers if b.DataLength()]
    places = held + [b.Offset() for b in buffers if b.Size()]
    assert len(places) > 5
    assert [place % 16 for place in places] == [0] * len(places)


# Bytes


def test_int8_is_at_most_30_percent_of_float32(nano, int8, tmp_path):
    float32 = as_converted(nano, tmp_path / "float32.tflite", None)
    assert int8[1].stat().st_size <= 0.3 * float32.stat().st_size
    assert int8[0].stat().st_size > 0.3 * float32.stat().st_size, "the converter's is larger"


def test_zero_points_of_rows_are_left_out(int8):
    before, after = map(unpacked, int8)
    for rows in (WORDS, PAIRS):
        tables = [t for t, _ in stored(before) if np.size(t.shape) and t.shape[0] == rows]
        numbers = {np.size(t.quantization.zeroPoint) for t in tables}
        assert numbers == {rows}
        tables = [t for t, _ in stored(after) if np.size(t.shape) and t.shape[0] == rows]
        assert {tuple(t.shape) for t in tables} == {(rows, 64), (rows, 1)}
        assert not [t for t in tables if np.size(getattr(t.quantization, "zeroPoint", None)) > 1]


def test_equal_data_is_stored_once(int8):
    before, after = map(unpacked, int8)
    data = [bytes(buffer.data) for buffer in after.buffers if np.size(buffer.data) > 1]
    assert len(data) == len(set(data))
    # The position signals of 16 tokens are the beginning of those of 19.
    assert not [buffer for buffer in before.buffers if buffer.size]
    assert [buffer.size for buffer in after.buffers if buffer.size] == [4 * 64 * 16]


def test_int4_data_behind_the_tables_is_moved_into_them(int4):
    assert [b for b in unpacked(int4[0]).buffers if b.offset > 1], "none lies behind"
    inner = int4[1].read_bytes()
    behind = [b for b in unpacked(int4[1]).buffers if b.offset]
    held = b"".join(bytes(b.data) for b in unpacked(int4[1]).buffers if np.size(b.data) > 1)
    assert all(inner[b.offset :][: b.size] in held for b in behind)


def test_data_of_large_models_follows_the_tables(int8, nano, tmp_path, monkeypatch):
    monkeypatch.setattr(compact, "_MOST_INSIDE", 0)
    file = tmp_path / "outside.tflite"
    file.write_bytes(compact.pack(compact.unpack(int8[0].read_bytes())))
    behind = [buffer for buffer in unpacked(file).buffers if buffer.offset > 1]
    assert len(behind) > 5 and not [buffer for buffer in behind if buffer.offset % 16]
    assert content(file) == content(int8[0])
    ids = [[5, 7, 11], [3]]
    before, after = (EncoderEngine(f, nano.config).run_ids(ids) for f in (int8[0], file))
    np.testing.assert_array_equal(before, after)


# Answers


def test_int8_answers_to_the_bit(int8, nano):
    random = np.random.default_rng(7)
    for length in (3, 16, 17, 19):
        ids = random.integers(1, WORDS, (11, length)).tolist()
        before, after = (EncoderEngine(file, nano.config).run_ids(ids) for file in int8)
        np.testing.assert_array_equal(before, after)
        expected = np.asarray(nano({"token_ids": np.array(ids)}, training=False))
        assert np.abs(after - expected).max() < 0.2 * expected.std()


def test_the_interpreter_reads_it(int8):
    ids = np.random.default_rng(3).integers(0, WORDS, (8, 19)).astype("int32")
    before, after = (
        Interpreter(str(file)).get_signature_runner("run_8x19")(token_ids=ids)["output"]
        for file in int8
    )
    np.testing.assert_array_equal(before, after)
    assert np.ptp(after, axis=0).min() > 0.01


@pytest.mark.slow
def test_images_answer_to_the_bit(images):
    pixels = np.random.default_rng(3).uniform(0, 255, (8, 11, 11, 3)).astype("float32")
    before, after = (
        Interpreter(str(file)).get_signature_runner("run_8")(images=pixels)["output"]
        for file in images
    )
    np.testing.assert_array_equal(before, after)


def test_int4_answers_to_the_bit(int4, int4_model):
    ids = np.array([1, 20_010, 7, 700, 7], "int32")
    answers = []
    for file in int4:
        engine = CausalEngine(file, int4_model.config)
        assert engine.model.has_four_bits
        session = engine.session()
        answers.append([session.step(ids[i : i + 1], i) for i in range(len(ids))])
    np.testing.assert_array_equal(*answers)
    expected = np.asarray(int4_model({"token_ids": ids[None]}, training=False))[0]
    error = np.concatenate(answers[1]) - expected
    assert 0 < np.sqrt(np.mean(error**2)) < 0.5 * expected.std()
