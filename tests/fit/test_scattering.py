import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from primum.errors import InputError
from primum.fit import scattering
from primum.fit.networks import ScatteringNetwork, build_network
from primum.fit.scattering import ANGLES, CHANNELS, SCALES, Scattering

Floats = NDArray[np.float64]


def smooth(count: int, side: int = 28, *, seed: int = 0) -> torch.Tensor:
    """Images with the spectrum of photographs: amplitudes fall with the frequency."""
    noise = np.random.default_rng(seed).standard_normal((count, 1, side, side))
    rows, columns = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    fall = 1 / np.maximum(np.hypot(rows, columns), 1 / side)
    return torch.from_numpy(np.fft.ifft2(np.fft.fft2(noise) * fall).real.astype(np.float32))


def mirrored(images: torch.Tensor, module: Scattering) -> torch.Tensor:
    return torch.nn.functional.pad(images, module.border, mode="reflect")


def bump(size: tuple[int, int], width: float, turn: float, frequency: float, across: float) -> Floats:
    """A wave under a Gaussian in space, at every pixel of a circle in each direction."""
    total = np.zeros(size, complex)
    for down in range(-3, 4):
        for right in range(-3, 4):
            rows, columns = np.ogrid[: size[0], : size[1]]
            y, x = rows + down * size[0], columns + right * size[1]
            along, aside = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
            total += np.exp(-(along**2 + (aside / across) ** 2) / (2 * width**2) + 1j * frequency * along)
    return total / (2 * np.pi * width**2 * across)


def convolved(image: Floats, kernel: Floats) -> Floats:
    result = np.zeros(image.shape, complex)
    for row, column in np.ndindex(image.shape):
        result += kernel[row, column] * np.roll(image, (row, column), (0, 1))
    return result


def slowly(image: Floats) -> Floats:
    """Coefficients of one image by convolution in space."""
    height, width = image.shape
    padded = np.pad(image, ((4, 4 + -height % 4), (4, 4 + -width % 4)), mode="reflect")
    low = bump(padded.shape, 1.6, 0, 0, 1).real
    low /= low.sum()
    wavelets = []
    for scale in (1, 2):
        for angle in range(8):
            how = padded.shape, 0.8 * scale, np.pi * angle / 8
            wave, still = bump(*how, 0.75 * np.pi / scale, 2), bump(*how, 0, 2)
            wavelets.append(wave - wave.sum() / still.sum() * still)
    power = (abs(np.fft.fft2(np.stack(wavelets))) ** 2).sum(0)
    power = (power + np.roll(power[::-1, ::-1], (1, 1), (0, 1))) / 2
    gain = np.sqrt(((1 - abs(np.fft.fft2(low)) ** 2)[power > 1e-6] / power[power > 1e-6]).min())
    first = [abs(convolved(padded, gain * one)) for one in wavelets]
    second = [abs(convolved(one, gain * two)) for one in first[:8] for two in wavelets[8:]]
    return np.stack([convolved(one, low).real[4:-4:4, 4:-4:4] for one in [padded, *first, *second]])


