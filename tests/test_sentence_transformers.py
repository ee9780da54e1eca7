"""Embedders as sentence-transformers publishes them: pooling, Dense, Normalize, prompts, length.

The oracle is arithmetic on the states of the encoder, which `tests/conformance` compares with
those of `transformers`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from slow import ALL_TESTS

import tfx_transformer as tfx
from tfx_transformer import runtime
from tfx_transformer.errors import InputError
from tfx_transformer.models.pretrained import from_pretrained
from tfx_transformer.models.pretrained.saving import save_pretrained
from tfx_transformer.text.framing import frame

sys.path.insert(0, str(Path(__file__).parent / "conformance"))
from fixtures import fixture_of  # noqa: E402
from weights import write_checkpoint  # noqa: E402

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d", "e", "A", "query"]
TEXTS = ["a b", "c d e a b", "a", "e d c b a e d c b a"]
WIDTH = 33  # of the case


def write_json(file: Path, values) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(values), "utf-8")


def modules(*kinds: str, package: str = "sentence_transformers.models.") -> list[dict]:
    return [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": package + kind}
        for i, kind in enumerate(kinds)
    ]


@pytest.fixture
def folder(tmp_path):
    """Writes an embedder of these modules, with a tokenizer of single words; returns its folder."""

    def write(*kinds: str, pooling="mean", **settings) -> Path:
        described, _ = fixture_of("bert_model")
        path = write_checkpoint(tmp_path / "embedder", described | {"files": {}})
        write_json(path / "modules.json", modules("Transformer", *kinds))
        write_json(path / "1_Pooling" / "config.json", {"pooling_mode": pooling})
        special = {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in
                   (("[CLS]", 2), ("[SEP]", 3))}  # fmt: skip
        single = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                  {"Sequence": {"id": "A", "type_id": 0}},
                  {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]  # fmt: skip
        pair = [*single, {"Sequence": {"id": "B", "type_id": 1}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]  # fmt: skip
        tree = {
            "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
            "added_tokens": [
                {"id": i, "content": w, "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": False, "special": True} for i, w in enumerate(WORDS[:5])],
            "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": None,
            "post_processor": {"type": "TemplateProcessing", "single": single, "pair": pair,
                               "special_tokens": special},
            "model": {"type": "WordPiece", "unk_token": "[UNK]",
                      "continuing_subword_prefix": "##", "max_input_chars_per_word": 9,
                      "vocab": {word: i for i, word in enumerate(WORDS)}},
        }  # fmt: skip
        write_json(path / "tokenizer.json", tree)
        tokens = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        write_json(path / "tokenizer_config.json", tokens | {"unk_token": "[UNK]"})
        for name, values in settings.items():
            write_json(path / f"{name}.json", values)
        return path

    return write


def dense(path: Path, number: int, width: int, out: int, activation: str | None, bias=True):
    """Writes the folder of a Dense; returns its weight (out, width) and bias."""
    numbers = np.random.default_rng(number)
    weight = numbers.normal(size=(out, width)).astype("float32")
    values = {"in_features": width, "out_features": out, "bias": bias}
    values["activation_function"] = activation and f"torch.nn.modules.{activation}"
    write_json(path / f"{number}_Dense" / "config.json", values)
    tensors = {"linear.weight": weight}
    shift = np.zeros(out, "float32")
    if bias:
        tensors["linear.bias"] = shift = numbers.normal(size=out).astype("float32")
    safetensors.numpy.save_file(tensors, path / f"{number}_Dense" / "model.safetensors")
    return weight, shift


def states_of(model, tokenizer, text: str) -> np.ndarray:
    ids = np.array([frame(tokenizer, text, model.config.max_sequence_length)], "int32")
    return np.asarray(model.encode({"token_ids": ids})[0][0])


POOLED = {
    "mean": lambda x: x.mean(0),
    "cls": lambda x: x[0],
    "max": lambda x: x.max(0),
    "mean_sqrt_len_tokens": lambda x: x.sum(0) / np.sqrt(len(x)),
    "weightedmean": lambda x: (
        (x * np.arange(1, len(x) + 1)[:, None]).sum(0) / (len(x) * (len(x) + 1) / 2)
    ),
    "lasttoken": lambda x: x[-1],
}


@pytest.mark.slow(
    but=[
        "mean-True",
        "max-True",
        "mean_sqrt_len_tokens-False",
        "weightedmean-True",
        "lasttoken-False",
    ]
)
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("mode", POOLED)
def test_poolings(mode, normalized, folder):
    path = folder("Pooling", *["Normalize"] * normalized, pooling=mode)
    model, tokenizer = from_pretrained(path)
    vectors = tfx.predictor(model, tokenizer).embed(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        expected = POOLED[mode](states_of(model, tokenizer, text))
        if normalized:
            expected = expected / np.linalg.norm(expected)
        np.testing.assert_allclose(vector, expected, atol=1e-5)


ACTIVATIONS = {
    "linear.Identity": lambda x: x,
    "activation.Tanh": np.tanh,
    "activation.ReLU": lambda x: np.maximum(x, 0),
    "activation.Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "activation.SiLU": lambda x: x / (1 + np.exp(-x)),
    None: lambda x: x,
}


def test_projections_behind_the_pooling(folder, tmp_path):
    path = folder("Pooling", *["Dense"] * len(ACTIVATIONS), pooling="cls")
    projections, width = [], WIDTH
    for number, (name, out) in enumerate(zip(ACTIVATIONS, (11, 7, 13, 17, 7, 5), strict=True), 2):
        projections.append(dense(path, number, width, out, name, bias=number % 2 == 1))
        width = out
    model, tokenizer = from_pretrained(path)
    vectors = tfx.predictor(model, tokenizer).embed(TEXTS)
    assert vectors.shape == (4, 5)
    for text, vector in zip(TEXTS, vectors, strict=True):
        x = states_of(model, tokenizer, text)[0]
        for (weight, bias), activation in zip(projections, ACTIVATIONS.values(), strict=True):
            x = activation(weight @ x + bias)
        np.testing.assert_allclose(vector, x, rtol=1e-5, atol=1e-5)
    saved = tmp_path / "saved"
    saved.mkdir()
    save_pretrained(saved, model)
    again = from_pretrained(saved)[0]
    assert again.config == model.config
    ids = {"token_ids": np.array([[2, 5, 6, 3]], "int32")}
    np.testing.assert_array_equal(np.asarray(again(ids)), np.asarray(model(ids)))


def test_the_files_of_release_5_and_the_folder_of_the_transformer(folder):
    path = folder("Pooling", "Normalize")
    whole = tfx.predictor(*from_pretrained(path)).embed(TEXTS)
    old = dict.fromkeys(["cls_token", "max_tokens", "mean_sqrt_len_tokens", "lasttoken"], False)
    old = {f"pooling_mode_{name}": value for name, value in old.items()}
    write_json(path / "1_Pooling" / "config.json", old | {"pooling_mode_mean_tokens": True})
    listed = modules("Transformer", "Pooling", "Dropout", "Normalize")
    write_json(path / "modules.json", [listed[0] | {"path": "0_BERT"}, *listed[1:]])
    (path / "0_BERT").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (path / name).rename(path / "0_BERT" / name)
    vectors = tfx.predictor(*from_pretrained(path)).embed(TEXTS)
    np.testing.assert_array_equal(vectors, whole)


def test_lower_case_length_and_prompts(folder):
    texts = ["A B", "b C a d e"]
    plain = tfx.predictor(*from_pretrained(folder("Pooling", "Normalize")))
    path = folder(
        "Pooling",
        "Normalize",
        sentence_bert_config={"max_seq_length": 5, "do_lower_case": True},
        config_sentence_transformers={
            "prompts": {"query": "query a ", "document": ""},
            "default_prompt_name": "query",
        },
    )
    model, tokenizer = from_pretrained(path)
    embedder = tfx.predictor(model, tokenizer)
    assert model.config.max_sequence_length == 5
    read = ["query a a", "query a b"]  # what fits between start and end
    np.testing.assert_allclose(embedder.embed(texts), plain.embed(read), atol=1e-6)
    np.testing.assert_array_equal(embedder.embed(texts, prompt="query a "), embedder.embed(texts))
    without = plain.embed(["a b", "b c a"])
    np.testing.assert_allclose(embedder.embed(texts, prompt="document"), without, atol=1e-6)
    message = "no prompt 'other'.\n  Prompts of this model: query, document"
    with pytest.raises(InputError, match=message):
        embedder.embed(texts, prompt="other")


def test_exports_answer_alike_and_the_way_back_keeps_it_all(folder, tmp_path, command):
    path = folder(
        "Pooling",
        "Dense",
        pooling="weightedmean",
        sentence_bert_config={"max_seq_length": 13},
        config_sentence_transformers={
            "prompts": {"query": "query ", "document": "d "},
            "default_prompt_name": "document",
        },
    )
    dense(path, 2, WIDTH, 7, "activation.Tanh")
    expected = tfx.predictor(*from_pretrained(path)).embed(TEXTS, prompt="query")
    by_default = tfx.predictor(*from_pretrained(path)).embed(TEXTS)
    write_table = "text\n" + "\n".join(TEXTS)
    (tmp_path / "texts.csv").write_text(write_table, "utf-8")
    kinds = "litert,transformers" + ",saved_model" * ALL_TESTS
    formats = ["--to", kinds, "--check", tmp_path / "texts.csv"]
    status, output, error = command("export", path, "--name", "mine", *formats, "--json")
    assert status == 0, error
    for result in json.loads(output).values():
        assert (result["identical"], result["of"]) == (4, 4)
    bundle = "saved_models/mine"
    answering = runtime.load(bundle)
    np.testing.assert_allclose(answering.embed(TEXTS), by_default, atol=1e-5)
    np.testing.assert_allclose(answering.embed(TEXTS, prompt="query"), expected, atol=1e-5)
    status, output, _ = command("embed", bundle, *TEXTS, "--prompt", "query", "--json")
    np.testing.assert_allclose(json.loads(output)["vectors"], expected, atol=1e-5)
    again = tfx.predictor(*from_pretrained(f"{bundle}/transformers"))
    np.testing.assert_allclose(again.embed(TEXTS), by_default, atol=1e-6)
    np.testing.assert_allclose(again.embed(TEXTS, prompt="query"), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (modules("Transformer", "Pooling", "CNN"), "the module CNN is not known"),
        (modules("Transformer", "WeightedLayerPooling"), "WeightedLayerPooling is not known"),
        (modules("Transformer", "Normalize", "Pooling"), "Transformer, Normalize, Pooling"),
        (modules("Transformer"), "lists 1 modules"),
        (modules("Transformer", "Pooling", package="custom_st."), "would run code of the check"),
        ({"a": 1}, "is not a list of modules"),
        ([{"idx": 0, "path": "../..", "type": "sentence_transformers.models.Transformer"}] * 2,
         "is not one of sentence-transformers"),
    ],
)  # fmt: skip
def test_modules_that_are_not_known_are_refused(listed, message, folder):
    path = folder("Pooling")
    write_json(path / "modules.json", listed)
    with pytest.raises(InputError, match=message):
        from_pretrained(path)


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("1_Pooling", {"pooling_mode": ["mean", "max"]}, "pools by mean, max"),
        ("1_Pooling", {"pooling_mode": "attention"}, "pools by attention"),
        ("1_Pooling", {"pooling_mode_odd_tokens": True}, "pools by odd_tokens"),
        ("2_Dense", {"out_features": 5, "activation_function": "torch.nn.modules.activation.ELU"},
         "activation.ELU"),
        ("2_Dense", {"out_features": 5, "module_input_name": "token_embeddings"}, "the vector"),
        ("2_Dense", {"out_features": 33, "use_residual": True}, "adds what it reads"),
        ("2_Dense", {"out_features": "5"}, "projections"),
        ("2_Dense", {"out_features": 5}, "holds no weights"),
    ],
)  # fmt: skip
def test_settings_that_are_not_known_are_refused(file, values, message, folder):
    path = folder("Pooling", "Dense")
    if "holds" not in message:
        dense(path, 2, WIDTH, 5, "linear.Identity")
    write_json(path / file / "config.json", values)
    with pytest.raises(InputError, match=message):
        from_pretrained(path)


def test_settings_of_prompts_and_kinds_are_refused(folder):
    kinds = [
        ({"default_prompt_name": "query"}, "default_prompt_name is 'query'"),
        ({"prompts": ["a"]}, "prompts is"),
        ({"model_type": "SparseEncoder"}, "it is a SparseEncoder"),
    ]
    for values, message in kinds:
        path = folder("Pooling", config_sentence_transformers=values)
        with pytest.raises(InputError, match=message):
            from_pretrained(path)


def test_a_base_keeps_its_projections(folder):
    path = folder("Pooling", "Dense", "Normalize")
    dense(path, 2, WIDTH, 7, "activation.Tanh")
    base, _ = from_pretrained(path)
    model = tfx.Embedder(tfx.config_for_fine_tuning(base.config, dropout=0.0))
    tfx.copy_weights(model, base)
    ids = {"token_ids": np.array([[2, 5, 6, 3]], "int32")}
    np.testing.assert_array_equal(np.asarray(model(ids)), np.asarray(base(ids)))
