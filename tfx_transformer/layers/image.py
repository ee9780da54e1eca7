"""Images to vectors: squares of pixels, or a few convolutions."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfx_transformer.annotations import Tensor
from tfx_transformer.layers.serializable import serializable

# Images of any number and size, in three colours.
_IMAGES = (None, None, None, 3)
# Channels of all convolutions but the last, as in the paper.
_CHANNELS = 64


class _ImageTokenizer(keras.layers.Layer):
    """The base of both: scales pixels to -1 … 1, and lays a grid of vectors out as a sequence."""

    def __init__(self, hidden_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim

    def grid(self, images: Tensor) -> Tensor:
        """float (batch, height, width, hidden_dim) of float images from -1 to 1."""
        raise NotImplementedError

    def call(self, images):
        grid = self.grid(ops.cast(images, self.compute_dtype) / 127.5 - 1.0)
        count = ops.shape(grid)[1] * ops.shape(grid)[2]
        return ops.reshape(grid, (ops.shape(grid)[0], count, self.hidden_dim))

    def get_config(self):
        return {**super().get_config(), "hidden_dim": self.hidden_dim}


@serializable
class PatchEmbedding(_ImageTokenizer):
    """One vector per square of pixels, all from the same projection.

    z_i = W flatten(patch_i) + b        Dosovitskiy et al. (2021), section 3.1, equation 1

    Args:
        hidden_dim: width of the vectors.
        patch_size: side of a square in pixels; the image's side is a multiple of it.

    Call arguments:
        images: float (batch, size, size, 3), colours from 0 to 255.

    Returns: float (batch, vectors, hidden_dim), row by row.
    """

    def __init__(self, hidden_dim: int, patch_size: int, **kwargs: Any) -> None:
        super().__init__(hidden_dim, **kwargs)
        self.patch_size = patch_size
        self.projection = keras.layers.Conv2D(
            hidden_dim,
            patch_size,
            strides=patch_size,
            name="projection",
            dtype=self.dtype_policy,
        )

    def build(self, images_shape=None):
        self.projection.build(_IMAGES)

    def grid(self, images: Tensor) -> Tensor:
        return self.projection(images)

    def get_config(self):
        return {**super().get_config(), "patch_size": self.patch_size}


@serializable
class ConvolutionalTokenizer(_ImageTokenizer):
    """One vector per region; regions overlap. Convolutions build in that neighbouring pixels belong
    together, which a small set of images does not teach.

    z <- max_pool_3x3(relu(conv_3x3(z))), `conv_layers` times, each halving height and width

    Hassani et al. (2021), section 3.3, equation 5: the tokenizer of the Compact Convolutional
    Transformer. Convolutions have no biases; all but the last have 64 channels.

    Args:
        hidden_dim: width of the vectors.
        conv_layers: number of convolutions.

    Call arguments:
        images: float (batch, size, size, 3), colours from 0 to 255.

    Returns: float (batch, vectors, hidden_dim), row by row.
    """

    def __init__(self, hidden_dim: int, conv_layers: int, **kwargs: Any) -> None:
        super().__init__(hidden_dim, **kwargs)
        self.conv_layers = conv_layers
        channels = [_CHANNELS] * (conv_layers - 1) + [hidden_dim]
        self.convolutions = [
            keras.layers.Conv2D(
                count,
                3,
                padding="same",
                use_bias=False,
                kernel_initializer="he_normal",
                name=f"convolution_{index}",
                dtype=self.dtype_policy,
            )
            for index, count in enumerate(channels)
        ]

    def build(self, images_shape=None):
        shape = _IMAGES
        for convolution in self.convolutions:
            convolution.build(shape)
            shape = (*shape[:3], convolution.filters)

    def grid(self, images: Tensor) -> Tensor:
        x = images
        for convolution in self.convolutions:
            x = ops.max_pool(ops.relu(convolution(x)), 3, strides=2, padding="same")
        return x

    def get_config(self):
        return {**super().get_config(), "conv_layers": self.conv_layers}
