"""Speak Deepgram's protocol for recordings: ``POST /v1/listen`` with the recording as the body."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from streamasr.dialects.base import Answer, Refusal, RefusedError, Request
from streamasr.dialects.deepgram import (
    NAME,
    PATH,
    Notice,
    json_bytes,
    mean_confidence,
    metadata,
    read_options,
    refuse,
    seconds,
    word_values,
)
from streamasr.dialects.upload import Upload, UploadDialect
from streamasr.media.pcm import RawEncoding, RawFormat
from streamasr.protocol.messages import Done, Final, ServerMessage, Warning
from streamasr.text import join_words


class Prerecorded(Upload):
    """One recording.

    Args:
        request: the request.

    Raises:
        RefusedError: the query has a value that is not usable, or the body is not a recording.
    """

    def __init__(self, request: Request) -> None:
        if request.headers.get("content-type", "").startswith("application/json"):
            raise RefusedError("this server fetches no URLs; send the recording itself as the body")
        self._request = request
        self._options = read_options(request, "recording")
        self.start = self._options.start
        if self._options.encoded:
            encoding = cast(RawEncoding, self.start.encoding)
            self.raw = RawFormat(self.start.sample_rate, encoding, self.start.channels)
        self._finals: list[Final] = []
        self._warnings = list(self._options.warnings)
        self._audio_ms = 0

    def send(self, message: ServerMessage) -> Iterable[bytes]:
        """See :class:`~streamasr.dialects.upload.Upload`."""
        match message:
            case Final():
                self._finals.append(message)
            case Warning():
                self._warnings.append(Notice(type=message.code, message=message.message))
            case Done():
                self._audio_ms = message.audio_ms
        return ()

    def answer(self) -> Answer:
        """See :class:`~streamasr.dialects.upload.Upload`."""
        words = [word for final in self._finals for word in final.words]
        alternative: dict[str, object] = {
            "transcript": join_words([final.text for final in self._finals if final.text]),
            "confidence": mean_confidence(words),
            "words": word_values(words, formatted=self._options.formatted),
        }
        if self._options.paragraphs:
            alternative["paragraphs"] = self._paragraphs()
        results: dict[str, object] = {"channels": [{"alternatives": [alternative]}]}
        if self._options.utterances:
            results["utterances"] = [self._utterance(final) for final in self._finals if final.text]
        about = metadata(self._request, sha256=self.sha256, audio_ms=self._audio_ms, warnings=self._warnings)
        headers = {"dg-request-id": self._request.id}
        return Answer(body=json_bytes({"metadata": about, "results": results}), headers=headers)

    def _paragraphs(self) -> dict[str, object]:
        """Return the transcript in paragraphs, each of one utterance."""
        finals = [final for final in self._finals if final.text]
        return {
            "transcript": "".join(f"\n{final.text}\n" for final in finals),
            "paragraphs": [
                {
                    "sentences": [
                        {
                            "text": final.text,
                            "start": seconds(final.start_ms),
                            "end": seconds(final.end_ms),
                        }
                    ],
                    "num_words": len(final.words),
                    "start": seconds(final.start_ms),
                    "end": seconds(final.end_ms),
                }
                for final in finals
            ],
        }

    def _utterance(self, final: Final) -> dict[str, object]:
        return {
            "id": f"{self._request.id}-{final.utterance}",
            "start": seconds(final.start_ms),
            "end": seconds(final.end_ms),
            "confidence": final.confidence,
            "channel": 0,
            "transcript": final.text,
            "words": word_values(final.words, formatted=self._options.formatted),
        }


class PrerecordedDialect(UploadDialect):
    """``POST /v1/listen``."""

    name = NAME
    paths = (PATH,)

    def open(self, request: Request) -> Upload:
        """See :class:`~streamasr.dialects.upload.UploadDialect`."""
        return Prerecorded(request)

    def refuse(self, refusal: Refusal) -> Answer:
        """See :class:`~streamasr.dialects.base.Dialect`."""
        return refuse(refusal)
