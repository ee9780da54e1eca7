"""Weights in 4 bits: rounded by hand, by the quantizer, and so that outputs change least."""

import functools

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from encoder_bundles import ids_of
from tiny_models import CONVOLUTIONS, PATCHES, tiny_causal, tiny_encoder, tiny_model, with_linear

import tfx_transformer as tfx
from tfx_transformer import Classifier, Embedder, Regressor, bundle, export
from tfx_transformer.errors import InputError
from tfx_transformer.evaluation.rounding import Choice
from tfx_transformer.export import calibration, choosing, four_bit_file
from tfx_transformer.export.calibration import COUNTED, join_inputs, read_inputs
from tfx_transformer.export.choosing import answers_of, changes_of, choose
from tfx_transformer.export.compact import unpack
from tfx_transformer.export.converter import Converter
from tfx_transformer.export.round_layers import (
    Target,
    find_places,
    round_layers,
    rounded_weights,
)
from tfx_transformer.export.rounding import (
    BLOCK,
    Rounded,
    corrected,
    nearest,
    with_best_scales,
    with_least_change,
)
from tfx_transformer.export.tasks import task_of
from tfx_transformer.export.to_litert import Conversion
from tfx_transformer.layers import Linear
from tfx_transformer.models.saving import load

SIZE = {"hidden_dim": 64, "intermediate_dim": 96, "num_heads": 4, "num_layers": 1}
WORDS = 53


def random_weights(rows=5, inputs=96, seed=3):
    return np.random.default_rng(seed).normal(size=(rows, inputs)).astype("float32")


def correlated_inputs(seed=5, count=300, inputs=96):
    mixing = np.random.default_rng(2).normal(size=(11, inputs))
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(count, 11)) @ mixing
    return mixed + 0.1 * random.normal(size=(count, inputs))


def change(weights, rounded, x):
    """Mean square of what the outputs change by."""
    return np.mean(((weights - rounded.dequantized()) @ x.T) ** 2)


# One matrix


def test_nearest_by_hand():
    weights = np.zeros((1, 2 * BLOCK), "float32")
    weights[0, :4] = [7, -3.4, 2.6, 0.4]  # scale 1
    weights[0, BLOCK : BLOCK + 3] = [-14, 3, 13]  # scale 2
    rounded = nearest(weights)
    assert rounded.scales.tolist() == [[1, 2]]
    assert rounded.codes[0, :4].tolist() == [7, -3, 3, 0]
    assert rounded.codes[0, BLOCK : BLOCK + 3].tolist() == [-7, 2, 6]
    assert rounded.dequantized()[0, BLOCK : BLOCK + 3].tolist() == [-14, 4, 12]


def test_packed_by_hand():
    codes = np.zeros((1, BLOCK), "int8")
    codes[0, :4] = [1, -8, 7, -1]
    packed, scales = Rounded(codes, np.array([[0.5]], "float32")).packed()
    assert packed[:3].tolist() == [0x81, 0xF7, 0]
    assert scales.tolist() == [0x00, 0x38]  # 0.5 in float16


def test_the_best_scale_of_a_negative_peak_reaches_minus_8():
    weights = np.zeros((1, BLOCK), "float32")
    weights[0, :5] = [-8, 7, 5, -3, 1]
    rounded = with_best_scales(weights)
    assert rounded.scales.tolist() == [[1]]
    np.testing.assert_array_equal(rounded.dequantized(), weights)


def test_an_error_is_carried_on_by_hand():
    """x0 = x1 in every input. 0.4 + 0.4 is rounded to 0 by itself, and to 1 together."""
    weights = np.zeros((1, BLOCK), "float32")
    weights[0, 2:] = np.arange(30) % 16 - 8
    weights[0, :2] = 0.4
    hessian = 2 * np.eye(BLOCK)
    hessian[:2, :2] = [[2, 1.999], [1.999, 2]]
    assert nearest(weights).codes[0, :2].tolist() == [0, 0]
    rounded = with_least_change(weights, hessian)
    assert rounded.scales.tolist() == [[1]]
    np.testing.assert_array_equal(rounded.codes[0, 2:], weights[0, 2:])
    assert sorted(rounded.codes[0, :2].tolist()) == [0, 1]


