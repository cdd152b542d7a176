"""Count the words that a model reports in sounds without speech, with and without its gate.

    python benchmarks/noise_words.py --model en-small --minutes 10
    python benchmarks/noise_words.py --model en-small --sounds noise-esc10/manifest.jsonl --every 4

The gate is ``min_utterance_sharpness`` and ``min_partial_sharpness`` of the model's decoder. The generated sounds
are digital silence, dither of one 16-bit step, white and pink noise, and a hum of 50 Hz with its harmonics, at the
levels of ``--levels`` (dBFS, RMS), each one stream of ``--minutes``. The recordings of a manifest are one stream
each, and one row for each class (the part of the file name between the first and the last two underscores, as in
ESC-10).

Columns: words of finals per minute without and with the gate; words per minute that a partial showed and that were
taken back because the utterance was dropped, and utterances that began (``speech_started``), both with the gate. All
columns come from the same log-probs.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from streamasr.decoding.beam import BeamDecoder
from streamasr.frontend.pcm import Samples
from streamasr.manifest import read_manifest
from streamasr.media.reader import read_audio
from streamasr.protocol.messages import Final, Partial, ServerMessage, SpeechStarted, Start
from streamasr.recognition import load_model
from streamasr.recognition.batch import LogProbs
from streamasr.recognition.captions import Captioner
from streamasr.recognition.chunking import Chunk
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import resolve_options
from streamasr.recognition.streaming import stream_many

HUM_HZ = 50
HARMONICS = 10
COLUMNS = ("words", "with gate", "taken back", "starts")
"""What is counted, each per minute."""
COLOURS = {"white": 0.0, "pink": 0.5}
"""By which power of the frequency the amplitude of a noise falls."""


def coloured_noise(rng: np.random.Generator, samples: int, slope: float) -> NDArray[np.float64]:
    """Gaussian noise whose amplitude falls with the frequency to the power of ``slope``, above 20 Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hz = np.fft.rfftfreq(samples, 1 / 16_000)
    return np.fft.irfft(spectrum / np.maximum(hz, 20.0) ** slope, samples)


def hum(samples: int, rate: int) -> NDArray[np.float64]:
    """A hum of the mains with harmonics, each half as strong as the one before."""
    seconds = np.arange(samples) / rate
    partials = [0.5**n * np.sin(2 * np.pi * HUM_HZ * (n + 1) * seconds) for n in range(HARMONICS)]
    sound: NDArray[np.float64] = np.stack(partials).sum(axis=0)
    return sound


def generated(minutes: float, rate: int, levels: list[float]) -> Iterator[tuple[str, Samples]]:
    """The name and the samples of every generated sound."""
    samples = int(minutes * 60 * rate)
    rng = np.random.default_rng(0)
    yield "digital silence", np.zeros(samples, dtype=np.float32)
    yield "dither", (rng.integers(-1, 2, samples) / 32_768).astype(np.float32)
    for name in (*COLOURS, "hum"):
        sound = hum(samples, rate) if name == "hum" else coloured_noise(rng, samples, COLOURS[name])
        for level in levels:
            scaled = sound * (10 ** (level / 20) / np.sqrt(np.mean(sound**2)))
            yield f"{name}, {level:.0f} dBFS", np.clip(scaled, -1, 1).astype(np.float32)


def recorded(manifest: Path, every: int, rate: int) -> Iterator[tuple[str, Samples]]:
    """The class and the samples of every so many recordings of a manifest."""
    for utterance in list(read_manifest(manifest))[::every]:
        name = re.sub(r"^\d+_|(_\d+)+(_\w)?$", "", utterance.audio.stem).replace("_", " ").lower()
        yield name, read_audio(utterance.audio, rate)


def without_gate(model: LoadedModel) -> LoadedModel:
    """The same model with all words shown."""
    beams = model.decoder.beams
    config = replace(beams.config, min_utterance_sharpness=0.0, min_partial_sharpness=0.0)
    open_beams = BeamDecoder(beams.tokens, beams.lm, config, beams.hypothesis_builder)
    return replace(model, decoder=model.decoder.with_beam_decoder(open_beams))


class Listeners:
    """Decodes one stream with and without the gate."""

    def __init__(self, models: list[LoadedModel]) -> None:
        self.captioners = [Captioner(model, resolve_options(Start(), model)) for model in models]
        self.messages: list[list[ServerMessage]] = [[] for _ in models]

    def accept(self, chunk: Chunk, log_probs_TV: LogProbs, lookahead_TV: LogProbs) -> None:
        """Decode one more chunk."""
        for captioner, messages in zip(self.captioners, self.messages, strict=True):
            messages.extend(captioner.accept(chunk, log_probs_TV, lookahead_TV))

    def counts(self) -> NDArray[np.int64]:
        """The four columns: words without and with the gate, words taken back and starts of speech with it."""
        words = [sum(len(m.words) for m in part if isinstance(m, Final)) for part in self.messages]
        gated = self.messages[1]
        partials = [len(m.words) for m in gated if isinstance(m, Partial)]
        taken_back = sum(before for before, now in itertools.pairwise(partials) if not now)
        return np.array([*words, taken_back, sum(isinstance(m, SpeechStarted) for m in gated)])


def main() -> None:
    """Print the counts per minute for every kind of sound."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="en-small")
    parser.add_argument("--sounds", type=Path, help="manifest of recordings, in place of generated sounds")
    parser.add_argument("--every", type=int, default=1, help="use every n-th recording")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each generated sound")
    parser.add_argument("--levels", type=float, nargs="+", default=[-60.0, -40.0, -20.0])
    parser.add_argument("--latency-ms", type=int, default=640)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = load_model(args.model, threads=args.threads)
    models = [without_gate(model), model]
    rate = model.sample_rate
    sounds = generated(args.minutes, rate, args.levels)
    if args.sounds:
        sounds = recorded(args.sounds, args.every, rate)
    names: list[str] = []
    seconds: list[float] = []

    def samples() -> Iterator[Samples]:
        for name, samples_S in sounds:
            names.append(name)
            seconds.append(len(samples_S) / rate)
            yield samples_S

    counts: dict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros(len(COLUMNS), dtype=np.int64))
    minutes: dict[str, float] = defaultdict(float)
    chunk_frames = model.chunk_frames_for(args.latency_ms)
    for result in stream_many(model, samples(), chunk_frames, lambda: Listeners(models)):
        for name in (names[result.index], "all"):
            counts[name] += result.sink.counts()
            minutes[name] += seconds[result.index] / 60
    print(f"{'':24}" + "".join(f"{column:>12}" for column in ("minutes", *COLUMNS)))
    for name in [*dict.fromkeys(names), "all"]:
        rates = counts[name] / minutes[name]
        print(f"{name:24}{minutes[name]:12.1f}" + "".join(f"{rate:12.2f}" for rate in rates))


if __name__ == "__main__":
    main()
