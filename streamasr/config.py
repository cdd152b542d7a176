"""Define the content of a model folder's ``config.toml`` as frozen, validated dataclasses.

``streamasr.toml`` reads and writes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from streamasr.errors import ConfigError

Backend = Literal["auto", "native", "torch", "onnxruntime"]
"""What computes an encoder's steps. ``auto`` selects, on a CPU, the native step if the encoder's family has one, or
ONNX Runtime if the model folder has an exported graph; else PyTorch."""
BACKENDS: tuple[Backend, ...] = get_args(Backend)
Precision = Literal["float32", "bfloat16", "int8"]
"""Of the weights of a native step and of what they are multiplied with."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
PrecisionChoice = Literal["auto", "float32", "bfloat16", "int8"]
"""``auto`` measures which precision is fastest on the processor."""
PRECISION_CHOICES: tuple[PrecisionChoice, ...] = get_args(PrecisionChoice)

_SMALLEST_STEM_KERNEL = 3
MERGE_FACTOR = 2
"""Frames that are merged into one."""


@dataclass(frozen=True, kw_only=True)
class FrontendConfig:
    """The log-mel front end (see ``streamasr.frontend.mel``)."""

    family: Literal["whisper"] = "whisper"
    sample_rate: int = 16_000
    """Hz; audio of any other rate is resampled to it."""
    n_fft: int = 400
    """Length of the analysis window and of the Fourier transform, in samples."""
    hop: int = 160
    """Samples between two frames."""
    n_mels: int = 80
    """Mel bands on Slaney's scale, of equal area, from 0 Hz to half the sample rate."""
    n_mfcc: int = 0
    """Cepstral coefficients of a frame's bands (13 is usual) in place of the bands; 0 for the bands."""
    floor_log10: float = -6.5
    """Smallest log10 mel power: a fixed floor, unlike Whisper's, which depends on the utterance's maximum."""
    quiet_level_db: float = -36.0
    """Quieter speech than this is amplified to it (dB of full scale; see ``streamasr.frontend.level``)."""
    max_gain_db: float = 0.0
    """Largest amplification of quiet speech; 0: none."""

    def __post_init__(self) -> None:
        _check_positive(self, "sample_rate", "n_fft", "hop", "n_mels")
        if self.max_gain_db < 0:
            raise ConfigError(f"max_gain_db must not be negative, got {self.max_gain_db}")
        if self.n_fft < self.hop:
            raise ConfigError(f"n_fft must be at least hop ({self.hop}), got {self.n_fft}")
        if not 0 <= self.n_mfcc <= self.n_mels:
            raise ConfigError(f"n_mfcc must be 0 to n_mels ({self.n_mels}), got {self.n_mfcc}")

    @property
    def features(self) -> int:
        """Values per frame; the encoder's ``n_mels`` must equal it."""
        return self.n_mfcc or self.n_mels

    @property
    def lookahead_samples(self) -> int:
        """Samples after ``hop`` times its number that a frame depends on."""
        return self.hop

    @property
    def right_padding_samples(self) -> int:
        """Samples of padding after a stream's end."""
        return 0


@dataclass(frozen=True, kw_only=True)
class NemoFrontendConfig:
    """NeMo's log-mel front end (see ``streamasr.frontend.nemo``)."""

    family: Literal["nemo"] = "nemo"
    generation: Literal["current", "legacy"] = "current"
    """``legacy`` is NeMo up to 2.4: edges are mirrored, with one more frame. Later versions pad with silence."""
    sample_rate: int = 16_000
    """Hz; audio of any other rate is resampled to it."""
    n_fft: int = 512
    """Length of the Fourier transform, in samples."""
    window: int = 400
    """Length of the analysis window, which is centred at its frame's first sample; at least two hops."""
    hop: int = 160
    """Samples between two frames."""
    n_mels: int = 80
    """Mel bands on Slaney's scale, of equal area, from 0 Hz to half the sample rate."""
    preemphasis: float = 0.97
    """Pre-emphasis: share of the previous sample that is subtracted from each sample."""
    log_guard: float = 2.0**-24
    """Added to every power before the natural logarithm."""

    def __post_init__(self) -> None:
        _check_positive(self, "sample_rate", "n_fft", "window", "hop", "n_mels", "log_guard")
        if not 2 * self.hop <= self.window <= self.n_fft or self.window % 2:
            raise ConfigError(
                f"window must be even, at least two hops ({2 * self.hop}) and at most n_fft "
                f"({self.n_fft}), got {self.window}"
            )
        if not 0 <= self.preemphasis < 1:
            raise ConfigError(f"preemphasis must be from 0 to below 1, got {self.preemphasis}")

    @property
    def features(self) -> int:
        """Values per frame; the encoder's ``n_mels`` must equal it."""
        return self.n_mels

    @property
    def lookahead_samples(self) -> int:
        """Samples after ``hop`` times its number that a frame depends on."""
        return self.window // 2

    @property
    def right_padding_samples(self) -> int:
        """Samples of padding after a stream's end: as many as the last frame depends on."""
        return self.lookahead_samples - (self.hop if self.generation == "current" else 0)


