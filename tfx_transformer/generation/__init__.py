"""From logits to tokens: pure functions over NumPy or keras.ops, and the host decode loop."""

from tfx_transformer.generation.options import GenerationOptions

__all__ = ["GenerationOptions"]
