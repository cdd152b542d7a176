"""Log-probs to words: tokens, language model, prefix beam search, utterances."""
