from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

class Encoder: ...

class Slots:
    def __init__(self, encoder: Encoder, count: int) -> None: ...
    def reset(self, slot: int, /) -> None: ...
    def step(
        self,
        slots: Sequence[int],
        mel_BTM: NDArray[np.float32],
        lengths_B: Sequence[int],
        advance_B: Sequence[int],
        log_probs_BTV: NDArray[np.float32],
        threads: int,
        /,
    ) -> list[int]: ...

def make_whisper(
    sizes: Mapping[str, int],
    weights: Mapping[str, NDArray[np.float32]],
    positions: NDArray[np.float32],
    precision: str,
    instructions: str,
) -> Encoder: ...
def make_fastconformer(
    sizes: Mapping[str, int],
    weights: Mapping[str, NDArray[np.float32]],
    distances: NDArray[np.float32],
    precision: str,
    instructions: str,
) -> Encoder: ...
def instructions() -> str: ...
def precisions() -> list[str]: ...

class Product:
    def __init__(self, precision: str, rows: int, inputs: int, outputs: int) -> None: ...
    def run(self) -> None: ...
