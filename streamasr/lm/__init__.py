"""Build n-gram language models: modified Kneser-Ney smoothing, entropy pruning and KenLM binaries.

Each stage is one module: ``corpus`` turns text into word ids, ``ngrams`` counts n-grams, ``kneser_ney`` estimates
probabilities, ``prune`` reduces the model to a size, ``arpa`` and ``kenlm_binary`` write files, and ``build`` runs
all stages and measures perplexity. The work is done with NumPy; no external tools are run.
"""
