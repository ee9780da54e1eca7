"""Texts and token ids; free of TensorFlow and Keras."""
