"""In the in-process API files, arrays, streams and batches give the same text, and errors name the mistake."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import streamasr
from streamasr import Stream, Transcript, options, read_hotwords, transcribe, transcribe_batch
from streamasr.errors import AudioError, ConfigError, DataError, ProtocolError
from streamasr.protocol.messages import Final, Partial
from streamasr.recognition import LoadedModel
from tests.recognition.tiny import noise

ROOT = Path(__file__).parents[2]
CLIPS = sorted((ROOT / "tests" / "data" / "librispeech").glob("*.flac"))


def test_importing_the_package_imports_no_torch() -> None:
    program = "import sys, streamasr; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_every_public_name_is_there_and_documented() -> None:
    document = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for name in streamasr.__all__:
        assert getattr(streamasr, name).__name__ == name
        assert f"`{name}" in document
    with pytest.raises(AttributeError, match="no attribute 'Motor'"):
        _ = streamasr.Motor


def test_a_stream_in_any_pieces_gives_the_text_of_the_whole(model: LoadedModel) -> None:
    samples_S = noise(3.0, seed=5)
    whole = transcribe(model, samples_S)
    assert whole.text
    assert whole.text == " ".join(final.text for final in whole.utterances)
    for cuts in ([], [1], [7_000, 7_001, 30_000]):
        stream = Stream(model)
        results = [result for piece in np.split(samples_S, cuts) for result in stream.feed(piece)]
        results += stream.stop()
        assert tuple(result for result in results if isinstance(result, Final)) == whole.utterances
        assert any(isinstance(result, Partial) for result in results)


def test_a_batch_keeps_the_order_and_gives_what_each_recording_gives_alone(model: LoadedModel) -> None:
    recordings = [noise(seconds, seed=seed) for seed, seconds in enumerate((2.0, 0.5, 3.0, 1.0))]
    alone = [transcribe(model, recording) for recording in recordings]
    assert transcribe_batch(model, recordings, slots=2) == alone
    assert transcribe_batch(model, []) == []


def test_a_finalised_stream_continues(model: LoadedModel) -> None:
    samples_S = noise(3.0, seed=5)
    stream = Stream(model)
    first = [*stream.feed(samples_S), *stream.finalize()]
    second = [*stream.feed(samples_S), *stream.stop()]
    texts = [[result.text for result in results if isinstance(result, Final)] for results in (first, second)]
    assert texts[0] == texts[1]
    assert second[-1].start_ms >= 3_000


def test_files_and_arrays_of_any_rate_are_resampled_alike(model: LoadedModel, tmp_path: Path) -> None:
    samples_S = noise(4.5, seed=3)  # 1.5 s at 48 kHz
    soundfile.write(tmp_path / "a.wav", samples_S, 48_000, subtype="FLOAT")
    array = transcribe(model, samples_S, sample_rate=48_000)
    assert transcribe(model, tmp_path / "a.wav") == array
    stream = Stream(model, sample_rate=48_000)
    finals = [r for r in [*stream.feed(samples_S), *stream.stop()] if isinstance(r, Final)]
    assert tuple(finals) == array.utterances


def test_mistakes_are_named(model: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        transcribe(model, tmp_path / "none.wav")
    with pytest.raises(AudioError, match=r"int16 of shape \[5\]; divide 16-bit integers by 32768"):
        transcribe(model, np.zeros(5, dtype=np.int16))  # type: ignore[arg-type]
    with pytest.raises(AudioError, match=r"shape \[5, 2\]"):
        Stream(model).feed(np.zeros((5, 2), dtype=np.float32))
    with pytest.raises(AudioError, match="sample 3 is not finite"):
        transcribe(model, np.array([0, 0, 0, np.nan], dtype=np.float32))
    with pytest.raises(AudioError, match="level 20000, full scale is 1; divide 16-bit integers by 32768"):
        transcribe(model, np.full(5, 20_000.0))
    with pytest.raises(ConfigError, match="sample_rate must be a positive number of Hz, got 0"):
        Stream(model, sample_rate=0)
    with pytest.raises(ConfigError, match="slots must be 1 or more, got 0"):
        transcribe_batch(model, [], slots=0)
    with pytest.raises(ProtocolError, match=r"start\.latency_ms: expected 20 to 10000, got 5"):
        options(latency_ms=5)
    with pytest.raises(ProtocolError, match=r"start\.latency_ms: expected int, got str"):
        options(latency_ms="640")  # type: ignore[arg-type]
    with pytest.raises(
        ProtocolError, match=r"start: options must be plain Python numbers and strings: .* int64"
    ):
        options(latency_ms=np.int64(640))  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match=r"start\.hotwords: expected a list of strings, got the string"):
        options(hotwords="quilter")


def test_hotwords_that_cannot_be_used_are_named(model: LoadedModel) -> None:
    start = options(hotwords=["?", "Bad"])
    samples = np.zeros(5, dtype=np.float32)
    with pytest.warns(UserWarning, match=r"these hotwords are not used: '\?' has no letter") as caught:
        transcribe(model, samples, start=start)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="not used: '\\?'") as caught:
        Stream(model, start=start)
    assert caught[0].filename == __file__
    assert [reading.read_as for reading in read_hotwords(model, ["?", "Bad"])] == [None, "bad"]


def test_a_stopped_stream_refuses_more(model: LoadedModel) -> None:
    stream = Stream(model)
    assert stream.stop() == []
    with pytest.raises(ProtocolError, match="samples came after stop; use a new Stream"):
        stream.feed(np.zeros(5, dtype=np.float32))
    with pytest.raises(ProtocolError, match="finalize came after stop"):
        stream.finalize()
    with pytest.raises(ProtocolError, match="stop came after stop"):
        stream.stop()


def test_samples_beyond_full_scale_are_clipped(model: LoadedModel) -> None:
    samples_S = 4 * noise(3.0, seed=5)
    assert transcribe(model, samples_S) == transcribe(model, samples_S.clip(-1, 1))


def test_silence_has_no_text(model: LoadedModel) -> None:
    assert transcribe(model, np.zeros(0, dtype=np.float32)) == Transcript("", ())


def test_the_documents_programs_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "speech.flac", *soundfile.read(CLIPS[0], dtype="int16"))
    monkeypatch.chdir(tmp_path)
    document = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for program in re.findall(r"```python\n(.*?)```", document, re.DOTALL):
        exec(program, names)
    printed = capsys.readouterr().out
    transcript = names["transcript"]
    assert isinstance(transcript, Transcript)
    assert f"final: {transcript.text}" in printed
    assert re.search(r"^ +0\.\d\d s  \d\.\d\d  \w+$", printed, re.MULTILINE)