@pytest.mark.parametrize("size", [(8, 8), (9, 11)])
def test_it_is_what_convolution_in_space_gives(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).random(size)
    found = Scattering(*size)(torch.from_numpy(image).float()[None, None])[0].numpy()
    assert found.shape == (81, -(-size[0] // 4), -(-size[1] // 4))
    np.testing.assert_allclose(found, slowly(image), atol=1e-5)


def test_channels_and_images_are_each_alone_and_nothing_is_learnt() -> None:
    images = torch.rand(40, 3, 28, 20)
    module = Scattering(28, 20)
    together = module(images)
    assert together.shape == (40, 3 * CHANNELS, 7, 5) and together.dtype == torch.float32
    for image, channel in ((0, 0), (39, 2)):
        alone = module(images[image : image + 1, channel : channel + 1])
        found = together[image, channel * CHANNELS : (channel + 1) * CHANNELS]
        torch.testing.assert_close(found, alone[0], atol=1e-6, rtol=1e-4)
    assert not list(module.parameters()) and not module.state_dict()


def test_wavelets_share_out_the_energy_and_never_more() -> None:
    """Bruna & Mallat, TPAMI 2013, section 2.1: then no image is lengthened, nor are two moved apart."""
    module = Scattering(28, 28)
    power = module.wavelets.square().sum(0)
    power = (power + power.flip(0, 1).roll((1, 1), (0, 1))) / 2
    power += scattering._bump((36, 36), 2.0, across=1.0).square()
    assert 0.999 < float(power.max()) <= 1 + 1e-6
    slow = torch.fft.fftfreq(36).abs() < 0.25
    assert float(power[slow][:, slow].min()) > 0.65
    assert float(module.wavelets[:, 0, 0].abs().max()) < 1e-6  # blind to brightness


def test_energy_is_not_increased_and_nearly_kept() -> None:
    module, images = Scattering(28, 28), smooth(16)
    before, after = mirrored(images, module).flatten(1).norm(dim=1), 4 * module(images).flatten(1).norm(dim=1)
    assert float((after / before).max()) < 1.01
    whole = 4 * module(images).flatten(1).norm(dim=1) / images.flatten(1).norm(dim=1)
    assert float(whole.mean()) > 0.88 and float(whole.min()) > 0.8
    some, others = images[:8], images[8:]
    apart = 4 * (module(some) - module(others)).flatten(1).norm(dim=1)
    assert float((apart / mirrored(some - others, module).flatten(1).norm(dim=1)).max()) < 1.01


def test_a_pixel_further_changes_little() -> None:
    module, images = Scattering(32, 32), smooth(16, 36)
    here, there = images[:, :, 2:34, 2:34], images[:, :, 2:34, 3:35]

    def change(one: torch.Tensor, other: torch.Tensor) -> float:
        return float((one - other).norm() / one.norm())

    assert change(module(here), module(there)) < change(here, there) / 2


@pytest.mark.parametrize("scale", range(SCALES))
@pytest.mark.parametrize("angle", [0, 2, 3, 4, 7])
def test_a_plane_wave_is_answered_at_its_own_angle_and_scale(scale: int, angle: int) -> None:
    turn, frequency = torch.pi * angle / ANGLES, 0.75 * torch.pi / 2**scale
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    wave = torch.cos(frequency * (columns * np.cos(turn) + rows * np.sin(turn)))
    middle = Scattering(40, 40)(wave[None, None])[0, 1:17, 4:6, 4:6].mean((1, 2))
    assert int(middle.argmax()) == scale * ANGLES + angle
    across, other = scale * ANGLES + (angle + 4) % ANGLES, (1 - scale) * ANGLES + angle
    assert float(middle[across]) < 0.03 * float(middle.max())
    assert float(middle[other]) < 0.6 * float(middle.max())


def test_the_network_keeps_to_norm_one_and_a_constant() -> None:
    network = build_network("scattering", shape=(1, 28, 28), classes=3)
    assert isinstance(network, ScatteringNetwork)
    images = torch.rand(6, 1, 28, 28)
    units = network.unit_vectors(images)
    torch.testing.assert_close(units.norm(dim=1), torch.ones(6))
    network.centre = units.mean(0)
    given = network.from_centre(units)
    torch.testing.assert_close(given[:, :-1].norm(dim=1), torch.ones(6))
    torch.testing.assert_close(given[:, -1], torch.full((6,), 0.1))
    torch.testing.assert_close(network(images), given @ network.last.weight.T)
    assert set(network.state_dict()) == {"centre", "last.weight"}


@pytest.mark.parametrize(
    ("shape", "width", "features"), [((3, 8, 8), 1, 243), ((1, 28, 28), 2, 729), ((1, 9, 40), 1, 81 * 8)]
)
def test_any_size_from_8_pixels_on(shape: tuple[int, ...], width: int, features: int) -> None:
    network = build_network("scattering", shape=shape, classes=2, width=width)
    images = torch.rand(2, *shape, requires_grad=True)
    assert network(images).shape == (2, 2)
    assert network.get_parameter("last.weight").shape == (2, features + 1)
    (gradient,) = torch.autograd.grad(network(images).sum(), images)
    assert gradient.isfinite().all() and gradient.abs().max() > 0
    flat = torch.zeros(1, *shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(flat).sum(), flat)
    assert gradient.isfinite().all()


def test_even_textures_are_told_apart_wherever_they_begin() -> None:
    """Were each channel brought to deviation 1 alone, nothing would be left of them."""
    network = build_network("scattering", shape=(1, 32, 32), classes=2)
    assert isinstance(network, ScatteringNetwork)
    columns = torch.arange(32.0).expand(1, 1, 32, 32)
    coarse = [0.5 + 0.4 * torch.cos(0.375 * torch.pi * columns + begin) for begin in (0, 1)]
    fine = 0.5 + 0.4 * torch.cos(0.75 * torch.pi * columns)
    units = network.unit_vectors(torch.cat([*coarse, fine]))
    assert float(units[0] @ units[1]) > 0.95 and float(units[0] @ units[2]) < 0.7


@pytest.mark.parametrize("shape", [(28, 28), (1, 7, 28), (1, 28, 7), (1, 8, 8, 8)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"images .* of 8 pixels a side or more, not"):
        build_network("scattering", shape=shape, classes=2)
