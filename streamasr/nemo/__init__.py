"""NeMo's checkpoints read without NeMo: the archive, its configuration, its weights; a model folder comes of them."""
