"""Plan batches of utterances and turn them into features."""
