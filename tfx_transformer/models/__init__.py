"""The one Transformer stack and the tasks that are made of it."""
