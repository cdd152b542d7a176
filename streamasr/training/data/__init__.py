"""Prepare training data: import, check, pack, augment and batch recordings with transcripts."""
