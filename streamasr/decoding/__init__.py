"""Log-probs to words: tokens, language model, prefix beam search, utterances."""

try:
    from streamasr.decoding import _native
except ImportError as error:
    raise ImportError(
        "the decoder's native core is not built for this Python; run `pip install .` in the checkout again "
        "(`make install` does)"
    ) from error

__all__ = ["_native"]
