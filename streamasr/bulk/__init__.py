"""Transcribe the rows of a manifest into a file of results, in one process or on a Ray cluster."""
