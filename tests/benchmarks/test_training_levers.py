"""Check that each run of the comparison changes the recipe."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


def test_every_lever_changes_the_recipe(load_benchmark: Callable[[str], ModuleType]) -> None:
    benchmark = load_benchmark("training_levers")
    args = argparse.Namespace(
        data=Path("/speech"),
        out=Path("/runs"),
        dev=[Path("dev.jsonl")],
        precision="float32",
        learning_rate=1e-4,
    )
    base = benchmark.recipe_of(args, Path("model.safetensors"))
    assert base.data.dev_manifests == (Path("/speech/dev.jsonl"),)
    assert base.augment.noise_probability > 0
    recipes = {
        name: lever(base) for name, lever in benchmark.levers(Path("whisper.safetensors"), 100).items()
    }
    assert recipes.pop("baseline") == base
    assert len({str(recipe) for recipe in (base, *recipes.values())}) == 1 + len(recipes)
    assert all(part in recipes for parts in benchmark.MEANS.values() for part in parts)
    assert recipes["distillation from Whisper"].teacher == Path("whisper.safetensors")
