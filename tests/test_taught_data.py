"""What students of images, tags, numbers and answers learn: losses by SciPy, batches by hand."""

import numpy as np
import pytest
from PIL import Image
from scipy.special import log_softmax, rel_entr, softmax
from tiny_models import tiny_causal

from tfx_transformer.data import (
    Conversations,
    LabelledImages,
    Scale,
    ScoredTexts,
    Span,
    TaggedTexts,
    UnlabelledTexts,
    instructions,
    read_unlabelled_images,
    table_files,
    tag_names,
    tagged_texts,
    taught_conversations,
    taught_images,
    taught_instructions,
    taught_numbers,
    taught_tags,
    unanswered,
)
from tfx_transformer.data.instruction_batches import instruction_examples
from tfx_transformer.data.taught_tag import continued, word_logits
from tfx_transformer.errors import InputError
from tfx_transformer.models.distillation import (
    TaughtAccuracy,
    TaughtCrossentropy,
    TaughtError,
    TaughtPerplexity,
    TaughtTokenAccuracy,
    TaughtTokens,
)
from tfx_transformer.prediction.tagging import TaggedTokens
from tfx_transformer.text.prompts import ROLE_TOKENS, ChatTemplate
from tfx_transformer.text.tokenizer import Tokenizer
from tfx_transformer.training import augment_images
from tfx_transformer.training.next_tokens import NextTokens

# Losses


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 3, shape).astype("float32")


def test_the_loss_of_tags_by_scipy():
    teacher, student = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    labels = np.eye(4, dtype="float32")[[[0, 3, 1], [2, 2, 0]]]
    labels[1] = -1  # a text without spans
    weights = np.array([[1, 1, 0], [1, 0, 0]], "float32")  # padding weighs nothing
    targets = np.stack([labels, teacher], axis=2)
    p, q = softmax(teacher / 3.0, axis=-1), softmax(student / 3.0, axis=-1)
    expected = 0.25 * 9 * rel_entr(p, q).sum(axis=-1)
    expected[0] -= 0.75 * (labels * log_softmax(student, axis=-1)).sum(axis=-1)[0]
    loss = TaughtCrossentropy(3.0, 0.25)
    found = float(loss(targets, student, weights))
    assert found == pytest.approx((weights * expected).sum() / weights.sum(), rel=1e-5)
    targets[0, 2] = targets[1, 1:] = 99
    assert float(loss(targets, student, weights)) == pytest.approx(found)
    metric = TaughtAccuracy(name="token_accuracy")
    metric.update_state(targets, labels.argmax(-1)[..., None] == np.arange(4), weights)
    assert float(metric.result()) == 1.0
    metric.update_state(targets, np.array([[[1, 0, 0, 0.0]] * 3] * 2), weights)
    assert float(metric.result()) == 0.75  # 3 of 4 tokens with a label


@pytest.mark.parametrize(
    ("absolute", "expected"),
    [(False, [0.25 * 0.25 + 0.75 * 2.25, 0.25 * 4]), (True, [0.25 * 0.5 + 0.75 * 1.5, 0.25 * 2])],
)
def test_the_loss_of_numbers_by_hand(absolute, expected):
    targets = np.array([[1, 3, 1], [0, -1, 0]], "float32")
    loss = TaughtError(0.25, absolute, reduction=None)
    found = np.asarray(loss(targets, np.array([[2.5], [1.0]], "float32")))
    assert found.tolist() == pytest.approx(expected)


def likeliest(logits, count, temperature, known=None):
    """The ids of the likeliest of the known tokens and their log-probabilities, as batches hold
    them."""
    logs = log_softmax(logits.astype(float) / temperature, axis=-1)
    ids = np.argsort(-logs[..., :known], axis=-1)[..., :count]
    return np.concatenate([ids, np.take_along_axis(logs, ids, axis=-1)], axis=-1)


