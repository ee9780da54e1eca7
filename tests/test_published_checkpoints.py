"""Checkpoints as they are published: names, heads and forms that `save_pretrained` writes no more.

The oracle is the answer of `transformers` to the same weights under today's names, in
`tests/conformance`.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tfx_transformer.errors import InputError
from tfx_transformer.models.pretrained import from_pretrained
from tfx_transformer.models.pretrained.saving import save_pretrained
from tfx_transformer.prediction.classification import Labels

sys.path.insert(0, str(Path(__file__).parent / "conformance"))
from fixtures import fixture_of, inputs_of  # noqa: E402
from weights import write_checkpoint  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    """Writes the checkpoint of a case, its tensors and its config.json changed, and returns it."""

    def write(name: str, change=dict, **config) -> Path:
        described, _ = fixture_of(name)
        path = write_checkpoint(
            tmp_path / name, described | {"config": described["config"] | config}
        )
        file = path / "model.safetensors"
        safetensors.numpy.save_file(change(dict(safetensors.numpy.load_file(file))), file)
        return path

    return write


def answer(model, name: str) -> np.ndarray:
    return np.asarray(model(inputs_of(model, name), training=False))


def assert_close(name: str, actual, expected, atol=1e-4) -> None:
    """Equal, but where a row of the case has ended: there its answer is 0."""
    arrays = fixture_of(name)[1]
    inside = arrays["vectors" if "vectors" in arrays else "logits"].any(-1, keepdims=True)
    np.testing.assert_allclose(np.asarray(actual) * inside, expected * inside, atol=atol)


def load(path: Path, task: str | None = None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return from_pretrained(path, task=task)[0]


def of_tensorflow(tensors):
    endings = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for new, old in endings.items():
        tensors = {name.replace(new, old): array for name, array in tensors.items()}
    return tensors


def with_buffers(tensors):
    """What GPT-2, BERT, Llama and T5 of older releases hold beside their weights."""
    stem = next(iter(tensors)).split(".")[0]
    return tensors | {
        f"{stem}.h.0.attn.bias": np.tril(np.ones((1, 1, 5, 5), "uint8")),
        f"{stem}.h.0.attn.masked_bias": np.full((), -1e4, "float32"),
        f"{stem}.embeddings.position_ids": np.arange(5)[None],
        f"{stem}.layers.0.self_attn.rotary_emb.inv_freq": np.ones(5, "float32"),
        "cls.seq_relationship.weight": np.ones((2, 33), "float32"),
    }


def without(prefix):
    return lambda tensors: {n.removeprefix(prefix): array for n, array in tensors.items()}


def behind(prefix):
    return lambda tensors: {prefix + name: array for name, array in tensors.items()}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("bert", of_tensorflow),
        ("bert", with_buffers),
        ("bert", lambda t: behind("module.")(of_tensorflow(t))),
        ("bert_classifier", behind("model.")),
        ("bert_model", behind("0.auto_model.")),
        ("bert_model", behind("bert.")),
        ("gpt2", lambda t: without("transformer.")(with_buffers(t))),
        ("llama", lambda t: behind("module.")(with_buffers(t))),
        ("qwen2", without("model.")),
        ("t5", behind("transformer.")),
        ("vit", behind("model.")),
    ],
)
def test_names_of_older_and_other_programs(name, change, folder):
    _, arrays = fixture_of(name)
    model = load(folder(name, change))
    expected = arrays["vectors" if "vectors" in arrays else "logits"]
    assert_close(name, answer(model, name), expected)


def test_what_t5_stores_twice_or_never_reads(folder):
    name = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"

    def change(tensors):
        copies = {f"{side}.embed_tokens.weight": "shared.weight" for side in ("encoder", "decoder")}
        tensors |= {copy: tensors[original].copy() for copy, original in copies.items()}
        return tensors | {name: np.ones((14, 4), "float32")}

    path = folder("t5", change)
    assert_close("t5", answer(load(path), "t5"), fixture_of("t5")[1]["logits"])

    def differ(tensors):
        tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"] + 1
        return tensors

    with pytest.raises(InputError, match="encoder.embed_tokens.weight is not the copy"):
        load(folder("t5", differ))


def test_one_tensor_by_two_names_is_named(folder):
    names = "LayerNorm.(beta|bias) and .*LayerNorm.(bias|beta)"
    with pytest.raises(InputError, match=f"{names} are the same"):
        load(folder("bert", lambda tensors: tensors | of_tensorflow(tensors)))


# Heads


HEADS = {
    "bert": ("bert.embeddings.word_embeddings", "cls.predictions.decoder", "cls.predictions.bias"),
    "roberta": ("roberta.embeddings.word_embeddings", "lm_head.decoder", "lm_head.bias"),
    "qwen2": ("model.embed_tokens", "lm_head", None),
    "gpt2": ("transformer.wte", "lm_head", None),
    "t5": ("shared", "lm_head", None),
}


@pytest.mark.slow(but=["bert-True", "qwen2-False", "t5-True"])
@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("name", HEADS)
def test_a_head_of_its_own_counts_whatever_the_flag_says(name, flag, folder, tmp_path):
    """A head of twice the table makes twice the logits, but for their bias."""
    table, head, bias = HEADS[name]

    def change(tensors):
        return tensors | {f"{head}.weight": 2 * tensors[f"{table}.weight"]}

    options = {} if name == "t5" else {"tie_word_embeddings": flag}
    path = folder(name, change, **options)
    model, arrays = load(path), fixture_of(name)[1]
    tensors = safetensors.numpy.load_file(path / "model.safetensors")
    expected = 2 * arrays["logits"]
    if bias is not None:
        expected = expected - tensors[bias]
    assert_close(name, answer(model, name), expected, 3e-4)
    assert not model.config.tie_embeddings
    saved = tmp_path / "saved"
    saved.mkdir()
    save_pretrained(saved, model)
    assert_close(name, answer(load(saved), name), expected, 3e-4)
    if bias is not None:  # which transformers ties only together with the weights
        kept = safetensors.numpy.load_file(saved / "model.safetensors")
        np.testing.assert_array_equal(kept[f"{head}.bias"], kept[bias])


@pytest.mark.slow(but=["bert", "qwen2", "t5"])
@pytest.mark.parametrize("name", HEADS)
def test_an_equal_head_stays_tied(name, folder):
    table, head, _ = HEADS[name]
    same = folder(name, lambda t: t | {f"{head}.weight": t[f"{table}.weight"].copy()})
    model = load(same)
    assert model.config.tie_embeddings
    assert_close(name, answer(model, name), fixture_of(name)[1]["logits"])


def test_the_bias_of_the_decoder_is_the_one_that_counts(folder):
    added = np.linspace(-1, 1, 211, dtype="float32")
    name = "cls.predictions.decoder.bias"
    model = load(folder("bert", lambda t: t | {name: t["cls.predictions.bias"] + added}))
    expected = fixture_of("bert")[1]["logits"]
    assert_close("bert", answer(model, "bert"), expected + added)


@pytest.mark.parametrize(
    ("name", "architecture", "extra"),
    [
        ("bert", "BertForQuestionAnswering", "qa_outputs.bias"),
        ("bert", "BertForMultipleChoice", "classifier.bias"),
        ("bert", "BertForNextSentencePrediction", "cls.seq_relationship.weight"),
        ("roberta", "RobertaForMultipleChoice", "classifier.weight"),
    ],
)
def test_encoders_with_another_head_are_bases(name, architecture, extra, folder):
    def change(tensors):
        body = {n: array for n, array in tensors.items() if n.startswith(f"{name}.")}
        return body | {extra: np.ones(3, "float32")}

    model = load(folder(name, change, architectures=[architecture]))
    assert model.task == "embedding"
    states, _ = model.encode(inputs_of(load(folder(name)), name))
    expected = fixture_of(name)[1]["hidden_states"][-1]
    assert_close(name, states, expected)


@pytest.mark.slow(but=["llama-LlamaForSequenceClassification-extra1", "gpt2-GPT2Model-extra3"])
@pytest.mark.parametrize(
    ("name", "architecture", "extra"),
    [
        ("llama", "LlamaModel", {}),
        ("llama", "LlamaForSequenceClassification", {"score.weight": np.ones((3, 36), "float32")}),
        ("qwen2", "Qwen2Model", {}),
        ("gpt2", "GPT2Model", {}),
    ],
)
def test_decoders_without_a_head_are_bases(name, architecture, extra, folder):
    whole = load(folder(name))

    def change(tensors):
        return {n: a for n, a in tensors.items() if not n.startswith("lm_head")} | extra

    path = folder(name, change, architectures=[architecture])
    with pytest.warns(UserWarning, match=f"{architecture} has no head"):
        model = from_pretrained(path)[0]
    ids = np.array([[5, 7, 11, 13]], "int32")
    ours, theirs = (np.asarray(m.decoder(m.embedding(ids))) for m in (model, whole))
    np.testing.assert_array_equal(ours, theirs)
    head = np.asarray(model({"token_ids": ids}))
    table = np.asarray(model.embedding.embeddings)
    np.testing.assert_allclose(head, ours @ table.T, atol=1e-4)  # a copy of the table reads out


def test_the_encoder_of_a_t5_is_an_embedder(folder):
    def change(tensors):
        return {n: a for n, a in tensors.items() if n.startswith(("shared", "encoder"))}

    model = load(folder("t5", change, architectures=["T5EncoderModel"]))
    whole = load(folder("t5"))
    assert model.task == "embedding"
    ids = inputs_of(whole, "t5")["encoder_token_ids"]
    states, _ = model.encode({"token_ids": ids})
    np.testing.assert_array_equal(np.asarray(states), np.asarray(whole.encode(ids)[0]))


@pytest.mark.slow(but=["vit"])
@pytest.mark.parametrize("name", ["vit", "deit"])
def test_an_image_encoder_without_a_head_is_a_base(name, folder):
    def change(tensors):
        kept = {n: a for n, a in tensors.items() if not n.startswith("classifier")}
        return without(f"{name}.")(kept) | {"pooler.dense.weight": np.ones((33, 33), "float32")}

    described, _ = fixture_of(name)
    architecture = described["architecture"].replace("ForImageClassification", "Model")
    whole, path = load(folder(name)), folder(name, change, architectures=[architecture])
    with pytest.warns(UserWarning, match="has no head"):
        model = from_pretrained(path, task="classification")[0]
    images = inputs_of(whole, name)
    ours, theirs = (np.asarray(m.encode(images)[0]) for m in (model, whole))
    np.testing.assert_array_equal(ours, theirs)


def test_a_reranker_scores_a_pair_with_one_number(folder):
    """Its one number is the logit of a sigmoid, as sentence-transformers' CrossEncoder has it."""
    weight, bias = np.full((1, 33), 0.25, "float32"), np.full(1, -0.5, "float32")

    def change(tensors):
        return tensors | {"classifier.weight": weight, "classifier.bias": bias}

    labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    five, one = load(folder("bert_classifier")), load(folder("bert_classifier", change, **labels))
    assert (one.config.num_classes, one.config.multi_label) == (1, True)
    inputs = inputs_of(one, "bert_classifier")
    encoded, mask = five.encode(inputs)
    pooled = np.asarray(five.pooler(five.pooled(encoded, mask)))
    logits = np.asarray(one(inputs))
    np.testing.assert_allclose(logits, pooled @ weight.T + bias, atol=1e-5)
    (found,) = Labels(["score"], multi_label=True).classifications(1 / (1 + np.exp(-logits[:1])))
    assert found.probability == pytest.approx(1 / (1 + np.exp(-logits[0, 0])), abs=1e-6)


