"""Write capitals and punctuation: train, measure and run models that decide on each word's case and mark."""
