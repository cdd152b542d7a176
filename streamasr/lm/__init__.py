"""N-gram language models: text → modified Kneser-Ney → entropy pruning → a KenLM binary.

Stages, one module each: ``corpus`` (text to word ids), ``ngrams`` (counts), ``kneser_ney`` (probabilities),
``prune`` (a size that fits), ``arpa`` and ``kenlm_binary`` (files), ``build`` (all of them in a row, and the
measuring). numpy does the work; no outside tool is run.
"""