# Refusals


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model-Q4_K_M.gguf", r"Q4_K_M\.gguf only, weights for llama\.cpp \(GGUF\)"),
        ("model.onnx", "a graph for ONNX Runtime"),
        ("tf_model.h5", "weights of TensorFlow"),
        ("model.ckpt.index", "a checkpoint of TensorFlow 1"),
        ("flax_model.msgpack", "weights of Flax"),
        ("pytorch_model.bin", "a pickle"),
        ("model.pt", "a pickle"),
        ("consolidated.safetensors", "the publisher's own program"),
    ],
)
def test_other_forms_are_named(file, message, folder):
    path = folder("bert")
    (path / "model.safetensors").rename(path / file)
    with pytest.raises(InputError, match=message) as refused:
        from_pretrained(path)
    assert len(str(refused.value).splitlines()) == 2  # what is there, then what to do


def test_an_unknown_family_is_named_before_the_form_of_its_files(folder):
    path = folder("bert", model_type="rwkv")
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(InputError, match="type 'rwkv' are not known"):
        from_pretrained(path)


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "awq", "bits": 4}, "awq"),
        ({"quant_method": "gptq"}, "gptq"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, r"bitsandbytes \(4 bits\)"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
    ],
)
def test_quantized_weights_are_refused_by_the_name_of_the_method(settings, method, folder):
    with pytest.raises(InputError, match=f"quantized, by the method '{method}'"):
        from_pretrained(folder("llama", quantization_config=settings))


