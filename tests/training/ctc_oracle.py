"""CTC by its recursions, one state at a time, in log space: slow and readable, the oracle of the training loss."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
"""Shape suffixes: T frames, V tokens, S states (2 L + 1 for a target of L tokens)."""


def states_of(target: list[int], blank: int) -> list[int]:
    """The target with a blank before, between and after its tokens: what an alignment walks through."""
    return [blank, *(token for label in target for token in (label, blank))]


def may_skip(states: list[int], s: int, blank: int) -> bool:
    """Whether the blank before state s may be left out: not before a blank, and not between equal tokens."""
    return s >= 2 and states[s] != blank and states[s] != states[s - 2]


def forward(log_probs_TV: Array, states: list[int], blank: int) -> Array:
    """alpha[t, s]: log-probability of all paths that are in state s at frame t, frame t included."""
    alpha_TS = np.full((len(log_probs_TV), len(states)), -np.inf)
    alpha_TS[0, :2] = log_probs_TV[0, states[:2]]
    for t in range(1, len(log_probs_TV)):
        for s in range(len(states)):
            came = alpha_TS[t - 1, s]
            if s >= 1:
                came = np.logaddexp(came, alpha_TS[t - 1, s - 1])
            if may_skip(states, s, blank):
                came = np.logaddexp(came, alpha_TS[t - 1, s - 2])
            alpha_TS[t, s] = came + log_probs_TV[t, states[s]]
    return alpha_TS


def backward(log_probs_TV: Array, states: list[int], blank: int) -> Array:
    """beta[t, s]: log-probability of all ways to finish from state s at frame t, frame t not included."""
    beta_TS = np.full((len(log_probs_TV), len(states)), -np.inf)
    beta_TS[-1, -2:] = 0.0
    for t in range(len(log_probs_TV) - 2, -1, -1):
        onward_S = beta_TS[t + 1] + log_probs_TV[t + 1, states]
        for s in range(len(states)):
            goes = onward_S[s]
            if s + 1 < len(states):
                goes = np.logaddexp(goes, onward_S[s + 1])
            if s + 2 < len(states) and may_skip(states, s + 2, blank):
                goes = np.logaddexp(goes, onward_S[s + 2])
            beta_TS[t, s] = goes
    return beta_TS


def loss_and_occupancy(log_probs_TV: Array, target: list[int], blank: int = 0) -> tuple[float, Array]:
    """Minus the log-probability of ``target``, and [T, V]: how probable each token is at each frame, given it."""
    states = states_of(target, blank)
    both_TS = forward(log_probs_TV, states, blank) + backward(log_probs_TV, states, blank)
    log_total = float(np.logaddexp.reduce(both_TS[0]))
    occupancy_TV = np.zeros_like(log_probs_TV)
    if log_total == -np.inf:
        return np.inf, occupancy_TV
    for s, token in enumerate(states):
        occupancy_TV[:, token] += np.exp(both_TS[:, s] - log_total)
    return -log_total, occupancy_TV
