"""Numbers that a file of integers rounds and converts back at once stay as they are."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from tfx_transformer.export import compact
from tfx_transformer.export.kept_floats import keep_floats

OPS = schema.BuiltinOperator
NUMBERS = np.array([0.13, -0.26, 0.77], "float32")


def model_of(operations, tensors, outputs):
    """A file that reads tensor 0; tensors: scale of each, None for float32."""
    graph = schema.SubGraphT(inputs=np.array([0], "int32"), outputs=np.array(outputs, "int32"))
    graph.tensors, graph.operators, codes = [], [], []
    for number, scale in enumerate(tensors):
        kind = schema.TensorType.FLOAT32 if scale is None else schema.TensorType.INT8
        tensor = schema.TensorT(np.array([3], "int32"), type=kind, name=f"{number}".encode())
        tensor.hasRank = True
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT(scale=[scale], zeroPoint=[0])
        graph.tensors.append(tensor)
    for code, source, result in operations:
        codes.append(schema.OperatorCodeT(code, version=2, builtinCode=code))
        places = np.array([source], "int32"), np.array([result], "int32")
        graph.operators.append(schema.OperatorT(len(codes) - 1, *places))
    model = schema.ModelT(version=3, operatorCodes=codes, subgraphs=[graph], description=b"")
    model.buffers = [schema.BufferT()]
    return compact.unpack(compact.pack(model))


def answers(model):
    interpreter = Interpreter(model_content=compact.pack(model))
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, NUMBERS)
    interpreter.invoke()
    places = [detail["index"] for detail in interpreter.get_output_details()]
    return [interpreter.get_tensor(place) for place in places]


def test_numbers_rounded_twice_are_read_as_they_are():
    operations = [
        (OPS.QUANTIZE, 0, 1),
        (OPS.QUANTIZE, 1, 2),
        (OPS.DEQUANTIZE, 2, 3),
        (OPS.ABS, 3, 4),  # of numbers that were converted back
        (OPS.ABS, 1, 5),  # of integers
        (OPS.DEQUANTIZE, 5, 6),
    ]
    model = model_of(operations, [None, 0.01, 0.1, None, None, 0.01, None], [4, 6])
    before = answers(model)
    np.testing.assert_allclose(before[0], [0.1, 0.3, 0.8], atol=1e-6)
    np.testing.assert_allclose(before[1], [0.13, 0.26, 0.77], atol=1e-6)
    keep_floats(model)
    after = answers(model)
    np.testing.assert_array_equal(after[0], np.abs(NUMBERS))
    np.testing.assert_array_equal(after[1], before[1])
    assert len(model.subgraphs[0].operators) == 4, "the roundings that nothing reads are gone"


@pytest.mark.parametrize("outputs", [[2], [1, 2]])
def test_an_output_is_computed(outputs):
    operations = [(OPS.QUANTIZE, 0, 1), (OPS.DEQUANTIZE, 1, 2)]
    model = model_of(operations, [None, 0.1, None], outputs)
    keep_floats(model)
    np.testing.assert_allclose(answers(model)[-1], [0.1, -0.3, 0.8], atol=1e-6)
