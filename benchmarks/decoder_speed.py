"""Measure the CPU time per frame of the decoder and of its peers: one or many streams, an hour, noise, hotwords.

    pip install -e ".[bench]"
    OMP_NUM_THREADS=1 python benchmarks/decoder_speed.py --manifest dev/manifest.jsonl
    OMP_NUM_THREADS=1 python benchmarks/decoder_speed.py --manifest dev/manifest.jsonl --only sessions

Every decoder gets the same log-probs in the same process, in turns; each figure is the median of the rounds. The
log-probs are the model's for real speech (peaky), the same softened (flat), and noise. Peers: pyctcdecode 0.5.0
and ctc-beam-decoder (whole utterances, KenLM), flashlight-text's lexicon decoder (in steps; without a language
model, as its wheel is built without KenLM), and the Python version of this project's search that its tests keep as
an oracle. Peers that are not installed are left out. The speed-up of two threads is meaningful only if two cores
are free. Prints tables, then one JSON line last.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import kenlm
import numpy as np
import psutil
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from streamasr.config import DecoderConfig, EndpointConfig
from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.hypothesis import Hotword
from streamasr.decoding.language_model import LanguageModel
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceDecoder, UtteranceOptions
from streamasr.errors import StreamasrError
from streamasr.evaluation.tuning import record
from streamasr.manifest import read_manifest
from streamasr.recognition.model import LoadedModel, load_model, resolve_model

LogProbs = NDArray[np.float32]
CHUNK_FRAMES = 32
SOFTENING = 0.6
"""Flat log-probs are the peaky ones times this factor, normalised again."""
NOISE_CONCENTRATION = 0.3
SESSIONS = (1, 2, 4, 8, 16, 32, 64)
THREADS = (1, 2)
HOTWORDS = 1_000
FRAMES_PER_MINUTE = 60 * 50
NOISE_BEAMS = (64, 512)
DISABLED_MS = 10**8

PARTS = ("peers", "sessions", "hour", "noise", "hotwords")


@dataclass(frozen=True)
class DecoderInputs:
    """Tokens, words, settings and model folder, from which every decoder is built."""

    folder: Path
    tokens: TokenList
    words: list[str]
    config: DecoderConfig

    @property
    def lm(self) -> LanguageModel:
        """Return the language model with empty caches."""
        return LanguageModel.load(self.folder / "lm.bin", self.folder / "unigrams.txt", self.config)


Decode = Callable[[LogProbs, int], str]
"""Takes the log-probs of an utterance and a beam width, and returns its text."""


def stream(decoder: Any, log_probs_TV: LogProbs) -> str:
    """Decode an utterance in chunks, with the best hypothesis after each, and return its text."""
    state = decoder.initial_state()
    for start in range(0, len(log_probs_TV), CHUNK_FRAMES):
        state = decoder.step(state, log_probs_TV[start : start + CHUNK_FRAMES])
        decoder.hypotheses(state, final=False, count=1)
    return str(decoder.hypotheses(state, final=True, count=1)[0].text)


def native(inputs: DecoderInputs, *, lm: bool) -> Decode:
    model = inputs.lm if lm else None

    return lambda log_probs_TV, beam: stream(
        BeamDecoder(inputs.tokens, model, replace(inputs.config, beam_width=beam)), log_probs_TV
    )


def oracle(inputs: DecoderInputs, *, lm: bool) -> Decode:
    from tests.decoding.oracle.beam import BeamDecoder as Oracle
    from tests.decoding.oracle.language_model import LanguageModel as OracleLm

    model = OracleLm(kenlm.Model(str(inputs.folder / "lm.bin")), inputs.words, inputs.config) if lm else None

    return lambda log_probs_TV, beam: stream(
        Oracle(inputs.tokens, model, replace(inputs.config, beam_width=beam)), log_probs_TV
    )


def pyctcdecode(inputs: DecoderInputs, *, lm: bool) -> Decode:
    from pyctcdecode.alphabet import Alphabet
    from pyctcdecode.decoder import BeamSearchDecoderCTC
    from pyctcdecode.language_model import LanguageModel as PeerLm

    config = inputs.config
    weights = config.alpha, config.beta, config.unk_score_offset
    model = PeerLm(kenlm.Model(str(inputs.folder / "lm.bin")), inputs.words, *weights) if lm else None
    decoder = BeamSearchDecoderCTC(Alphabet.build_alphabet(inputs.tokens.labels), model)

    def decode(log_probs_TV: LogProbs, beam: int) -> str:
        beams = decoder.decode_beams(
            log_probs_TV,  # type: ignore[arg-type]  # pyctcdecode names no precision
            beam_width=beam,
            beam_prune_logp=config.beam_prune_log_prob,
            token_min_logp=config.token_min_log_prob,
        )
        return str(beams[0][0])

    return decode


def ctc_beam_decoder(inputs: DecoderInputs, *, lm: bool) -> Decode:
    from ctc_beam_decoder import build_ctcdecoder

    config = inputs.config
    decoder = build_ctcdecoder(
        inputs.tokens.labels,
        kenlm_model_path=str(inputs.folder / "lm.bin") if lm else None,
        unigrams=inputs.words if lm else None,
        alpha=config.alpha,
        beta=config.beta,
        unk_score_offset=config.unk_score_offset,
    )

    def decode(log_probs_TV: LogProbs, beam: int) -> str:
        beams = decoder.decode_beams(
            log_probs_TV,
            beam_width=beam,
            beam_prune_logp=config.beam_prune_log_prob,
            token_min_logp=config.token_min_log_prob,
        )
        return str(beams[0][0])

    return decode


def flashlight(inputs: DecoderInputs, *, lm: bool, tokens_tried: int | None = None) -> Decode:  # noqa: ARG001
    from flashlight.lib.text.decoder import (
        CriterionType,
        LexiconDecoder,
        LexiconDecoderOptions,
        SmearingMode,
        Trie,
        ZeroLM,
    )

    ids = {token: number for number, token in enumerate(inputs.tokens.tokens)}
    separator = inputs.tokens.separator
    words = [word for word in inputs.words if all(letter in ids for letter in word)]
    trie, model = Trie(len(ids), separator), ZeroLM()
    model.start(False)
    for number, word in enumerate(words):
        trie.insert([*(ids[letter] for letter in word), separator], number, 0.0)
    trie.smear(SmearingMode.MAX)

    def decode(log_probs_TV: LogProbs, beam: int) -> str:
        options = LexiconDecoderOptions(
            beam_size=beam,
            beam_size_token=tokens_tried or len(ids),
            beam_threshold=-inputs.config.beam_prune_log_prob,
            lm_weight=inputs.config.alpha,
            word_score=inputs.config.beta,
            unk_score=-float("inf"),
            sil_score=0.0,
            log_add=True,
            criterion_type=CriterionType.CTC,
        )
        decoder = LexiconDecoder(options, trie, model, separator, inputs.tokens.blank, len(words), [], False)
        decoder.decode_begin()
        for start in range(0, len(log_probs_TV), CHUNK_FRAMES):
            piece_TV = np.ascontiguousarray(log_probs_TV[start : start + CHUNK_FRAMES])
            decoder.decode_step(piece_TV.ctypes.data, len(piece_TV), len(ids))
            decoder.get_best_hypothesis(0)
        decoder.decode_end()
        return " ".join(words[word] for word in decoder.get_all_final_hypothesis()[0].words if word >= 0)

    return decode


DECODERS: dict[str, tuple[str, tuple[bool, ...], Callable[..., Decode]]] = {
    "streamasr": ("streamasr", (True, False), native),
    "pyctcdecode": ("pyctcdecode", (True, False), pyctcdecode),
    "ctc-beam-decoder": ("ctc_beam_decoder", (True, False), ctc_beam_decoder),
    "flashlight, all tokens": ("flashlight", (False,), flashlight),
    "flashlight, best 8 tokens": (
        "flashlight",
        (False,),
        lambda inputs, **options: flashlight(inputs, tokens_tried=8, **options),
    ),
    "the oracle in Python": ("streamasr", (True, False), oracle),
}
"""Name to required package, whether it works with and without a language model, and its constructor."""


def softened(log_probs_TV: LogProbs) -> LogProbs:
    """Return flatter log-probs."""
    soft_TV = log_probs_TV.astype(np.float64) * SOFTENING
    normalised_TV: LogProbs = (soft_TV - np.log(np.exp(soft_TV).sum(axis=1, keepdims=True))).astype(
        np.float32
    )
    return normalised_TV


def noise(frames: int, tokens: int) -> LogProbs:
    """Return log-probs without information."""
    rng = np.random.default_rng(0)
    weights_TV = np.maximum(rng.dirichlet(np.full(tokens, NOISE_CONCENTRATION), size=frames), 1e-12)
    log_probs_TV: LogProbs = np.log(weights_TV).astype(np.float32)
    return log_probs_TV


def cpu_us_per_frame(decode: Decode, log_probs: Sequence[LogProbs], beam: int) -> tuple[float, list[str]]:
    began = time.process_time()
    texts = [decode(log_probs_TV, beam) for log_probs_TV in log_probs]
    return (time.process_time() - began) / sum(map(len, log_probs)) * 1e6, texts


def compare(
    inputs: DecoderInputs,
    kinds: dict[str, list[LogProbs]],
    beams: Sequence[int],
    rounds: int,
    console: Console,
) -> dict[str, Any]:
    """Measure each decoder on each kind of log-probs at each beam width, in turns."""
    found = {
        name: (can, make)
        for name, (package, can, make) in DECODERS.items()
        if importlib.util.find_spec(package)
    }
    figures: dict[str, Any] = {}
    for lm in (True, False):
        title = "µs a frame, " + ("KenLM and the list of words" if lm else "no language model")
        table = Table("log-probs", "tokens a frame", "beam", title=title)
        decoders = {name: make(inputs, lm=lm) for name, (can, make) in found.items() if lm in can}
        for name in decoders:
            table.add_column(name, justify="right")
        for kind, log_probs in kinds.items():
            tried = [(x_TV >= inputs.config.token_min_log_prob).sum(axis=1).mean() for x_TV in log_probs]
            for beam in beams:
                spent: dict[str, list[float]] = {name: [] for name in decoders}
                texts: dict[str, list[str]] = {}
                for _ in range(rounds):
                    # pyctcdecode begins every call with empty caches.
                    decoders["streamasr"] = native(inputs, lm=lm)
                    for name, decode in decoders.items():
                        us, texts[name] = cpu_us_per_frame(decode, log_probs, beam)
                        spent[name].append(us)
                median = {name: statistics.median(us) for name, us in spent.items()}
                if texts["streamasr"] != texts["the oracle in Python"]:
                    raise StreamasrError(f"{kind}, beam {beam}: the native search and the oracle differ")
                cells = (f"{us:.1f} ({us / median['streamasr']:.1f}×)" for us in median.values())
                table.add_row(kind, f"{np.mean(tried):.1f}", str(beam), *cells)
                figures[f"{'lm' if lm else 'no lm'}/{kind}/{beam}"] = median
        console.print(table)
    return figures


def many_sessions(
    inputs: DecoderInputs, log_probs: Sequence[LogProbs], rounds: int, console: Console
) -> dict[str, Any]:
    """Measure CPU and wall time per frame of streams stepped in one call, and the speed-up of two threads."""
    decoder = UtteranceDecoder(
        BeamDecoder(inputs.tokens, inputs.lm, inputs.config),
        frame_ms=20.0,
        endpointing=UtteranceOptions().endpointing,
    )
    stream_TV = np.concatenate(log_probs)
    steps = 8
    figures: dict[str, Any] = {}
    table = Table("sessions", title="many sessions in one call, µs a frame")
    for threads in THREADS:
        for kind in ("CPU", "wall"):
            table.add_column(f"{kind}, {threads} thread{'s' if threads > 1 else ''}", justify="right")
    table.add_column(f"speed-up of {THREADS[1]} threads", justify="right")
    for sessions in SESSIONS:
        spent: dict[int, list[tuple[float, float]]] = {threads: [] for threads in THREADS}
        for _ in range(rounds):
            for threads in THREADS:
                states = [decoder.initial_state() for _ in range(sessions)]
                cpu, wall = time.process_time(), time.perf_counter()
                for step in range(steps):
                    work = []
                    for session, state in enumerate(states):
                        start = (session * 97 + step * CHUNK_FRAMES) % (len(stream_TV) - CHUNK_FRAMES)
                        work.append((state, stream_TV[start : start + CHUNK_FRAMES]))
                    states = [state for state, _ in decoder.step_all(work, threads=threads)]
                frames = sessions * steps * CHUNK_FRAMES
                spent[threads].append(
                    ((time.process_time() - cpu) / frames * 1e6, (time.perf_counter() - wall) / frames * 1e6)
                )
        row: dict[str, float] = {}
        for threads, times in spent.items():
            for kind, part in zip(("cpu", "wall"), zip(*times, strict=True), strict=True):
                row[f"{kind}_us_{threads}"] = statistics.median(part)
        # Each round's two turns are neighbours, so that other work on the machine disturbs their ratio least.
        pairs = zip(*(spent[threads] for threads in THREADS), strict=True)
        row["speed_up"] = statistics.median(one_wall / two_wall for (_, one_wall), (_, two_wall) in pairs)
        table.add_row(
            str(sessions), *(f"{us:.1f}" for us in list(row.values())[:-1]), f"{row['speed_up']:.2f}×"
        )
        figures[f"{sessions} sessions"] = row
    console.print(table)
    return figures


def long_session(
    inputs: DecoderInputs, log_probs: Sequence[LogProbs], minutes: int, console: Console
) -> dict[str, Any]:
    """Measure the memory of an hour's session, and the CPU time of its first and last five minutes."""
    decoder = UtteranceDecoder(
        BeamDecoder(inputs.tokens, inputs.lm, inputs.config),
        frame_ms=20.0,
        endpointing=UtteranceOptions().endpointing,
    )
    stream_TV = np.concatenate(log_probs)
    process = psutil.Process()
    state, at = decoder.initial_state(), 0
    spent, resident, largest = [], [], 0
    for _ in range(minutes + 1):
        began = time.process_time()
        for _ in range(FRAMES_PER_MINUTE // CHUNK_FRAMES):
            state, _ = decoder.step(state, stream_TV[at : at + CHUNK_FRAMES])
            at = (at + CHUNK_FRAMES) % (len(stream_TV) - CHUNK_FRAMES)
            largest = max(largest, state.beam.bytes)
        spent.append((time.process_time() - began) / FRAMES_PER_MINUTE * 1e6)
        gc.collect()
        resident.append(process.memory_info().rss)
    spent, resident = spent[1:], resident[1:]
    figures = {
        "minutes": minutes,
        "first_us": statistics.median(spent[:5]),
        "last_us": statistics.median(spent[-5:]),
        "largest_state_kib": largest / 1024,
        "process_growth_kib": (resident[-1] - resident[0]) / 1024,
    }
    table = Table(*figures, title="one session, an hour")
    table.add_row(*(f"{figure:.1f}" for figure in figures.values()))
    console.print(table)
    return figures


def endless_noise(inputs: DecoderInputs, minutes: int, console: Console) -> dict[str, Any]:
    """Measure the largest states: noise, without a language model and without endpoints."""
    disabled = EndpointConfig(
        silence_ms=DISABLED_MS,
        start_silence_ms=DISABLED_MS,
        max_utterance_ms=DISABLED_MS,
        max_overrun_ms=DISABLED_MS,
    )
    options = UtteranceOptions(endpointing=disabled, partials=False)
    noise_TV = noise(FRAMES_PER_MINUTE, len(inputs.tokens))
    figures: dict[str, Any] = {"minutes": minutes}
    table = Table(
        "beam", "largest state, KiB", "µs a frame", title=f"{minutes} minutes of noise, no language model"
    )
    for beam in NOISE_BEAMS:
        config = replace(inputs.config, beam_width=beam)
        decoder = UtteranceDecoder(
            BeamDecoder(inputs.tokens, None, config), frame_ms=20.0, endpointing=options.endpointing
        )
        state, largest = decoder.initial_state(options), 0
        began, frames = time.process_time(), minutes * FRAMES_PER_MINUTE
        for start in range(0, frames, CHUNK_FRAMES):
            at = start % (FRAMES_PER_MINUTE - CHUNK_FRAMES)
            state, _ = decoder.step(state, noise_TV[at : at + CHUNK_FRAMES])
            largest = max(largest, state.beam.bytes)
        us = (time.process_time() - began) / frames * 1e6
        table.add_row(str(beam), f"{largest / 1024:.0f}", f"{us:.1f}")
        figures[f"beam {beam}"] = {"largest_state_kib": largest / 1024, "us": us}
    console.print(table)
    return figures


def hotwords(
    inputs: DecoderInputs, log_probs: Sequence[LogProbs], rounds: int, console: Console
) -> dict[str, Any]:
    """Measure the CPU time that many hotwords take."""
    decoder = BeamDecoder(inputs.tokens, inputs.lm, inputs.config)
    rng = np.random.default_rng(1)
    chosen = rng.choice([word for word in inputs.words if len(word) > 3], size=HOTWORDS, replace=False)
    compiled = {
        0: decoder.compile_hotwords(()),
        HOTWORDS: decoder.compile_hotwords(Hotword(str(word), 4.0) for word in chosen),
    }
    spent: dict[int, list[float]] = {count: [] for count in compiled}
    for _ in range(max(rounds, 5)):
        for count, ready in compiled.items():
            began = time.process_time()
            for log_probs_TV in log_probs:
                decoder.step(decoder.initial_state(ready), log_probs_TV)
            spent[count].append((time.process_time() - began) / sum(map(len, log_probs)) * 1e6)
    figures = {str(count): statistics.median(us) for count, us in spent.items()}
    table = Table("hotwords", "µs a frame", title="hotwords")
    for name, us in figures.items():
        table.add_row(name, f"{us:.1f}")
    console.print(table)
    return figures


def log_probs_of(model: LoadedModel, manifest: Path, count: int) -> list[LogProbs]:
    utterances = read_manifest(manifest)
    some = utterances[:: max(1, len(utterances) // count)][:count]
    log_probs = record(model, some, chunk_ms=640, batch=1)
    return [np.ascontiguousarray(recording.log_probs_TV) for recording in log_probs]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="JSON lines")
    parser.add_argument("--model", default="en-small", help="folder or name (%(default)s)")
    parser.add_argument(
        "--utterances", type=int, default=3, help="number of utterances (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds of every decoder (default: %(default)s)"
    )
    parser.add_argument("--beams", type=int, nargs="+", default=[8, 32, 64, 128], metavar="N")
    parser.add_argument(
        "--minutes", type=int, default=60, help="length of the long sessions (default: %(default)s)"
    )
    parser.add_argument(
        "--only",
        choices=PARTS,
        nargs="+",
        default=PARTS,
        metavar="PART",
        help="run only these parts: %(choices)s",
    )
    args = parser.parse_args()
    console = Console(width=160)
    try:
        model = load_model(args.model, "cpu")
        log_probs = log_probs_of(model, args.manifest, args.utterances)
        folder, config = resolve_model(args.model), model.config.decoder
        tokens = TokenList.load(folder / "tokens.txt")
        # All decoders get the log-probs with the model's blank penalty applied.
        log_probs = [BeamDecoder(tokens, None, config).prepare(log_probs_TV) for log_probs_TV in log_probs]
        config = replace(config, blank_penalty=0.0)
        words = (folder / "unigrams.txt").read_text(encoding="utf-8").split()
        began = time.process_time()
        lm = LanguageModel.load(folder / "lm.bin", folder / "unigrams.txt", config)
        loading_s = time.process_time() - began
        inputs = DecoderInputs(folder, tokens, words, config)
        kinds = {
            "peaky": log_probs,
            "flat": [softened(log_probs[0])],
            "noise": [noise(150, len(tokens))],
        }
        measures: dict[str, Callable[[], dict[str, Any]]] = {
            "peers": lambda: compare(inputs, kinds, args.beams, args.rounds, console),
            "sessions": lambda: many_sessions(inputs, log_probs, args.rounds, console),
            "hour": lambda: long_session(inputs, log_probs, args.minutes, console),
            "noise": lambda: endless_noise(inputs, args.minutes, console),
            "hotwords": lambda: hotwords(inputs, log_probs, args.rounds, console),
        }
        figures = {
            "benchmark": "decoder_speed",
            "loading_s": loading_s,
            "lexicon_bytes": lm.native.lexicon_bytes,
            "settings": {
                name: getattr(config, name) for name in ("beam_prune_log_prob", "token_min_log_prob")
            },
            **{part: measures[part]() for part in PARTS if part in args.only},
        }
    except StreamasrError as error:
        print(f"decoder_speed: {error.message}", file=sys.stderr)
        return 1
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