@pytest.mark.parametrize(("count", "temperature", "share"), [(11, 2.0, 0.3), (4, 3.0, 1.0)])
def test_the_loss_of_written_tokens_by_scipy(count, temperature, share):
    teacher, student = normal(2, 3, 11), normal(2, 3, 11, seed=1)
    labels = np.array([[1, 10, 0], [7, 0, 0]])
    kept = likeliest(teacher, count, temperature)
    targets = np.concatenate([labels[..., None], kept], axis=-1).astype("float32")
    expected = np.zeros((2, 3))
    for place in np.ndindex(2, 3):
        p, q = (softmax(z[place].astype(float) / temperature) for z in (teacher, student))
        own = kept[place][:count].astype(int)
        # All other tokens count as one.
        p, q = (np.append(x[own], np.delete(x, own).sum()) for x in (p, q))
        expected[place] = share * temperature**2 * rel_entr(p, q).sum()
        expected[place] -= (1 - share) * log_softmax(student[place])[labels[place]]
    found = TaughtTokens(count, temperature, share, reduction=None)(targets, student)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)
    weights = np.array([[1, 0, 0], [1, 1, 0]], "float32")
    loss = TaughtTokens(count, temperature, share)
    targets[0, 1:] = targets[1, 2] = 0  # padding
    mean = (weights * expected).sum() / weights.sum()
    assert float(loss(targets, student, weights)) == pytest.approx(mean, rel=1e-5)
    hits, perplexity = TaughtTokenAccuracy(), TaughtPerplexity()
    for metric in (hits, perplexity):
        metric.update_state(targets, student, weights)
    places = [(0, 0), (1, 0), (1, 1)]
    right = [student[place].argmax() == targets[place][0] for place in places]
    logs = [log_softmax(student[place])[int(targets[place][0])] for place in places]
    assert float(hits.result()) == pytest.approx(np.mean(right))
    assert float(perplexity.result()) == pytest.approx(np.exp(-np.mean(logs)), rel=1e-5)


def test_the_gradient_of_written_tokens_is_finite_where_the_student_is_sure():
    import tensorflow as tf

    targets = np.concatenate([[0], likeliest(normal(11), 4, 1.0)]).astype("float32")
    student = tf.Variable([[[100.0] + [-100.0] * 10]])
    with tf.GradientTape() as tape:
        loss = TaughtTokens(4, 1.0, 0.5)(targets[None, None], student)
    assert np.isfinite(loss) and np.isfinite(tape.gradient(loss, student)).all()


# Images


def draw(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 4), (grey,) * 3).save(path)
    return path


