"""The packaged neural language model is small, fast, and knows English."""

import time

from streamasr.decoding.neural_lm import NEURAL_LM_FILE, NeuralLanguageModel
from streamasr.recognition import resolve_model

FOLDER = resolve_model("en-small")
MODEL = NeuralLanguageModel.load(FOLDER / NEURAL_LM_FILE)


def log_prob(text: str) -> float:
    return float(MODEL.log_probs(MODEL.initial_state(), [text.split()], end_of_sentence=True)[0])


def test_it_prefers_what_people_say() -> None:
    assert log_prob("i would like a cup of tea") > log_prob("i would like a cop of tee") + 5
    assert log_prob("she went out of the room") > log_prob("room the of out went she") + 10
    assert log_prob("it was a good idea") > log_prob("it was a good i dear") + 3


def test_it_is_small_and_fast() -> None:
    assert (FOLDER / NEURAL_LM_FILE).stat().st_size <= 7_000_000
    words = [
        "we",
        "walked",
        "along",
        "the",
        "shore",
        "until",
        "the",
        "light",
        "was",
        "gone",
        "and",
        "went",
        "home",
    ]
    texts = [[*words[:at], "again", *words[at:]] for at in range(len(words))] * 2
    times = []
    for _ in range(5):
        began = time.process_time()
        MODEL.log_probs(MODEL.initial_state(), texts, end_of_sentence=True)
        times.append(time.process_time() - began)
    assert min(times) < 0.5, "about 30 ms on an idle core; this only finds gross slowness"
