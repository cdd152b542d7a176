"""The benchmarks that train take en-small's recordings, and need no made speech."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from streamasr.training.config import load_recipe


def test_recordings_are_the_recipe_s_manifests_but_the_made_one(repository: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        "training_ablation", repository / "benchmarks" / "training_ablation.py"
    )
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    recipe = load_recipe("en-small").rooted(Path("/speech"))
    used = benchmark.recordings(Path("/speech"))
    left_out = set(recipe.data.manifests) - set(used.data.manifests)
    assert left_out == {Path("/speech/made/manifest.jsonl")}
    assert len(used.data.manifests) == 3
    assert used.data.dev_manifests == recipe.data.dev_manifests
    assert used.augment == recipe.augment
