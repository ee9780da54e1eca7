"""Checkpoints of others: read, refused, and written back.

That every family computes what transformers does is shown in `tests/conformance`; here small
checkpoints of the same kind are bent and broken.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import keras
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import tfx_transformer as tfx
from tfx_transformer.errors import InputError
from tfx_transformer.models.pretrained.checkpoint import Checkpoint
from tfx_transformer.models.pretrained.describing import describe_source, licence_of
from tfx_transformer.models.pretrained.families import FAMILIES
from tfx_transformer.models.pretrained.saving import save_pretrained
from tfx_transformer.models.saving import parameters

sys.path.insert(0, str(Path(__file__).parent / "conformance"))
from weights import write_checkpoint  # noqa: E402

CASES = Path(__file__).parent / "conformance" / "models"
# One of each family that is written, and of each kind of head; the others are slow.
REPRESENTATIVES = """
bart bert bert_tags deit distilbert_classifier electra embedding_gemma gpt2 gpt_neox
llama_rope_yarn marian mbart mistral modernbert_classifier mpnet opt phi3 qwen2 qwen3
roberta_classifier smollm3 t5 vit
""".split()  # noqa: SIM905


def case(name: str) -> dict:
    return json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path):
    """Writes the checkpoint of a case and returns its folder."""
    return lambda name, **options: write_checkpoint(tmp_path / name, case(name), **options)


def values(model) -> dict[str, np.ndarray]:
    return {path: np.asarray(v.value, "float32") for path, v in parameters(model).items()}


def assert_same(model, other) -> None:
    ours, theirs = values(model), values(other)
    assert ours.keys() == theirs.keys()
    for path in ours:
        np.testing.assert_array_equal(ours[path], theirs[path], err_msg=path)


def change_config(path: Path, **changes) -> None:
    file = path / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps({k: v for k, v in config.items() if v != "remove"}), "utf-8")


def change_tensors(path: Path, change) -> None:
    file = path / "model.safetensors"
    tensors = dict(safetensors.numpy.load_file(file))
    change(tensors)
    safetensors.numpy.save_file(tensors, file)


# Reading


def test_shards_are_one_checkpoint(folder, tmp_path):
    whole = tfx.CausalLM.from_pretrained(folder("llama"))
    shards = tfx.CausalLM.from_pretrained(
        write_checkpoint(tmp_path / "shards", case("llama"), shards=3)
    )
    assert_same(whole, shards)


def test_no_random_number_is_drawn_for_weights_that_are_read(folder, monkeypatch):
    def drawn(*arguments, **options):
        raise AssertionError("a weight was drawn")

    for kind in (keras.initializers.RandomNormal, keras.initializers.GlorotUniform):
        monkeypatch.setattr(kind, "__call__", drawn)
    tfx.CausalLM.from_pretrained(folder("llama"))


def test_a_policy_is_the_dtype_of_the_weights(folder):
    path = folder("llama")
    half = tfx.CausalLM.from_pretrained(path, "bfloat16")
    whole = tfx.CausalLM.from_pretrained(path)
    for name, array in values(whole).items():
        variable = parameters(half)[name]
        assert variable.dtype == "bfloat16"
        expected = array.astype(ml_dtypes.bfloat16).astype("float32")
        np.testing.assert_array_equal(np.asarray(variable.value, "float32"), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_stored_halves_are_read(dtype, folder):
    path = folder("bert")
    expected = values(tfx.MaskedLM.from_pretrained(path))
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float16
    change_tensors(path, lambda t: t.update({k: v.astype(kind) for k, v in t.items()}))
    for name, array in values(tfx.MaskedLM.from_pretrained(path)).items():
        np.testing.assert_array_equal(array, expected[name].astype(kind).astype("float32"))


def test_a_shorter_context_has_the_first_positions(folder):
    path = folder("gpt2")
    whole = tfx.CausalLM.from_pretrained(path)
    short, _ = tfx.from_pretrained(path, max_length=13)
    assert short.config.max_sequence_length == 13
    ids = np.array([[5, 7, 11, 13]], "int32")
    np.testing.assert_allclose(whole({"token_ids": ids}), short({"token_ids": ids}), atol=1e-6)
    assert tfx.from_pretrained(path, max_length=1000)[0].config.max_sequence_length == 83


def test_sentence_transformers_tell_pooling_and_length(folder):
    path = folder("bert_model")
    model, tokenizer = tfx.from_pretrained(path)
    assert (model.task, model.config.pooling, tokenizer) == ("embedding", "mean", None)
    assert model.config.max_sequence_length == 23
    pooling = {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling), "utf-8")
    assert tfx.Embedder.from_pretrained(path).config.pooling == "first"
    pooling["pooling_mode_max_tokens"] = True
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling), "utf-8")
    with pytest.raises(InputError, match="pools by cls, max"):
        tfx.Embedder.from_pretrained(path)


def test_an_encoder_of_any_task_begins_a_classifier(folder):
    base = tfx.Embedder.from_pretrained(folder("bert"))  # its masked head is left
    model = tfx.Classifier(tfx.config_for_fine_tuning(base.config, num_classes=3))
    tfx.copy_weights(model, base)
    ids = {"token_ids": np.array([[5, 7, 11, 2, 13, 2, 0]], "int32")}
    ours, theirs = (np.asarray(m.encode(ids)[0]) for m in (model, base))
    np.testing.assert_array_equal(ours, theirs)


def test_segments_follow_the_ends_of_texts(folder):
    model = tfx.Embedder.from_pretrained(folder("bert_model"))
    end = model.config.end_id
    ids = np.array([[9, 5, end, 7, 11, end], [9, 5, 6, 7, end, 0]], "int32")
    told = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1]], "int32")
    by_ends, _ = model.encode({"token_ids": ids})
    by_hand, _ = model.encode({"token_ids": ids, "segment_ids": told})
    np.testing.assert_array_equal(by_ends, by_hand)


# What does not fit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.norm.weight"), "model.norm.weight is missing"),
        (
            lambda t: t.update({"model.odd": np.zeros(3, "float32")}),
            "odd has no place in the model",
        ),
        (
            lambda t: t.update({"lm_head.weight": np.zeros((211, 35), "float32")}),
            r"lm_head.weight has shape \(211, 35\), expected \(211, 36\)",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(change, message, folder):
    path = folder("llama")
    change_tensors(path, change)
    with pytest.raises(InputError, match=message):
        tfx.CausalLM.from_pretrained(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba"}, "checkpoints of type 'mamba' are not known"),
        ({"hidden_size": "remove"}, "has no hidden_size"),
        ({"hidden_act": "quick_gelu"}, "activation is 'quick_gelu'"),
        ({"rope_scaling": {"rope_type": "proportional", "factor": 2}}, "rope_type is one of"),
        ({"num_attention_heads": 2_000_000_000}, "num_heads is 2000000000"),
        ({"hidden_size": [4]}, r"hidden_dim is \[4\]"),
        ({"vocab_size": 1_900_000}, r"shape \(211, 36\), expected \(1900000, 36\)"),
        ({"num_hidden_layers": 255}, "needs [0-9,]+ or more"),
    ],
)
def test_settings_that_are_not_known_are_refused(changes, message, folder):
    path = folder("llama")
    change_config(path, **changes)
    with pytest.raises(InputError, match=message):
        tfx.CausalLM.from_pretrained(path)


def test_a_checkpoint_of_another_task_is_refused(folder):
    with pytest.raises(InputError, match="its task is 'causal'"):
        tfx.Classifier.from_pretrained(folder("gpt2"))
    with pytest.raises(InputError, match="has no classes"):
        tfx.Classifier.from_pretrained(folder("bert"))
    with pytest.raises(InputError, match=r"cls\.predictions\.bias is missing"):
        tfx.MaskedLM.from_pretrained(folder("bert_model"))


def test_pickles_are_refused_with_the_reason(folder):
    path = folder("gpt2")
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model.bin only, a pickle") as refused:
        tfx.CausalLM.from_pretrained(path)
    assert "model.safetensors" in str(refused.value)
    (path / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match="holds no weights"):
        tfx.CausalLM.from_pretrained(path)


def test_shards_outside_the_folder_are_not_opened(folder):
    path = folder("gpt2", shards=2)
    index = path / "model.safetensors.index.json"
    told = json.loads(index.read_text(encoding="utf-8"))
    told["weight_map"]["transformer.wte.weight"] = "../elsewhere.safetensors"
    index.write_text(json.dumps(told), "utf-8")
    with pytest.raises(InputError, match="is not in the folder"):
        Checkpoint(path)


def header(facts) -> bytes:
    text = json.dumps(facts).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a safetensors file"),
        (b"\x80\x04\x95pickled", "is not a safetensors file"),
        (struct.pack("<Q", 1 << 62) + b"{}", "is not a safetensors file"),
        (
            header({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
            "after",
        ),
        (header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}), "bytes differ"),
        (header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}), "bytes differ"),
        (header({"a": {"dtype": "F4", "shape": [1], "data_offsets": [0, 4]}}), "cannot be read"),
        (header([1]), "its header is not an object"),
        (struct.pack("<Q", 40_000) + b"[" * 40_000, "is not a safetensors file"),
    ],
)
def test_damaged_files_are_named(content, message, folder):
    path = folder("gpt2")
    (path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        Checkpoint(path)
    assert "model.safetensors" in str(refused.value)


def test_a_download_that_was_cut_off_is_named(folder):
    path = folder("gpt2")
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="the download was cut off"):
        tfx.CausalLM.from_pretrained(path)


# The way back


# What several families compute is written as the first of them; an embedder as its bare stack.
WRITTEN_AS = {
    "camembert_classifier": "RobertaForSequenceClassification",
    "xlm_roberta": "RobertaForMaskedLM",
    "distilbert": "RobertaForMaskedLM",
    "distilbert_tags": "RobertaForTokenClassification",
    "phi3": "MistralForCausalLM",
    "opt": "GPT2LMHeadModel",
    "mt5": "T5ForConditionalGeneration",
    "gemma3_images": "Gemma3ForCausalLM",
    "qwen3_embedding": "Qwen3Model",
}


@pytest.mark.slow(but=REPRESENTATIVES)
@pytest.mark.parametrize("name", [file.stem for file in sorted(CASES.glob("*.json"))])
def test_what_is_saved_is_what_was_read(name, folder, tmp_path):
    described = case(name)
    model, _ = tfx.from_pretrained(folder(name))
    (tmp_path / "saved").mkdir()
    labels = list(described["config"].get("id2label", {}).values())
    family, config = save_pretrained(tmp_path / "saved", model, labels)
    if name in WRITTEN_AS:
        assert config["architectures"] == [WRITTEN_AS[name]]
    else:
        assert described["config"]["model_type"] in family.model_types
        assert config["architectures"] == described["config"]["architectures"]
    again, _ = tfx.from_pretrained(tmp_path / "saved")
    assert again.task == model.task
    ours, theirs = values(model), values(again)
    for path, array in ours.items():
        np.testing.assert_allclose(theirs[path], array, atol=1e-5, rtol=1e-6, err_msg=path)
    if name in WRITTEN_AS:
        return
    names = safetensors.numpy.load_file(tmp_path / "saved" / "model.safetensors").keys()
    heads = tuple(head.removeprefix(family.prefix) for head in family.heads)
    whole = {n for n in described["tensors"] if "/" not in n and not n.startswith(heads)}
    assert whole <= names


@pytest.mark.parametrize(
    ("style", "model_type"), [("gpt2", "gpt2"), ("llama", "llama"), ("bert", "roberta")]
)
def test_models_of_ours_have_a_family(style, model_type, tmp_path):
    made = tfx.MaskedLM if style == "bert" else tfx.CausalLM
    model = made(tfx.TransformerConfig.of_size("nano", 97, style, max_sequence_length=29))
    family, _ = save_pretrained(tmp_path, model)
    assert family.model_types[0] == model_type
    assert_same(model, tfx.from_pretrained(tmp_path)[0])


def test_what_transformers_has_no_words_for_is_named(tmp_path):
    model = tfx.Seq2SeqLM(tfx.TransformerConfig.of_size("nano", 97))
    with pytest.raises(InputError, match="nothing there has"):
        save_pretrained(tmp_path, model)


def test_every_family_has_a_case():
    used = {case(file.stem)["config"]["model_type"] for file in CASES.glob("*.json")}
    known = {name for family in FAMILIES for name in family.model_types}
    assert known == used


# keras-hub


def backbone(name: str):
    """A small one with random weights; keras-hub's own are nearly nothing."""
    hub = pytest.importorskip("keras_hub")
    heads = {"num_heads": 2, "max_sequence_length": 17}
    if name.startswith("Llama"):
        heads = {"num_query_heads": 4, "num_key_value_heads": 2}
    if name == "Llama3Backbone":
        heads |= {"rope_frequency_adjustment_factor": 8, "rope_low_freq_factor": 1}
        heads |= {"rope_high_freq_factor": 4, "rope_pretraining_sequence_length": 64}
    made = getattr(hub.models, name)(
        vocabulary_size=31, num_layers=2, hidden_dim=16, intermediate_dim=23, **heads
    )
    numbers = np.random.default_rng(5)
    for weight in made.weights:
        weight.assign(np.asarray(weight) + numbers.normal(0, 0.3, weight.shape))
    return made