AnyFrontendConfig = FrontendConfig | NemoFrontendConfig
"""A front end of any family; ``family`` selects it."""


@dataclass(frozen=True, kw_only=True)
class WhisperEncoderConfig:
    """Settings of the Whisper encoder with a chunk-causal attention mask (see ``streamasr.acoustic.whisper``)."""

    family: Literal["whisper"] = "whisper"
    n_mels: int = 80
    """Values per frame of the front end: mel bands or cepstral coefficients."""
    dim: int = 512
    """Width of the residual stream."""
    heads: int = 8
    layers: int = 6
    stem_kernel: int = 3
    """Kernel size of the stem's two convolutions. Whisper has 3; a small model learns faster with 9."""
    merge_after_layers: int = 0
    """Merge every two frames into one after this many layers: 25 frames per second instead of 50; 0 for never."""
    left_context_frames: int = 256
    """Encoder frames before a chunk that its attention sees, in every layer."""
    position_period_frames: int = 3000
    """The sinusoidal positions repeat after this many frames of the stem."""
    position_wavelength_frames: int = 200
    """Longer wavelengths are constant, and the table repeats without a seam; 0 for Whisper's own sinusoids."""
    chunk_frames: tuple[int, ...] = (8, 16, 32, 64)
    """Chunk sizes of the model, in encoder frames; a session chooses one."""
    hops_per_chunk: int = 1
    """Hops per chunk: a stream advances by one hop per step, and the rest of the chunk is look-ahead. More hops give
    fewer errors at the same latency, for as many times the work."""

    def __post_init__(self) -> None:
        _check_positive(self, "n_mels", "dim", "heads", "layers", "left_context_frames")
        _check_positive(self, "position_period_frames", "hops_per_chunk")
        if any(size % self.hops_per_chunk for size in self.chunk_frames):
            raise ConfigError(
                f"hops_per_chunk must divide every one of chunk_frames ({_join(self.chunk_frames)}), "
                f"got {self.hops_per_chunk}"
            )
        if self.position_wavelength_frames < 0:
            raise ConfigError(
                f"position_wavelength_frames must not be negative, got {self.position_wavelength_frames}"
            )
        if not 0 <= self.merge_after_layers < self.layers:
            raise ConfigError(
                f"merge_after_layers must be 0 to {self.layers - 1}, got {self.merge_after_layers}"
            )
        if self.dim % self.heads:
            raise ConfigError(f"dim must be a multiple of heads ({self.heads}), got {self.dim}")
        if self.stem_kernel < _SMALLEST_STEM_KERNEL:
            raise ConfigError(f"stem_kernel must be at least {_SMALLEST_STEM_KERNEL}, got {self.stem_kernel}")
        _check_ascending(self.chunk_frames)

    @property
    def stem_stride(self) -> int:
        """Mel frames per frame of the stem."""
        return 2

    @property
    def merge_frames(self) -> int:
        """Frames of the stem per encoder frame."""
        return MERGE_FACTOR if self.merge_after_layers else 1

    @property
    def subsampling(self) -> int:
        """Mel frames per encoder frame."""
        return self.stem_stride * self.merge_frames

    @property
    def left_padding_frames(self) -> int:
        """Mel frames of padding before a stream's first one."""
        return 0


