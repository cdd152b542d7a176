"""A training recipe as frozen dataclasses; ``streamasr train RECIPE.toml`` reads it, unknown names are refused."""

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
    """What the outputs of the CTC head stand for; the blank is always there besides."""

    kind: Literal["characters", "collected", "pieces"] = "characters"
    """``characters``: those given; ``collected``: those of the training transcripts; ``pieces``: SentencePiece's."""
    characters: str = "'abcdefghijklmnopqrstuvwxyz"
    """For ``characters`` without a ``file``."""
    separator: bool = True
    """Whether the space between words is a token; off where words are not spaced, as in Mandarin."""
    file: Path | None = None
    """``characters``: a ``tokens.txt`` to use as it is; ``pieces``: SentencePiece's ``tokenizer.model``."""

    def __post_init__(self) -> None:
        if self.kind == "pieces" and self.file is None:
            raise ConfigError(
                "file: missing; kind pieces needs a tokenizer.model, which `streamasr tokens train` makes"
            )
        if self.kind == "collected" and self.file is not None:
            raise ConfigError(
                "file: kind collected takes its tokens from the transcripts; use kind characters"
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is heard, in which order and in rows of which length."""

    manifests: tuple[Path, ...] = ()
    """JSON-lines manifests of transcribed speech, decoded once into a cache."""
    unusable_share: float = 0.01
    """Share of the transcripts of ``manifests`` that may be empty or hold what no token stands for: left out."""
    noise_manifests: tuple[Path, ...] = ()
    """Manifests of sounds to mix under the speech; transcripts are ignored."""
    untranscribed_manifests: tuple[Path, ...] = ()
    """Manifests of more speech, which teaches by ``loss.distillation``; transcripts are ignored."""
    dev_manifests: tuple[Path, ...] = ()
    """Measured while training, never trained on."""
    shards: tuple[str, ...] = ()
    """Tar shards that ``streamasr data shard`` wrote, as patterns: streamed, in place of ``manifests``."""
    shuffle_utterances: int = 2_000
    """Utterances of a stream of shards that wait in the buffer from which the next is drawn."""
    batching: Literal["rows", "buckets"] = "rows"
    """``rows``: utterances strung together; ``buckets``: utterances of like length side by side."""
    row_seconds: float = 16.0
    """``rows``: utterances are strung together, with pauses, into rows of about this length."""
    max_gap_seconds: float = 1.0
    """``rows``: longest pause between two utterances of a row, and before the first."""
    rows_per_batch: int = 16
    """``rows``: rows in a batch."""
    batch_seconds: float = 60.0
    """``buckets``: longest batch, padding included."""
    workers: int = 0
    """Processes that prepare batches ahead of the training; 0 prepares on the device that trains."""
    denoise: bool = False
    """Clean every recording once, when it is decoded (``noisereduce``)."""
    cache: Path | None = None
    """Where decoded samples are kept between runs; by default beside the run."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.unusable_share <= 1.0:
            raise ConfigError(f"unusable_share must be a share from 0 to 1, got {self.unusable_share}")
        if bool(self.manifests) == bool(self.shards):
            raise ConfigError("manifests or shards: exactly one of the two must be given")
        if self.untranscribed_manifests and self.shards:
            raise ConfigError("untranscribed_manifests: go with manifests, not with shards")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What is done to the sound; every probability is per row, except ``speeds``, drawn per batch."""

    speeds: tuple[float, ...] = (0.9, 0.95, 1.0, 1.0, 1.05, 1.1)
    noise_probability: float = 0.4
    noise_snr_db: tuple[float, ...] = (0.0, 25.0)
    """Lowest and highest signal-to-noise ratio."""
    babble_probability: float = 0.1
    """Other rows of the batch as noise."""
    room_probability: float = 0.3
    room_rt60_seconds: tuple[float, ...] = (0.1, 0.7)
    """Shortest and longest reverberation time."""
    room_bank: int = 0
    """Rooms simulated once by the image-source method (pyroomacoustics); 0 draws decaying noise for every row."""
    band_probability: float = 0.15
    """Telephone: 300–3400 Hz and eight-bit mu-law."""
    codec_probability: float = 0.0
    """A round trip through a telephone's or a call's codec; slow, for ``data.workers``."""
    tilt_db: float = 6.0
    """Largest random spectral tilt from 0 to 8 kHz, as different microphones have."""
    level_db: tuple[float, ...] = (-24.0, 6.0)
    """Range of the gain."""
    frequency_masks: int = 2
    frequency_mask_bands: int = 20
    time_masks_per_second: float = 0.8
    time_mask_frames: int = 30


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the parts of the loss; a weight of 0 leaves the part, and its cost, out."""

    consistency: float = 0.2
    """CR-CTC (Yao et al. 2024): two augmented views agree; 0 trains on one view."""
    distillation: float = 0.0
    """The full-context pretrained encoder's hidden states of the clean sound, seen by the chunked student."""
    intermediate: float = 0.0
    """CTC on the states after ``intermediate_layer``, too (Lee and Watanabe 2021)."""
    intermediate_layer: int = 0
    """Counted from 1; 0 is the middle one."""
    label_smoothing: float = 0.0
    """Share of the loss that wants every frame's tokens equally probable, against overconfidence."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW; a warm-up, a plateau and a cosine (a plateau lets a run be prolonged), or Noam's schedule."""

    steps: int = 1_000
    """Length of the whole schedule, in optimiser steps."""
    learning_rate: float = 2e-4
    """Peak rate of the top layer."""
    schedule: Literal["cosine", "noam"] = "cosine"
    """``noam``: after the warm-up the rate falls with the square root of the step (Vaswani et al. 2017)."""
    layer_decay: float = 0.9
    """Factor on the rate from a layer to the one below it."""
    head_factor: float = 5.0
    """Factor on the rate for the CTC head."""
    freeze_encoder_steps: int = 100
    """Steps for the new head alone."""
    train_stem: bool = False
    """Whether the convolution stem learns, too."""
    warmup_steps: int = 200
    decay_share: float = 0.3
    """Share of the steps, at the end, over which the rate falls; 1 is a plain cosine."""
    final_factor: float = 0.02
    """Where the cosine ends, as a share of the peak."""
    weight_decay: float = 0.02
    betas: tuple[float, ...] = (0.9, 0.98)
    clip_norm: float = 1.0
    accumulate_batches: int = 1
    """Batches of a step, on every process; gradients are exchanged once a step."""
    average: Literal["ema", "checkpoints"] = "ema"
    """What is measured and exported: a moving average of the weights, or the mean of the kept checkpoints."""
    ema_decay: float = 0.999
    patience_evaluations: int = 0
    """Stop after so many evaluations without a better dev error rate, and export the best; 0 goes to the end."""


@dataclass(frozen=True, kw_only=True)
class DiagnosisConfig:
    """From when on training is said to go wrong."""

    not_finite_steps: int = 20
    """Steps in a row without a finite gradient after which the run gives up."""
    all_blank_share: float = 0.98
    """Share of blank frames, of those after the grace, at which the model is said to write nothing."""
    all_blank_grace_steps: int = 1_000
    """Every CTC training begins with blanks; before this step that is no finding."""
    repeats_share: float = 0.08
    """Share of doubled letters in the answers, beyond the references', at which they are said to stutter."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole recipe."""

    name: str
    language: str = "en"
    seed: int = 1
    pretrained: Path | None = None
    """Encoder weights to start from: Whisper's (OpenAI's parameter names) or a model folder's own."""
    temperature: float = 1.0
    """The exported head is divided by it (Guo et al. 2017): above 1 its log-probs are softer."""
    chunk_weights: tuple[float, ...] = (1.0, 1.0, 2.0, 2.0)
    """How often each of ``encoder.chunk_frames`` is drawn."""
    precision: Precision = "float32"
    """Automatic mixed precision in one of the shorter types; float16 with loss scaling. ``auto``: bfloat16 where the
    device is faster with it, else float32."""
    compile: bool = False
    """Compile the layers (``torch.compile``), which takes a minute or two at the start; made for GPUs."""
    checkpoint_layers: bool = False
    """Compute each layer's inner values again in the backward pass instead of keeping them: less memory, slower."""
    log_every_steps: int = 20
    save_every_steps: int = 200
    keep_checkpoints: int = 3
    """The newest that stay; also those that ``optim.average`` takes."""
    evaluate_every_steps: int = 500
    data: DataConfig
    tokens: TokensConfig = field(default_factory=TokensConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
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
        if self.data.untranscribed_manifests and not self.loss.distillation:
            raise ConfigError(
                "data.untranscribed_manifests teach by distillation alone: loss.distillation must be above 0"
            )
        if len(self.chunk_weights) != len(self.encoder.chunk_frames):
            raise ConfigError("chunk_weights needs one weight for every one of encoder.chunk_frames")
        check_compatible(self.frontend, self.encoder)

    @property
    def framing(self) -> Framing:
        """How samples become frames."""
        return framing_of(self.frontend, self.encoder)

    def rooted(self, root: Path) -> TrainConfig:
        """The same recipe with every relative path taken from ``root``."""
        data = replace(
            self.data,
            manifests=tuple(root / path for path in self.data.manifests),
            shards=tuple(str(root / pattern) for pattern in self.data.shards),
            noise_manifests=tuple(root / path for path in self.data.noise_manifests),
            untranscribed_manifests=tuple(root / path for path in self.data.untranscribed_manifests),
            dev_manifests=tuple(root / path for path in self.data.dev_manifests),
            cache=None if self.data.cache is None else root / self.data.cache,
        )
        tokens = replace(self.tokens, file=None if self.tokens.file is None else root / self.tokens.file)
        pretrained = None if self.pretrained is None else root / self.pretrained
        return replace(self, data=data, tokens=tokens, pretrained=pretrained)


def load_recipe(recipe: str) -> TrainConfig:
    """Read a recipe: a TOML file, or the name of one that travels with the package (``en-small``).

    Raises:
        ConfigError: no such file or name, or the recipe does not hold together.
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
