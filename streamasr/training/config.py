"""Define and load training recipes: TOML files read into frozen dataclasses, which refuse unknown names."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Literal

from streamasr.config import (
    AnyFrontendConfig,
    DecoderConfig,
    EncoderConfig,
    EndpointConfig,
    FrontendConfig,
    WhisperEncoderConfig,
    check_compatible,
)
from streamasr.errors import ConfigError
from streamasr.framing import Framing, framing_of
from streamasr.toml import load_toml

Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class TokensConfig:
    """The tokens of the CTC head's outputs; the blank is added to them."""

    kind: Literal["characters", "collected", "pieces"] = "characters"
    """``characters``: the characters of ``characters`` or ``file``; ``collected``: all characters of the training
    transcripts; ``pieces``: the word pieces of a SentencePiece model."""
    characters: str = "'abcdefghijklmnopqrstuvwxyz"
    """The tokens for ``kind = "characters"`` without a ``file``."""
    separator: bool = True
    """Whether the space between words is a token; false for languages without spaces, such as Mandarin."""
    file: Path | None = None
    """For ``characters``, a ``tokens.txt`` to use as it is; for ``pieces``, SentencePiece's ``tokenizer.model``."""

    def __post_init__(self) -> None:
        if self.kind == "pieces" and self.file is None:
            raise ConfigError(
                "file: missing; kind pieces needs a tokenizer.model, which `streamasr tokens train` makes"
            )
        if self.kind == "collected" and self.file is not None:
            raise ConfigError(
                "file: kind collected takes its tokens from the transcripts; use kind characters for a file"
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The training and dev data, and how batches are made of it."""

    manifests: tuple[Path, ...] = ()
    """Manifests (JSON lines) of transcribed speech, which is decoded once into a cache."""
    unusable_share: float = 0.01
    """Largest share of the transcripts of ``manifests`` that may be unusable: empty, or with characters outside the
    tokens. Such utterances are left out."""
    noise_manifests: tuple[Path, ...] = ()
    """Manifests of noises to mix into the speech; transcripts are ignored."""
    untranscribed_manifests: tuple[Path, ...] = ()
    """Manifests of additional speech for ``loss.distillation``; transcripts are ignored."""
    dev_manifests: tuple[Path, ...] = ()
    """Manifests of speech to measure the model on during training."""
    shards: tuple[str, ...] = ()
    """Patterns of tar shards, written by ``streamasr data shard``, to stream instead of reading ``manifests``."""
    shuffle_utterances: int = 2_000
    """Size of the shuffle buffer of each shard reader, in utterances."""
    batching: Literal["rows", "buckets"] = "rows"
    """``rows``: utterances are concatenated into rows of similar length; ``buckets``: a batch has utterances of
    similar length, one per row."""
    row_seconds: float = 16.0
    """For ``rows``: length up to which a row is filled with utterances and pauses."""
    max_gap_seconds: float = 1.0
    """For ``rows``: longest pause before an utterance."""
    rows_per_batch: int = 16
    """For ``rows``: number of rows in a batch."""
    batch_seconds: float = 60.0
    """For ``buckets``: size up to which a batch is filled, padding included."""
    workers: int = 0
    """Processes that prepare batches ahead of training; with 0, the training device prepares them."""
    denoise: bool = False
    """Remove noise from each training recording once, when it is decoded (``noisereduce``)."""
    cache: Path | None = None
    """Folder where decoded samples are kept between runs; by default a folder of the run."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.unusable_share <= 1.0:
            raise ConfigError(f"unusable_share must be a share from 0 to 1, got {self.unusable_share}")
        if bool(self.manifests) == bool(self.shards):
            raise ConfigError("manifests or shards: exactly one of the two must be given")
        if self.untranscribed_manifests and self.shards:
            raise ConfigError("untranscribed_manifests can be used with manifests only, not with shards")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Augmentation of the audio. Each probability is per row."""

    speeds: tuple[float, ...] = (0.9, 0.95, 1.0, 1.0, 1.05, 1.1)
    """Speed factors, one of which is drawn per batch."""
    noise_probability: float = 0.4
    """Probability of mixing in noise."""
    noise_snr_db: tuple[float, ...] = (0.0, 25.0)
    """Lowest and highest signal-to-noise ratio."""
    babble_probability: float = 0.1
    """Probability of mixing in another row of the batch."""
    noise_only_probability: float = 0.0
    """Probability of replacing a row by noise alone, with an empty transcript, so that the model learns to output
    nothing where nobody speaks."""
    room_probability: float = 0.3
    """Probability of reverberation."""
    room_rt60_seconds: tuple[float, ...] = (0.1, 0.7)
    """Shortest and longest reverberation time (RT60)."""
    room_bank: int = 0
    """Number of rooms to simulate once with the image source method (pyroomacoustics); 0 draws an impulse response of
    exponentially decaying noise for each row instead."""
    band_probability: float = 0.15
    """Probability of a telephone line: 300–3400 Hz and 8-bit mu-law."""
    codec_probability: float = 0.0
    """Probability of encoding and decoding with a telephone or internet codec. This is slow and runs on the CPU; use
    it with ``data.workers``."""
    tilt_db: float = 6.0
    """Largest random spectral tilt from 0 Hz to half the sample rate, as between different microphones."""
    level_db: tuple[float, ...] = (-24.0, 6.0)
    """Lowest and highest gain."""
    frequency_warp: float = 0.0
    """Largest share by which a row's frequencies are raised or lowered, as another vocal tract does (VTLP, Jaitly and
    Hinton 2013)."""
    frequency_masks: int = 2
    """SpecAugment: number of frequency masks per row."""
    frequency_mask_bands: int = 20
    """SpecAugment: most mel bands in a frequency mask."""
    time_masks_per_second: float = 0.8
    """SpecAugment: number of time masks per second of audio."""
    time_mask_frames: int = 30
    """SpecAugment: most mel frames in a time mask."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.frequency_warp <= 0.5:
            raise ConfigError(f"frequency_warp must be a share from 0 to 0.5, got {self.frequency_warp}")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the parts of the loss; a part with weight 0 is not computed."""

    crf: float = 0.0
    """Share of CTC-CRF (Xiang and Ou 2019) in the loss; CTC has the rest. See :class:`CrfConfig`."""
    consistency: float = 0.2
    """CR-CTC (Yao et al. 2024): consistency between two augmented views of each row. With 0 there is one view."""
    distillation: float = 0.0
    """Cosine distance between the hidden states of the chunked student on augmented audio and those of the teacher
    with full context on clean audio."""
    intermediate: float = 0.0
    """CTC on the hidden states after ``intermediate_layer`` (Lee and Watanabe 2021)."""
    intermediate_layer: int = 0
    """Layer of the intermediate CTC, counted from 1; 0 is the middle layer."""
    label_smoothing: float = 0.0
    """Share of the cross entropy with the uniform distribution in the loss, against overconfidence."""


@dataclass(frozen=True, kw_only=True)
class CrfConfig:
    """CTC-CRF: CTC whose texts are weighted by an n-gram model of tokens, as in the beam search by one of words."""

    text: tuple[Path, ...] = ()
    """Texts of the n-gram model: plain, ``.gz`` or manifests; by default the transcripts of ``data.manifests``."""
    order: int = 4
    """Length of the n-grams."""
    lm_weight: float = 0.7
    """Exponent of the n-gram model's probabilities."""
    temperature: float = 2.0
    """Divisor of the log-probs in this part of the loss."""
    prune: float = 1e-4
    """Histories less probable than this share of the best one of a frame are left out of the sum over all texts."""

    def __post_init__(self) -> None:
        if self.order < 2:
            raise ConfigError(f"crf.order must be at least 2, got {self.order}")
        if not 0.0 <= self.lm_weight < float("inf"):
            raise ConfigError(f"crf.lm_weight must be a number from 0, got {self.lm_weight}")
        if not 0.0 < self.temperature < float("inf"):
            raise ConfigError(f"crf.temperature must be a number above 0, got {self.temperature}")
        if not 0.0 <= self.prune < 1.0:
            raise ConfigError(f"crf.prune must be a share from 0 to below 1, got {self.prune}")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW, its learning-rate schedule and the averaging of weights.

    The schedule has a warm-up, then a plateau and a cosine decay, or Noam's decay. A run can be prolonged from its
    plateau.
    """

    steps: int = 1_000
    """Length of the schedule, in optimiser steps."""
    learning_rate: float = 2e-4
    """Peak learning rate of the top layer."""
    schedule: Literal["cosine", "noam"] = "cosine"
    """``cosine``: a plateau, then a cosine decay. ``noam``: after the warm-up the rate falls with the inverse square
    root of the step (Vaswani et al. 2017)."""
    layer_decay: float = 0.9
    """Factor of the learning rate from each layer to the layer below it."""
    head_factor: float = 5.0
    """Factor of the learning rate of the CTC head."""
    freeze_encoder_steps: int = 100
    """Number of steps at the start in which only the new head is trained."""
    train_stem: bool = False
    """Whether the convolutional stem is trained."""
    warmup_steps: int = 200
    """Number of steps in which the learning rate rises linearly."""
    decay_share: float = 0.3
    """For ``cosine``: share of the steps, at the end, in which the learning rate falls; 1 is a plain cosine."""
    final_factor: float = 0.02
    """For ``cosine``: learning rate at the end, as a share of the peak."""
    weight_decay: float = 0.02
    """Weight decay of AdamW; biases and norms have none."""
    betas: tuple[float, ...] = (0.9, 0.98)
    """Decay rates of AdamW's two moments."""
    clip_norm: float = 1.0
    """Norm to which gradients are clipped."""
    accumulate_batches: int = 1
    """Batches per step on each process; gradients are exchanged once per step."""
    average: Literal["ema", "checkpoints"] = "ema"
    """Weights to measure and export: an exponential moving average, or the mean of the kept checkpoints."""
    ema_decay: float = 0.999
    """Decay of the exponential moving average per step."""
    patience_evaluations: int = 0
    """Stop after this number of evaluations without a lower dev error rate, and export the best weights; 0 never
    stops early."""