def test_images_of_a_folder_and_of_a_table(tmp_path):
    names = ["b.png", "deep/er/a.JPG", "c.webp"]
    files = [draw(tmp_path / "more" / name, 50 * n) for n, name in enumerate(names)]
    draw(tmp_path / "more" / ".hidden" / "d.png", 9)
    (tmp_path / "more" / "notes.txt").write_text("no image", "utf-8")
    found = read_unlabelled_images(tmp_path / "more")
    assert found.files == [files[0], files[2], files[1]] and found.rows == [1, 2, 3]
    # Copies count once; neither those that are known.
    draw(tmp_path / "more" / "copy.png", 0)
    known = read_unlabelled_images({"path": [np.asarray(Image.open(files[2]))]})
    assert len(read_unlabelled_images(tmp_path / "more").without(found.keys())) == 0
    assert len(read_unlabelled_images(tmp_path / "more").without()) == 3 and len(known) == 1
    rows = "file,n\nmore/b.png,1\nmore/none.png,2\n"
    (tmp_path / "more.csv").write_text(f"{rows},3\n", "utf-8")
    both = f"{tmp_path / 'more.csv'},{tmp_path / 'more'}"
    (tables,) = table_files(both)
    joined = read_unlabelled_images(tables, "file", skip_bad_rows=True)
    assert len(joined) == 5 and joined.rows[0] == f"2 of {tmp_path / 'more.csv'}"
    bad_rows = [f"{row} of {tmp_path / 'more.csv'}" for row in (3, 4)]
    assert [bad.row for bad in joined.bad_rows] == bad_rows
    (tmp_path / "more.csv").write_text(rows, "utf-8")
    with pytest.raises(InputError, match=r"more.csv, row 3: .*none.png: there is no such file"):
        read_unlabelled_images(tmp_path / "more.csv", "file")
    (tmp_path / "more" / "b.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="b.png"):
        read_unlabelled_images(tmp_path / "more")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there is no image in or below this folder"):
        read_unlabelled_images(tmp_path / "empty")


def test_batches_of_images_have_labels_and_answers(tmp_path):
    files = [draw(tmp_path / f"{n}.png", 40 * n) for n in range(3)]
    examples = LabelledImages(files[:2], [("b",), ("a",)], [1, 2])
    others = read_unlabelled_images({"path": files[2:]})
    answers = normal(3, 2)
    options = {"image_size": 4, "batch_size": 3, "shuffle": False, "weights": np.array([2.0, 5.0])}
    batches = taught_images(examples, ["a", "b"], answers, others, **options)
    ((inputs, targets, weights),) = batches.as_numpy_iterator()
    assert inputs["images"][:, 0, 0, 0].tolist() == [0, 40, 80]
    np.testing.assert_array_equal(targets[:, 0], [[0, 1], [1, 0], [-1, -1]])
    np.testing.assert_array_equal(targets[:, 1], answers)
    assert weights.tolist() == [5, 2, 1] and targets.dtype == np.float32


def test_mixed_images_have_mixed_labels_and_answers():
    """Each image is a class of its own, so that its mixed label says its share."""
    import tensorflow as tf

    count = 12
    images = np.ones((count, 8, 8, 3), "float32") * np.linspace(40, 215, count)[:, None, None, None]
    labels, teacher = np.eye(count, dtype="float32"), normal(count, count)
    weights = np.linspace(1, 3, count).astype("float32")

    def mixed(targets, temperature=1.0):
        arrays = ({"images": images.astype("float32")}, targets, weights)
        batches = tf.data.Dataset.from_tensor_slices(arrays).batch(count)
        (batch,) = augment_images(batches, 8, 3, 1.0, temperature).as_numpy_iterator()
        return batch

    inputs, plain, totals = mixed(labels)
    changed, targets, sums = mixed(np.stack([labels, teacher], axis=1), 2.0)
    np.testing.assert_array_equal(changed["images"], inputs["images"])
    np.testing.assert_allclose(sums, totals, rtol=1e-5)
    np.testing.assert_allclose(targets[:, 0], plain, atol=1e-5)
    assert ((plain > 0.01).sum(axis=1) == 2).any(), "no image was mixed"
    answers = softmax(targets[:, 1] / 2.0, axis=1)
    np.testing.assert_allclose(answers, plain @ softmax(teacher / 2.0, axis=1), atol=1e-5)
    # An image without a label has a share of the weight, but none of the labels.
    labels[::2] = -1
    _, some, again = mixed(np.stack([labels, teacher], axis=1), 2.0)
    known = np.where(np.arange(count) % 2, plain, 0)
    known[known.sum(axis=1) == 0] = -1
    np.testing.assert_allclose(some[:, 0], known, atol=1e-5)
    np.testing.assert_allclose(again, totals, rtol=1e-5)
    np.testing.assert_allclose(some[:, 1], targets[:, 1], atol=1e-4)


# Tags

TAGS = tag_names(["P", "Q"])


def test_the_first_token_of_a_word_answers():
    text = "Ann lives in New York."
    offsets = [(0, 2), (2, 3), (4, 4), (4, 9), (10, 12), (13, 21)]
    logits = normal(6, 5)
    found = word_logits(text, TaggedTokens(offsets, logits), TAGS)
    # "York" is in the token of "New", so a span cannot begin there; "." has no token.
    np.testing.assert_array_equal(found[:4], logits[[0, 3, 4, 5]])
    assert np.isnan(found[5]).all() and len(found) == 6
    begun, inside = softmax(logits[5]), softmax(found[4])
    assert inside[1] == inside[3] == 0
    np.testing.assert_allclose(inside[[0, 2, 4]], begun[[0, 2, 4]] + [0, begun[1], begun[3]], 1e-5)


def test_batches_of_tags_have_spans_and_answers():
    tokenizer = Tokenizer.train([], 259)  # each byte is a token
    texts = ["Ann é.", "to Bo"]
    examples = TaggedTexts(texts, [(Span(0, 3, "P"),), (Span(3, 5, "Q"),)], [1, 2])
    others = UnlabelledTexts([("My é",)], [1])
    answers = [normal(count, 5, seed=count) for count in (3, 2)] + [normal(2, 5, seed=9)]
    answers[0][1] = answers[2][0] = np.nan
    options = {"batch_size": 3, "max_length": 19, "shuffle": False}
    ((_, tags, plain),) = tagged_texts(
        examples, tokenizer, ["P", "Q"], **options
    ).as_numpy_iterator()
    batches = taught_tags(examples, tokenizer, ["P", "Q"], answers, others, **options)
    ((inputs, targets, weights),) = batches.as_numpy_iterator()
    assert targets.shape == (*inputs["token_ids"].shape, 2, 5)
    np.testing.assert_array_equal(weights[:2], plain)
    np.testing.assert_array_equal(targets[:2, :, 0].argmax(-1)[plain > 0], tags[plain > 0])
    after = [continued(table, TAGS) for table in answers]
    (first,) = (place for place in range(3) if plain[0, place] and not plain[0, :place].any())
    own = targets[0, first:, 1]
    np.testing.assert_array_equal(own[:3], [answers[0][0], after[0][0], after[0][0]])
    # The teacher has no answer to "é", of two bytes: it agrees with the label.
    assert softmax(own[4:6], axis=-1)[:, 0].tolist() == [1, 1]
    np.testing.assert_array_equal(own[6], answers[0][2])
    # In a text without spans such a word weighs nothing.
    assert (targets[2, first : first + 5, 0] == -1).all()
    assert weights[2, first:].tolist()[:6] == [0, 0, 0, 1, 1, 0]
    expected = [answers[2][1], after[2][1]]
    np.testing.assert_array_equal(targets[2, first + 3 : first + 5, 1], expected)


def test_answers_hold_for_new_names():
    tokenizer = Tokenizer.train([], 259)
    texts = ["Ann met Bo", "Bob saw Al"]
    examples = TaggedTexts(texts, [(Span(0, 3, "P"), Span(8, 10, "P"))] * 2, [1, 2])
    answers = [normal(3, 3, seed=n) for n in range(3)]
    others = UnlabelledTexts([("Eve and Kim",)], [1])
    options = {"batch_size": 3, "max_length": 19, "seed": 2}
    batches = taught_tags(examples, tokenizer, ["P"], answers, others, **options, new_names=0.99)
    plain = taught_tags(examples, tokenizer, ["P"], answers, others, **options)
    changed = 0
    for (x, y, w), (ids, targets, weights) in zip(
        batches.as_numpy_iterator(), plain.as_numpy_iterator(), strict=True
    ):
        np.testing.assert_array_equal(y, targets)
        np.testing.assert_array_equal(w, weights)
        is_other = np.any(x["token_ids"] != ids["token_ids"], axis=1)
        changed += is_other.sum()
        unlabelled = np.any(y[:, :, 0, 0] == -1, axis=1)
        assert unlabelled.sum() == 1 and not is_other[unlabelled].any()
    assert changed == 2


# Numbers


def test_batches_of_numbers_have_both():
    examples = ScoredTexts([("a b",), ("c",)], [3.0, 7.0], [2, 3])
    others = UnlabelledTexts([("d",)], [1])
    tokenizer = Tokenizer.train([], 259)
    answers = np.array([5.0, 9.0, 1.0], "float32")
    options = {"batch_size": 3, "shuffle": False}
    batches = taught_numbers(examples, tokenizer, Scale(5.0, 2.0), answers, others, **options)
    ((_, targets, weights),) = batches.as_numpy_iterator()
    assert targets.tolist() == [[-1, 0, 1], [1, 2, 1], [0, -2, 0]] and weights.tolist() == [1, 1, 1]


# Answers


def chat(*texts):
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]


