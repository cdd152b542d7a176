"""Measure error rates, speed and confidences of a model on manifests."""
