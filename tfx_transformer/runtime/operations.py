"""The operations that our TFLite files may hold: those that compute tensors from tensors.

They exclude control flow, which may never end, state, tables of strings and custom operations. The
numbers are those of LiteRT's schema.
https://github.com/google-ai-edge/LiteRT/blob/main/tflite/converter/schema/schema.fbs
"""

from __future__ import annotations

from typing import NamedTuple


class Operation(NamedTuple):
    """One kind of operation.

    options: number of its table of options; 0: none. needed: True if the options must be there.
    fewest, most: number of inputs.
    """

    name: str
    options: int
    needed: bool
    fewest: int
    most: int


# Most inputs of operations such as a concatenation.
MANY = 1 << 16

# Operations by their number in the schema.
OPERATIONS = {
    0: Operation("ADD", 11, True, 2, 2),
    1: Operation("AVERAGE_POOL_2D", 5, True, 1, 1),
    2: Operation("CONCATENATION", 10, True, 1, MANY),
    3: Operation("CONV_2D", 1, True, 2, 3),
    4: Operation("DEPTHWISE_CONV_2D", 2, True, 2, 3),
    6: Operation("DEQUANTIZE", 38, False, 1, 1),
    7: Operation("EMBEDDING_LOOKUP", 0, False, 2, 2),
    8: Operation("FLOOR", 0, False, 1, 1),
    9: Operation("FULLY_CONNECTED", 8, True, 2, 3),
    11: Operation("L2_NORMALIZATION", 12, True, 1, 1),
    14: Operation("LOGISTIC", 0, False, 1, 1),
    17: Operation("MAX_POOL_2D", 5, True, 1, 1),
    18: Operation("MUL", 21, True, 2, 2),
    19: Operation("RELU", 0, False, 1, 1),
    21: Operation("RELU6", 0, False, 1, 1),
    22: Operation("RESHAPE", 17, False, 1, 2),  # its shape may be an option
    25: Operation("SOFTMAX", 9, True, 1, 1),
    28: Operation("TANH", 0, False, 1, 1),
    34: Operation("PAD", 22, False, 2, 2),
    36: Operation("GATHER", 23, True, 2, 2),
    39: Operation("TRANSPOSE", 26, False, 2, 2),
    40: Operation("MEAN", 27, True, 2, 2),
    41: Operation("SUB", 28, True, 2, 2),
    42: Operation("DIV", 29, True, 2, 2),
    43: Operation("SQUEEZE", 30, False, 1, 1),
    45: Operation("STRIDED_SLICE", 32, True, 4, 4),
    47: Operation("EXP", 33, False, 1, 1),
    48: Operation("TOPK_V2", 34, False, 2, 2),
    49: Operation("SPLIT", 35, True, 2, 2),
    50: Operation("LOG_SOFTMAX", 36, False, 1, 1),
    53: Operation("CAST", 37, False, 1, 1),
    55: Operation("MAXIMUM", 39, False, 2, 2),
    56: Operation("ARG_MAX", 40, False, 2, 2),
    57: Operation("MINIMUM", 39, False, 2, 2),
    58: Operation("LESS", 41, False, 2, 2),
    59: Operation("NEG", 42, False, 1, 1),
    60: Operation("PADV2", 43, False, 3, 3),
    61: Operation("GREATER", 44, False, 2, 2),
    62: Operation("GREATER_EQUAL", 45, False, 2, 2),
    63: Operation("LESS_EQUAL", 46, False, 2, 2),
    64: Operation("SELECT", 47, False, 3, 3),
    65: Operation("SLICE", 48, False, 3, 3),
    66: Operation("SIN", 0, False, 1, 1),
    69: Operation("TILE", 51, False, 2, 2),
    70: Operation("EXPAND_DIMS", 52, False, 2, 2),
    71: Operation("EQUAL", 53, False, 2, 2),
    72: Operation("NOT_EQUAL", 54, False, 2, 2),
    73: Operation("LOG", 0, False, 1, 1),
    74: Operation("SUM", 27, True, 2, 2),
    75: Operation("SQRT", 0, False, 1, 1),
    76: Operation("RSQRT", 0, False, 1, 1),
    77: Operation("SHAPE", 55, False, 1, 1),
    78: Operation("POW", 56, False, 2, 2),
    82: Operation("REDUCE_MAX", 27, True, 2, 2),
    83: Operation("PACK", 59, True, 1, MANY),
    84: Operation("LOGICAL_OR", 60, False, 2, 2),
    86: Operation("LOGICAL_AND", 62, False, 2, 2),
    87: Operation("LOGICAL_NOT", 63, False, 1, 1),
    88: Operation("UNPACK", 64, True, 1, 1),
    89: Operation("REDUCE_MIN", 27, True, 2, 2),
    90: Operation("FLOOR_DIV", 65, False, 2, 2),
    91: Operation("REDUCE_ANY", 27, True, 2, 2),
    92: Operation("SQUARE", 66, False, 1, 1),
    93: Operation("ZEROS_LIKE", 67, False, 1, 1),
    94: Operation("FILL", 68, False, 2, 2),
    95: Operation("FLOOR_MOD", 72, False, 2, 2),
    96: Operation("RANGE", 73, False, 3, 3),
    98: Operation("LEAKY_RELU", 75, True, 1, 1),
    99: Operation("SQUARED_DIFFERENCE", 76, False, 2, 2),
    101: Operation("ABS", 78, False, 1, 1),
    102: Operation("SPLIT_V", 79, True, 3, 3),
    104: Operation("CEIL", 0, False, 1, 1),
    105: Operation("REVERSE_V2", 81, False, 2, 2),
    106: Operation("ADD_N", 82, False, 1, MANY),
    107: Operation("GATHER_ND", 83, False, 2, 2),
    108: Operation("COS", 84, False, 1, 1),
    111: Operation("ELU", 0, False, 1, 1),
    114: Operation("QUANTIZE", 89, False, 1, 1),
    116: Operation("ROUND", 0, False, 1, 1),
    117: Operation("HARD_SWISH", 91, False, 1, 1),
    122: Operation("SCATTER_ND", 97, False, 3, 3),
    123: Operation("SELECT_V2", 98, False, 3, 3),
    126: Operation("BATCH_MATMUL", 101, True, 2, 2),
    128: Operation("CUMSUM", 102, True, 2, 2),
    130: Operation("BROADCAST_TO", 104, False, 2, 2),
    140: Operation("REDUCE_ALL", 27, True, 2, 2),
    150: Operation("GELU", 116, False, 1, 1),
    151: Operation("DYNAMIC_UPDATE_SLICE", 117, False, 3, 3),
    158: Operation("SIGN", 123, False, 1, 1),
    160: Operation("BITWISE_XOR", 0, False, 2, 2),
    161: Operation("RIGHT_SHIFT", 126, False, 2, 2),
}

