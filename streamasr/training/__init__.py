"""Offline training: manifests in, a model folder out, with the very front end and encoder that serve."""
