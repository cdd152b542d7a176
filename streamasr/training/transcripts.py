"""Read the transcripts of manifests, turn them into token ids, and find the ones that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamasr.errors import DataError
from streamasr.manifest import Utterance, read_manifest
from streamasr.training.config import TrainConfig
from streamasr.training.tokenizer import Tokenizer

_MESSAGES_SHOWN = 3
"""Number of problems that an error message names."""


@dataclass(frozen=True, slots=True)
class Transcripts:
    """Utterances with their token ids, and the problems of unusable transcripts."""

    utterances: tuple[Utterance, ...]
    token_ids: tuple[list[int] | None, ...]
    """Token ids of each utterance; ``None`` if the tokens cannot spell its transcript."""
    problems: tuple[str, ...]
    """One message per unusable transcript, with its file and the reason."""
    total: int
    """Number of transcripts, usable or not."""


def training_transcripts(
    manifests: Sequence[Path], tokenizer: Tokenizer, unusable_share: float
) -> Transcripts:
    """Read the utterances with usable transcripts; the others are left out.

    Args:
        manifests: the training manifests.
        tokenizer: the model's tokenizer.
        unusable_share: largest share of transcripts, from 0 to 1, that may be unusable.

    Raises:
        DataError: a manifest cannot be read, or more than ``unusable_share`` of the transcripts, or all of them, are
            unusable: empty, or with characters outside the tokens.
    """
    utterances = [utterance for path in manifests for utterance in read_manifest(path)]
    problems = [tokenizer.why_unusable(utterance.text) for utterance in utterances]
    kept = tuple(
        utterance for utterance, problem in zip(utterances, problems, strict=True) if problem is None
    )
    messages = _messages(utterances, problems)
    if len(messages) > unusable_share * len(utterances) or not kept:
        raise DataError(
            f"{len(messages)} of {len(utterances)} training transcripts cannot be used, but data.unusable_share "
            f"allows {unusable_share:.1%}: {'; '.join(messages[:_MESSAGES_SHOWN])}; "
            "`streamasr data check --tokens RECIPE` lists all"
        )
    return Transcripts(kept, tuple(tokenizer.encode(each.text) for each in kept), messages, len(utterances))


def dev_transcripts(manifest: Path, tokenizer: Tokenizer) -> Transcripts:
    """Read all utterances of a dev manifest.

    None are left out, because error rates count all of them. An empty transcript is no problem here, since the
    utterance may have no speech.

    Raises:
        DataError: the manifest cannot be read.
    """
    utterances = read_manifest(manifest)
    problems = [tokenizer.why_unusable(each.text) if each.text.strip() else None for each in utterances]
    ids = tuple(
        tokenizer.encode(each.text) if problem is None else None
        for each, problem in zip(utterances, problems, strict=True)
    )
    return Transcripts(tuple(utterances), ids, _messages(utterances, problems), len(utterances))


def require_manifests(config: TrainConfig) -> None:
    """Check that all manifests of a recipe exist, before any long work starts.

    Raises:
        DataError: manifests are missing; the message names all of them and the commands that make manifests.
    """
    data = config.data
    messages = (*data.manifests, *data.untranscribed_manifests, *data.noise_manifests, *data.dev_manifests)
    missing = [path for path in dict.fromkeys(messages) if not path.is_file()]
    if missing:
        folder = missing[0].parent if len(missing) == 1 else "FOLDER"
        raise DataError(
            f"{', '.join(map(str, missing))}: no such file. `streamasr data import` makes manifests of recordings "
            f"and `streamasr synthesise TEXT --out {folder}` manifests of synthetic speech; the recipe's comments "
            "and docs/data.md show the commands. Relative paths in a recipe are resolved against --data."
        )


def _messages(utterances: Iterable[Utterance], problems: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(
        f"{utterance.audio}: {problem}"
        for utterance, problem in zip(utterances, problems, strict=True)
        if problem is not None
    )
