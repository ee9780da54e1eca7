"""The normalizations of a Transformer by their names in `TransformerConfig`."""

from __future__ import annotations

import keras

NORMS = {
    "layer_norm": keras.layers.LayerNormalization,  # Ba et al. (2016)
    "rms_norm": keras.layers.RMSNormalization,  # Zhang & Sennrich (2019)
}
