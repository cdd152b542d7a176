"""Test that a file of six hours takes no more memory than a short one, and that its times are exact."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

CLIP = Path(__file__).parents[1] / "data" / "librispeech" / "2136-5147-0011.flac"
HOURS, RATE = 6, 16_000
MEASURE = """
import resource, sys
from pathlib import Path
import numpy as np
from streamasr.media.reader import open_file
total, first, target = 0, None, int(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open_file(Path(sys.argv[1])) as reader:
    for block in reader.mono_blocks(target):
        if first is None and np.abs(block).max(initial=0) > 0.05:
            first = total + int(np.argmax(np.abs(block) > 0.05))
        total += len(block)
print(total, first, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("target", [16_000, 8_000])
def test_six_hours_of_flac(tmp_path: Path, target: int) -> None:
    clip, _ = soundfile.read(CLIP, dtype="int16")
    hour = np.zeros(3_600 * RATE, dtype=np.int16)
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(HOURS):
            file.write(hour)
        file.write(clip)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, path, str(target)], capture_output=True, text=True, check=True
    )
    samples, first, grown_kib = map(int, done.stdout.split())
    onset_s = np.argmax(np.abs(clip / 32_768) > 0.05) / RATE
    assert abs(samples - (HOURS * 3_600 + len(clip) / RATE) * target) <= 2
    assert first / target == pytest.approx(HOURS * 3_600 + onset_s, abs=0.1)
    assert grown_kib < 20_000