@dataclass(frozen=True, kw_only=True)
class DiagnosisConfig:
    """Thresholds at which training problems are reported."""

    not_finite_steps: int = 20
    """Number of steps in a row without a finite loss and gradient after which the run ends with an error."""
    all_blank_share: float = 0.98
    """Share of blank frames from which a diagnosis reports that the model outputs no text."""
    all_blank_grace_steps: int = 1_000
    """Number of steps before blank frames are reported: all CTC models output only blanks at first."""
    repeats_share: float = 0.08
    """Share of repeated characters in the hypotheses, minus their share in the references, above which a diagnosis
    reports them."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training recipe."""

    name: str
    """Name of the model."""
    language: str = "en"
    """Language of the transcripts, as a tag such as ``en`` or ``zh``."""
    seed: int = 1
    """Seed of all random values."""
    pretrained: Path | None = None
    """Encoder weights to start from: OpenAI's Whisper weights, or the ``model.safetensors`` of a model folder."""
    teacher: Path | None = None
    """Encoder weights of the teacher for ``loss.distillation``; by default those of ``pretrained``."""
    temperature: float = 1.0
    """Divisor of the exported CTC head's weights (Guo et al. 2017); above 1 the log-probs are less confident."""
    chunk_weights: tuple[float, ...] = (1.0, 1.0, 2.0, 2.0)
    """Relative frequency of each chunk size of ``encoder.chunk_frames``."""
    precision: Precision = "float32"
    """``bfloat16`` and ``float16`` use automatic mixed precision, ``float16`` with loss scaling. ``auto`` is
    ``bfloat16`` if the device is faster with it, else ``float32``."""
    compile: bool = False
    """Compile the layers with ``torch.compile``, which takes a minute or two at the start; meant for GPUs."""
    checkpoint_layers: bool = False
    """Recompute the activations of each layer in the backward pass (activation checkpointing), which saves memory and
    takes longer."""
    log_every_steps: int = 20
    """Steps between two reports."""
    save_every_steps: int = 200
    """Steps between two checkpoints."""
    keep_checkpoints: int = 3
    """Number of newest checkpoints to keep, and to average with ``optim.average = "checkpoints"``."""
    evaluate_every_steps: int = 500
    """Steps between two evaluations on the dev manifests."""
    data: DataConfig
    tokens: TokensConfig = field(default_factory=TokensConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    crf: CrfConfig = field(default_factory=CrfConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    diagnosis: DiagnosisConfig = field(default_factory=DiagnosisConfig)
    frontend: AnyFrontendConfig = field(default_factory=FrontendConfig)
    encoder: EncoderConfig = field(default_factory=WhisperEncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    endpointing: EndpointConfig = field(default_factory=EndpointConfig)

    def __post_init__(self) -> None:
        if self.keep_checkpoints < 1:
            raise ConfigError(f"keep_checkpoints must be at least 1, got {self.keep_checkpoints}")
        if not 0.0 < self.temperature < float("inf"):
            raise ConfigError(f"temperature must be a number above 0, got {self.temperature}")
        if not 0 <= self.loss.intermediate_layer < self.encoder.layers:
            raise ConfigError(
                f"loss.intermediate_layer must be below encoder.layers ({self.encoder.layers}), "
                f"got {self.loss.intermediate_layer}"
            )
        if self.augment.frequency_warp and isinstance(self.frontend, FrontendConfig) and self.frontend.n_mfcc:
            raise ConfigError("augment.frequency_warp moves mel bands: frontend.n_mfcc must be 0")
        if not 0.0 <= self.loss.crf <= 1.0:
            raise ConfigError(f"loss.crf must be a share from 0 to 1, got {self.loss.crf}")
        if self.crf.text and not self.loss.crf:
            raise ConfigError("crf.text is used for CTC-CRF only: loss.crf must be above 0")
        if self.loss.crf and not self.crf.text and not self.data.manifests:
            raise ConfigError("loss.crf: with shards, crf.text must name texts for the n-gram model")
        if self.data.untranscribed_manifests and not self.loss.distillation:
            raise ConfigError(
                "data.untranscribed_manifests are used for distillation only: loss.distillation must be above 0"
            )
        if self.teacher is not None and not self.loss.distillation:
            raise ConfigError("teacher is used for distillation only: loss.distillation must be above 0")
        if len(self.chunk_weights) != len(self.encoder.chunk_frames):
            raise ConfigError("chunk_weights needs one weight for each of encoder.chunk_frames")
        check_compatible(self.frontend, self.encoder)

    @property
    def framing(self) -> Framing:
        """The framing of the model: how samples become mel frames and encoder frames."""
        return framing_of(self.frontend, self.encoder)

    def rooted(self, root: Path) -> TrainConfig:
        """Return the recipe with all relative paths resolved against ``root``."""
        data = replace(
            self.data,
            manifests=tuple(root / path for path in self.data.manifests),
            shards=tuple(str(root / pattern) for pattern in self.data.shards),
            noise_manifests=tuple(root / path for path in self.data.noise_manifests),
            untranscribed_manifests=tuple(root / path for path in self.data.untranscribed_manifests),
            dev_manifests=tuple(root / path for path in self.data.dev_manifests),
            cache=None if self.data.cache is None else root / self.data.cache,
        )
        crf = replace(self.crf, text=tuple(root / path for path in self.crf.text))
        tokens = replace(self.tokens, file=None if self.tokens.file is None else root / self.tokens.file)
        pretrained = None if self.pretrained is None else root / self.pretrained
        teacher = None if self.teacher is None else root / self.teacher
        return replace(self, data=data, tokens=tokens, crf=crf, pretrained=pretrained, teacher=teacher)


def load_recipe(recipe: str) -> TrainConfig:
    """Load a recipe from a TOML file, or a packaged recipe by name (``en-small``).

    Raises:
        ConfigError: there is no such file or packaged recipe, or the recipe is invalid.
    """
    packaged = resources.files("streamasr.training") / "recipes"
    names = sorted(
        entry.name.removesuffix(".toml") for entry in packaged.iterdir() if entry.name.endswith(".toml")
    )
    if recipe in names:
        with resources.as_file(packaged / f"{recipe}.toml") as path:
            return load_toml(TrainConfig, path)
    if not Path(recipe).exists():
        raise ConfigError(f"{recipe}: no such recipe file; packaged recipes are {', '.join(names)}")
    return load_toml(TrainConfig, Path(recipe))
