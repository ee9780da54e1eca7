"""Fine-tuning a pre-trained encoder: its default settings, and the training by contrast."""

import ast
import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from tiny_models import tiny_encoder

import tfx_transformer as tfx
from tfx_transformer import bundle, cli, data
from tfx_transformer.errors import InputError
from tfx_transformer.evaluation.linear import fit_vectors
from tfx_transformer.models.encoders import Classifier, Embedder, MaskedLM
from tfx_transformer.models.heads import add_head
from tfx_transformer.models.losses import LabelContrast
from tfx_transformer.models.saving import load, save
from tfx_transformer.text.tokenizer import MASK_TOKEN, Tokenizer
from tfx_transformer.training import embedder_tuning_defaults, fine_tuning_defaults, is_few
from tfx_transformer.training.heads import HeadOnVectors, config_for_contrast
from tfx_transformer.training.past import Past

RECIPES = Path(__file__).resolve().parent.parent / "recipes"


def test_the_rule_of_fine_tuning_by_hand():
    assert [is_few(rows, 7) for rows in (139, 140)] == [True, False]
    trec = fine_tuning_defaults(384, 4907, 6)
    assert trec == {
        "learning_rate": 1.5e-4, "layer_decay": 0.9, "dropout": 0.1, "consistency": 4.0,
        "batch_size": 32, "epochs": 5, "patience": 3,
    }  # fmt: skip
    assert fine_tuning_defaults(384, 4907)["consistency"] == 0, "there are no classes"
    epochs = {rows: fine_tuning_defaults(256, rows, 2)["epochs"] for rows in (90, 3000, 20_001)}
    assert epochs == {90: 20, 3000: 8, 20_001: 3}
    assert fine_tuning_defaults(384, 10_001, 2)["consistency"] == 0
    rates = [fine_tuning_defaults(width, 900)["learning_rate"] for width in (128, 768, 1024)]
    assert rates == [1.5e-4, 5.3e-5, 3.4e-5]  # 1.5e-4 / 2^1.5, 1.5e-4 * (3 / 8)^1.5
    few = fine_tuning_defaults(384, 347, 77, by_contrast=True)
    assert (few["batch_size"], few["consistency"]) == (96, 0)
    assert few["epochs"] == few["patience"] == 10  # 4 steps each
    epochs = [fine_tuning_defaults(384, rows, 77, True)["epochs"] for rows in (90, 769, 1500)]
    assert epochs == [20, 5, 3]  # 1, 9 and 16 steps each
    for method in ("lora", "dora"):
        adapters = fine_tuning_defaults(384, 4907, 6, method=method)
        assert adapters == trec | {"learning_rate": 1.5e-3, "layer_decay": 1.0}
    assert fine_tuning_defaults(768, 900, method="lora")["learning_rate"] == 5.3e-4


def test_embedders_with_a_base_change_less():
    found = [embedder_tuning_defaults(width) for width in (128, 384, 768)]
    assert [one["learning_rate"] for one in found] == [3e-5, 3e-5, 1.1e-5]  # 3e-5 / 2^1.5
    assert found[0] == {"epochs": 4, "learning_rate": 3e-5, "layer_decay": 0.9}


