"""From transcribed sound to batches: manifests, shards, rows, augmentation."""
