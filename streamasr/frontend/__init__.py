"""Convert PCM bytes to samples, resample them, and compute log-mel frames."""