def test_every_recipe_that_trains_adapters_passes_its_method():
    calls = []
    for path in sorted(RECIPES.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if getattr(getattr(node, "func", None), "attr", "") == "fine_tuning_defaults":
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                calls.append((path.stem, [getattr(one, "id", "") for one in given]))
    assert [name for name, _ in calls] == ["tagging", "text_classification", "text_regression"]
    assert all("method" in names for _, names in calls)


def test_the_contrast_of_labels_by_hand():
    # Texts 1, 3: one label, at 60 degrees; text 2 is at right angles to text 1; text 4 is alone.
    vectors = np.array([[2, 0], [0, 5], [0.5, math.sqrt(0.75)], [-3, 0]], "float32")
    found = LabelContrast(0.5, reduction=None)(np.array([7, 8, 7, 9]), vectors)
    cosines = {(0, 1): 0.0, (0, 2): 0.5, (0, 3): -1.0, (1, 2): math.sqrt(0.75), (2, 3): -0.5}

    def loss(row, pair):
        scores = [2 * c for places, c in cosines.items() if row in places]
        return math.log(sum(map(math.exp, scores))) - 2 * cosines[pair]

    np.testing.assert_allclose(found, [loss(0, (0, 2)), 0, loss(2, (0, 2)), 0], rtol=1e-5)
    three = LabelContrast(1.0, reduction=None)(
        np.array([[1], [1], [1]]), np.eye(3, dtype="float32")
    )
    np.testing.assert_allclose(three, [math.log(2)] * 3, rtol=1e-6)
    assert LabelContrast.from_config(LabelContrast(0.3).get_config()).temperature == 0.3
    with pytest.raises(InputError, match="temperature is 0"):
        LabelContrast(0)


@pytest.mark.parametrize("classes", [2, 5])
def test_a_head_is_a_logistic_regression_whatever_the_scale(classes):
    random = np.random.default_rng(3)
    ids = np.arange(35) % classes
    vectors = random.normal(size=(35, 11)) + ids[:, None] * random.normal(size=11)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    theirs = LogisticRegression(C=10, max_iter=500).fit(vectors, ids).predict_proba(vectors)
    for scale in (1, 19.6):
        kernel, bias = fit_vectors(scale * vectors, ids, classes + 1)
        logits = scale * vectors @ kernel + bias
        ours = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert (ours[:, classes] < 1e-3).all(), "the last class has no vector"
        np.testing.assert_allclose(ours[:, :classes], theirs, atol=2e-3)


@pytest.mark.slow(but=["False"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_an_embedder_and_its_head_are_one_classifier(norm_first):
    words = Tokenizer.train(["a cat and a dog"], 270)
    rows = [("a cat", "x"), ("the dog", "y"), ("a cat and a cat", "x"), ("dogs", "y"), ("b", "z")]
    table = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    train = data.read_labelled_texts(table)
    # As the configuration of a classifier that is the base: the head knows nothing of its read-out.
    read_out = {"pooler": True, "pooler_norm": True, "unit_features": True}
    base = tiny_encoder(
        MaskedLM, vocabulary_size=words.vocabulary_size, norm_first=norm_first, **read_out
    )
    config = config_for_contrast(tfx.config_for_fine_tuning(base.config, dropout=0.0))
    model = Embedder(config)
    tfx.copy_weights(model, base)
    embedder = tfx.predictor(model, words)
    head = HeadOnVectors(embedder, train, ["x", "y", "z"])
    vectors = embedder.embed(table["text"])
    if not norm_first:  # all of one length: that of a normalized vector
        lengths = np.linalg.norm(vectors, axis=1)
        np.testing.assert_allclose(lengths, math.sqrt(config.hidden_dim), rtol=1e-2)
    fitted = head.fit()
    classifier = add_head(model, fitted)
    assert isinstance(classifier, Classifier) and classifier.config.num_classes == 3
    ours = tfx.predictor(classifier, words, ["x", "y", "z"]).probabilities(table["text"])
    logits = vectors @ fitted.weights.T + fitted.bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    np.testing.assert_allclose(head.probabilities(table["text"]), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({}, True),  # imported
        ({"training": {"epochs": 3}}, False),  # of a version that kept no settings
        ({"training": {"epochs": 3}, "settings": {"learning_rate": 2e-3}}, False),
        ({"training": {"epochs": 3}, "settings": {"learning_rate": 1.5e-4}}, True),
        ({"settings": {"learning_rate": 1e-3}, "base": "org/name"}, True),
    ],
)
def test_a_bundle_is_pre_trained_by_its_record(tmp_path, record, expected):
    config = {"format": bundle.FORMAT, "task": "masked", "architecture": {}} | record
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    assert Past(tmp_path).is_pretrained is expected
    (tmp_path / "config.json").write_text(json.dumps(config | {"settings": [1]}), "utf-8")
    with pytest.raises(InputError, match="'settings' is .*\n.*an object"):
        Past(tmp_path)


def test_mixed_batches_hold_texts_of_any_length():
    words = Tokenizer.train([], 259)
    texts = ["a" * (1 + number % 50) for number in range(200)]
    train = data.read_labelled_texts({"text": texts, "label": ["x", "y"] * 100})
    spreads = {}
    for mixed in (False, True):
        options = {"batch_size": 10, "max_length": 60, "mixed": mixed}
        batches = list(data.labelled_texts(train, words, ["x", "y"], **options))
        lengths = [(ids["token_ids"].numpy() != words.padding_id).sum(1) for ids, *_ in batches]
        assert sum(map(len, lengths)) == 200
        spreads[mixed] = np.mean([found.max() - found.min() for found in lengths])
    assert spreads[True] > 5 * spreads[False]


def test_a_base_with_few_rows_gets_a_logistic_regression(tmp_path, bare, monkeypatch):
    """At a rate of almost nothing the vectors stay those of the base."""
    monkeypatch.chdir(tmp_path)
    kinds = {"animal": "cat dog bird horse cow", "food": "rice soup cake bread tea"}
    rows = [
        (f"The {w} is {i}.", k) for k, words in kinds.items() for w in words.split() for i in "ab"
    ]
    for name, part in (("few.csv", rows), ("held.csv", rows[::3])):
        with open(name, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *part])
    words = Tokenizer.train([text for text, _ in rows], 300, [MASK_TOKEN])
    base = tiny_encoder(MaskedLM, vocabulary_size=words.vocabulary_size, norm_first=False)
    save("base", base, words)
    cli.recipe_main("text_classification")(
        csv="few.csv", validation="held.csv", base="base", name="few",
        learning_rate=1e-12, weight_decay=0.0, epochs=1,
    )  # fmt: skip
    settings = json.loads(Path("runs/few/settings.json").read_text("utf-8"))
    chosen = {name: settings[name] for name in ("batch_size", "layer_decay", "dropout", "patience")}
    assert chosen == {"batch_size": 96, "layer_decay": 0.9, "dropout": 0.1, "patience": 20}
    model, tokenizer = load("saved_models/few")
    found = tfx.predictor(model, tokenizer, list(kinds))
    texts, labels = zip(*rows, strict=True)
    pooled = []
    for row in found.rows(texts):
        states, _ = base.encode({"token_ids": np.array([row], "int32")})
        pooled.append(np.asarray(states)[0].mean(axis=0))
    vectors = np.stack(pooled)
    vectors -= vectors.mean(axis=1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    odds = LogisticRegression(C=10, max_iter=500).fit(vectors, labels).decision_function(vectors)
    temperature = bundle.read_config("saved_models/few")["calibration"]["temperature"]
    expected = softmax(np.stack([-odds, odds], axis=1) / 2 / temperature, axis=1)
    np.testing.assert_allclose(found.probabilities(texts), expected, atol=0.02)