def test_outputs_change_less_on_other_inputs():
    weights, x, other = random_weights(), correlated_inputs(), correlated_inputs(seed=7)
    by_nearest = change(weights, nearest(weights), other)
    by_scales = change(weights, with_best_scales(weights), other)
    by_change = change(weights, with_least_change(weights, x.T @ x), other)
    assert by_scales < by_nearest
    assert by_change < 0.5 * by_nearest


def test_rounded_weights_stay_as_they_are():
    x = correlated_inputs()
    weights = nearest(random_weights()).dequantized()
    for rounded in (
        nearest(weights),
        with_best_scales(weights),
        with_least_change(weights, x.T @ x),
    ):
        np.testing.assert_array_equal(rounded.dequantized(), weights)


@pytest.mark.parametrize("hessian", [np.zeros((BLOCK, BLOCK)), np.full((BLOCK, BLOCK), np.nan)])
def test_without_usable_inputs_only_scales_are_chosen(hessian):
    weights = random_weights(inputs=BLOCK)
    np.testing.assert_array_equal(
        with_least_change(weights, hessian).codes, with_best_scales(weights).codes
    )


def test_dead_inputs_and_empty_blocks():
    weights = random_weights()
    weights[:, :BLOCK] = 0
    weights[2] = 0
    x = correlated_inputs()
    x[:, 40:70] = 0
    rounded = with_least_change(weights, x.T @ x)
    assert np.isfinite(rounded.dequantized()).all()
    assert not rounded.dequantized()[2].any()
    assert change(weights, rounded, x) < change(weights, nearest(weights), x)


@pytest.mark.parametrize(("rows", "inputs"), [(7, 3 * BLOCK), (3, 5 * BLOCK)])
def test_columns_in_groups_give_what_one_after_the_other_gives(rows, inputs):
    """Frantar et al. (2023), algorithm 1, and Behdin et al. (2023), algorithm 1, in float64."""
    weights, x = random_weights(rows, inputs), correlated_inputs(inputs=inputs)
    hessian = x.T @ x
    rounded = with_least_change(weights, hessian)
    factors = np.repeat(rounded.scales, BLOCK, axis=1).astype("float64")
    hessian = hessian / (np.trace(hessian) / inputs) + 0.3 * np.eye(inputs)
    inverse = np.linalg.inv(hessian)
    left, codes = weights.astype("float64"), np.zeros(weights.shape)
    for column in range(inputs):
        codes[:, column] = np.clip(np.rint(left[:, column] / factors[:, column]), -8, 7)
        error = (left[:, column] - codes[:, column] * factors[:, column]) / inverse[column, column]
        left -= np.outer(error, inverse[column])
        inverse -= np.outer(inverse[:, column], inverse[column]) / inverse[column, column]
    for _ in range(2):
        for column in range(inputs):
            slope = (weights - codes * factors) @ hessian[:, column] / hessian[column, column]
            wanted = codes[:, column] + slope / factors[:, column]
            codes[:, column] = np.clip(np.rint(wanted), -8, 7)
    assert (rounded.codes == codes).mean() > 0.99


def test_what_layers_before_changed_is_corrected():
    """The least squares of |W x - V y|^2 + d |W - V|^2, by LAPACK."""
    weights, x = random_weights(3, 7), correlated_inputs(inputs=7)
    y = x + 0.3 * correlated_inputs(seed=9, inputs=7)
    penalty = 0.03 * np.trace(y.T @ y) / 7
    rows = np.concatenate([y, penalty**0.5 * np.eye(7)])
    wanted = np.concatenate([x @ weights.T, penalty**0.5 * weights.T])
    expected = np.linalg.lstsq(rows, wanted, rcond=None)[0].T
    np.testing.assert_allclose(corrected(weights, y.T @ y, x.T @ y), expected, rtol=1e-4)
    np.testing.assert_array_equal(corrected(weights, x.T @ x, x.T @ x), weights)
    nothing = np.zeros((7, 7))
    np.testing.assert_array_equal(corrected(weights, nothing, nothing), weights)


