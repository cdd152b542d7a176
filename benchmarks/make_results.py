"""Run the project's benchmarks and write their tables into benchmarks/results.

    python benchmarks/make_results.py --data speech                  # all that this machine can run in minutes
    python benchmarks/make_results.py --data speech --only peers load
    python benchmarks/make_results.py --list

`make results DATA=speech` does the same. --data is a folder with ``dev-librispeech/manifest.jsonl`` and
``dev-l2/manifest.jsonl`` (`streamasr data import` makes manifests). Each result is two files: ``NAME.json`` holds the
figures, the commit, a digest of the model, the machine, the date and the commands; ``NAME.md`` shows them. What is
skipped is named with the reason.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from streamasr.evaluation.evaluate import describe_machine
from streamasr.recognition import resolve_model
from streamasr.report.card import measured_block, write_card
from streamasr.report.results import Evaluation
from streamasr.toml import from_mapping

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks" / "results"
MODEL = "en-small"
MODEL_FILES = ("tokens.txt", "model.safetensors", "lm.bin", "unigrams.txt", "neural_lm.safetensors")
"""The weights and word lists; the digest covers them."""
FIGURES_BEGIN, FIGURES_END = "<!-- figures -->", "<!-- /figures -->"
"""Marks of the table in the README."""
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
"""Instruction sets that change the speed of the encoder."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One file of results."""

    title: str
    about: str
    """What is measured, and what the columns mean."""
    commands: tuple[str, ...]
    """Run in the project's root; ``{data}`` is the folder of ``--data``, ``{tmp}`` a temporary folder."""
    minutes: int
    """How long it takes on two cores."""
    packages: tuple[str, ...] = ()
    """Modules that it needs besides the project's own dependencies."""
    data: tuple[str, ...] = ("dev-librispeech",)
    """Folders of ``--data`` that it needs, each with a manifest."""
    files: tuple[str, ...] = ()
    """Files of ``--data`` that it needs."""
    model: bool = True
    """Whether the figures depend on the packaged model."""
    weights: bool = True
    """Whether they depend on its weights, and must be made again for new ones. Others, such as the speed and what
    faults do, depend on the sizes alone; their page names the weights that were measured."""


def _evaluate(manifests: str, flags: str) -> str:
    return f"streamasr evaluate --model {MODEL} --manifest {manifests} {flags} --json"


DEV = "{data}/dev-librispeech/manifest.jsonl"
DEV_L2 = "{data}/dev-l2/manifest.jsonl"
NOISE = "{data}/noise-esc10/manifest.jsonl"
CLIP = "tests/data/librispeech/3607-135982-0000"
LOAD = f"python benchmarks/server_load.py --audio {CLIP}.flac --reference {CLIP}.txt"

