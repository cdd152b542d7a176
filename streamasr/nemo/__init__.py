"""Import NeMo checkpoints without NeMo: convert archive, configuration and weights into a model folder."""