CHATS = Conversations([chat("a", "A"), chat("b", "B", "c", "C")], [2, 3], "my.csv")


def test_answers_of_a_teacher_are_kept_replaced_or_joined():
    others = UnlabelledTexts([("d",), ("e",)], [1, 5], "more.txt")
    prompts = unanswered(others)
    kept = taught_conversations(CHATS, ["x", " "], others, prompts)
    assert kept.messages == [*CHATS.messages, chat("d", "x")]
    assert kept.rows == [2, 3, "1 of more.txt"]
    answers = ["", "y", "", "z"]
    replaced = taught_conversations(CHATS, answers, others, prompts)
    assert replaced.messages == [chat("a", "A"), chat("b", "B", "c", "y"), chat("e", "z")]
    joined = taught_conversations(CHATS, answers, others, prompts, joined=True)
    assert joined.messages == [*CHATS.messages, chat("b", "B", "c", "y"), chat("e", "z")]
    assert joined.rows == [2, 3, 3, "5 of more.txt"]
    assert taught_conversations(CHATS, []).messages == CHATS.messages
    assert unanswered(others, "be short")[0][0] == {"role": "system", "content": "be short"}


@pytest.mark.parametrize("pack", [True, False])
def test_batches_of_answers_have_the_likeliest_tokens(pack):
    tokenizer = Tokenizer.train([], 259 + len(ROLE_TOKENS), ROLE_TOKENS)
    template = ChatTemplate.of(tokenizer)
    size = tokenizer.vocabulary_size
    # Half of the ids that the model has room for mean nothing.
    model = tiny_causal(vocabulary_size=2 * size, max_sequence_length=29)
    examples, _ = instruction_examples(CHATS, template, 29)
    answers = NextTokens(model, 3.0, 4, size)(examples)
    options = {"batch_size": 2, "max_length": 29, "pack": pack, "shuffle": False}
    taught = taught_instructions(CHATS, template, answers, **options)
    plain = instructions(CHATS, template, **options)
    for (x, y, w), (inputs, labels, weights) in zip(
        taught.as_numpy_iterator(), plain.as_numpy_iterator(), strict=True
    ):
        for name, ids in inputs.items():
            np.testing.assert_array_equal(x[name], ids)
        np.testing.assert_array_equal(w, weights)
        counted = np.asarray(w) > 0
        np.testing.assert_array_equal(y[..., 0][counted], labels[counted])
        assert not np.any(y[..., 1:][~counted])
        # The same by the logits of whole batches, packed or not.
        logits = np.asarray(model(inputs, training=False))
        expected = likeliest(logits, 4, 3.0, known=size)[counted]
        found = np.asarray(y)[..., 1:][counted]
        np.testing.assert_array_equal(found[:, :4], expected[:, :4])
        np.testing.assert_allclose(found[:, 4:], expected[:, 4:], atol=1e-4)
