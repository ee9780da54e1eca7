"""What is exported answers as the model that was trained: SavedModel, TFLite and run.pyz."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from processes import RUN_PYZ, TRAINING, python
from tflite_tables import tables
from trained import BEAMS, MAX_LENGTH

from tfx_transformer import bundle, export, runtime
from tfx_transformer.errors import InputError
from tfx_transformer.export import compact, convert_litert, saved_model_file, to_litert
from tfx_transformer.export.converter import Converter
from tfx_transformer.export.saved_model_generator import SavedModelGenerator
from tfx_transformer.export.signatures import DRAFTED, TEXTS
from tfx_transformer.export.to_litert import _check_operations, operation_names
from tfx_transformer.models.decoding import text_generator
from tfx_transformer.models.saving import load, save
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training.past import open_bundle


@pytest.fixture(scope="module")
def by_keras(trained):
    return text_generator(*load(trained.path))


@pytest.fixture(scope="module")
def by_litert(trained):
    return runtime.load(trained.path)


@pytest.fixture(scope="module")
def expected(by_keras, trained):
    answers = by_keras.generate(trained.texts, truncate=True)
    assert len(set(answers)) > len(answers) * 2 / 3, "answers all alike would prove nothing"
    return answers


def test_what_is_saved_is_traced_once(tmp_path):
    traced = []

    def serve(x, weights):
        traced.append((x.name, weights["scale"].name))
        return {"y": weights["scale"] * layer(x)}

    layer = keras.layers.Dense(3, kernel_initializer="ones")
    layer.build((None, 5))
    archive = keras.export.ExportArchive()
    archive.track(layer)
    specs = [tf.TensorSpec([None, 5], name="x"), {"scale": tf.TensorSpec([], name="scale")}]
    saved_model_file.add_endpoint(archive, "serve", serve, specs)
    saved_model_file.write(archive, tmp_path / "saved")
    assert traced == [("x:0", "scale:0")]
    loaded = saved_model_file.load(tmp_path / "saved")
    x, two = tf.reshape(tf.range(10.0) / 2, (2, 5)), tf.constant(2.0)
    answers = (
        loaded.serve(x, weights={"scale": two}),
        loaded.signatures["serve"](x=x, scale=two),
    )
    for answer in answers:  # 0 + 0.5 + 1 + 1.5 + 2 is 5, and 2.5 + 3 + 3.5 + 4 + 4.5 is 17.5
        np.testing.assert_array_equal(answer["y"], [[10] * 3, [35] * 3])


# Equal answers


def test_the_savedmodel_answers_as_keras(trained, expected):
    assert SavedModelGenerator(trained.path).generate(trained.texts) == expected


def test_tflite_answers_as_keras(trained, expected, by_litert):
    assert by_litert.generate(trained.texts, truncate=True) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"beams": BEAMS},
        {"temperature": 1.2, "top_k": 30, "top_p": 0.95, "seed": 3},
        {"repetition_penalty": 1.5, "max_new_tokens": 9},
    ],
)
def test_tflite_searches_and_draws_as_keras(trained, by_keras, by_litert, expected, options):
    texts = trained.texts[::2]
    answers = by_litert.generate(texts, truncate=True, **options)
    assert answers == by_keras.generate(texts, truncate=True, **options)
    assert answers != expected[::2], "the options change nothing, so they prove nothing"


@pytest.mark.parametrize(("beams", "kind"), [(BEAMS, "Seq2SeqEngine"), (3, "KerasEngine")])
def test_the_file_is_opened_if_it_has_as_many_beams(trained, beams, kind):
    assert type(open_bundle(trained.path, beams).engine).__name__ == kind


def test_int8_answers_nearly_as_keras(trained, expected):
    answers = runtime.load(trained.path, "int8").generate(trained.texts, truncate=True)
    equal = sum(a == b for a, b in zip(answers, expected, strict=True))
    assert equal >= 0.8 * len(expected)


def test_logits_agree(trained):
    exact, rounded = trained.verified["TFLite float32"], trained.verified["TFLite int8"]
    assert exact["largest_logit_difference"] < 1e-4 * exact["logit_deviation"]
    # 8-bit weights: measured 0.3 where logits deviate by 1.4.
    assert 0 < rounded["largest_logit_difference"] < 0.5 * rounded["logit_deviation"]


def test_streamed_pieces_make_the_answer(trained, expected, by_litert):
    for text, answer in list(zip(trained.texts, expected, strict=True))[::10]:
        pieces = []
        assert by_litert.generate(text, stream=pieces.append) == answer
        assert "".join(pieces) == answer


# An oracle of its own: TFLite's interpreter and the argmax, without our runtime


def answer_by_hand(path, tokenizer, text):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    encode = interpreter.get_signature_runner(f"encode_{MAX_LENGTH}")
    source = [*tokenizer.encode(text), tokenizer.end_id]
    padded = np.array([source + [tokenizer.padding_id] * (MAX_LENGTH - len(source))], "int32")
    memory = encode(encoder_token_ids=padded)["memory"]
    memory = interpreter.get_signature_runner("prefill")(memory=memory)
    step = interpreter.get_signature_runner("decode")
    cache = {
        name: np.zeros(details["shape"], "float32")
        for name, details in step.get_input_details().items()
        if name.startswith("kv_cache")
    }
    ids = [tokenizer.start_id]
    for position in range(MAX_LENGTH):
        result = step(
            tokens=np.array([[ids[-1]]], "int32"),
            input_pos=np.array([position], "int32"),
            source_length=np.array([len(source)], "int32"),
            **memory,
            **cache,
        )
        ids.append(int(np.argmax(result.pop("logits")[0, 0])))
        cache = result
        if ids[-1] == tokenizer.end_id:
            break
    return tokenizer.decode(ids)


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_the_runtime_runs_the_file_as_the_interpreter_does(trained, variant):
    generator = runtime.load(trained.path, variant)
    for text in trained.texts[::12]:
        by_hand = answer_by_hand(trained.path / bundle.LITERT[variant], generator.tokenizer, text)
        assert generator.generate(text) == by_hand


# What the files hold


FILES = ["model.tflite", "model.int8.tflite"]


@pytest.mark.parametrize("file", FILES)
def test_tflite_files_need_only_builtin_operations(trained, file):
    names = operation_names(trained.path / file)
    assert {"FULLY_CONNECTED", "EMBEDDING_LOOKUP", "DYNAMIC_UPDATE_SLICE"} <= names
    assert not [name for name in names if name.startswith("Flex") or "VAR" in name]
    assert all(name.isupper() for name in names), "a custom operation"


@pytest.mark.parametrize("file", FILES)
def test_signatures(trained, file):
    from ai_edge_litert.interpreter import Interpreter

    table = Interpreter(str(trained.path / file)).get_signature_list()
    cache = ["kv_cache_k_0", "kv_cache_v_0"]
    memory = ["memory_k_0", "memory_v_0"]
    step = {"input_pos", "source_length", "tokens", *cache, *memory}
    assert table.keys() == {
        "encode_16",
        f"encode_{MAX_LENGTH}",
        "prefill",
        "decode",
        "decode_beams",
        f"verify_{DRAFTED}",
        f"prefill_{TEXTS}x16",
        f"prefill_{TEXTS}x{MAX_LENGTH}",
        f"decode_{TEXTS}",
        f"decode_{TEXTS}x{BEAMS}",
    }
    assert table["encode_16"] == {"inputs": ["encoder_token_ids"], "outputs": ["memory"]}
    assert table["prefill"] == {"inputs": ["memory"], "outputs": memory}
    assert set(table["decode"]["inputs"]) == step
    assert set(table[f"verify_{DRAFTED}"]["inputs"]) == step
    assert set(table["decode_beams"]["inputs"]) == step | {"rows"}
    assert set(table[f"decode_{TEXTS}"]["inputs"]) == step | {"slot", "visible"}
    assert set(table[f"prefill_{TEXTS}x{MAX_LENGTH}"]["inputs"]) == {"memory", "row", *memory}
    assert set(table["decode"]["outputs"]) == {"logits", *cache}


def test_lookup_and_read_out_share_one_table(trained, by_litert):
    from ai_edge_litert import schema_py_generated as schema

    size = by_litert.tokenizer.vocabulary_size
    for variant, kind in (
        ("float32", schema.TensorType.FLOAT32),
        ("int8", schema.TensorType.INT8),
    ):
        found = tables(trained.path / bundle.LITERT[variant], size)
        assert [kind for kind, _ in found] == [kind]
    small, large = ((trained.path / bundle.LITERT[v]).stat().st_size for v in ("int8", "float32"))
    assert small < 0.45 * large


def flex_file(folder):
    """A TFLite file with an operation that only TensorFlow has."""
    function = tf.function(tf.math.erf, input_signature=[tf.TensorSpec([3])])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.SELECT_TF_OPS]
    (folder / "flex.tflite").write_bytes(converter.convert())
    return folder / "flex.tflite"


def test_a_file_with_flex_operations_is_refused(tmp_path):
    file = flex_file(tmp_path)
    assert "FlexErf" in operation_names(file)
    with pytest.raises(RuntimeError, match=r"would hold FlexErf.* which LiteRT cannot run"):
        _check_operations(file)
    assert not file.exists()


def test_a_failing_converter_says_why(tmp_path):
    request = {
        "saved_model": str(tmp_path),
        "files": {"float32": str(tmp_path / "model.tflite")},
        "names": ["decode"],
    }
    with Converter() as converter:
        for _ in range(2):  # it goes on with the next request
            converter.submit(request)
            with pytest.raises(RuntimeError, match=r"converter failed:\n(.|\n)*SavedModel"):
                converter.wait()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("converted", [(None, "int8", "int4"), (None, "int8")])
def test_a_file_that_cannot_be_made_leaves_the_others(tmp_path, monkeypatch, converted):
    """The int4 file fails when its weights are rounded, or is not converted at all."""

    class Rounding(to_litert.Conversion):
        def _trace(self):
            for name in converted:
                self.converted(name).write_bytes(b"converted")

        def finished(self, quantize):
            if quantize == "int4":
                raise RuntimeError("a weight is not finite")
            return f"{quantize}".encode()

    def wait():
        if "int4" not in converted:
            raise RuntimeError("the converter failed")

    monkeypatch.setattr(to_litert, "_check_operations", lambda path: None)
    converter: Any = SimpleNamespace(submit=lambda request: None, wait=wait)
    model: Any = SimpleNamespace(config=SimpleNamespace(hidden_dim=32, intermediate_dim=32))
    files = {name: tmp_path / f"{name}.tflite" for name in (None, "int4", "int8")}
    conversion = Rounding(model, files, converter, table={"run_1": ()})
    why = "not finite" if "int4" in converted else "the converter failed"
    with pytest.raises(RuntimeError, match=why) as caught, conversion:
        pass
    assert conversion.failed == {"int4": caught.value}
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert left == {"None.tflite": b"None", "int8.tflite": b"int8"}


@pytest.mark.parametrize("int8", [False, True])
def test_files_are_those_of_the_public_converter(tmp_path, int8):
    """`tf.lite.TFLiteConverter` adds metadata, and stores equal data once as `compact` does."""
    from ai_edge_litert import schema_py_generated as schema

    weights = np.random.default_rng(0).normal(size=(40, 32)).astype("float32")
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(32)])
    model.set_weights([weights, np.arange(32, dtype="float32")])
    specs = {f"run_{rows}": {"x": tf.TensorSpec((rows, 40), name="x")} for rows in (1, 3)}

    def run(inputs):
        return {"y": tf.tanh(model(inputs["x"]) @ tf.transpose(weights)) + 7.0}

    table = {name: (run, one) for name, one in specs.items()}
    saved_model_file.write_functions(model, table, tmp_path / "saved_model")
    request = {"saved_model": str(tmp_path / "saved_model"), "names": list(specs)}
    public = tf.lite.TFLiteConverter.from_saved_model(
        request["saved_model"], signature_keys=request["names"]
    )
    public.optimizations = [tf.lite.Optimize.DEFAULT] if int8 else []
    expected = compact.unpack(public.convert())
    (added,) = (one for one in expected.metadata if one.name == b"CONVERSION_METADATA")
    expected.metadata.remove(added)
    expected.buffers[added.buffer].data = None
    found = compact.unpack(convert_litert._convert(request, int8))
    compact.compact(expected)
    compact.compact(found)
    assert compact.pack(found) == compact.pack(expected)
    types = {tensor.type for graph in found.subgraphs for tensor in graph.tensors}
    assert (schema.TensorType.INT8 in types) is int8


@pytest.mark.parametrize("most", [6, 7])
def test_a_large_model_becomes_int8_without_a_float32_file(tmp_path, monkeypatch, most):
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "weights").write_bytes(bytes(7))
    monkeypatch.setattr(convert_litert, "_MOST_IN_MEMORY", most)
    monkeypatch.setattr(convert_litert, "_convert", lambda _, int8=False: b"8" if int8 else b"32")
    monkeypatch.setattr(convert_litert, "_quantize", lambda made, bits: made + b" to %d" % bits)
    names = ("float32", "int8", "int4")
    files = {name: str(tmp_path / name) for name in names}
    convert_litert.write_files({"saved_model": str(tmp_path), "files": files})
    found = [Path(files[name]).read_bytes() for name in names]
    assert found == [b"32", b"8" if most == 6 else b"32 to 8", b"32 to 4"]


@pytest.mark.parametrize("beams", [0, -3, 65])
def test_a_width_that_no_search_has_is_refused(trained, beams):
    with pytest.raises(InputError, match=f"beams is {beams}"):
        export.litert(trained.path, beams=beams)


# Verifying


def test_the_bundle_says_how_it_was_verified(trained):
    config = bundle.read_config(trained.path)
    assert config["verified"] == json.loads(json.dumps(trained.verified))
    assert config["scores"] == {"bleu": 12.5}, "what was there stays"
    for name in ("SavedModel", "TFLite float32"):
        assert trained.verified[name]["identical"] == trained.verified[name]["of"] == 80
    card = (trained.path / "README.md").read_text("utf-8")
    assert "- SavedModel: 80 of 80 answers identical to Keras\n" in card
    assert "- TFLite int8: " in card and "standard deviation is" in card
    bundle.verify(trained.path)


def test_verifying_finds_an_export_of_another_model(trained, tmp_path, capsys):
    path = trained.copy(tmp_path)
    model, tokenizer = load(path)
    bias = next(w for w in model.weights if w.path == "decoder/final_norm/beta")
    bias.assign(np.random.default_rng(0).normal(size=bias.shape))
    exports = {p.name: p.read_bytes() for p in path.glob("*.tflite")}
    save(path, model, tokenizer, overwrite=True)
    with bundle.updating(path) as folder:
        for name, data in exports.items():
            (folder / name).write_bytes(data)
    results = export.verify(path, trained.texts[:6])
    assert results.keys() == {"TFLite float32", "TFLite int8"}, "there is no SavedModel any more"
    assert results["TFLite float32"]["of"] == 6
    assert results["TFLite float32"]["identical"] < 6
    assert results["TFLite float32"]["largest_logit_difference"] > 0.5
    assert "of 6 answers identical to Keras" in capsys.readouterr().out


# Where there is no TensorFlow, and where there is only TensorFlow


def test_the_savedmodel_needs_only_tensorflow(trained, expected, tmp_path):
    code = """
        import json, sys
        import tensorflow as tf
        model = tf.saved_model.load(sys.argv[1])
        texts = json.loads(sys.argv[2])
        by_function = model.serve(tf.constant(texts))["texts"]
        by_signature = model.signatures["serve"](texts=tf.constant(texts))["texts"]
        assert (by_function.numpy() == by_signature.numpy()).all()
        assert by_function.dtype == tf.string
        print(json.dumps([text.decode() for text in by_function.numpy()]))
    """
    blocked = ("keras", "tfx_transformer", "tokenizers", "tiktoken", "ai_edge_litert")
    texts = [*trained.texts[:20], "", "\N{GRINNING FACE} \t\n"]
    folder = trained.path / bundle.SAVED_MODEL
    options = {"cwd": tmp_path, "blocked": blocked, "tensorflow": True}
    answers = json.loads(python(code, folder, json.dumps(texts), **options))
    assert answers[:20] == expected[:20]
    assert len(answers) == 22


def test_run_pyz_answers_without_training_packages(trained, by_litert, tmp_path):
    texts = trained.texts[:60:15]
    arguments = [trained.path / "run.pyz", *texts, "--json"]
    output = python(RUN_PYZ, *arguments, cwd=tmp_path, blocked=TRAINING)
    answers = by_litert.generate(texts)
    pairs = [{"text": t, "answer": a} for t, a in zip(texts, answers, strict=True)]
    assert json.loads(output) == {"answers": pairs}

    arguments = [trained.path / "run.pyz", *texts, f"--beams={BEAMS}", "--variant=int8"]
    output = python(RUN_PYZ, *arguments, cwd=tmp_path, blocked=TRAINING)
    answers = runtime.load(trained.path, "int8").generate(texts, beams=BEAMS)
    assert output.split("\n") == [*answers, ""]


def test_run_pyz_is_a_program_that_says_what_is_wrong(trained, tmp_path):
    path = trained.copy(tmp_path)
    (path / "tokenizer.json").write_text("forged")
    done = subprocess.run(
        [sys.executable, path / "run.pyz", "I love cats."], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "tokenizer.json does not have the checksum" in done.stderr
    assert "Traceback" not in done.stderr


# Loading at runtime


def without(trained, folder, *names):
    """A copy without some of its files."""
    path = trained.copy(folder)
    with bundle.updating(path) as inside:
        for name in names:
            (inside / name).unlink()
    return path


def test_the_first_variant_there_is_runs(trained, tmp_path, by_litert):
    path = without(trained, tmp_path, "model.tflite")
    text = trained.texts[0]
    assert runtime.load(path).generate(text) == runtime.load(path, "int8").generate(text)
    with pytest.raises(InputError) as caught:
        runtime.load(path, "float32")
    assert str(caught.value) == (
        f"{path} holds no float32 file for LiteRT; it holds: int8.\n"
        f"  Make one: tfx-transformer export {path} --to litert"
    )


def test_a_bundle_without_tflite_says_how_to_make_it(trained, tmp_path):
    path = without(trained, tmp_path, "model.tflite", "model.int8.tflite")
    with pytest.raises(InputError, match="no TFLite file for LiteRT; it holds: none"):
        runtime.load(path)
    with pytest.raises(InputError, match="no int4 file"):
        runtime.load(path, "int4")


def test_a_bundle_without_savedmodel_says_how_to_make_it(trained, tmp_path):
    with pytest.raises(InputError, match="holds no SavedModel.\n  Make one: .*--to saved_model"):
        SavedModelGenerator(tmp_path)


def test_a_damaged_bundle_is_not_run(trained, tmp_path):
    path = trained.copy(tmp_path)
    with (path / "model.tflite").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(InputError, match="model.tflite does not have the checksum"):
        runtime.load(path)


def test_a_file_that_is_no_tflite(trained, tmp_path):
    path = trained.copy(tmp_path)
    with bundle.updating(path) as inside:
        (inside / "model.tflite").unlink()
        (inside / "model.tflite").write_bytes(b"garbage" * 1000)
    with pytest.raises(InputError, match="model.tflite cannot be read as a TFLite model"):
        runtime.load(path)


def test_a_width_that_was_not_exported(by_litert):
    with pytest.raises(InputError, match=rf"decodes with 1 or {BEAMS} beams, not with 3.\n"):
        by_litert.generate("I love cats.", beams=3)


def test_the_savedmodel_only_decodes_greedily(trained):
    generator = SavedModelGenerator(trained.path)
    with pytest.raises(InputError, match="decodes greedily"):
        generator.generate(["I love cats."], beams=2)


def test_long_texts_are_refused_or_cut(trained, by_keras, by_litert):
    tokenizer = Tokenizer.load(trained.path / bundle.TOKENIZER)
    long = "I really love cats and dogs and birds and rice and movies. " * 3
    count = tokenizer.count(long)
    assert count >= MAX_LENGTH
    for generator in (by_keras, by_litert):
        with pytest.raises(
            InputError, match=rf"of {count + 1} tokens; the model reads 24.\n  Split"
        ):
            generator.generate(long)
    answers = {g.generate(long, truncate=True) for g in (by_keras, by_litert)}
    assert answers == set(SavedModelGenerator(trained.path).generate([long]))
    assert len(answers) == 1


def test_each_encoder_length_gives_the_same_answer(trained, by_litert):
    # Padding may not matter, so a text answers alike by the shortest encoder and by the longest.
    encoders = by_litert.engine.encoders
    assert list(encoders) == [16, MAX_LENGTH]
    texts = [t for t in trained.texts if by_litert.tokenizer.count(t) < 16][:10]
    answers = by_litert.generate(texts)
    short = encoders.pop(16)
    try:
        assert by_litert.generate(texts) == answers
    finally:
        by_litert.engine.encoders = {16: short, **encoders}
