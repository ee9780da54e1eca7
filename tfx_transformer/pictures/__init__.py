"""The pictures that people look at: loss, lengths, attention, labels, vectors, states, tokens.

Each function draws one PNG at 150 dots per inch, writes it in one step (an interrupted run leaves
the old picture or the new one, never half of one) and returns a `Picture`, which a notebook shows.
With None instead of a path it writes no file.
"""

from tfx_transformer.pictures.attention import attention_map, self_attention_map
from tfx_transformer.pictures.canvas import Picture
from tfx_transformer.pictures.images import contact_sheet
from tfx_transformer.pictures.labels import calibration, confusion_matrix
from tfx_transformer.pictures.states import (
    cache_growth,
    states_by_layer,
    weight_changes,
    weight_sizes,
)
from tfx_transformer.pictures.tokens import token_picture
from tfx_transformer.pictures.training import length_histogram, loss_curve
from tfx_transformer.pictures.vectors import map_of_vectors, similarity_matrix

__all__ = [
    "Picture",
    "attention_map",
    "cache_growth",
    "calibration",
    "confusion_matrix",
    "contact_sheet",
    "length_histogram",
    "loss_curve",
    "map_of_vectors",
    "self_attention_map",
    "similarity_matrix",
    "states_by_layer",
    "token_picture",
    "weight_changes",
    "weight_sizes",
]