@dataclass(frozen=True, kw_only=True)
class FastConformerEncoderConfig:
    """Settings of the cache-aware streaming FastConformer (see ``streamasr.acoustic.fastconformer``)."""

    family: Literal["fastconformer"] = "fastconformer"
    n_mels: int = 80
    """Values per frame of the front end: mel bands or cepstral coefficients."""
    dim: int = 512
    """Width of the residual stream."""
    heads: int = 8
    layers: int = 17
    subsampling: int = 8
    """Mel frames per encoder frame, a power of two."""
    subsampling_channels: int = 256
    """Channels of the stem."""
    feed_forward_factor: int = 4
    """Inner width of the feed-forward modules, as a multiple of ``dim``."""
    conv_kernel: int = 9
    """Kernel size of a layer's causal convolution."""
    bias: bool = True
    """Whether the layers' linear layers and convolutions have biases."""
    scale_input: bool = True
    """Whether the stem's output is multiplied by the square root of ``dim``."""
    dropout: float = 0.0
    """Dropout in every part of a layer, in training only."""
    left_context_frames: int = 70
    """Encoder frames before a chunk that its attention sees, in every layer: a multiple of every chunk size."""
    chunk_frames: tuple[int, ...] = (1, 2, 7, 14)
    """Chunk sizes of the model, in encoder frames; a session chooses one."""

    def __post_init__(self) -> None:
        _check_positive(self, "n_mels", "dim", "heads", "layers", "left_context_frames")
        _check_positive(self, "subsampling_channels", "feed_forward_factor", "conv_kernel")
        if self.subsampling < 2 or self.subsampling.bit_count() != 1:
            raise ConfigError(f"subsampling must be a power of two, at least 2, got {self.subsampling}")
        if self.dim % self.heads or self.dim % 2:
            raise ConfigError(f"dim must be even and a multiple of heads ({self.heads}), got {self.dim}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be from 0 to below 1, got {self.dropout}")
        _check_ascending(self.chunk_frames)
        if odd := [size for size in self.chunk_frames if self.left_context_frames % size]:
            raise ConfigError(
                f"left_context_frames must be a multiple of every one of chunk_frames, "
                f"got {self.left_context_frames}, which is no multiple of {odd[0]}"
            )

    @property
    def left_padding_frames(self) -> int:
        """Mel frames of padding before a stream's first one."""
        return self.subsampling - 1

    @property
    def position_period_frames(self) -> int:
        """1: positions are relative."""
        return 1

    @property
    def hops_per_chunk(self) -> int:
        """1: streams advance by whole chunks."""
        return 1