RESULTS: dict[str, Result] = {
    "en-small": Result(
        title="Error rates of en-small",
        about="dev-librispeech is read books, dev-l2 short sentences of language learners, many of them "
        "children. No speaker is in the training data. The search settings and the temperature were chosen on "
        "parts of these sets; the acoustic model was not trained on them.",
        commands=(_evaluate(f"{DEV} {DEV_L2}", "--chunk-ms all --offline --decode greedy,beam+lm"),),
        minutes=40,
        data=("dev-librispeech", "dev-l2"),
    ),
    "conditions": Result(
        title="Error rates of en-small in noise, in rooms and over the telephone",
        about="The first 59 utterances of dev-librispeech, degraded by `streamasr data degrade`: environmental "
        "noise (ESC-10) at 10 dB, simulated rooms with a reverberation time of 0.5 s, a GSM telephone. The same "
        "recordings of noise, other simulated rooms and GSM were in the training.",
        commands=(
            f"streamasr data degrade {DEV} --out {{tmp}}/noise-10db --noise {NOISE} --snr-db 10",
            f"streamasr data degrade {DEV} --out {{tmp}}/rooms --rt60 0.5",
            f"streamasr data degrade {DEV} --out {{tmp}}/gsm --codec gsm",
            _evaluate(
                " ".join(f"{{tmp}}/{name}/manifest.jsonl" for name in ("noise-10db", "rooms", "gsm")),
                "--decode greedy,beam+lm --limit 59",
            ),
        ),
        minutes=10,
        packages=("pyroomacoustics",),
        data=("dev-librispeech", "noise-esc10"),
    ),
    "noise": Result(
        title="Words that en-small reports in sounds without speech",
        about="Words per minute: of finals without the gate for noise (min_utterance_sharpness and "
        "min_partial_sharpness of the model's decoder) and with it; shown by a partial and taken back, with the "
        "gate; and utterances that began, with the gate. Levels are RMS in dBFS. The second table has the sounds "
        "of ESC-10; a baby's cries and sneezes are among them. The model was trained with these recordings "
        "as noises.",
        commands=(
            f"python benchmarks/noise_words.py --model {MODEL} --minutes 5",
            f"python benchmarks/noise_words.py --model {MODEL} --sounds {NOISE}",
        ),
        minutes=15,
        data=("noise-esc10",),
    ),
    "peers": Result(
        title="en-small beside PocketSphinx",
        about="Both recognisers get the same files, one after the other on the same cores, and are scored alike. "
        "PocketSphinx 5.1.1 runs its own English model as a stream, with one decoder for all utterances.",
        commands=(
            _evaluate(DEV, ""),
            f"python benchmarks/pocketsphinx_peer.py --manifest {DEV}",
            _evaluate(DEV_L2, ""),
            f"python benchmarks/pocketsphinx_peer.py --manifest {DEV_L2}",
        ),
        minutes=20,
        packages=("pocketsphinx",),
        data=("dev-librispeech", "dev-l2"),
    ),
    "punctuation": Result(
        title="Capitals and punctuation",
        about="F1 of marks and capitals on 2,000 lines of books, meetings and chat from sources that are not in the "
        "training text. Capitals and marks are taken away and written anew; a capital counts as right if the whole "
        "word is written alike. The words are those of the text, without recognition errors and pauses. All but "
        "the model with joined lines are told where a line ends.",
        commands=("python benchmarks/punctuation_peers.py {data}/cased/dev.txt.gz",),
        minutes=2,
        packages=("truecase",),
        data=(),
        files=("cased/dev.txt.gz",),
    ),
    "punctuation-speech": Result(
        title="Capitals and punctuation of recognised speech",
        about="F1 of marks and capitals on read books, as far as the printed text of a recording was found. Each "
        "recording is a session with chunks of 640 ms and the language model; numbers stay words. Recognised "
        "words are aligned with those of the book. The mark behind a word and its capital count where a "
        "recognised word is aligned, right or wrong. What belongs to a missing word is missing; what is written "
        "at an additional word is wrong. Ends and starts of recordings within a sentence do not count. All but "
        "the line without pauses are told where the session's utterances end. Spoken words are the book's, with "
        "the times and utterances of the recognised ones, so that the difference is the loss by recognition "
        "errors. The books are not in the training text. Question marks are few.",
        commands=(
            "python benchmarks/punctuation_speech.py {data}/dev-librispeech "
            "--cased {data}/dev-librispeech-cased.jsonl",
        ),
        minutes=8,
        packages=("truecase",),
        files=("dev-librispeech-cased.jsonl",),
        weights=False,
    ),
    "load": Result(
        title="Live streams on two cores",
        about="A daemon and its clients on the same cores, at 640 ms: 1 to 24 streams for a minute each, 24 for ten "
        "minutes, 8 of a FastConformer of 109 million random weights at 1,120 ms, and 16 for an hour. No other "
        "program ran. Lags are in milliseconds, beyond the chunk; the second table of each load counts from the "
        "ends of the words of the reference, aligned to the audio. The end of speech contains the silence that "
        "ends an utterance. Before the hour, recognisers have the first 25 recordings of "
        "dev-librispeech, one after the other on one core: en-small, PocketSphinx and moonshine-live (Moonshine "
        "tiny, updated every half second) as streams, moonshine and Whisper in int8 (faster-whisper 1.2.1) as whole "
        "recordings. Whisper and Moonshine were trained on far more speech than the dozen hours of en-small.",
        commands=(
            f"{LOAD} --streams 1 8 16 24 --duration 60",
            f"{LOAD} --streams 24 --duration 600",
            f"python benchmarks/server_load.py --audio {CLIP}.flac --model fastconformer-large --latency-ms 1120 "
            "--streams 8 --duration 60",
            _evaluate(DEV, "--limit 25"),
            f"python benchmarks/pocketsphinx_peer.py --manifest {DEV} --limit 25",
            f"python benchmarks/recogniser_peers.py moonshine-live --manifest {DEV} --limit 25",
            f"python benchmarks/recogniser_peers.py moonshine --manifest {DEV} --limit 25",
            f"python benchmarks/recogniser_peers.py whisper --whisper {{data}}/whisper-tiny.en "
            f"--manifest {DEV} --limit 25",
            f"python benchmarks/recogniser_peers.py whisper --whisper {{data}}/whisper-base "
            f"--manifest {DEV} --limit 25",
            f"{LOAD} --streams 16 --duration 3600",
        ),
        minutes=95,
        packages=("pocketsphinx", "moonshine_voice", "faster_whisper"),
        files=("whisper-tiny.en/model.bin", "whisper-base/model.bin"),
        weights=False,
    ),
    "uploads": Result(
        title="Eight live streams beside an uploaded recording of an hour",
        about="A daemon with the default settings (bulk_wait_ms 10000) and its clients on the same cores. Lags are "
        "in milliseconds, beyond the chunk; that of a final contains the silence that ends an utterance.",
        commands=(f"python benchmarks/upload_fairness.py --audio {CLIP}.flac --streams 8 --duration 40",),
        minutes=2,
        data=(),
        weights=False,
    ),
    "failover": Result(
        title="Clients of three daemons, of which one drains and one is killed",
        about="Three daemons behind HAProxy, with deploy/haproxy/cluster.cfg, and their clients on the same cores. "
        "The first daemon gets SIGTERM while people speak, the second one SIGKILL. The texts are compared with "
        "those of the same audio in one session; where a client goes on in a new session, the encoder begins anew, "
        "so a word may be recognised differently. Lag is the time from the end of a word until a caption first "
        "contains it; it contains the chunk of 640 ms.",
        commands=(
            "python benchmarks/failover.py --audio tests/data/librispeech/2136-5147-0011.flac "
            "tests/data/librispeech/3607-135982-0000.flac tests/data/librispeech/481-123719-0000.flac "
            "tests/data/librispeech/5789-70653-0013.flac --streams 9",
        ),
        minutes=1,
        data=(),
        weights=False,
    ),
    "long-session": Result(
        title="One hour in one session",
        about="The utterances of dev-librispeech are played into one session, again and again, as fast as it "
        "takes them: CPU time of a chunk and memory of the process, minute by minute.",
        commands=(f"python benchmarks/long_session.py --manifest {DEV} --minutes 60",),
        minutes=10,
        weights=False,
    ),
    "partials": Result(
        title="Stability and lag of partial results",
        about="Changed words is the unstable partial word ratio (Shangguan et al. 2020): words that an update "
        "shows and the next one does not, for each 100 words of the finals. Shown and committed are milliseconds "
        "of audio from the end of a word until it is shown for good, and until it is committed: median and 90th "
        "percentile. They contain the look-ahead, but no computing time. Every fifth recording is used.",
        commands=(f"python benchmarks/partial_stability.py --manifest {DEV} --every 5",),
        minutes=4,
    ),
    "bulk": Result(
        title="Speed of bulk transcription",
        about="Seconds of audio recognised in a second (× real time) and CPU seconds for one second of audio, on "
        "all cores, beside faster-whisper 1.2.1 with Whisper base in int8: the same files, as many workers as cores "
        "with one thread each. en-small runs in the precision that `auto` chooses. Whisper base is the larger model, "
        "trained on far more speech, and makes fewer errors. Every eighth recording is used. Other programs "
        "may have used the cores meanwhile: compare × real time within the table only; CPU time depends on them "
        "little. Whisper base for CTranslate2 must be in the folder of --data.",
        commands=(
            f"python benchmarks/bulk_speed.py --manifest {DEV} --whisper {{data}}/whisper-base --every 8",
        ),
        minutes=4,
        packages=("faster_whisper",),
        files=("whisper-base/model.bin",),
    ),
    "endpointing": Result(
        title="How soon and how rightly utterances end",
        about="Streams of recordings with pauses of 0.6 to 2.5 s between their words, at 640 ms with a hop of "
        "320 ms. Final after: milliseconds from the end of a recording's last word, by forced alignment, "
        "to the audio received when its final is sent, without computing time: median and 95th "
        "percentile. Joined: recordings that ended only behind the beginning of the next one. Cuts: "
        "utterances that ended inside a recording; in sentences: not where the punctuation model ends a "
        "sentence of the reference. A range is a silence that depends on the words, with its "
        "end_threshold; its weights were fitted, and one rule was chosen, on the other half of the "
        "speakers, to cut no more sentences there than 800 ms. Every second recording of dev-l2 is used.",
        commands=(f"python benchmarks/endpointing.py --manifest {DEV} {DEV_L2} --every 1 2",),
        minutes=15,
        data=("dev-librispeech", "dev-l2"),
    ),
    "trust_fuzz": Result(
        title="Made-up messages in every state of a session",
        about="Hypothesis makes messages of the native protocol: valid, nearly valid, and noise. Each is judged by "
        "the protocol code in its state (accepted, refused), and sessions of ten are sent to a daemon, whose "
        "messages and errors are counted. A problem would be: an internal error, an undocumented code, an answer "
        "that is no message of the protocol, a session without an end, a traceback or an error in the log, another "
        "client's text changed. Draining sessions are tested without sockets.",
        commands=("python benchmarks/trust_fuzz.py --messages 100000 --seed 1",),
        minutes=15,
        packages=("hypothesis",),
        data=(),
        weights=False,
    ),
    "trust_faults": Result(
        title="Faults and load",
        about="Streams send recordings in real time; each is compared, message by message, with its undisturbed run. "
        "Meanwhile connections are reset and resumed, clients stall and read slowly, the wall clock jumps, steps of "
        "the model and single allocations fail, the daemon is suspended and runs out of file descriptors, clients "
        "never read, and `listen --save` writes to a full disk. Of a session that a fault has ended, the finals that "
        "the client had are compared. A problem would be: a difference, an answer out of order, a traceback that is "
        "not of an injected fault, memory that grows by more than 5 %, a session or file left open.",
        commands=(f"python benchmarks/trust.py --manifest {DEV} --minutes 60 --streams 16",),
        minutes=65,
        weights=False,
    ),
    "word-times": Result(
        title="Accuracy of word times",
        about="Milliseconds, the model's time less the reference's: median, median of the absolute values and "
        "their 90th percentile. The references are CTC forced alignment with the model's own log-probs, and the "
        "alignment of PocketSphinx's acoustic model. Every sixth recording is used.",
        commands=(f"python benchmarks/word_times.py --manifest {DEV} --every 6",),
        minutes=3,
        packages=("pocketsphinx",),
    ),
    "decoder": Result(
        title="Speed of the decoder",
        about="CPU time (µs) for a frame of 20 ms, medians of rounds in one process. Log-probs of en-small as "
        "they are (peaky), softened by the exponent 0.6 (flat), and noise. All decoders prune alike, except that "
        "flashlight-text has a beam threshold alone, and no language model in its wheel.",
        commands=(f"python benchmarks/decoder_speed.py --manifest {DEV} --beams 64 --only peers",),
        minutes=6,
        packages=("pyctcdecode",),
    ),
    "backends": Result(
        title="PyTorch, ONNX Runtime and the native step",
        about="CPU seconds for one second of audio of the encoder's step alone, one thread, medians of rounds; in "
        "brackets the median ratio to PyTorch. FastConformers have random weights.",
        commands=(
            f"python benchmarks/encoder_backends.py --models {MODEL} --sizes fastconformer-small --rounds 7",
        ),
        minutes=8,
        packages=("onnx", "onnxscript"),
        data=(),
        weights=False,
    ),
    "encoder-cost": Result(
        title="Cost of an encoder step",
        about="CPU seconds for one second of audio of the encoder's step alone in PyTorch, float32, one thread, "
        "with random weights; medians of rounds.",
        commands=("python benchmarks/encoder_cost.py --rounds 5",),
        minutes=10,
        data=(),
        model=False,
    ),
    "learning-curve": Result(
        title="Error rates against hours of training",
        about="Weights from the project's history, all with today's code, language models and search settings, at "
        "640 ms. Hours are those of audio that the training processed, about a dozen hours of speech again and "
        "again; the last 85 of them with CTC-CRF, the last 9 partly of synthetic speech. The last row has a share of "
        "OpenAI's weights in those of the row before. The first five minutes of each set; the conditions are those "
        "of conditions.md.",
        commands=(
            f"streamasr data degrade {DEV} --out {{tmp}}/noise-10db --noise {NOISE} --snr-db 10",
            f"streamasr data degrade {DEV} --out {{tmp}}/rooms --rt60 0.5",
            f"streamasr data degrade {DEV} --out {{tmp}}/gsm --codec gsm",
            f"python benchmarks/learning_curve.py --weights 27=6a64bf7 60=8dfc23e 104=6c5600d 137=c28da0e "
            f"175=b604f31 200=9da4d2a 200=now --manifest {DEV} {DEV_L2} {{tmp}}/noise-10db/manifest.jsonl "
            f"{{tmp}}/rooms/manifest.jsonl {{tmp}}/gsm/manifest.jsonl --minutes 5",
        ),
        minutes=15,
        packages=("pyroomacoustics",),
        data=("dev-librispeech", "dev-l2", "noise-esc10"),
    ),
    "neural-lm": Result(
        title="Error rates with and without the neural language model for finals",
        about="WER of finals at 640 ms by the weight of the network; 0 is the beam search alone. The conditions are "
        "the first 59 utterances of conditions.md. The weight was chosen on a third of these recordings.",
        commands=(
            f"streamasr data degrade {DEV} --out {{tmp}}/noise-10db --noise {NOISE} --snr-db 10",
            f"streamasr data degrade {DEV} --out {{tmp}}/rooms --rt60 0.5",
            f"streamasr data degrade {DEV} --out {{tmp}}/gsm --codec gsm",
            f"python benchmarks/neural_lm.py --manifest {DEV} {DEV_L2}",
            "python benchmarks/neural_lm.py --limit 59 --manifest {tmp}/noise-10db/manifest.jsonl "
            "{tmp}/rooms/manifest.jsonl {tmp}/gsm/manifest.jsonl",
        ),
        minutes=6,
        packages=("pyroomacoustics",),
        data=("dev-librispeech", "dev-l2", "noise-esc10"),
    ),
    "language-model": Result(
        title="Perplexity of en-small's language models",
        about="On the transcripts of the dev sets, none of which is in the training text. The n-gram model's is "
        "without unknown words, the neural model's with them.",
        commands=tuple(
            f"streamasr lm perplexity models/{MODEL}/{file} {text}"
            for file in ("lm.bin", "neural_lm.safetensors")
            for text in (DEV, DEV_L2)
        ),
        minutes=1,
        data=("dev-librispeech", "dev-l2"),
    ),
}


