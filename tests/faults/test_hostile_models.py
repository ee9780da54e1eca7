"""Model files, configurations, SavedModels, images, patterns and texts of strangers: refused by
name, or used without harm. `hostile_models.py` and `limited.py` try hundreds of each."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys

import hostile_images
import hostile_models
import hostile_patterns
import numpy as np
import pytest
from slow import ALL_TESTS

from tfx_transformer import bundle, console, runtime
from tfx_transformer.errors import InputError
from tfx_transformer.images import read_image, resize
from tfx_transformer.runtime import interface, litertlm_file, model_file
from tfx_transformer.text import tokenizer as tokenizer_module
from tfx_transformer.text.framing import frame
from tfx_transformer.text.tokenizer import Tokenizer

FILE = "model.tflite"


# TFLite


def test_mutants_are_refused_or_answer(text_classifier):
    hostile_models.import_first()
    first, second = (25, 15) if ALL_TESTS else (12, 8)
    for change, seeds in (
        (hostile_models.mutated, first),
        (hostile_models.mutated_tables, second),
    ):
        for seed, found in hostile_models.tried(text_classifier.path, FILE, range(seeds), change):
            assert found.kind in ("answers", "refused"), (change.__name__, seed, found)


def test_a_half_file_is_refused(text_classifier, tmp_path):
    data = (text_classifier.path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cannot be read as a TFLite model"):
        model_file.read_signatures(tmp_path / FILE)


def changed_file(text_classifier, folder, change):
    """The file with a change to its tables, by the classes of LiteRT's schema."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    data = (text_classifier.path / FILE).read_bytes()
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    (folder / FILE).write_bytes(bytes(builder.Output()))
    return folder / FILE


def read_later(model):
    graph = model.subgraphs[0]
    graph.operators = graph.operators[::-1]


def written_twice(model):
    graph = model.subgraphs[0]
    graph.operators[1].outputs = graph.operators[0].outputs


def loops(model):
    model.operatorCodes[0].builtinCode = 119  # WHILE
    model.operatorCodes[0].deprecatedBuiltinCode = 119


def other_options(model):
    graph = model.subgraphs[0]
    softmax = next(o for o in graph.operators if o.builtinOptionsType == 9)
    softmax.builtinOptionsType = 8


def of_another_type(model):
    """An output of bytes where the kernel writes integers of 32 bits: it ended in a signal."""
    graph = model.subgraphs[0]
    compare = next(
        o for o in graph.operators if model.operatorCodes[o.opcodeIndex].builtinCode in (71, 72)
    )
    code = model.operatorCodes[compare.opcodeIndex]
    code.builtinCode = code.deprecatedBuiltinCode = 99  # SQUARED_DIFFERENCE


def twice_named(model):
    model.signatureDefs[1].signatureKey = model.signatureDefs[0].signatureKey


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (read_later, "reads tensor .* before it is written|cannot be read"),
        (written_twice, "cannot write tensor|cannot be read"),
        (loops, "cannot be read|operation 119"),
        (twice_named, "is there twice"),
        (of_another_type, "SQUARED_DIFFERENCE of int32, int32 that makes bool"),
    ],
)
def test_a_graph_that_lies_is_refused(text_classifier, tmp_path, change, message):
    file = changed_file(text_classifier, tmp_path, change)
    with pytest.raises(InputError, match=message):
        model_file.read_signatures(file)


def test_signatures_are_read_as_litert_reads_them(text_classifier):
    from ai_edge_litert.interpreter import Interpreter

    file = text_classifier.path / FILE
    found = model_file.read_signatures(file)
    interpreter = Interpreter(str(file))
    assert found.keys() == interpreter.get_signature_list().keys()
    for name, signature in found.items():
        runner = interpreter.get_signature_runner(name)
        for ours, theirs in (
            (signature.inputs, runner.get_input_details()),
            (signature.outputs, runner.get_output_details()),
        ):
            expected = {
                key: (np.dtype(d["dtype"]).name, tuple(map(int, d["shape"])))
                for key, d in theirs.items()
            }
            assert ours == expected


def test_what_configurations_expect_is_what_is_exported():
    """Of every task, as `export.signatures` declares inputs; outputs are compared at every load."""
    from tiny_models import tiny_model

    from tfx_transformer.export.signatures import DRAFTED, TEXTS
    from tfx_transformer.export.tasks import task_of

    model = tiny_model(num_key_value_heads=2)
    table = task_of(model).signatures(model, beams=3)
    lengths = [int(name.removeprefix("encode_")) for name in table if name.startswith("encode_")]
    expected = interface.seq2seq(model.config, lengths, 3)
    for beams in (1, 3):
        expected |= interface.together(model.config, TEXTS, beams, 19, [16, 19])
    expected[f"verify_{DRAFTED}"] = interface.verify(expected["decode"], DRAFTED)
    assert table.keys() == expected.keys()
    for name, (_, specs) in table.items():
        declared = {k: (s.dtype.name, tuple(s.shape)) for k, s in specs.items()}
        assert expected[name].inputs == declared, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_sequence_length": 40}, "signature run_1x40 is missing"),
        ({"num_classes": 7}, "are not the names of 7 classes"),
        ({"image_size": 8, "vocabulary_size": 0}, "signature run_1 is missing|TransformerConfig"),
    ],
)
def test_another_configuration_is_refused(text_classifier, tmp_path, changes, message):
    path = text_classifier.copy(tmp_path)
    config = json.loads((path / bundle.CONFIG).read_text())
    config["architecture"] |= changes
    reseal(path, config)
    with pytest.raises(InputError, match=message):
        runtime.load(path)


