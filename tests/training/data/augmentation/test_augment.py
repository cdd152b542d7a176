"""Test augmentation: its measured effects, and the same result for the same seed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from streamasr.config import FrontendConfig
from streamasr.frontend.build import build_frontend
from streamasr.training.config import AugmentConfig
from streamasr.training.data.augmentation.augment import Augment

RATE = 16_000
OFF = AugmentConfig(
    speeds=(1.0,),
    noise_probability=0,
    babble_probability=0,
    room_probability=0,
    band_probability=0,
    tilt_db=0,
    level_db=(0.0, 0.0),
)


def augment(
    config: AugmentConfig,
    noise: torch.Tensor | None = None,
    seed: int = 3,
    rooms_KR: torch.Tensor | None = None,
) -> Augment:
    silence = torch.zeros(0)
    return Augment(
        config, RATE, silence if noise is None else noise, torch.Generator().manual_seed(seed), rooms_KR
    )


def speech_like(rows: int = 4, seconds: float = 1.0) -> torch.Tensor:
    return torch.randn(rows, int(RATE * seconds), generator=torch.Generator().manual_seed(1)) * 0.05


def test_without_augmentation_the_audio_is_not_changed() -> None:
    pcm_BS = speech_like()
    torch.testing.assert_close(augment(OFF).augment_audio(pcm_BS), pcm_BS, atol=1e-5, rtol=0)


def test_the_same_seed_gives_the_same_audio() -> None:
    config = AugmentConfig(noise_probability=1.0, room_probability=1.0)
    pcm_BS, noise_N = speech_like(), torch.randn(RATE * 3) * 0.1
    first, again, other = (augment(config, noise_N, seed).augment_audio(pcm_BS) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("recorded", [True, False])
def test_noise_has_the_drawn_signal_to_noise_ratio(recorded: bool) -> None:
    config = replace(OFF, noise_probability=1.0, noise_snr_db=(10.0, 10.0))
    pcm_BS = speech_like()
    noise_N = torch.randn(RATE * 2) if recorded else torch.zeros(0)
    added_BS = augment(config, noise_N).augment_audio(pcm_BS) - pcm_BS
    ratio_db = 10 * torch.log10(pcm_BS.square().mean(1) / added_BS.square().mean(1))
    torch.testing.assert_close(ratio_db, torch.full((4,), 10.0), atol=0.1, rtol=0)


def test_the_telephone_passes_only_its_band() -> None:
    pcm_BS = augment(replace(OFF, band_probability=1.0)).augment_audio(speech_like())
    power = torch.fft.rfft(pcm_BS).abs().square().mean(0)
    hertz = torch.linspace(0, RATE / 2, len(power))
    inside = power[(hertz > 400) & (hertz < 3300)].mean()
    assert power[hertz > 3600].mean() < 1e-2 * inside
    assert power[hertz < 200].mean() < 1e-2 * inside


def test_a_room_keeps_the_direct_sound_first_and_adds_a_tail() -> None:
    click_BS = torch.zeros(1, RATE)
    click_BS[0, 1000] = 0.5
    wet_BS = augment(replace(OFF, room_probability=1.0)).augment_audio(click_BS)
    assert wet_BS[0, :1000].abs().max() < 1e-4
    assert wet_BS[0, 1000] == pytest.approx(0.5, abs=0.1)
    early, late = (wet_BS[0, 1001 + at : 2001 + at].square().sum() for at in (0, 8000))
    assert early > 10 * late > 0


def test_a_simulated_room_is_convolved_with_the_row() -> None:
    response_KR = torch.zeros(1, 400)
    response_KR[0, 0], response_KR[0, 160] = 1.0, 0.5
    pcm_BS = speech_like()
    augmented_BS = augment(replace(OFF, room_probability=1.0), rooms_KR=response_KR).augment_audio(pcm_BS)
    expected_BS = pcm_BS.clone()
    expected_BS[:, 160:] += 0.5 * pcm_BS[:, :-160]
    torch.testing.assert_close(augmented_BS, expected_BS, atol=1e-5, rtol=0)


def test_babble_is_another_row_of_the_batch() -> None:
    pcm_BS = speech_like()
    added_BS = augment(replace(OFF, babble_probability=1.0)).augment_audio(pcm_BS) - pcm_BS
    for added_S, other_S in zip(added_BS, pcm_BS.roll(1, dims=0), strict=True):
        factor = added_S.norm() / other_S.norm()
        assert 0.01 < factor < 1.0
        torch.testing.assert_close(added_S, factor * other_S, atol=1e-4, rtol=0)


def test_replaced_rows_are_noise_no_louder_than_their_speech() -> None:
    pcm_BS, noise_N = speech_like(rows=64, seconds=0.1), torch.randn(RATE) * 0.2
    result_BS, replaced_B = augment(replace(OFF, noise_only_probability=0.5), noise_N).replace_by_noise(
        pcm_BS
    )
    assert 16 < int(replaced_B.sum()) < 48
    assert torch.equal(result_BS[~replaced_B], pcm_BS[~replaced_B])
    below_db = 20 * torch.log10(pcm_BS[replaced_B].norm(dim=1) / result_BS[replaced_B].norm(dim=1))
    assert -0.01 <= below_db.min() < 10.0
    assert 30.0 < below_db.max() <= 40.01
    similarity_B = torch.cosine_similarity(result_BS[replaced_B], pcm_BS[replaced_B])
    assert similarity_B.abs().max() < 0.15


def test_each_row_gets_its_own_gain_and_is_clipped() -> None:
    pcm_BS = speech_like(rows=64, seconds=0.1)
    augmented_BS = augment(replace(OFF, level_db=(-24.0, 6.0))).augment_audio(pcm_BS)
    gain_db = 20 * torch.log10(augmented_BS.norm(dim=1) / pcm_BS.norm(dim=1))
    assert -24.0 <= gain_db.min() < -18.0
    assert 0.0 < gain_db.max() <= 6.0
    assert augment(replace(OFF, level_db=(60.0, 60.0))).augment_audio(pcm_BS).abs().max() == 1.0


def test_the_spectral_tilt_stays_within_its_limit() -> None:
    pcm_BS = speech_like(rows=16)
    augmented_BS = augment(replace(OFF, tilt_db=6.0)).augment_audio(pcm_BS)
    change_db = 20 * torch.log10(torch.fft.rfft(augmented_BS).abs() / torch.fft.rfft(pcm_BS).abs())
    tilt_B = change_db[:, -2] - change_db[:, 1]
    assert tilt_B.abs().max() <= 6.0
    assert tilt_B.min() < -1.0 < 1.0 < tilt_B.max()
    middle = change_db.shape[1] // 2
    torch.testing.assert_close(change_db[:, middle], torch.zeros(16), atol=0.05, rtol=0)


def test_codecs_change_the_drawn_rows_and_keep_their_length() -> None:
    pcm_BS = speech_like(rows=2)
    config = replace(OFF, codec_probability=1.0)
    first, again, other = (augment(config, seed=seed).augment_audio(pcm_BS) for seed in (1, 1, 2))
    assert first.shape == pcm_BS.shape
    assert (first - pcm_BS).abs().amax(dim=1).min() > 1e-3
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_speed_changes_length_and_pitch_together() -> None:
    time = torch.arange(RATE) / RATE
    pcm_BS = torch.sin(2 * torch.pi * 1000 * time)[None]
    faster_BS, lengths_B = augment(replace(OFF, speeds=(1.1,))).change_speed(pcm_BS, torch.tensor([RATE]))
    assert int(lengths_B) == RATE * 20 // 22
    peak = torch.fft.rfft(faster_BS[0]).abs().argmax() * RATE / faster_BS.shape[1]
    assert float(peak) == pytest.approx(1100, abs=5)


def test_masks_cover_the_expected_share() -> None:
    config = AugmentConfig(
        time_masks_per_second=1.0, time_mask_frames=20, frequency_masks=2, frequency_mask_bands=20
    )
    mel_BTM = torch.ones(64, 1000, 80)
    masked_BTM = augment(config).mask(mel_BTM, 100.0)
    whole_frames = (masked_BTM == 0).all(dim=2).float().mean()
    whole_bands = (masked_BTM == 0).all(dim=1).float().mean()
    assert 0.05 < whole_frames < 0.12
    assert 0.15 < whole_bands < 0.30
    assert torch.all((masked_BTM == 0) | (masked_BTM == 1))


def test_a_warp_moves_low_frequencies_by_its_factor_and_keeps_the_highest_band() -> None:
    band_hz_M = torch.linspace(40, 7700, 80)
    warped_BTM = augment(replace(OFF, frequency_warp=0.1)).warp_frequencies(
        band_hz_M.expand(32, 5, 80), band_hz_M
    )
    low_M = (band_hz_M > 100) & (band_hz_M < 4000)
    ratio_BTM = warped_BTM[:, :, low_M] / band_hz_M[low_M]
    factor_B = ratio_BTM[:, 0, 0]
    torch.testing.assert_close(ratio_BTM, factor_B[:, None, None].expand_as(ratio_BTM), atol=1e-4, rtol=0)
    assert 0.9 <= factor_B.min() < 0.95
    assert 1.05 < factor_B.max() <= 1.1
    torch.testing.assert_close(warped_BTM[:, :, -1], band_hz_M[-1].expand(32, 5))
    assert (warped_BTM.diff(dim=2) >= 0).all()


def test_without_a_warp_the_frames_and_the_random_values_after_it_are_the_same() -> None:
    mel_BTM = torch.randn(2, 50, 80)
    with_call, without_call = augment(OFF), augment(OFF)
    assert torch.equal(with_call.warp_frequencies(mel_BTM, torch.linspace(40, 7700, 80)), mel_BTM)
    assert torch.equal(with_call.mask(mel_BTM, 100.0), without_call.mask(mel_BTM, 100.0))


def test_a_warped_tone_is_higher_or_lower_by_the_factor() -> None:
    frontend = build_frontend(FrontendConfig())
    tone_BS = torch.sin(2 * torch.pi * 1000 * torch.arange(RATE) / RATE)[None]
    mel_BTM = frontend(tone_BS).expand(64, -1, -1)
    warped_BTM = augment(replace(OFF, frequency_warp=0.2)).warp_frequencies(mel_BTM, frontend.band_hz_M)
    peaks_hz_B = frontend.band_hz_M[warped_BTM[:, 50].argmax(dim=1)]
    assert peaks_hz_B.min() == pytest.approx(1000 / 1.2, rel=0.05)
    assert peaks_hz_B.max() == pytest.approx(1000 / 0.8, rel=0.05)
