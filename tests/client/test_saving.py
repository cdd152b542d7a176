"""Test saving captions to files, pipes and devices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pysubs2
import pytest

from streamasr.cues import CueLimits
from streamasr.errors import ConfigError
from streamasr.protocol.messages import Final
from streamasr_client.saving import SavedCaptions

ROOT = Path(__file__).parents[2]


def final(number: int, text: str = "hello") -> Final:
    return Final(
        utterance=number, text=text, confidence=1.0, start_ms=number * 1_000, end_ms=number * 1_000 + 400
    )


def test_a_pipe_gets_every_utterance_appended(tmp_path: Path) -> None:
    fifo = tmp_path / "captions.srt"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with SavedCaptions(fifo) as save:
        assert save.add(final(0)) is None
        first = b"1\n00:00:00,000 --> 00:00:00,400\nhello\n\n"
        assert os.read(reader, 1_000) == first
        assert save.add(final(1)) is None
        assert os.read(reader, 1_000) == b"2\n00:00:01,000 --> 00:00:01,400\nhello\n\n"
    os.close(reader)


def test_a_pipe_without_a_reader_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"--save .*pipe: no program reads from this pipe"):
        SavedCaptions(tmp_path / "pipe")


def test_standard_output_gets_text(capfd: pytest.CaptureFixture[str]) -> None:
    with SavedCaptions(Path("/dev/stdout")) as save:
        save.add(final(0, "é one"))
        save.add(final(1, "two"))
    assert capfd.readouterr().out == "é one\ntwo\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_reported_once_and_captions_go_on() -> None:
    with SavedCaptions(Path("/dev/full")) as save:
        problem = "--save /dev/full: captions are no longer saved: No space left on device"
        assert [save.add(final(number)) for number in range(3)] == [problem, None, None]
        assert save.failed


@pytest.mark.parametrize("ending", ["srt", "vtt", "txt"])
def test_a_file_that_cannot_grow_is_reported_once(tmp_path: Path, ending: str) -> None:
    """As on a full disk: a limit on the size of files has the same effect, but only in a process of its own."""
    path = tmp_path / f"a.{ending}"
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from tests.client.test_saving import SavedCaptions, final\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"
        "with SavedCaptions(Path(sys.argv[1])) as save:\n"
        "    problems = [save.add(final(number)) for number in range(200)]\n"
        "sys.stdout.write('\\n'.join(filter(None, problems)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == f"--save {path}: captions are no longer saved: File too large"
    assert done.stderr == ""
    assert path.read_text().count("hello") >= 10, "what was saved stays"


def test_a_reader_that_left_or_stopped_is_reported(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with SavedCaptions(fifo) as save:
        problems = [save.add(final(number, "word " * 200)) for number in range(200)]
        assert [problem for problem in problems if problem] == [
            f"--save {fifo}: captions are no longer saved: its reader is too slow"
        ]
    with SavedCaptions(fifo) as save:
        os.close(reader)
        assert save.add(final(0)) == f"--save {fifo}: captions are no longer saved: Broken pipe"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--save .*missing/a\.srt: cannot be written: No such file"):
        SavedCaptions(tmp_path / "missing" / "a.srt")
    if os.geteuid() == 0:
        return  # root may write everywhere
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match=r"--save .*a\.srt: cannot be written: Permission denied"):
        SavedCaptions(tmp_path / "a.srt")


def test_old_captions_stay_until_there_are_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text("old captions, longer than the new ones, which replace them\n")
    with pytest.raises(RuntimeError), SavedCaptions(path):
        raise RuntimeError("the daemon refused the session")
    assert path.read_text().startswith("old captions")
    with SavedCaptions(path) as save:
        assert save.add(final(0)) is None
        assert path.read_text() == "1\n00:00:00,000 --> 00:00:01,000\nhello\n\n"
    with SavedCaptions(path):
        pass
    assert path.read_text() == "", "nothing was said"


def test_channels_apart_may_overlap(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    with SavedCaptions(path, channels_apart=True) as save:
        save.add(final(0, "yes"), "left")
        save.add(final(0, "no"), "right")
    assert path.read_text().count("00:00:00,000 --> 00:00:00,400") == 2
    assert [line for line in path.read_text().splitlines() if ": " in line] == ["left: yes", "right: no"]


@pytest.mark.parametrize("ending", ["srt", "vtt"])
def test_every_cue_of_a_channel_is_labelled(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    with SavedCaptions(path, CueLimits(line_chars=20, lines=2), channels_apart=True) as save:
        save.add(final(0, "a long answer that does not fit into a single cue of two lines"), "left")
    written = list(pysubs2.load(str(path)))
    assert len(written) > 2
    assert all(cue.plaintext.startswith("left: ") for cue in written)
    assert max(len(line) for cue in written for line in cue.plaintext.split("\n")) <= 20


def test_every_line_of_text_is_labelled(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with SavedCaptions(path, channels_apart=True) as save:
        save.add(final(0, "yes"), "left")
        save.add(final(0, "no"), "right")
    assert path.read_text() == "left: yes\nright: no\n"


def test_limits_of_cues_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    with SavedCaptions(path, CueLimits(line_chars=5, lines=1)) as save:
        save.add(final(0, "good morning"))
    assert [line for line in path.read_text().splitlines() if line.isalpha()] == ["good", "morning"]