def test_it_is_deterministic():
    weights, x = random_weights(), correlated_inputs()
    first, second = (with_least_change(weights, x.T @ x) for _ in range(2))
    np.testing.assert_array_equal(first.codes, second.codes)


# All layers of a model


def ids(seed, *shape):
    """Token ids in rows of several lengths; 0 is padding."""
    random = np.random.default_rng(seed)
    rows = random.integers(3, WORDS, shape)
    lengths = random.integers(shape[1] // 2, shape[1] + 1, shape[0])
    return np.where(np.arange(shape[1]) < lengths[:, None], rows, 0).astype("int32")


def of_texts(seed):
    return {"token_ids": ids(seed, 40, 17)}


def of_pairs(seed):
    return {"encoder_token_ids": ids(seed, 40, 13), "decoder_token_ids": ids(seed + 1, 40, 13)}


def of_images(seed):
    random = np.random.default_rng(seed)
    return {"images": random.integers(0, 256, (40, 15, 15, 3)).astype("float32")}


LLAMA = {
    "position": "rotary",
    "norm": "rms_norm",
    "gated": True,
    "activation": "silu",
    "use_bias": False,
}
KINDS = {
    "encoder": (functools.partial(tiny_encoder, Classifier, num_classes=3), of_texts),
    "embedder": (functools.partial(tiny_encoder, Embedder, num_key_value_heads=2), of_texts),
    "images": (functools.partial(tiny_encoder, Classifier, num_classes=3, **PATCHES), of_images),
    "decoder": (functools.partial(tiny_causal, num_key_value_heads=4), of_texts),
    "grouped": (functools.partial(tiny_causal, num_key_value_heads=2, **LLAMA), of_texts),
    "untied": (functools.partial(tiny_causal, tie_embeddings=False, norm="rms_norm"), of_texts),
    "post_norm": (functools.partial(tiny_causal, norm="rms_norm", norm_first=False), of_texts),
    "encoder_decoder": (
        functools.partial(tiny_model, num_key_value_heads=2, num_decoder_layers=1),
        of_pairs,
    ),
}


def model_of(kind):
    make, inputs = KINDS[kind]
    size = {} if kind == "images" else {"vocabulary_size": WORDS}
    model = make(**SIZE, **size)
    return model, inputs


def matrices(model):
    """Each matrix of a model as rows of weights, and the layer that multiplies by it."""
    found = [(x, np.asarray(x.kernel).T) for x in model._flatten_layers() if isinstance(x, Linear)]
    if model.scores_tokens:
        (variable,) = model.embedding.reverse_variables
        matrix = np.asarray(variable.value)
        found.append((model.embedding, matrix if model.embedding.tie_weights else matrix.T))
    return [(layer, matrix) for layer, matrix in found if matrix.shape[1] % BLOCK == 0]


def of_layers(model, layers, inputs):
    """Inputs and outputs of each layer, float (rows, inputs) and (rows, units)."""
    seen = {}

    def record(layer):
        usual = layer.call

        def call(x, **options):
            y = usual(x, **options)
            if layer is not getattr(model, "embedding", None) or options.get("reverse"):
                seen[layer.path] = [np.asarray(z).reshape(-1, z.shape[-1]) for z in (x, y)]
            return y

        layer.call = call

    for layer in layers:
        record(layer)
    model(inputs, training=False)
    for layer in layers:
        del layer.call
    return seen


@pytest.mark.slow(but=["grouped", "encoder_decoder"])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_of_layers_change_less_on_other_rows(kind):
    model, inputs = model_of(kind)
    found = matrices(model)
    layers = [layer for layer, _ in found]
    before = [np.asarray(variable.value) for variable in model.variables]
    targets = [Target(b"%d" % i, matrix) for i, (_, matrix) in enumerate(found)]
    places = find_places(model, targets)
    rounded = round_layers(model, join_inputs(model, [inputs(1)]), places)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.asarray(variable.value), value, "it stays as it was")
    assert rounded.keys() == {target.key for target in targets}
    plain = of_layers(model, layers, inputs(77))
    changes = []
    for way in (rounded, {target.key: nearest(target.numbers) for target in targets}):
        with rounded_weights(places, way):
            seen = of_layers(model, layers, inputs(77))
        changes.append(
            [np.square(seen[layer.path][1] - plain[layer.path][1]).mean() for layer in layers]
        )
    ours, theirs = np.array(changes)
    assert (ours < theirs).mean() > 0.7
    assert (ours / theirs).mean() < 0.8


