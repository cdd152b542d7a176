"""Made speech: sentences worth saying, said by a synthetic voice, with their manifest."""