def test_another_task_is_refused(text_classifier, tmp_path):
    path = text_classifier.copy(tmp_path)
    config = json.loads((path / bundle.CONFIG).read_text())
    for task, message in {
        "causal": "signature decode is missing",
        "seq2seq": "signature prefill is missing",
        "embedding": r"output is float32 \[1, 3\], expected float32 \[1, 48\]",
    }.items():
        reseal(path, config | {"task": task})
        with pytest.raises(InputError, match=message):
            runtime.load(path)


def reseal(path, config):
    file = path / bundle.CONFIG
    file.write_text(json.dumps(config, ensure_ascii=False))
    lines = (path / bundle.SUMS).read_text().splitlines()
    digest = bundle._digest(file)
    kept = [f"{digest}  {bundle.CONFIG}" if bundle.CONFIG in line else line for line in lines]
    (path / bundle.SUMS).write_text("\n".join(kept) + "\n")


def test_sums_that_name_a_file_twice_are_refused(text_classifier, tmp_path):
    path = text_classifier.copy(tmp_path)
    line = (path / bundle.SUMS).read_text().splitlines()[0]
    with (path / bundle.SUMS).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match="names .* twice"):
        bundle.verify(path)


@pytest.mark.parametrize("data", [b"", b"LITERTLM", b"LITERTLM\1" + bytes(23), b"PK" * 99])
def test_no_litertlm_file_is_refused(tmp_path, data):
    (tmp_path / "model.litertlm").write_bytes(data)
    with pytest.raises(InputError, match="model.litertlm is not a file for LiteRT-LM"):
        litertlm_file.check(tmp_path / "model.litertlm")


# SavedModels

# What TensorFlow's own documentation says to touch files, processes, Python or other machines.
HARMFUL = [
    "ReadFile",
    "WriteFile",
    "MatchingFiles",
    "SaveV2",
    "Save",
    "RestoreV2",
    "Restore",
    "PyFunc",
    "EagerPyFunc",
    "PyFuncStateless",
    "PrintV2",
    "DebugIdentityV3",
    "TextLineDataset",
    "TFRecordDataset",
    "WholeFileReaderV2",
    "FixedLengthRecordDatasetV2",
    "InitializeTableFromTextFileV2",
    "ImmutableConst",
    "RemoteCall",
    "DecodeProtoV2",
    "EncodeProto",
    "GeneratorDataset",
    "LoadAndRemapMatrix",
    "_Send",
    "_Recv",
]


def test_no_operation_beyond_tensors_passes(text_classifier, tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    from tfx_transformer.export import saved_model_file

    good = text_classifier.path / bundle.SAVED_MODEL
    saved_model_file.check(good)
    model = saved_model_pb2.SavedModel.FromString((good / "saved_model.pb").read_bytes())
    parts = {f.name: v for f, v in model.meta_graphs[0].graph_def.ListFields()}
    serve = next(f for f in parts["library"].function if "inference_serve" in f.signature.name)
    node = serve.node_def.add()
    for name in HARMFUL:
        node.op = name
        (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
        with pytest.raises(InputError, match=f"the operation {name}, which no SavedModel"):
            saved_model_file.check(tmp_path)


def test_a_savedmodel_that_reads_files_is_not_run(text_classifier, tmp_path):
    import tensorflow as tf

    from tfx_transformer.export import saved_model_file

    (tmp_path / "secret.txt").write_text("a secret\n")

    class Spy(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="texts")])
        def serve(self, texts):
            write = tf.io.write_file(str(tmp_path / "written.txt"), "by the model\n")
            with tf.control_dependencies([write]):
                return {"texts": texts + tf.io.read_file(str(tmp_path / "secret.txt"))}

    spy = Spy()
    tf.saved_model.save(spy, str(tmp_path / "saved_model"), {"serve": spy.serve})
    with pytest.raises(InputError, match="ReadFile, WriteFile, which no SavedModel of this"):
        saved_model_file.load(tmp_path / "saved_model")
    assert not (tmp_path / "written.txt").exists()


# Images, patterns, long texts

# Beside them `limited.py hostile_images` tries all.
THIN = [name for name in hostile_images.FILES if "000 x 1, 1 bit" in name or "32768 x 1," in name]


@pytest.mark.parametrize("name", THIN)
def test_thin_images_are_cheap(name, tmp_path):
    file = tmp_path / "image.png"
    file.write_bytes(hostile_images.FILES[name]())
    try:
        assert resize(read_image(file), 8).max() <= 255
    except InputError as error:
        assert str(error).startswith(f"{file}: the image has ")  # noqa: PT017