def test_padding_does_not_count():
    model, _ = model_of("encoder")
    (_, matrix), *_ = matrices(model)
    rows = of_texts(1)["token_ids"]
    longer = np.pad(rows, [(0, 0), (0, 2)])
    first, second = (
        round_layers(model, {"token_ids": x}, find_places(model, [Target(b"", matrix)]))[b""]
        for x in (rows, longer)
    )
    np.testing.assert_array_equal(first.codes, second.codes)


def test_a_matrix_with_the_scale_of_a_norm_in_it():
    """The converter multiplies the scales of norms into the matrix that follows."""
    model, inputs = model_of("grouped")
    (_, matrix), *_ = matrices(model)
    factors = np.random.default_rng(2).uniform(0.2, 3, matrix.shape[1])
    made = (matrix * factors).astype("float32")
    other = random_weights(*matrix.shape)
    targets = [Target(b"made", made), Target(b"other", other)]
    (place,) = find_places(model, targets)
    assert place.target.key == b"made", "the other matrix belongs to no layer"
    np.testing.assert_allclose(place.factors, factors, rtol=1e-5)
    rounded = round_layers(model, inputs(1), [place])
    np.testing.assert_allclose(
        place.weights(rounded[b"made"]).T * factors,
        rounded[b"made"].dequantized(),
        rtol=1e-4,
        atol=1e-6,
    )
    layer = matrices(model)[0][0]
    x = of_layers(model, [layer], inputs(77))[layer.path][0] / factors
    assert change(made, rounded[b"made"], x) < change(made, nearest(made), x)


def test_at_most_so_many_rows_and_tokens():
    model, _ = model_of("encoder_decoder")
    rows = [of_pairs(seed) for seed in range(9)]
    joined = join_inputs(model, rows)
    assert {len(x) for x in joined.values()} == {256}
    longer = [{name: np.pad(x, [(0, 0), (0, 243)]) for name, x in row.items()} for row in rows]
    assert {len(x) for x in join_inputs(model, longer).values()} == {64}


def test_large_images_are_few(monkeypatch):
    monkeypatch.setattr(calibration, "_TOKENS", 7 * 9 + 1)  # 15 / 5 = 3, so 9 vectors an image
    model, _ = model_of("images")
    assert len(join_inputs(model, [of_images(1)])["images"]) == 7


def test_long_rows_are_cut():
    model, _ = model_of("decoder")
    places = np.tile(np.arange(1500), (3, 1))
    joined = join_inputs(model, [{"token_ids": places % 50 + 3, "positions": places}])
    np.testing.assert_array_equal(joined["positions"], places[:, :1024])
    np.testing.assert_array_equal(joined["token_ids"], places[:, :1024] % 50 + 3)


# The choice between the ways


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True), dtype="float64")
    return powers / powers.sum(-1, keepdims=True)


