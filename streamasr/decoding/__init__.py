"""Decode CTC log-probs into utterances of words with a prefix beam search and a language model."""

try:
    from streamasr.decoding import _native
except ImportError as error:
    raise ImportError(
        "the decoder's native core is not built for this Python; run `pip install .` in the checkout again "
        "(`make install` does)"
    ) from error

__all__ = ["_native"]