def test_eight_bit_numbers_are_named(folder):
    path = folder("llama")
    text = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    content = len(text).to_bytes(8, "little") + text + bytes(4)
    (path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="a is stored as F8_E4M3: the weights are quantized"):
        from_pretrained(path)


def test_a_translator_that_is_not_given_its_language_is_a_base_only(folder, command):
    path = folder("m2m_100")
    status, _, error = command("export", path, "--name", "mine", "--to", "transformers")
    assert status == 2 and "--base" in error
    assert "a m2m_100 needs a token that names the language" in error
    assert from_pretrained(path)[0].task == "seq2seq"


def test_a_bundle_is_made_of_what_answers_only(folder, command):
    def change(tensors):
        return without("vit.")({n: a for n, a in tensors.items() if "classifier" not in n})

    path = folder("vit", change, architectures=["ViTModel"])
    status, _, error = command("export", path, "--name", "mine", "--to", "transformers")
    assert status == 2 and "ViTModel has no head" in error and "--base" in error


def test_position_tables_of_marian_are_the_computed_ones_or_refused(folder):
    width = 36
    angles = np.arange(89)[:, None] / 10_000 ** (np.arange(0, width, 2) / width)
    table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype("float16")
    name = "model.encoder.embed_positions.weight"
    assert from_pretrained(folder("marian", lambda own: own | {name: table}))[0].task == "seq2seq"
    trained = table + np.float16(0.1)
    with pytest.raises(InputError, match="encoder.embed_positions.weight has other numbers"):
        from_pretrained(folder("marian", lambda own: own | {name: trained}))


@pytest.mark.parametrize(
    ("recipe", "case"),
    [
        ("embedding", "bert_model"),
        ("text_classification", "bert_model"),
        ("instruction_finetuning", "gpt2"),
        ("pretraining", "gpt2"),
        ("translation", "t5"),
    ],
)
def test_a_base_without_a_tokenizer_is_refused_by_every_recipe_of_texts(
    recipe, case, tmp_path, command
):
    described, _ = fixture_of(case)
    base = write_checkpoint(tmp_path / "base", described | {"files": {}})
    status, _, errors = command("run", recipe, "--base", base)
    assert status == 2
    assert f"the base {base} has no tokenizer, so it reads no text.\n  Put " in errors
    if recipe == "text_classification":
        images = write_checkpoint(tmp_path / "images", fixture_of("vit")[0])
        status, _, errors = command("run", recipe, "--base", images)
        assert (status, "reads images, not texts" in errors) == (2, True), errors
