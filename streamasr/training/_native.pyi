from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def log_partitions(
    log_probs_BTV: NDArray[np.float32],
    frames_B: Sequence[int],
    weights: NDArray[np.float32],
    order: int,
    blank: int,
    prune: float,
    occupancies_BTV: NDArray[np.float32],
    threads: int,
) -> list[float]: ...
