"""Check manifests and preview augmented audio."""
