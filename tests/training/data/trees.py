"""Create small copies of the published layouts of datasets, with generated audio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def sound(path: Path, seconds: float = 1.0, rate: int = RATE, seed: int = 0) -> Path:
    """Write quiet noise in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 0.05, round(seconds * rate)).astype(np.float32)
    container, subtype = {".WAV": ("WAV", None), ".opus": ("OGG", "OPUS")}.get(path.suffix, (None, None))
    soundfile.write(path, samples, rate, format=container, subtype=subtype)
    return path


def text(path: Path, *lines: str) -> Path:
    """Write a text file of these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def librispeech(root: Path) -> Path:
    """Two subsets; one chapter names a missing recording."""
    for subset, speaker, names in (("dev-clean", "84", ("0000", "0001")), ("test-clean", "61", ("0000",))):
        folder = root / "LibriSpeech" / subset / speaker / "7021"
        for name in names:
            sound(folder / f"{speaker}-7021-{name}.flac", 1.5)
        lines = [f"{speaker}-7021-{name} IT'S SPOKEN {name}".rstrip("0123456789 ") for name in names]
        text(folder / f"{speaker}-7021.trans.txt", *lines)
    folder = root / "LibriSpeech" / "dev-clean" / "84" / "9000"
    text(folder / "84-9000.trans.txt", "84-9000-0000 LOST")
    return root / "LibriSpeech"


def commonvoice(root: Path) -> Path:
    """German: one good row, one with digits, one without its clip, one with too few columns."""
    folder = root / "cv-corpus" / "de"
    sound(folder / "clips" / "one.mp3", 1.0, 32_000)
    sound(folder / "clips" / "two.mp3", 1.0, 32_000)
    text(
        folder / "train.tsv",
        "client_id\tsentence_id\tpath\tsentence\tup_votes",
        'ab12\tx\tone.mp3\t"Größe", sagte er.\t2',
        "cd34\tx\ttwo.mp3\tEs sind 20 Leute\t2",
        "cd34\tx\tthree.mp3\tweg\t2",
        "cd34",
    )
    return folder


def aishell(root: Path) -> Path:
    """One recording per split, and one without a transcript."""
    folder = root / "data_aishell"
    for split, speaker in (("train", "S0002"), ("dev", "S0724"), ("test", "S0764")):
        sound(folder / "wav" / split / speaker / f"BAC009{speaker}W0122.wav")
    sound(folder / "wav" / "train" / "S0002" / "BAC009S0002W0999.wav")
    text(
        folder / "transcript" / "aishell_transcript_v0.8.txt",
        "BAC009S0002W0122 而 对 楼市 成交",
        "BAC009S0724W0122 抑制 作用 最 大",
        "BAC009S0764W0122 的 限 购",
    )
    return folder


def ljspeech(root: Path) -> Path:
    """Two lines with the numbers spelt out in the third column, one of which has no recording."""
    folder = root / "LJSpeech-1.1"
    sound(folder / "wavs" / "LJ001-0001.wav", 2.0, 22_050)
    text(
        folder / "metadata.csv",
        "LJ001-0001|Printing, in 1450.|Printing, in fourteen fifty.",
        "LJ001-0002|Lost.|Lost.",
        "no bar",
    )
    return folder


def speechocean762(root: Path) -> Path:
    """One utterance per split, in upper case, and one without its recording."""
    folder = root / "speechocean762"
    for split, name in (("train", "000010011"), ("test", "000030012")):
        speaker = name[1:5]
        sound(folder / "WAVE" / f"SPEAKER{speaker}" / f"{name}.WAV")
        text(
            folder / split / "wav.scp",
            f"{name}\tWAVE/SPEAKER{speaker}/{name}.WAV",
            f"{name}9\tWAVE/SPEAKER{speaker}/{name}9.WAV",
        )
        text(folder / split / "text", f"{name}\tWE CALL IT BEAR", f"{name}9\tLOST")
        text(folder / split / "utt2spk", f"{name}\t{speaker}", f"{name}9\t{speaker}")
    return folder


def fsdd(root: Path, *, flat: bool = False, suffix: str = ".wav") -> Path:
    """Two digits, two speakers, recordings 0, 4, 5 and 12, at 8 kHz, and a file with another kind of name."""
    folder = root / "free-spoken-digit-dataset"
    where = folder if flat else folder / "recordings"
    for digit in (0, 7):
        for speaker in ("george", "yweweler"):
            for index in (0, 4, 5, 12):
                sound(where / f"{digit}_{speaker}_{index}{suffix}", 0.3, 8_000)
    sound(where / f"hello{suffix}", 0.3, 8_000)
    return folder


def folder(root: Path) -> Path:
    """A recording with its text, one without, and a text without a recording."""
    where = root / "mine"
    sound(where / "ann" / "a.ogg", 1.0)
    text(where / "ann" / "a.txt", "Hello,", "there!")
    sound(where / "b.wav")
    text(where / "c.txt", "nothing to hear")
    sound(where / "d.wav")
    text(where / "d.txt", "...")
    return where
