"""The scattering transform of images: wavelets fixed beforehand, so that nothing is learnt from a patient.

Two scales and eight angles; orders 0, 1 and 2. Local means of the moduli of what wavelets answer change
little when an image is moved by a pixel or bent, and tell textures apart that have the same mean.

References
----------
Bruna & Mallat, Invariant scattering convolution networks, TPAMI 2013.
"""

from itertools import product
from math import cos, sin

import torch
from torch import Tensor, nn

SCALES, ANGLES = 2, 8
CHANNELS = 1 + SCALES * ANGLES + ANGLES**2
STEP = 2**SCALES
# Of a wavelet of the first scale: its width along the wave in pixels, how much wider it is across, and the
# frequency of its wave, in radians a pixel. The low-pass is as wide as the next wavelet would be, halved.
_WIDTH, _ACROSS, _FREQUENCY = 0.8, ANGLES / 4, 0.75 * torch.pi

# More images at once leave the processor's cache, which takes twice as long.
_PIXELS_AT_ONCE = 1 << 14


class Scattering(nn.Module):
    """Scattering coefficients of images of one size; it has no parameters.

    The transform does not lengthen: four times the norm of the answer is at most that of the image, mirrored
    at its borders.

    Parameters
    ----------
    height, width : int
        In pixels, 8 or more.
    """

    wavelets: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        # A mirrored border as wide as the low-pass, and what is missing to whole steps.
        self.border = (STEP, STEP + -width % STEP, STEP, STEP + -height % STEP)
        size = (height + sum(self.border[2:]), width + sum(self.border[:2]))
        self.register_buffer("wavelets", _wavelets(size).float(), persistent=False)
        self.register_buffer("rows", _low_pass(size[0])[1:-1].float(), persistent=False)
        self.register_buffer("columns", _low_pass(size[1])[1:-1].T.float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Turn images into coefficients.

        Parameters
        ----------
        images : tensor, shape (n, channels, height, width)

        Returns
        -------
        tensor, shape (n, 81 * channels, ceil(height / 4), ceil(width / 4))
            Of each channel: the local mean; order 1, scale by scale, angles from 0 up by an eighth of half a
            turn; order 2, for each angle of the finer scale those of the coarser.
        """
        few = max(1, _PIXELS_AT_ONCE // images[0].numel())
        return torch.cat([self._coefficients(part) for part in torch.split(images, few)])

    def _coefficients(self, images: Tensor) -> Tensor:
        padded = nn.functional.pad(images, self.border, mode="reflect")
        first = torch.fft.ifft2(torch.fft.fft2(padded)[:, :, None] * self.wavelets).abs()
        means = [self.rows @ torch.cat([padded[:, :, None], first], 2) @ self.columns]
        # One angle at a time takes two thirds of the time of all at once, and an eighth of the memory.
        for finer in torch.split(first[:, :, :ANGLES], 1, 2):
            second = torch.fft.ifft2(torch.fft.fft2(finer) * self.wavelets[ANGLES:]).abs()
            means.append(self.rows @ second @ self.columns)
        coefficients: Tensor = torch.cat(means, 2).flatten(1, 2)
        return coefficients


def _low_pass(length: int) -> Tensor:
    """Gaussian means around every fourth place of a circle, shape (length / 4, length)."""
    kernel = torch.fft.ifft(_bump((length, 1), STEP / 2, across=1.0)[:, 0]).real
    places = torch.arange(length)
    means: Tensor = kernel[(places[::STEP, None] - places) % length]
    return means


def _wavelets(size: tuple[int, int]) -> Tensor:
    """Spectra of all wavelets, shape (16, height, width), so strong that no image is lengthened."""
    turns = [torch.pi * angle / ANGLES for angle in range(ANGLES)]
    spectra = torch.stack([_morlet(size, 2**scale, turn) for scale in range(SCALES) for turn in turns])
    # A real image is answered at a frequency and its opposite alike.
    answered = spectra.square().sum(0)
    answered = (answered + answered.flip(0, 1).roll((1, 1), (0, 1))) / 2
    left = 1 - _bump(size, STEP / 2, across=1.0).square()
    heard = answered > 1e-6
    return spectra * (left[heard] / answered[heard]).min().sqrt()


def _morlet(size: tuple[int, int], scale: int, turn: float) -> Tensor:
    """Spectrum of a wave under a bump, less the bump that makes its mean zero."""
    wave = _bump(size, scale, turn=turn, frequency=_FREQUENCY / scale)
    still = _bump(size, scale, turn=turn)
    return wave - wave[0, 0] / still[0, 0] * still


def _bump(
    size: tuple[int, int], scale: float, *, turn: float = 0.0, frequency: float = 0.0, across: float = _ACROSS
) -> Tensor:
    """Spectrum, shape `size`, of a Gaussian that is sampled at the pixels of a circle in each direction."""
    total = torch.zeros(size, dtype=torch.float64)
    # Sampling in space repeats a spectrum; what lies further away is below the last digit.
    for down, right in product((-2, -1, 0, 1, 2), repeat=2):
        rows, columns = (
            2 * torch.pi * (torch.fft.fftfreq(length, dtype=torch.float64) + turns)
            for length, turns in zip(size, (down, right), strict=True)
        )
        along = rows[:, None] * sin(turn) + columns * cos(turn) - frequency
        aside = rows[:, None] * cos(turn) - columns * sin(turn)
        total += torch.exp(-((_WIDTH * scale) ** 2) / 2 * (along.square() + (across * aside).square()))
    return total
