"""Trained models to files that run elsewhere, each checked against the model it came from."""