def test_the_way_with_the_least_change_is_chosen(monkeypatch):
    model, inputs = model_of("decoder")
    rows = inputs(1)
    counted = np.random.default_rng(3).random(rows["token_ids"].shape) < 0.3
    targets = [Target(b"%d" % i, matrix) for i, (_, matrix) in enumerate(matrices(model))]
    rounded, choice = choose(model, rows | {COUNTED: counted}, targets)
    kept = {name: x[3::4] for name, x in rows.items()}
    mask = counted[3::4] & (kept["token_ids"] != 0)
    plain = softmax(np.asarray(model(kept, training=False)))[mask]
    with rounded_weights(find_places(model, targets), rounded):
        after = softmax(np.asarray(model(kept, training=False)))[mask]
    expected = (plain * np.log(plain / after)).sum(1).mean()
    assert choice.changes[choice.way] == pytest.approx(expected, rel=1e-2)
    assert choice.way == "rows"
    assert choice.changes["rows"] < choice.changes["scales"] < choice.changes["nearest"]
    zeros = {
        t.key: Rounded(0 * nearest(t.numbers).codes, nearest(t.numbers).scales) for t in targets
    }
    monkeypatch.setattr(choosing, "round_layers", lambda *_: zeros)
    rounded, choice = choose(model, rows, targets)
    assert choice.way == "scales", "rounding on rows went wrong"
    for target in targets:
        expected = with_best_scales(target.numbers)
        np.testing.assert_array_equal(rounded[target.key].codes, expected.codes)


def test_a_matrix_of_zeros_belongs_to_no_layer_with_other_weights():
    model, _ = model_of("decoder")
    (layer, matrix), *_ = matrices(model)
    zeros = Target(b"zeros", np.zeros_like(matrix))
    assert find_places(model, [zeros]) == []
    layer.set_weights([0 * weights for weights in layer.get_weights()])
    (place,) = find_places(model, [zeros])
    assert place.variable is layer.kernel


def test_few_rows_choose_a_scale_only():
    model, inputs = model_of("encoder")
    _, matrix = matrices(model)[0]
    rows = {name: x[:3] for name, x in inputs(1).items()}
    _, choice = choose(model, rows, [Target(b"", matrix)])
    assert (choice.rows, choice.compared, [*choice.changes]) == (0, 3, ["nearest", "scales"])


def test_changes_of_vectors_and_numbers_by_hand():
    before = np.array([[3.0, 4.0], [1.0, 0.0]], "float32")
    after = np.array([[4.0, 3.0], [0.0, 2.0]], "float32")
    embedder = tiny_encoder(Embedder)
    np.testing.assert_allclose(changes_of(embedder, before, after), [1 - 24 / 25, 1], rtol=1e-6)
    numbers = tiny_encoder(Regressor)
    np.testing.assert_allclose(changes_of(numbers, before[:, :1], after[:, :1]), [1, 1])


def test_answers_in_parts_are_those_of_all_rows(monkeypatch):
    """7 rows at once; 11 tokens at once, fewer than a row has."""
    model, inputs = model_of("encoder_decoder")
    rows = inputs(1)
    counted = rows["decoder_token_ids"] != 0
    whole = np.asarray(model(rows, training=False))[counted]
    for at_once, longest in ((7 * 13, 7 * 13), (11, 11)):
        monkeypatch.setattr(choosing, "_AT_ONCE", at_once * WORDS)
        parts = list(answers_of(model, rows))
        assert max(len(part) for part in parts) <= longest
        np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)
    monkeypatch.setattr(choosing, "_IN_ALL", 12 * WORDS)
    assert sum(map(len, choosing._first(parts))) < 2 * 11 + 1


def test_a_model_that_diverged_is_not_rounded():
    model, inputs = model_of("decoder")
    (layer, matrix), *_ = matrices(model)
    layer.kernel.assign(np.full(layer.kernel.shape, np.inf))
    with pytest.raises(InputError, match=r"not finite numbers.*\n.*lower learning rate"):
        choose(model, inputs(1), [Target(b"", matrix)])