EncoderConfig = WhisperEncoderConfig | FastConformerEncoderConfig
"""An encoder of any family; ``family`` selects it."""


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The prefix beam search (see ``streamasr.decoding``). The defaults are pyctcdecode's but for the beam."""

    beam_width: int = 48
    beam_prune_log_prob: float = -10.0
    """Beams this far below the best one are dropped (natural log)."""
    token_min_log_prob: float = -5.0
    """Tokens less probable than this in a frame are not tried, except the best one (natural log)."""
    blank_penalty: float = 0.0
    """Subtracted from the log-prob of the blank in every frame (natural log): fewer letters are left out."""
    alpha: float = 0.5
    """Weight of the language model."""
    beta: float = 1.5
    """Bonus per finished word."""
    unk_score_offset: float = -10.0
    """Added to the score of words outside the lexicon, ``unigrams.txt`` (log10)."""
    hotword_weight: float = 10.0
    """Boost of hotwords without their own."""
    prune_history: bool = False
    """Recombine beams: keep only the best of those with the same language model state. Gives fewer alternatives."""
    charge_empty_last_word: bool = False
    """Score an empty last word in utterances that end in a separator, as pyctcdecode does; to compare with it."""
    max_path_tokens: int = 3_072
    """Limit of the tokens in which the best paths of the beams differ. Beyond it, beams that diverge early from the
    best one are dropped. An utterance with half as many tokens is split. So no state exceeds a megabyte."""
    lm_cache_entries: int = 65_536
    """Entries in each cache of the language model, which all sessions share; the least recently used are evicted."""
    word_lead_ms: int = 0
    """A word begins this long before the first frame of its first token, as CTC spikes are late in a sound …"""
    word_trail_ms: int = 0
    """… and ends this long after the last frame of its last token, or where the next word begins."""
    min_utterance_sharpness: float = 0.0
    """An utterance whose mean sharpness, 0 to 1, is lower at its end is dropped as noise, unless words were
    committed. 0 keeps all."""
    min_partial_sharpness: float = 0.0
    """No word of an utterance is shown before its end until it has two words of this mean sharpness. 0 shows all."""

    def __post_init__(self) -> None:
        _check_positive(self, "beam_width", "max_path_tokens", "lm_cache_entries")
        for name in ("min_utterance_sharpness", "min_partial_sharpness"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be from 0 to below 1, got {getattr(self, name)}")
        for name in ("word_lead_ms", "word_trail_ms"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("beam_prune_log_prob", "token_min_log_prob"):
            if getattr(self, name) >= 0:
                raise ConfigError(f"{name} must be negative (a natural log), got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """When an utterance ends, on audio time (the rules of Kaldi's ``online-endpoint.h``, in milliseconds)."""

    silence_ms: int = 800
    """Trailing silence that ends an utterance with words, unless the next two settings are there."""
    min_silence_ms: int | None = None
    """Trailing silence that ends an utterance whose end is probable …"""
    max_silence_ms: int | None = None
    """… and that ends any utterance with words. Both, or neither."""
    end_threshold: float = 0.5
    """Probability from which an end is probable."""
    end_bias: float = 2.4
    """That probability is a logistic regression: this number …"""
    end_silence: float = 1.6
    """… plus this weight times the natural log of the trailing silence in seconds …"""
    end_sentence: float = 0.4
    """… plus this weight times the natural log of the language model's probability that the sentence ends."""
    start_silence_ms: int = 5_000
    """Silence without a word from the start after which the decoder starts over, without a final."""
    max_utterance_ms: int = 20_000
    """An utterance longer than this ends at the next pause between words …"""
    max_overrun_ms: int = 3_000
    """… and at the latest this much later, even inside a word."""
    pause_ms: int = 200
    """Silence that counts as such a pause without a separator."""

    def __post_init__(self) -> None:
        _check_positive(
            self, "silence_ms", "start_silence_ms", "max_utterance_ms", "max_overrun_ms", "pause_ms"
        )
        if not 0 < self.end_threshold < 1:
            raise ConfigError(f"end_threshold must be between 0 and 1, got {self.end_threshold:g}")
        shortest, longest = self.min_silence_ms, self.max_silence_ms
        if shortest is None and longest is None:
            return
        if shortest is None or longest is None:
            name, missing = ("min_", "max_") if longest is None else ("max_", "min_")
            raise ConfigError(f"{name}silence_ms needs {missing}silence_ms")
        _check_positive(self, "min_silence_ms", "max_silence_ms")
        if shortest > longest:
            raise ConfigError(f"min_silence_ms must be at most max_silence_ms ({longest}), got {shortest}")

    @property
    def silence_bounds_ms(self) -> tuple[int, int]:
        """The least and the greatest trailing silence that ends an utterance with words."""
        if self.min_silence_ms is None or self.max_silence_ms is None:
            return self.silence_ms, self.silence_ms
        return self.min_silence_ms, self.max_silence_ms


@dataclass(frozen=True, kw_only=True)
class StabilityConfig:
    """How sure a word has to be before it is shown and committed (see ``docs/endpoints.md``)."""

    commit_margin: float | None = None
    """A word is committed when all beams within this distance of the best one have it (natural log). ``None`` waits
    for all beams that can still become the best, and changes no final."""
    hold_words: int = 0
    """A partial leaves out this many of its last words, but never committed ones."""

    def __post_init__(self) -> None:
        if self.commit_margin is not None and self.commit_margin <= 0:
            raise ConfigError(f"commit_margin must be positive (natural log), got {self.commit_margin}")
        if self.hold_words < 0:
            raise ConfigError(f"hold_words must not be negative, got {self.hold_words}")


@dataclass(frozen=True, kw_only=True)
class ConfidenceConfig:
    """The probability that a word is right, from its features (see ``streamasr.decoding.confidence``).

    ``streamasr model calibrate`` writes the weights.
    """

    method: Literal["uncalibrated", "logistic"] = "uncalibrated"
    """``uncalibrated`` multiplies the word's posterior by its sharpness."""
    bias: float = 0.0
    share: float = 0.0
    """Weight of the log-odds of the word's posterior over the n-best list."""
    sharpness: float = 0.0
    """Weight of the mean log-prob of its tokens, each at its best frame."""
    length: float = 0.0
    """Weight of the logarithm of its number of characters."""


@dataclass(frozen=True, kw_only=True)
class RescoringConfig:
    """How a neural language model chooses among the texts of the search (see ``docs/language-models.md``)."""

    weight: float = 0.3
    """Weight of its natural-log probability, added to the search's score; 0 leaves the search's order."""
    candidates: int = 20
    """How many of the best texts it is asked about."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ConfigError(f"weight must not be negative, got {self.weight:g}")
        _check_positive(self, "candidates")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The content of a model folder's ``config.toml``."""

    name: str
    language: str = "en"
    sample_delay: int = 0
    """Delay of the encoder frames behind the audio, in samples; word times are corrected by it."""
    end_silence_ms: int = 0
    """Digital silence after a stream's end, for recordings that end with their last word: the encoder then sees
    what follows it. Only with the front end of family ``whisper``."""
    punctuation: str = ""
    """Entry point of an installed punctuator; empty for the folder's ``punctuation.safetensors``, if there is one."""
    frontend: AnyFrontendConfig = field(default_factory=FrontendConfig)
    encoder: EncoderConfig = field(default_factory=WhisperEncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    endpointing: EndpointConfig = field(default_factory=EndpointConfig)
    stability: StabilityConfig = field(default_factory=StabilityConfig)
    confidence: ConfidenceConfig = field(default_factory=ConfidenceConfig)
    rescoring: RescoringConfig = field(default_factory=RescoringConfig)

    def __post_init__(self) -> None:
        check_compatible(self.frontend, self.encoder)
        if self.end_silence_ms < 0:
            raise ConfigError(f"end_silence_ms must not be negative, got {self.end_silence_ms}")
        if self.end_silence_ms and not isinstance(self.frontend, FrontendConfig):
            raise ConfigError(
                f"end_silence_ms must be 0 for frontend.family {self.frontend.family!r}, "
                f"got {self.end_silence_ms}"
            )


def check_compatible(frontend: AnyFrontendConfig, encoder: EncoderConfig) -> None:
    """Check that an encoder fits its front end.

    Raises:
        ConfigError: the frames have another size, or need samples later than the encoder waits for.
    """
    if encoder.n_mels != frontend.features:
        name = "n_mfcc" if isinstance(frontend, FrontendConfig) and frontend.n_mfcc else "n_mels"
        raise ConfigError(
            f"encoder.n_mels must equal frontend.{name} ({frontend.features}), got {encoder.n_mels}"
        )
    if frontend.lookahead_samples > (encoder.left_padding_frames + 1) * frontend.hop:
        raise ConfigError(
            f"frontend.family must be 'whisper' for encoder.family {encoder.family!r}, got {frontend.family!r}: "
            "its frames need look-ahead that the encoder does not wait for"
        )


def _check_positive(config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) <= 0:
            raise ConfigError(f"{name} must be positive, got {getattr(config, name)}")


def _join(sizes: tuple[int, ...]) -> str:
    return ", ".join(map(str, sizes))


def _check_ascending(chunk_frames: tuple[int, ...]) -> None:
    if not chunk_frames or any(size <= 0 for size in chunk_frames):
        raise ConfigError("chunk_frames must list at least one positive size")
    if tuple(sorted(set(chunk_frames))) != chunk_frames:
        raise ConfigError("chunk_frames must be in ascending order, without repeats")
