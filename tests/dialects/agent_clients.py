"""Transcribe a WAV file with the speech-to-text of an agent framework, in an environment that has its packages.

``python agent_clients.py livekit|pipecat BASE_URL FILE`` prints each final transcript as a line. The file has 16-bit
mono audio. ``test_realtime.py`` runs it.
"""

from __future__ import annotations

import asyncio
import sys
import wave
from pathlib import Path
from typing import Any


async def livekit(url: str, pcm: bytes, rate: int) -> None:
    from livekit import rtc
    from livekit.agents import stt
    from livekit.agents.utils import http_context
    from livekit.plugins import openai

    async with http_context.open():
        recogniser = openai.STT(base_url=url, api_key="anything", use_realtime=True)
        async with recogniser.stream() as stream:
            size = rate // 10 * 2

            async def push() -> None:
                for at in range(0, len(pcm), size):
                    part = pcm[at : at + size]
                    stream.push_frame(rtc.AudioFrame(part, rate, 1, len(part) // 2))
                    await asyncio.sleep(0.02)

            pushing = asyncio.create_task(push())
            async with asyncio.timeout(60):
                async for event in stream:
                    if event.type == stt.SpeechEventType.FINAL_TRANSCRIPT:
                        print(event.alternatives[0].text, flush=True)
                        break
            await pushing


async def pipecat(url: str, pcm: bytes, rate: int) -> None:
    from pipecat.frames.frames import (
        EndFrame,
        InputAudioRawFrame,
        TranscriptionFrame,
        VADUserStoppedSpeakingFrame,
    )
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.runner import PipelineRunner
    from pipecat.pipeline.task import PipelineParams, PipelineTask
    from pipecat.processors.frame_processor import FrameProcessor
    from pipecat.services.openai.stt import OpenAIRealtimeSTTService

    recognised = asyncio.Event()

    class Printer(FrameProcessor):  # type: ignore[misc]
        async def process_frame(self, frame: Any, direction: Any) -> None:
            await super().process_frame(frame, direction)
            if isinstance(frame, TranscriptionFrame):
                print(frame.text, flush=True)
                recognised.set()
            await self.push_frame(frame, direction)

    service = OpenAIRealtimeSTTService(
        api_key="anything", base_url=f"{url.replace('http', 'ws', 1)}/realtime"
    )
    task = PipelineTask(Pipeline([service, Printer()]), params=PipelineParams(audio_in_sample_rate=rate))

    async def push() -> None:
        await asyncio.sleep(1)
        size = rate // 10 * 2
        for at in range(0, len(pcm), size):
            await task.queue_frame(InputAudioRawFrame(pcm[at : at + size], rate, 1))
            await asyncio.sleep(0.02)
        await task.queue_frame(VADUserStoppedSpeakingFrame())
        async with asyncio.timeout(60):
            await recognised.wait()
        await task.queue_frame(EndFrame())

    await asyncio.gather(PipelineRunner(handle_sigint=False).run(task), push())


if __name__ == "__main__":
    framework, base_url, file = sys.argv[1:]
    with wave.open(str(Path(file)), "rb") as audio:
        samples, sample_rate = audio.readframes(audio.getnframes()), audio.getframerate()
    asyncio.run({"livekit": livekit, "pipecat": pipecat}[framework](base_url, samples, sample_rate))