def test_a_choice_in_words():
    same = Choice("nearest", {"nearest": 0.0, "rows": 0.0}, 192, 64)
    end = "None of the ways changes the answers to 64 other training rows."
    assert same.sentence("en").endswith(end)
    choice = Choice("rows", {"nearest": 0.01234, "rows": 0.005}, 192, 64)
    assert choice.sentence("en") == (
        "4-bit weights are rounded so that the outputs of layers change least on 192 training "
        "rows. Mean change of the answers to 64 other training rows: to nearest 0.0123, on rows "
        "0.005."
    )
    assert "192件" in choice.sentence("ja")
    one = Choice("scales", {"nearest": 0.5, "scales": 0.25}, 3, 1)
    assert "to 1 other training row: " in one.sentence("en") and "1件" in one.sentence("ja")
    assert Choice.from_dict(choice.to_dict()) == choice
    for damaged in (None, [], {"way": "rows"}, choice.to_dict() | {"way": "other"}):
        assert Choice.from_dict(damaged) is None


# Files


def four_bits(numbers):
    """A file that holds one matrix in 4 bits, and the float32 file that it was made from."""

    def graph(tensors):
        return schema.SubGraphT(tensors=tensors)

    def model(tensors, *data):
        buffers = [schema.BufferT(data=part) for part in (None, *data)]
        return schema.ModelT(subgraphs=[graph(tensors)], buffers=buffers)

    shape = np.array(numbers.shape, "int32")
    codes, scales = nearest(numbers).packed()
    details = schema.BlockwiseQuantizationT(scales=1, blockSize=BLOCK)
    kind = schema.QuantizationDetails.BlockwiseQuantization
    how = schema.QuantizationParametersT(detailsType=kind, details=details)
    plain = schema.TensorT(shape, schema.TensorType.FLOAT32, 1, b"w")
    tensors = [
        schema.TensorT(shape, schema.TensorType.INT4, 1, b"w", how),
        schema.TensorT(shape, schema.TensorType.FLOAT16, 2, b"w_scales"),
    ]
    return model(tensors, codes, scales), model([plain], numbers.reshape(-1).view("uint8"))


