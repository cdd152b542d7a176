"""Test `streamasr listen` up to the socket: flags, errors, the list of microphones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamasr.cli import listen as command
from streamasr.cli import main
from streamasr.protocol.messages import HotwordSpec, Start
from streamasr_client.audio import AudioSource, PacedFile

CLIP = Path(__file__).parents[1] / "data" / "librispeech" / "2136-5147-0011.flac"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """The calls that the command made to the client."""
    made: list[SimpleNamespace] = []

    async def show_captions(
        url: str, start: Start, source: AudioSource, view: object, **options: Any
    ) -> None:
        made.append(SimpleNamespace(url=url, start=start, source=source, **options))

    monkeypatch.setattr(command, "show_captions", show_captions)
    return made


def test_flags_reach_the_session(calls: list[SimpleNamespace], tmp_path: Path) -> None:
    save = tmp_path / "out.vtt"
    flags = ["--url", "ws://host:1/v1/stream", "--token", "t", "--latency-ms", "320", "--save", str(save)]
    hotwords = ["--hotword", "Ada:3", "--hotword", "the Hague", "--written"]
    assert main(["listen", "--file", str(CLIP), *flags, *hotwords]) == 0
    (call,) = calls
    assert call.url == "ws://host:1/v1/stream"
    assert call.start == Start(
        token="t",
        latency_ms=320,
        format="written",
        hotwords=(HotwordSpec(text="Ada", boost=3.0), HotwordSpec(text="the Hague")),
    )
    assert isinstance(call.source, PacedFile)
    assert call.overruns() == 0
    assert save.read_text() == "WEBVTT\n\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--save", "captions.doc"], "must end in one of .srt, .vtt, .txt"),
        (["--save", "/no/such/folder/a.srt"], "cannot be written: No such file or directory"),
        (["--file", "gone.wav"], "gone.wav: no such file"),
    ],
)
def test_wrong_flags_are_refused(
    calls: list[SimpleNamespace], capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    file = [] if "--file" in flags else ["--file", str(CLIP)]
    assert main(["listen", *file, *flags]) == 1
    assert message in capsys.readouterr().err
    assert calls == []


def test_a_wrong_input_leaves_the_saved_captions(calls: list[SimpleNamespace], tmp_path: Path) -> None:
    save = tmp_path / "old.srt"
    save.write_text("old captions\n")
    for flags in (
        ["--file", "gone.wav"],
        ["--file", "gone.wav", "--channels", "each"],
        ["--file", str(CLIP), "--channels", "right"],
        ["--file", str(CLIP), "--max-lines", "0"],
    ):
        assert main(["listen", *flags, "--save", str(save)]) == 1
        assert save.read_text() == "old captions\n"
    assert calls == []


def test_captions_are_not_saved_over_the_input(
    calls: list[SimpleNamespace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio = tmp_path / "pcm.txt"
    audio.write_bytes(bytes(3_200))
    same = tmp_path / "." / "pcm.txt"
    assert main(["listen", "--file", str(audio), "--rate", "16000", "--save", str(same)]) == 1
    assert f"--save {same}: would overwrite the input" in capsys.readouterr().err
    assert audio.read_bytes() == bytes(3_200)
    assert calls == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max-line-chars", "0"], "--max-line-chars: expected 1 to 1000, got 0"),
        (["--max-cue-seconds", "0.1"], "--max-cue-seconds: expected 0.5 to 600, got 0.1"),
    ],
)
def test_limits_of_subtitles_are_checked(
    calls: list[SimpleNamespace], capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert main(["listen", "--file", str(CLIP), *flags]) == 1
    assert message in capsys.readouterr().err


def test_microphones_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    device = {"name": "Headset [USB]", "max_input_channels": 1, "default_samplerate": 48_000.0}
    portaudio = SimpleNamespace(default=SimpleNamespace(device=(0, 0)), query_devices=lambda: [device])
    monkeypatch.setattr(command, "load_portaudio", lambda: portaudio)
    assert main(["listen", "--list-devices"]) == 0
    assert capsys.readouterr().out == "*   0  Headset [USB]  (1 ch, 48000 Hz)\n"


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["listen", "--help"])
    assert "streamasr listen --device usb" in capsys.readouterr().out
