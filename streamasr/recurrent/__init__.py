"""Small recurrent networks over words: trained in PyTorch, run in NumPy.

The punctuation model and the neural language model are such networks.
"""
