"""FastConformer: 8× causal subsampling, Conformer layers under a chunked mask, a CTC head."""

from streamasr.acoustic.fastconformer.encoder import FastConformerEncoder, FastConformerState

__all__ = ["FastConformerEncoder", "FastConformerState"]
