"""Make a configuration as NeMo writes it, and random weights with NeMo's names; 128 bands, no biases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MODULES = "nemo.collections.asr.modules"


def nemo_config() -> dict[str, Any]:
    """Return a hybrid model's configuration, with sizes of its own and references as in NeMo's recipes."""
    return {
        "target": "nemo.collections.asr.models.hybrid_rnnt_ctc_bpe_models.EncDecHybridRNNTCTCBPEModel",
        "nemo_version": "1.23.0rc0",
        "sample_rate": 16000,
        "tokenizer": {"dir": "somewhere", "type": "bpe", "model_path": "nemo:abc_tokenizer.model"},
        "preprocessor": {
            "_target_": f"{MODULES}.AudioToMelSpectrogramPreprocessor",
            "sample_rate": "${model.sample_rate}", "normalize": "NA", "window_size": 0.025, "window_stride": 0.01,
            "window": "hann", "features": 128, "n_fft": 512, "frame_splicing": 1, "dither": 1e-05, "pad_to": 16,
        },
        "encoder": {
            "_target_": f"{MODULES}.ConformerEncoder",
            "feat_in": "${preprocessor.features}", "feat_out": -1, "n_layers": 2, "d_model": 24, "use_bias": False,
            "subsampling": "dw_striding", "subsampling_factor": 4, "subsampling_conv_channels": -1,
            "causal_downsampling": True, "ff_expansion_factor": 2, "self_attention_model": "rel_pos", "n_heads": 3,
            "att_context_size": [[12, 5], [12, 0], [12, 2]], "att_context_style": "chunked_limited",
            "xscaling": False, "untie_biases": True, "pos_emb_max_len": 5000, "conv_kernel_size": 5,
            "conv_norm_type": "layer_norm", "conv_context_size": [4, 0], "dropout": 0.1, "dropout_emb": 0.0,
            "reduction": None, "stochastic_depth_drop_prob": 0.0,
        },
        "decoder": {"_target_": f"{MODULES}.RNNTDecoder"},
        "aux_ctc": {"decoder": {"_target_": f"{MODULES}.ConvASRDecoder", "feat_in": None, "num_classes": 20}},
    }  # fmt: skip


def nemo_weights(config: dict[str, Any], pieces: int) -> dict[str, Tensor]:
    """Return random weights with NeMo's names for such a configuration."""
    e = config["encoder"]
    dim, kernel, heads = e["d_model"], e["conv_kernel_size"], e["n_heads"]
    inner = dim * e["ff_expansion_factor"]
    bands = config["preprocessor"]["features"]
    shapes: dict[str, tuple[int, ...]] = {"encoder.pre_encode.conv.0": (dim, 1, 3, 3)}
    stages = e["subsampling_factor"].bit_length() - 1
    for stage in range(stages):
        bands = bands // 2 + 1
        if stage:
            shapes[f"encoder.pre_encode.conv.{3 * stage - 1}"] = (dim, 1, 3, 3)
            shapes[f"encoder.pre_encode.conv.{3 * stage}"] = (dim, dim, 1, 1)
    shapes["encoder.pre_encode.out"] = (dim, dim * bands)
    head = "ctc_decoder.decoder_layers.0" if "aux_ctc" in config else "decoder.decoder_layers.0"
    shapes[head] = (pieces + 1, dim, 1)
    biased = list(shapes)
    for layer in range(e["n_layers"]):
        at = f"encoder.layers.{layer}"
        for norm in ("norm_feed_forward1", "norm_self_att", "norm_conv", "norm_feed_forward2", "norm_out",
                     "conv.batch_norm"):  # fmt: skip
            shapes[f"{at}.{norm}"] = (dim,)
            biased.append(f"{at}.{norm}")
        for half in (1, 2):
            shapes[f"{at}.feed_forward{half}.linear1"] = (inner, dim)
            shapes[f"{at}.feed_forward{half}.linear2"] = (dim, inner)
        for part in ("q", "k", "v", "out", "pos"):
            shapes[f"{at}.self_attn.linear_{part}"] = (dim, dim)
        shapes[f"{at}.conv.pointwise_conv1"] = (2 * dim, dim, 1)
        shapes[f"{at}.conv.depthwise_conv"] = (dim, 1, kernel)
        shapes[f"{at}.conv.pointwise_conv2"] = (dim, dim, 1)
    generator = torch.Generator().manual_seed(1)
    weights = {
        f"{name}.weight": torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()
    }
    weights |= {f"{name}.bias": torch.randn(shapes[name][0], generator=generator) * 0.2 for name in biased}
    for layer in range(e["n_layers"]):
        for which in "uv":
            name = f"encoder.layers.{layer}.self_attn.pos_bias_{which}"
            weights[name] = torch.randn(heads, dim // heads, generator=generator)
    weights["joint.enc.weight"] = torch.zeros(3, dim)
    return weights