@pytest.mark.slow(but=["GPT2Backbone", "BertBackbone", "Llama3Backbone"])
@pytest.mark.parametrize(
    "name", ["GPT2Backbone", "BertBackbone", "LlamaBackbone", "Llama3Backbone"]
)
def test_backbones_of_keras_hub_compute_the_same(name):
    source = backbone(name)
    numbers = np.random.default_rng(7)
    ids = numbers.integers(3, 31, (2, 13)).astype("int32")
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    model, tokenizer = tfx.from_pretrained(source)
    assert tokenizer is None
    if name == "BertBackbone":
        inputs["segment_ids"] = numbers.integers(0, 2, ids.shape)
        expected = source(inputs)["sequence_output"]
        actual, _ = model.encode({"token_ids": ids, "segment_ids": inputs["segment_ids"]})
    else:
        expected = source(inputs)
        actual = model.decoder(model.embedding(ids))
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), atol=1e-5)


def test_a_masked_model_begins_with_a_backbone_and_a_new_head():
    source = backbone("BertBackbone")
    model, _ = tfx.from_pretrained(source, task="masked")
    np.testing.assert_array_equal(model.embedding.embeddings, source.token_embedding.embeddings)
    np.testing.assert_array_equal(model.bias, np.zeros(31))
    np.testing.assert_array_equal(model.transform_norm.gamma, np.ones(16))