@pytest.mark.parametrize("split", hostile_patterns.BAD[:6])
def test_bad_patterns_are_refused(split):
    with pytest.raises(InputError, match="split pattern"):
        hostile_patterns.encode_with(split)


def test_good_patterns_are_used():
    for split in hostile_patterns.GOOD:
        assert hostile_patterns.encode_with(split)


@pytest.mark.parametrize("change", [{"normalizer": {"type": "NFKC"}}, {"dropout": 0.5}])
def test_what_would_change_texts_is_refused(change):
    tree = json.loads(hostile_patterns.tree())
    (tree if "normalizer" in change else tree["model"]).update(change)
    with pytest.raises(InputError, match=f"it has a {next(iter(change))}"):
        Tokenizer.from_json(json.dumps(tree))


def nasty(draw: random.Random, length: int) -> str:
    parts = (
        "the cat. ",
        "雨が降り始めた。",
        "def f(x):\r\n\t",
        "🙂👨‍👩‍👧",
        "e\u0301",
        " ",
        "\n",
        "x" * 50,
    )
    text = ""
    while len(text) < length:
        text += draw.choice(parts) * draw.choice((1, 2, 90))
    return text


def test_beginnings_have_the_ids_of_the_whole(monkeypatch):
    monkeypatch.setattr(tokenizer_module, "SLICE", 70)
    tokenizer = Tokenizer.train(["the cat sat 雨が降り始めた。"] * 3, 300)
    draw = random.Random(0)
    for _ in range(60):
        text, count = nasty(draw, draw.choice((10, 69, 70, 71, 300, 900))), draw.choice((0, 1, 30))
        whole = tokenizer.encode(text)
        assert tokenizer.encode_first(text, count) == whole[:count]
        beginning, ending = tokenizer.beginning(text, count), tokenizer.ending(text, count)
        assert tokenizer.encode(beginning)[:count] == whole[:count]
        last = tokenizer.encode(ending)
        assert last[len(last) - count :] == whole[len(whole) - count :]
        assert text.startswith(beginning) and text.endswith(ending)


def test_a_frame_of_long_texts_is_that_of_all_their_ids(monkeypatch):
    tokenizer = Tokenizer.train(["the cat sat 雨が降り始めた。"] * 3, 300)
    draw = random.Random(0)
    rows = [[nasty(draw, draw.randrange(1, 90)) for _ in range(3)] for _ in range(30)]
    cut = [frame(tokenizer, row, length) for row in rows for length in (4, 5, 17, 40)]
    monkeypatch.setattr(Tokenizer, "encode_first", lambda self, text, count: self.encode(text))
    assert cut == [frame(tokenizer, row, length) for row in rows for length in (4, 5, 17, 40)]


def test_a_long_text_is_read_only_as_far_as_it_counts(monkeypatch):
    tokenizer = Tokenizer.train(["the cat sat"], 262)
    encoded = []
    encode = tokenizer._encode_slice
    monkeypatch.setattr(tokenizer, "_encode_slice", lambda text: encoded.append(1) or encode(text))
    assert len(tokenizer.encode_first("the cat " * 1_000_000, 30)) == 30
    assert len(tokenizer.beginning("the cat " * 1_000_000, 30)) == tokenizer_module.SLICE
    assert len(encoded) == 2


# The terminal


def test_texts_do_not_steer_a_terminal():
    written = io.StringIO()
    print("a\x1b[31mb\rc\x9bd\u202ee\x00\n\tf", file=console.Console(written))
    assert written.getvalue() == "a\\x1b[31mb\\rc\\x9bd\\u202ee\\x00\n\tf\n"


def test_a_console_without_the_characters():
    written = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    print("猫 é", file=console.Console(written), flush=True)
    assert written.buffer.getvalue() == b"\\u732b \xe9\n"
    assert json.loads(console.as_json(["猫\x9b"], written)) == ["猫\x9b"]


def test_run_pyz(text_classifier, tmp_path):
    path = text_classifier.copy(tmp_path)
    command = [sys.executable, str(path / "run.pyz")]
    alone = subprocess.run([sys.executable, "-I", "-S", command[1], "a"], capture_output=True)
    assert alone.returncode == 2 and alone.stderr.splitlines()[1].startswith(b"  pip install ai-")
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    given = "the cat\n猫\n".encode()
    done = subprocess.run(command, input=given, capture_output=True, env=environment)
    labels = [found.label for found in runtime.load(path).classify(["the cat", "猫"])]
    shown = [label.encode("ascii", "backslashreplace") for label in labels]
    assert [line.split(b"  ")[0] for line in done.stdout.splitlines()] == shown, done.stderr
    bad = subprocess.run(command, input=b"a\n\xff\n", capture_output=True)
    assert bad.returncode == 2 and bad.stderr.startswith(b"standard input, line 2: it is not UTF-8")
