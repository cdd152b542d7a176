"""Write a model's mel frames and log-probs of a recording, for comparisons: ``streamasr model logits``."""

from __future__ import annotations

import argparse
from pathlib import Path

from streamasr.errors import ConfigError
from streamasr.protocol.messages import Start


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("model", metavar="DIR|NAME", help="model folder or packaged model")
    parser.add_argument("audio", type=Path, metavar="AUDIO", help="WAV, FLAC, Ogg, Opus or MP3")
    parser.add_argument("out", type=Path, metavar="OUT.npz", help="file to write: mel, log_probs, tokens")
    parser.add_argument(
        "--latency-ms",
        type=int,
        metavar="N",
        help=f"chunk length in ms (default: {Start().latency_ms}, with --offline the model's largest)",
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        help="process the whole recording at once with the attention mask of that latency, as NeMo does offline",
    )
    parser.add_argument(
        "--split-seed",
        type=int,
        metavar="S",
        help="feed the samples in pieces of random lengths, drawn with this seed",
    )


def run(args: argparse.Namespace) -> int:
    """Compute and write the arrays, and print their shapes."""
    import numpy as np

    from streamasr.media.reader import read_audio
    from streamasr.recognition.encoder_output import run_streamed, run_whole
    from streamasr.recognition.model import load_model

    if args.offline and args.split_seed is not None:
        raise ConfigError("--split-seed is for streaming; it cannot be used with --offline")
    if args.latency_ms is not None and args.latency_ms < 0:
        raise ConfigError(f"--latency-ms must not be negative, got {args.latency_ms}")
    model = load_model(args.model, "cpu", "torch" if args.offline else "auto")
    samples_S = read_audio(args.audio, model.sample_rate)
    largest = model.chunk_ms(model.encoder.chunk_frames[-1])
    default = largest if args.offline else Start().latency_ms
    chunk_frames = model.chunk_frames_for(default if args.latency_ms is None else args.latency_ms)
    output = (
        run_whole(model, samples_S, chunk_frames)
        if args.offline
        else run_streamed(model, samples_S, chunk_frames, args.split_seed)
    )
    tokens = np.array(model.decoder.beams.tokens.tokens)
    try:
        with args.out.open("wb") as file:
            np.savez(file, mel=output.mel_TM, log_probs=output.log_probs_TV, tokens=tokens)
    except OSError as error:
        raise ConfigError(f"{args.out}: cannot be written: {error.strerror}") from None
    mode = "at once" if args.offline else "streamed"
    print(
        f"{args.out}: mel {output.mel_TM.shape}, log_probs {output.log_probs_TV.shape}, "
        f"{mode} in chunks of {model.chunk_ms(chunk_frames)} ms"
    )
    return 0
