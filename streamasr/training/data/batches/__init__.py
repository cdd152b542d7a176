"""Put utterances into rows and rows into batches of features."""
