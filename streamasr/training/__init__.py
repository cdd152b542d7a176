"""Train models: read manifests, train the encoder, and export a model folder."""
