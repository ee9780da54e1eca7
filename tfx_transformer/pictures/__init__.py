"""The pictures that people look at: loss, lengths, attention.

Each function draws one PNG at 150 dots per inch, writes it in one step (an interrupted run leaves
the old picture or the new one, never half of one) and returns its path.
"""

from tfx_transformer.pictures.attention import attention_map
from tfx_transformer.pictures.training import length_histogram, loss_curve

__all__ = ["attention_map", "length_histogram", "loss_curve"]