def model_digest(folder: Path) -> str:
    """The first 12 hexadecimal digits of SHA-256 over the weights and word lists of a model."""
    digest = hashlib.sha256()
    for name in MODEL_FILES:
        path = folder / name
        digest.update(f"{name} {path.stat().st_size if path.is_file() else -1}\n".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def machine() -> str:
    """The processor, its instruction sets that matter, cores and threads."""
    flags: set[str] = set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        flags = set(cpuinfo.read_text(encoding="utf-8").split())
    known = [flag for flag in CPU_FLAGS if flag in flags]
    return f"{describe_machine(torch.device('cpu'))} ({', '.join(known) or 'no AVX2'})"


def missing(result: Result, data: Path | None) -> str | None:
    """Why this machine cannot make a result; ``None`` if it can."""
    for package in result.packages:
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is not installed (pip install -e '.[bench]')"
    for name in result.data:
        if data is None or not (data / name / "manifest.jsonl").is_file():
            return f"{name}/manifest.jsonl is not in the folder of --data"
    for name in result.files:
        if data is None or not (data / name).is_file():
            return f"{name} is not in the folder of --data"
    return None


def make(name: str, data: Path | None) -> dict[str, Any]:
    """Run a result's commands and return the content of its JSON file.

    Raises:
        SystemExit: a command failed; its errors have been printed.
    """
    result = RESULTS[name]
    outputs = []
    environment = {**os.environ, "COLUMNS": "100"}
    with tempfile.TemporaryDirectory() as tmp:
        for command in result.commands:
            words = shlex.split(command.format(data=data, tmp=tmp))
            words[:1] = [sys.executable, "-m", "streamasr"] if words[0] == "streamasr" else [sys.executable]
            done = subprocess.run(
                words, check=False, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment
            )
            if done.returncode:
                raise SystemExit(f"{name}: exit status {done.returncode} of {shlex.join(words)}")
            text = done.stdout.replace(str(data), "DATA").replace(tmp, "TMP")
            outputs.append(_output(text))
    head = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return {
        "title": result.title,
        "about": result.about,
        "commit": head.stdout.strip(),
        "model": f"{MODEL} {model_digest(resolve_model(MODEL))}" if result.model else "none (random weights)",
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "commands": [command.format(data="DATA", tmp="TMP") for command in result.commands],
        "outputs": [output for output in outputs if output != {"text": "", "figures": None}],
    }


def _output(stdout: str) -> dict[str, Any]:
    """A command's text, and the JSON object in its last line; without the single utterances of an evaluation."""
    lines = stdout.rstrip("\n").split("\n")
    figures = None
    if lines[-1].startswith("{"):
        figures = json.loads(lines.pop())
        for measurement in figures.get("measurements", ()):
            measurement.pop("answers", None)
    return {"text": "\n".join(line.rstrip() for line in lines).strip("\n"), "figures": figures}


def render(content: dict[str, Any]) -> str:
    """The Markdown page of a result's JSON file."""
    parts = [f"# {content['title']}", textwrap.fill(content["about"], 100, break_on_hyphens=False)]
    described = {**content, "model": content["model"] + _age(content)}
    rows = [f"| {key} | {described[key]} |" for key in ("commit", "model", "machine", "date")]
    parts.append("\n".join(["| | |", "|---|---|", *rows]))
    parts.append("```sh\n" + "\n".join(content["commands"]) + "\n```")
    evaluations = evaluations_of(content)
    if evaluations:
        parts.append(measured_block(resolve_model(MODEL), evaluations, content.get("lacks", ())))
    parts += [f"```\n{output['text']}\n```" for output in content["outputs"] if output["text"]]
    return "\n\n".join(parts) + "\n"


def _age(content: dict[str, Any]) -> str:
    """What to add to a page's model if the packaged one has other weights now.

    ``lacks`` in the figures file names files of the packaged model that the measured one had not.
    """
    name, _, digest = content["model"].partition(" ")
    if name != MODEL or digest == model_digest(resolve_model(MODEL)):
        return ""
    without = "".join(f", without {file}" for file in content.get("lacks", ()))
    return f" (earlier weights of the same size{without})"


def evaluations_of(content: dict[str, Any]) -> list[Evaluation]:
    """The evaluations of models among a result's outputs."""
    return [
        from_mapping(Evaluation, output["figures"])
        for output in content["outputs"]
        if "measurements" in (output["figures"] or {})
    ]


def readme_figures() -> str:
    """The README's table of figures: WERs of the model from its own result, the others from ``peers``."""
    content = read("peers")
    cpu = from_mapping(Evaluation, content["outputs"][0]["figures"]).measurements[0].cpu
    (evaluation,) = evaluations_of(read(MODEL))
    ours = {
        measured.manifest: 100 * measured.wer.value
        for measured in evaluation.measurements
        if (measured.chunk_ms, measured.mode) == (640, "beam+lm")
    }
    theirs = [content["outputs"][place]["figures"] for place in (1, 3)]
    rows = [
        f"| WER, read books | {ours['dev-librispeech']:.1f} % | {100 * theirs[0]['wer']['value']:.1f} % |",
        f"| WER, language learners, many of them children | {ours['dev-l2']:.1f} % "
        f"| {100 * theirs[1]['wer']['value']:.1f} % |",
        f"| CPU seconds per second of audio | {cpu:.2f} | {theirs[0]['rtf']['value']:.2f} |",
    ]
    about = (
        "WER (word error rate) is measured on speakers who are not in the training data. Both recognisers were given "
        f"the same files. CPU times are from one machine: {content['machine'].split(' (')[0]}, with the weights of "
        f"{content['date']}."
    )
    return "\n".join(
        [
            f"| | {MODEL}, 640 ms chunks | PocketSphinx |",
            "|---|---|---|",
            *rows,
            "",
            textwrap.fill(f"{about} [All figures](benchmarks/results).", 100, break_long_words=False),
        ]
    )


def write_readme() -> None:
    """Renew the figures between the README's marks."""
    path = ROOT / "README.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(FIGURES_BEGIN)
    _, _, after = rest.partition(FIGURES_END)
    path.write_text(f"{before}{FIGURES_BEGIN}\n{readme_figures()}\n{FIGURES_END}{after}", encoding="utf-8")


def read(name: str) -> dict[str, Any]:
    """The content of a result's JSON file."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return content


def write(name: str, content: dict[str, Any]) -> None:
    """Write a result's two files, and what quotes them."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    (FOLDER / f"{name}.md").write_text(render(content), encoding="utf-8")
    if name == "peers":
        write_readme()
    elif name == MODEL:
        write_card(resolve_model(MODEL), evaluations_of(content), MODEL)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the results that are asked for and possible here, and report what was skipped."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with the dev sets")
    parser.add_argument("--only", nargs="+", choices=sorted(RESULTS), help="make these results only")
    parser.add_argument(
        "--render", action="store_true", help="rewrite the pages from their JSON files, and exit"
    )
    parser.add_argument("--list", action="store_true", help="list the results, how long each takes, and exit")
    args = parser.parse_args(arguments)
    if args.list:
        for name, result in RESULTS.items():
            print(f"{name:18} about {result.minutes:3} min  {result.title}")
        return
    if args.render:
        for path in sorted(FOLDER.glob("*.json")):
            write(path.stem, read(path.stem))
        return
    skipped = []
    for name in args.only or RESULTS:
        reason = missing(RESULTS[name], args.data)
        if reason is not None:
            skipped.append(f"{name}: {reason}")
            continue
        print(f"{name}: about {RESULTS[name].minutes} min", flush=True)
        write(name, make(name, None if args.data is None else args.data.resolve()))
    for line in skipped:
        print(f"skipped {line}")


if __name__ == "__main__":
    main()
