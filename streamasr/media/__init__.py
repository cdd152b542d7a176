"""Read audio from files, pipes and URLs."""