def test_a_file_gets_what_was_rounded():
    model, inputs = model_of("encoder")
    _, matrix = matrices(model)[0]
    results = []
    for given in (None, inputs(1)):
        file, plain = four_bits(matrix)
        choice = four_bit_file.round_weights(file, plain, model, given)
        results.append([np.asarray(one.data, "uint8").tobytes() for one in file.buffers[1:]])
    assert results[0] == [part.tobytes() for part in with_best_scales(matrix).packed()]
    assert choice is not None
    assert (choice.way, choice.rows, choice.compared) == ("rows", 30, 10)
    rest = {name: np.delete(x, np.s_[3::4], axis=0) for name, x in inputs(1).items()}
    rounded = round_layers(model, rest, find_places(model, [Target(b"", matrix)]))[b""]
    assert results[1] == [part.tobytes() for part in rounded.packed()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder", "grouped", "untied", "post_norm", "encoder_decoder"])
def test_all_matrices_of_a_file_are_rounded_on_inputs(kind, tmp_path, monkeypatch):
    """None is left to its scales alone, and what is written is what was rounded."""
    model, inputs = model_of(kind)
    found, targets = {}, []

    def spy(model, inputs, places):
        found.update(round_layers(model, inputs, places))
        return found

    def all_targets(model, inputs, given):
        targets.extend(given)
        return choose(model, inputs, given)

    monkeypatch.setattr(choosing, "round_layers", spy)
    monkeypatch.setattr(four_bit_file, "choose", all_targets)
    table = task_of(model).signatures(model)
    few = {
        name: table[name]
        for name in ("run_1x19", "encode_19", "prefill", "decode")
        if name in table
    }
    file = tmp_path / "model.tflite"
    with (
        Converter() as converter,
        Conversion(model, {"int4": file}, converter, table=few, inputs=inputs(1)),
    ):
        pass
    tables = 0 if model.scores_tokens and model.embedding.tie_weights else 1
    assert len(targets) == len(found) == len(matrices(model)) + tables
    buffers = unpack(file.read_bytes()).buffers
    held = {np.asarray(one.data, "uint8").tobytes() for one in buffers if one.data is not None}
    for rounded in found.values():
        assert {part.tobytes() for part in rounded.packed()} <= held


@pytest.mark.slow
def test_tables_without_blocks_get_eight_bits(tmp_path):
    """Those of a classifier's linear part are as wide as it has classes. All others have 4 bits in
    every signature, whatever their operations are called."""
    pairs = {"ngram_buckets": 101, "linear_buckets": 512}
    model = tiny_encoder(Classifier, num_classes=3, vocabulary_size=WORDS, **pairs, **SIZE)
    with_linear(model)
    signatures = task_of(model).signatures(model)
    assert 3 * len(signatures) > 11, "the name of look-up 1 begins those of 10 and 11"
    file = tmp_path / "model.tflite"
    with Converter() as converter, Conversion(model, {"int4": file}, converter):
        pass
    kinds = schema.TensorType
    for graph in unpack(file.read_bytes()).subgraphs:
        types = {tuple(tensor.shape): tensor.type for tensor in graph.tensors}
        assert types[512, 3] == kinds.INT8
        assert types[512, 1] == kinds.FLOAT32
        assert types[WORDS, 64] == types[101, 64] == kinds.INT4
    interpreter = Interpreter(str(file))
    ids_of_text = np.array([[5, 7, 11, *[0] * 16]], "int32")
    found = interpreter.get_signature_runner("run_1x19")(token_ids=ids_of_text)["output"]
    expected = np.asarray(model({"token_ids": ids_of_text}, training=False))
    assert np.abs(found - expected).max() < 0.3 * expected.std()


@pytest.mark.slow
def test_convolutions_have_eight_bits_and_the_rest_four(tmp_path):
    size = SIZE | {"num_heads": 2}
    model = tiny_encoder(Classifier, num_classes=3, **size, **CONVOLUTIONS)
    files = {name: tmp_path / f"{name}.tflite" for name in ("int8", "int4")}
    with Converter() as converter, Conversion(model, files, converter):
        pass
    found = {}
    for name, file in files.items():
        model = unpack(file.read_bytes())
        tensors = model.subgraphs[0].tensors
        weights = [one for one in tensors if model.buffers[one.buffer].data is not None]
        found[name] = {tuple(one.shape): one.type for one in weights}
    kernels = {x for x in found["int8"] if x[1:3] == (3, 3) and np.prod(x) >= 1024}
    assert kernels and {found["int4"][x] for x in kernels} == {schema.TensorType.INT8}
    assert found["int4"][64, 96] == schema.TensorType.INT4
    assert files["int4"].stat().st_size < files["int8"].stat().st_size


def test_inputs_of_texts(encoder_words, encoder_texts):
    size = encoder_words.vocabulary_size
    model = tiny_encoder(Classifier, vocabulary_size=size, num_classes=3)
    found = read_inputs(model, encoder_words, encoder_texts)
    expected = ids_of(encoder_words, encoder_texts)
    for row, ids_of_text in zip(found["token_ids"], expected, strict=True):
        assert row[: len(ids_of_text)].tolist() == ids_of_text
        assert not row[len(ids_of_text) :].any()
    assert read_inputs(model, encoder_words, []) is None


class Writer:
    """Answers each text with its first word."""

    def __init__(self, model, tokenizer):
        self.tokenizer = tokenizer

    def encode(self, text, truncate=False):
        return [1, *self.tokenizer.encode(text)]

    def generate(self, texts, truncate=False):
        return [text.split()[0] for text in texts]


@pytest.mark.parametrize("make", [tiny_causal, tiny_model])
def test_inputs_of_a_model_that_writes_are_its_own_answers(make, encoder_words, monkeypatch):
    monkeypatch.setattr(calibration, "text_generator", Writer)
    model = make(vocabulary_size=encoder_words.vocabulary_size, num_layers=1)
    texts = ["dog and cat", "the dog"]
    inputs = read_inputs(model, encoder_words, texts)
    found = {name: x.tolist() for name, x in inputs.items()}
    dog, the, dog_too = ([1, *encoder_words.encode(x)] for x in (texts[0], "the", texts[1]))
    if model.prompt_in_cache:
        rows = [[*dog, *encoder_words.encode("dog")], [*dog_too, *the[1:]]]
        assert [
            row[: len(kept)] for row, kept in zip(found["token_ids"], rows, strict=True)
        ] == rows
        before = [mask.tolist().index(True) for mask in inputs[COUNTED]]
        assert before == [len(dog) - 1, len(dog_too) - 1], "the last token of a prompt predicts"
        return
    start = model.config.start_id
    rows = [[start, *encoder_words.encode("dog")], [start, *the[1:]]]
    for name, expected in (("encoder_token_ids", [dog, dog_too]), ("decoder_token_ids", rows)):
        cut = [row[: len(kept)] for row, kept in zip(found[name], expected, strict=True)]
        assert cut == expected, name


def test_calibration_is_for_int4_only(tmp_path):
    with pytest.raises(InputError, match="become int8"):
        export.litert(tmp_path, "int8", calibration=["a text"])


def test_training_rows_are_the_first_batches(encoder_words):
    pairs = tfx.data.read_pairs(tfx.resources.dataset_path("en_ja.csv")).take(range(300))
    model = tiny_model(vocabulary_size=encoder_words.vocabulary_size)
    options = {"batch_size": 7, "max_length": 19, "seed": 1}
    rows = export.training_rows(model, tfx.data.pairs(pairs, encoder_words, **options))
    assert rows.keys() == {*model.reads, COUNTED}
    assert {len(x) for x in rows.values()} == {256}
    assert max(x.shape[1] for x in rows.values()) <= 20
    batches = tfx.data.pairs(pairs, encoder_words, **options)
    inputs, _, weights = batches.batch(batches.examples(0))
    first = inputs["encoder_token_ids"]
    np.testing.assert_array_equal(rows["encoder_token_ids"][:7, : first.shape[1]], first)
    assert 0 < weights.mean() < 1
    np.testing.assert_array_equal(rows[COUNTED][:7, : weights.shape[1]], weights > 0)
    assert not rows[COUNTED][:7, weights.shape[1] :].any()
    assert rows[COUNTED].dtype == bool


@pytest.mark.slow
def test_a_bundle_gets_an_int4_file_too(trained, tmp_path):
    path = trained.copy(tmp_path)
    model, tokenizer = load(path)
    pairs = tfx.data.read_pairs(tfx.resources.dataset_path("en_ja.csv")).take(range(0, 2100, 14))
    batches = tfx.data.pairs(pairs, tokenizer, batch_size=32, max_length=24, seed=1)
    rows = export.training_rows(model, batches)
    verified = export.everything(path, trained.texts, int4=rows)
    assert verified.keys() == {"TFLite int4"} | trained.verified.keys()
    assert (path / bundle.LITERT["int4"]).is_file()
    assert "TFLite int4: " in (path / "README.md").read_text("utf-8")
    bundle.verify(path)


@pytest.mark.slow
def test_a_width_without_blocks_leaves_the_other_files(text_classifier, tmp_path):
    """48 is not a multiple of 32."""
    path = text_classifier.copy(tmp_path)
    rows = {"token_ids": np.ones((3, 5), "int32")}
    with pytest.raises(InputError, match="hidden_dim is 48"):
        export.everything(path, text_classifier.inputs, int4=rows, only_missing=False)
    assert (path / bundle.LITERT["int8"]).is_file()
    bundle.verify(path)
