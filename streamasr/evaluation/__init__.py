"""Error rates and speed of a model on a manifest."""
