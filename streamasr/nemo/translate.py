"""Translate NeMo's configuration of a streaming FastConformer with a CTC head into a model configuration."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from streamasr.config import FastConformerEncoderConfig, NemoFrontendConfig
from streamasr.errors import ConfigError, ModelError
from streamasr.nemo.options import Section
from streamasr.toml import in_table

Generation = Literal["current", "legacy"]

_HEADS = {
    "EncDecCTCModelBPE": ("decoder", "decoder"),
    "EncDecHybridRNNTCTCBPEModel": ("aux_ctc.decoder", "ctc_decoder"),
}
"""Model classes: the configuration table of the CTC head, and its name among the weights."""
_FIRST_CURRENT_VERSION = (2, 5)
"""The first version that pads the edges with silence."""


@dataclass(frozen=True, slots=True)
class NemoModel:
    """The translated configuration of an archive."""

    frontend: NemoFrontendConfig
    encoder: FastConformerEncoderConfig
    head: str
    """Prefix of the CTC head's weights."""
    tokenizer: str
    """Name of the archive member with the SentencePiece model."""
    kind: str
    """NeMo's model class."""
    version: str
    """NeMo's version; empty if unknown."""


def translate_config(config: Mapping[str, Any], generation: Generation | None) -> NemoModel:
    """Translate a model's configuration.

    Args:
        config: NeMo's ``model_config.yaml``.
        generation: generation of the front end; by default that of the model's version, legacy if unknown.

    Raises:
        ModelError: an unsupported option; the message has its name, its value and the supported ones.
    """
    kind = str(config.get("target")).rpartition(".")[2]
    if kind not in _HEADS:
        raise ModelError(f"target = {config.get('target')!r} is not supported, only {' or '.join(_HEADS)}")
    table, head = _HEADS[kind]
    version = str(config.get("nemo_version") or "")
    try:
        with in_table("encoder"):
            encoder = _encoder(Section(config, "encoder"))
        with in_table("frontend"):
            frontend = _frontend(Section(config, "preprocessor"), generation or generation_of(version))
    except ConfigError as error:
        raise ModelError(f"the model's sizes do not fit together: {error.message}") from None
    if encoder.n_mels != frontend.n_mels:
        raise ModelError(f"encoder.feat_in = {encoder.n_mels}: preprocessor.features is {frontend.n_mels}")
    _head(Section(config, table), encoder.dim)
    return NemoModel(
        frontend=frontend,
        encoder=encoder,
        head=head,
        tokenizer=_tokenizer(Section(config, "tokenizer")),
        kind=kind,
        version=version,
    )