# Operations that may have several outputs; all others have one.
SEVERAL_OUTPUTS = ("SPLIT", "SPLIT_V", "UNPACK", "TOPK_V2")

# An output has the type of the first input, except in these operations: that of another input, or a
# fixed type. Kernels write numbers of that type; a buffer of a narrower type would be too small.
OUTPUT_AS_INPUT = {
    "SPLIT": 1,
    "EMBEDDING_LOOKUP": 1,
    "SELECT": 1,
    "SELECT_V2": 1,
    "FILL": 1,
    "SCATTER_ND": 1,
}
BOOLEAN_OUTPUT = frozenset(
    {"LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL"}
    | {"LOGICAL_OR", "LOGICAL_AND", "LOGICAL_NOT", "REDUCE_ANY", "REDUCE_ALL"}
)
FLOAT_OUTPUT = frozenset({"DEQUANTIZE"})
# Operations with any output type: CONVERTING by the type of the output, the others by an option.
CONVERTING = frozenset({"CAST", "QUANTIZE"})
TYPE_AS_OPTION = frozenset({"SHAPE", "ARG_MAX"})

# Operations whose inputs all have the same type.
INPUTS_ALIKE = frozenset(
    {"ADD", "SUB", "MUL", "DIV", "POW", "MAXIMUM", "MINIMUM", "FLOOR_DIV", "FLOOR_MOD"}
    | {"SQUARED_DIFFERENCE", "BITWISE_XOR", "RIGHT_SHIFT", "LOGICAL_OR", "LOGICAL_AND"}
    | {"LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL"}
    | {"CONCATENATION", "PACK", "ADD_N"}
)