def test_other_backbones_are_refused():
    with pytest.raises(InputError, match="Dense is not a source of a model"):
        tfx.from_pretrained(keras.layers.Dense(3))
    with pytest.raises(InputError, match="cannot become a model of task 'masked'"):
        tfx.from_pretrained(backbone("GPT2Backbone"), task="masked")


# The command


def test_info_tells_what_a_checkpoint_is(folder, command):
    path = folder("bert_classifier")
    (path / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\nText\n", "utf-8")
    status, output, _ = command("info", path, "--json")
    told = json.loads(output)
    assert status == 0
    assert told["family"] == "bert" and told["task"] == "classification"
    count = sum(int(np.prod(shape)) for shape in case("bert_classifier")["tensors"].values())
    assert (told["parameters"], told["stored_bytes"]) == (count, 4 * count)
    assert told["labels"] == ["red", "green", "blue", "black", "white"]
    assert told["licence"] == "apache-2.0"
    assert told["memory"]["to fine-tune in full"] == 16 * count


def test_a_card_without_a_licence_tells_none(tmp_path):
    assert licence_of(tmp_path) is None
    (tmp_path / "README.md").write_text("# A model\nlicense: mit\n", "utf-8")
    assert licence_of(tmp_path) is None


def test_a_tagger_is_described(folder):
    found = describe_source(str(folder("bert_tags")))
    assert found.task == "tagging" and found.uses.startswith("tagging")
    assert found.labels == ["red", "green", "blue", "black", "white"]
    assert any(line.startswith("use ") and "tag, " in line for line in found.lines())


@pytest.mark.parametrize(("name", "column"), [("vit", "path"), ("bert_classifier", "text")])
def test_a_table_is_read_before_a_bundle_is_made(folder, command, tmp_path, name, column):
    (tmp_path / "table.csv").write_text("other\nx\n", "utf-8")
    for flags in ([], ["--column", "missing"]):
        given = ["export", folder(name), "--name", "mine", "--check", "table.csv", *flags]
        status, _, errors = command(*given)
        assert status == 2 and f"column '{flags[-1] if flags else column}'" in errors
        assert not (tmp_path / "saved_models").exists()


def test_a_checkpoint_becomes_a_bundle(folder, command):
    assert command("export", folder("vit"), "--name", "mine", "--to", "transformers")[0] == 0
    model, _ = tfx.load("saved_models/mine")
    assert tfx.bundle.read_config("saved_models/mine")["labels"][0] == "red"
    again = tfx.Classifier.from_pretrained("saved_models/mine/transformers")
    images = {"images": np.full((1, 35, 35, 3), 99, "float32")}
    np.testing.assert_allclose(np.asarray(model(images)), np.asarray(again(images)), atol=1e-5)
