"""Differences of an export that come from its number format, and those that are faults."""

import pytest

from tfx_transformer.errors import InputError
from tfx_transformer.export.agreement import check, is_good


def texts(identical, of, difference=None, deviation=1.28, **more):
    result = {"identical": identical, "of": of, "summary": "s", **more}
    if difference is not None:
        result |= {"largest_logit_difference": difference, "logit_deviation": deviation}
    return result


@pytest.mark.parametrize(
    ("variant", "result", "good"),
    [
        # Measured on a model of 8 million parameters: float16, dynamic int8, int4 in blocks, and
        # full integers, which wrote garbage.
        ("float32", texts(19, 19, 0.002), True),
        ("int8", texts(3, 19, 0.066), True),
        ("int4", texts(0, 19, 0.57), True),
        ("int8", texts(0, 19, 11.4), False),
        ("int4", texts(0, 19, 11.4), False),
        # A mask that a GPU laid out in another way.
        ("float32", texts(2, 19, 5.1, 3.7), False),
        ("float32", texts(0, 19), False),
        ("float32", texts(0, 19, 0.001), False),
        ("float32", texts(17, 19), False),
        ("float32", texts(18, 19), True),
        ("float32", texts(9, 19, 0.01), True),
        ("int8", texts(2, 19), False),
        ("int8", texts(2, 19, identical_to_tflite=19), True),
        ("float32", texts(0, 0), True),
        ("float32", texts(0, 0, 0.001), True),
        ("float32", texts(0, 0, 5.1, 3.7), False),
        ("float32", {"error": "segment", "summary": "could not be run"}, False),
        ("float32", texts(9, 19, largest_probability_difference=0.3), False),
        ("float32", texts(9, 19, largest_probability_difference=1e-5), True),
        ("int8", texts(15, 19, largest_probability_difference=0.1), True),
        ("full_int8", texts(15, 19, largest_probability_difference=0.1), False),
        ("full_int8", texts(49, 50, largest_probability_difference=0.1), True),
        ("float32", texts(0, 19, smallest_cosine=0.99999), True),
        ("float32", texts(0, 19, smallest_cosine=0.9), False),
        ("int8", texts(0, 19, smallest_cosine=0.97), True),
    ],
)
def test_what_is_good(variant, result, good):
    assert is_good(result, variant) is good


def test_what_was_removed_is_named():
    check({"SavedModel": texts(19, 19)})
    bad = texts(0, 19) | {"removed": True, "summary": "REMOVED: 0 of 19"}
    with pytest.raises(InputError, match="SavedModel: REMOVED: 0 of 19\n  Export it again"):
        check({"SavedModel": bad, "TFLite int8": texts(19, 19)})
