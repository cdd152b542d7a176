"""Compute CTC with its recursions, one state at a time in log space: slow and readable, for tests of the loss."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
"""Shape suffixes: T frames, V tokens, S states (2 L + 1 for a target of L tokens)."""


def states_of(target: list[int], blank: int) -> list[int]:
    """Return the states of an alignment: the target with a blank before, between and after its tokens."""
    return [blank, *(token for label in target for token in (label, blank))]


def may_skip(states: list[int], s: int, blank: int) -> bool:
    """Return whether the blank before state ``s`` may be skipped: not before a blank or between equal tokens."""
    return s >= 2 and states[s] != blank and states[s] != states[s - 2]


def forward(log_probs_TV: Array, states: list[int], blank: int) -> Array:
    """Return alpha [T, S]: the log-probability of all paths to state s at frame t, including frame t."""
    alpha_TS = np.full((len(log_probs_TV), len(states)), -np.inf)
    alpha_TS[0, :2] = log_probs_TV[0, states[:2]]
    for t in range(1, len(log_probs_TV)):
        for s in range(len(states)):
            total = alpha_TS[t - 1, s]
            if s >= 1:
                total = np.logaddexp(total, alpha_TS[t - 1, s - 1])
            if may_skip(states, s, blank):
                total = np.logaddexp(total, alpha_TS[t - 1, s - 2])
            alpha_TS[t, s] = total + log_probs_TV[t, states[s]]
    return alpha_TS


def backward(log_probs_TV: Array, states: list[int], blank: int) -> Array:
    """Return beta [T, S]: the log-probability of all paths from state s at frame t to the end, without frame t."""
    beta_TS = np.full((len(log_probs_TV), len(states)), -np.inf)
    beta_TS[-1, -2:] = 0.0
    for t in range(len(log_probs_TV) - 2, -1, -1):
        next_S = beta_TS[t + 1] + log_probs_TV[t + 1, states]
        for s in range(len(states)):
            total = next_S[s]
            if s + 1 < len(states):
                total = np.logaddexp(total, next_S[s + 1])
            if s + 2 < len(states) and may_skip(states, s + 2, blank):
                total = np.logaddexp(total, next_S[s + 2])
            beta_TS[t, s] = total
    return beta_TS


def loss_and_occupancy(log_probs_TV: Array, target: list[int], blank: int = 0) -> tuple[float, Array]:
    """Return the negative log-probability of ``target``, and the probability [T, V] of each token at each frame given
    ``target``.
    """
    states = states_of(target, blank)
    both_TS = forward(log_probs_TV, states, blank) + backward(log_probs_TV, states, blank)
    log_total = float(np.logaddexp.reduce(both_TS[0]))
    occupancy_TV = np.zeros_like(log_probs_TV)
    if log_total == -np.inf:
        return np.inf, occupancy_TV
    for s, token in enumerate(states):
        occupancy_TV[:, token] += np.exp(both_TS[:, s] - log_total)
    return -log_total, occupancy_TV
