"""Put the captions of several channels together: in order of time, each labelled with its channel."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from streamasr.cues import DEFAULT_LIMITS, Cue, CueLimits
from streamasr.protocol.messages import Final
from streamasr.subtitles import VTT_HEADER, label_text, labelled_cues, srt_cue, vtt_cue


@dataclass(frozen=True, slots=True)
class Transcript:
    """The finals of one channel."""

    label: str
    """Name of the channel; empty if the channels were not kept apart."""
    finals: Sequence[Final]


def merge(transcripts: Iterable[Transcript]) -> list[tuple[str, Final]]:
    """Return (label, final) of all channels in order of their start."""
    labelled = [(each.label, final) for each in transcripts for final in each.finals]
    return sorted(labelled, key=lambda item: (item[1].start_ms, item[1].end_ms))


def channels_to_text(transcripts: Iterable[Transcript], _limits: CueLimits = DEFAULT_LIMITS) -> str:
    """Return one utterance a line, without the limits of cues."""
    return "".join(f"{label_text(label, final.text)}\n" for label, final in merge(transcripts) if final.text)


def channels_to_json(transcripts: Sequence[Transcript], **extra: object) -> str:
    """Return a line of JSON as :func:`~streamasr.subtitles.to_json`, with ``channel`` in each utterance."""
    labelled = merge(transcripts)
    text = " ".join(final.text for _, final in labelled if final.text)
    utterances = [{"channel": label, **dataclasses.asdict(final)} for label, final in labelled]
    return json.dumps({**extra, "text": text, "utterances": utterances}, ensure_ascii=False) + "\n"


def channels_to_srt(transcripts: Iterable[Transcript], limits: CueLimits = DEFAULT_LIMITS) -> str:
    """Return an SRT file. The cues of different channels may overlap, as people do."""
    return "".join(srt_cue(number, cue) for number, cue in enumerate(_cues(transcripts, limits), start=1))


def channels_to_vtt(transcripts: Iterable[Transcript], limits: CueLimits = DEFAULT_LIMITS) -> str:
    """Return a WebVTT file; see :func:`channels_to_srt`."""
    return VTT_HEADER + "".join(map(vtt_cue, _cues(transcripts, limits)))


WRITERS: dict[str, Callable[[Sequence[Transcript], CueLimits], str]] = {
    "text": channels_to_text,
    "srt": channels_to_srt,
    "vtt": channels_to_vtt,
}
"""By the name of the format; JSON takes further fields."""


def _cues(transcripts: Iterable[Transcript], limits: CueLimits) -> list[Cue]:
    result = [cue for each in transcripts for cue in labelled_cues(each.label, each.finals, limits)]
    return sorted(result, key=lambda cue: (cue.start_ms, cue.end_ms))
