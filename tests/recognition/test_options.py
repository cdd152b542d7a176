"""A start message's options are checked and completed."""

from dataclasses import replace

import pytest

from streamasr.errors import ProtocolError
from streamasr.protocol.messages import EndpointingSpec, HotwordSpec, StabilitySpec, Start
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import resolve_options


@pytest.mark.parametrize(
    ("latency_ms", "frames"), [(80, 4), (159, 4), (160, 8), (319, 8), (320, 16), (9_999, 16), (20, 4)]
)
def test_latency_takes_the_largest_chunk_that_is_not_longer_or_the_smallest(
    model: LoadedModel, latency_ms: int, frames: int
) -> None:
    assert resolve_options(Start(latency_ms=latency_ms), model).chunk_frames == frames


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (Start(encoding="opus"), "start.encoding: expected one of pcm_s16le.*got 'opus'"),
        (Start(channels=3), "start.channels: expected 1 or 2, got 3"),
        (Start(sample_rate=4_000), "start.sample_rate: expected 8000 to 48000 Hz, got 4000"),
        (Start(endpointing=EndpointingSpec(silence_ms=0)), "^start.endpointing.silence_ms must be positive"),
        (
            Start(stability=StabilitySpec(hold_words=-1)),
            "^start.stability.hold_words must not be negative, got -1",
        ),
    ],
)
def test_unsupported_options_are_refused_by_name(model: LoadedModel, start: Start, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        resolve_options(start, model)


def test_the_models_settings_are_the_defaults(model: LoadedModel) -> None:
    asked = Start(
        endpointing=EndpointingSpec(max_utterance_ms=1_500), alternatives=3, partials=False, words=False
    )
    options = resolve_options(asked, model)
    assert options.decoding.endpointing.max_utterance_ms == 1_500
    assert options.decoding.endpointing.silence_ms == model.config.endpointing.silence_ms
    assert (options.decoding.alternatives, options.decoding.partials, options.words) == (3, False, False)


@pytest.mark.parametrize(
    ("spec", "own", "bounds"),
    [
        (EndpointingSpec(), {}, (300, 300)),
        (EndpointingSpec(silence_ms=700), {}, (700, 700)),
        (EndpointingSpec(min_silence_ms=200, max_silence_ms=900), {}, (200, 900)),
        (EndpointingSpec(min_silence_ms=200), {}, (200, 300)),
        (EndpointingSpec(max_silence_ms=900), {}, (300, 900)),
        (EndpointingSpec(), {"min_silence_ms": 250, "max_silence_ms": 800}, (250, 800)),
        (EndpointingSpec(silence_ms=700), {"min_silence_ms": 250, "max_silence_ms": 800}, (700, 700)),
        (EndpointingSpec(max_silence_ms=500), {"min_silence_ms": 250, "max_silence_ms": 800}, (250, 500)),
    ],
)
def test_the_silence_is_fixed_or_has_bounds(
    model: LoadedModel, spec: EndpointingSpec, own: dict[str, int], bounds: tuple[int, int]
) -> None:
    config = replace(model.config, endpointing=replace(model.config.endpointing, **own))
    options = resolve_options(Start(endpointing=spec), replace(model, config=config))
    assert options.decoding.endpointing.silence_bounds_ms == bounds


def test_bounds_that_contradict_the_models_are_refused(model: LoadedModel) -> None:
    start = Start(endpointing=EndpointingSpec(max_silence_ms=200))
    with pytest.raises(
        ProtocolError, match=r"start.endpointing.min_silence_ms must be at most .* \(200\), got 300"
    ):
        resolve_options(start, model)


def test_a_hotword_without_boost_has_the_models_weight(model: LoadedModel) -> None:
    start = Start(hotwords=(HotwordSpec(text="bad"), HotwordSpec(text="cab", boost=2.0)))
    plain, boosted = resolve_options(start, model).decoding.hotwords
    assert plain.boost == model.config.decoder.hotword_weight
    assert boosted.boost == 2.0


def test_unusable_hotwords_are_left_out_by_name(model: LoadedModel) -> None:
    options = resolve_options(Start(hotwords=(HotwordSpec(text="xyz"), HotwordSpec(text="bad"))), model)
    assert [hotword.text for hotword in options.decoding.hotwords] == ["bad"]
    assert options.hotwords.problems == ("'xyz': this model has no token for 'x'",)


def test_a_session_chooses_its_stability_settings(model: LoadedModel) -> None:
    assert resolve_options(Start(), model).decoding.stability == model.config.stability
    stability = resolve_options(Start(stability=StabilitySpec(hold_words=1)), model).decoding.stability
    assert (stability.commit_margin, stability.hold_words) == (model.config.stability.commit_margin, 1)


def test_written_text_needs_rules_for_the_models_language(model: LoadedModel) -> None:
    assert resolve_options(Start(), model).formatter is None
    assert resolve_options(Start(format="written"), model).formatter is not None
    foreign = replace(model, config=replace(model.config, language="zh"))
    with pytest.raises(
        ProtocolError, match=r"start\.format: no rules .* 'zh'; .* for en; leave it at 'plain'"
    ):
        resolve_options(Start(format="written"), foreign)