def generation_of(version: str) -> Generation:
    """The front-end generation of a NeMo version such as ``2.5.0rc0``; legacy if unknown."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) >= _FIRST_CURRENT_VERSION:
        return "current"
    return "legacy"


def _frontend(options: Section, generation: Generation) -> NemoFrontendConfig:
    _require_class(options, "AudioToMelSpectrogramPreprocessor")
    rate = options.get("sample_rate", int, 16_000)
    window = options.get("n_window_size", int, 0) or int(options.get("window_size", float, 0.02) * rate)
    hop = options.get("n_window_stride", int, 0) or int(options.get("window_stride", float, 0.01) * rate)
    options.require("window", "hann")
    options.require("normalize", "NA", None, False, default="per_feature")
    options.require("lowfreq", 0)
    options.require("highfreq", rate / 2, None)
    options.require("log", True)
    options.require("log_zero_guard_type", "add")
    options.require("mag_power", 2.0)
    options.require("mel_norm", "slaney")
    options.require("frame_splicing", 1)
    options.require("exact_pad", False)
    options.require("stft_exact_pad", False)
    options.require("stft_conv", False)
    options.require("use_torchaudio", False)
    options.require("pad_value", 0)
    # Dither and narrow-band augmentation are for training; padding after the sound has no effect.
    options.ignore("dither", "pad_to", "rng", "nb_augmentation_prob", "nb_max_freq")
    frontend = NemoFrontendConfig(
        generation=generation,
        sample_rate=rate,
        n_fft=options.get("n_fft", int, 2 ** math.ceil(math.log2(window))),
        window=window,
        hop=hop,
        n_mels=options.get("features", int, 64),
        preemphasis=0.0 if options.is_null("preemph") else float(options.get("preemph", float, 0.97)),
        log_guard=float(options.get("log_zero_guard_value", float, 2.0**-24)),
    )
    options.refuse_unknown()
    return frontend


def _encoder(options: Section) -> FastConformerEncoderConfig:
    _require_class(options, "ConformerEncoder")
    dim = options.get("d_model", int)
    kernel = options.get("conv_kernel_size", int, 31)
    channels = options.get("subsampling_conv_channels", int, -1)
    options.require("subsampling", "dw_striding", default="striding")
    options.require("causal_downsampling", True, default=False)
    options.require("self_attention_model", "rel_pos")
    options.require("att_context_style", "chunked_limited", default="regular")
    options.require("conv_norm_type", "layer_norm", default="batch_norm")
    options.require("conv_context_size", "causal", [kernel - 1, 0], default=None)
    options.require("feat_out", -1, dim)
    options.require("reduction", None)
    options.require("reduction_factor", 1)
    options.require("global_tokens", 0)
    # Shared position biases are visible in the weights; the other options are for training or change no results.
    options.ignore(
        "untie_biases", "pos_emb_max_len", "att_context_probs", "reduction_position", "global_tokens_spacing",
        "global_attn_separate", "dropout_pre_encoder", "dropout_emb", "dropout_att", "stochastic_depth_drop_prob",
        "stochastic_depth_mode", "stochastic_depth_start_layer", "subsampling_conv_chunking_factor",
        "use_pytorch_sdpa", "use_pytorch_sdpa_backends", "sync_max_audio_length",
    )  # fmt: skip
    contexts = _attention_contexts(options)
    encoder = FastConformerEncoderConfig(
        n_mels=options.get("feat_in", int),
        dim=dim,
        heads=options.get("n_heads", int, 4),
        layers=options.get("n_layers", int),
        subsampling=options.get("subsampling_factor", int, 4),
        subsampling_channels=dim if channels == -1 else channels,
        feed_forward_factor=options.get("ff_expansion_factor", int, 4),
        conv_kernel=kernel,
        bias=options.get("use_bias", bool, True),
        scale_input=options.get("xscaling", bool, True),
        dropout=float(options.get("dropout", float, 0.1)),
        left_context_frames=contexts[0][0],
        chunk_frames=tuple(sorted({ahead + 1 for _, ahead in contexts})),
    )
    options.refuse_unknown()
    return encoder


def _attention_contexts(options: Section) -> list[tuple[int, int]]:
    """Read pairs of left and right context in encoder frames, in the model's order."""
    given = options.get("att_context_size", list, [-1, -1])
    pairs = given if given and isinstance(given[0], list) else [given]
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(size, int) for size in pair) or min(pair) < 0 or pair[0] == 0:
            raise ModelError(
                f"{options.path}.att_context_size = {given!r} is not supported, only pairs of a limited left "
                "context and a look-ahead"
            )
    if len({left for left, _ in pairs}) != 1:
        raise ModelError(
            f"{options.path}.att_context_size = {given!r} is not supported, only one left context for all look-aheads"
        )
    return [(left, ahead) for left, ahead in pairs]


def _head(options: Section, dim: int) -> None:
    _require_class(options, "ConvASRDecoder")
    options.require("feat_in", dim, None)
    options.require("add_blank", True)
    options.ignore("num_classes", "vocabulary", "init_mode")
    options.refuse_unknown()


def _tokenizer(options: Section) -> str:
    options.require("type", "bpe", default=None)
    path: str = options.get("model_path", str)
    return path.removeprefix("nemo:").rpartition("/")[2]


def _require_class(options: Section, name: str) -> None:
    target = options.get("_target_", str)
    if target.rpartition(".")[2] != name:
        raise ModelError(f"{options.path}._target_ = {target!r} is not supported, only {name}")
