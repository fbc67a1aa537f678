"""Small networks for every kind of case; none normalises over its batch, so a case is answered alone."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from primum.errors import InputError
from primum.fit.scattering import CHANNELS, STEP, Scattering

Shape = tuple[int, ...]


def build_network(name: str, *, shape: Shape, classes: int, width: int | None = None) -> nn.Module:
    r"""Make the network `name` of :data:`NETWORKS`, its weights drawn from torch's generator.

    Parameters
    ----------
    name : str
    shape : tuple of int
        Of one case: (channels, height, width), (channels, depth, height, width), (leads, samples),
        (features,), (letters,), or, for a bag, of one of its tiles.
    classes : int
    width : int or None
        Channels of the widest layer (of scattering: places from one mean to the next); None: what the network
        is usually given.

    Returns
    -------
    Module
        Maps (n, \*shape) to logits (n, classes); bags of shape (n, tiles, \*shape) too. What goes into its
        last linear layer is its embedding.

    Raises
    ------
    InputError
        There is no such network.
    """
    if name not in NETWORKS:
        raise InputError(
            "There is no network named {name}: use one of {names}.", name=name, names=", ".join(NETWORKS)
        )
    builder, usual = NETWORKS[name]
    module = builder(shape, classes, width or usual)
    module.place = f"{__name__}:{name}_{'x'.join(map(str, shape))}_{classes}_{width or usual}"  # type: ignore[assignment]
    return module


def kind_of(name: str) -> str:
    """Return the kind of case that the network `name` takes."""
    return "image" if name in ("vision_transformer", "scattering") else name


def __getattr__(name: str) -> Callable[[], nn.Module]:
    """Return a factory for names like ``image_1x28x28_2_64``: network, shape of a case, classes, width.

    Whoever opens weights through the torch door gives ``primum.fit.networks:image_1x28x28_2_64``.
    """
    said = re.fullmatch(r"([a-z_]+)_(\d+(?:x\d+)*)_(\d+)_(\d+)", name)
    if said is None or said[1] not in NETWORKS:
        raise AttributeError(name)

    def factory() -> nn.Module:
        shape = tuple(map(int, said[2].split("x")))
        return build_network(said[1], shape=shape, classes=int(said[3]), width=int(said[4]))

    return factory


def _block(convolution: type[Any], before: int, after: int, **how: int) -> list[nn.Module]:
    return [convolution(before, after, **how), nn.GroupNorm(max(1, after // 8), after), nn.ReLU()]


class _Centred(nn.Module):
    """Moves inputs from [0, 1] around 0."""

    def forward(self, inputs: Tensor) -> Tensor:
        return 4 * inputs - 2


class _Halved(nn.MaxPool2d):
    """Keeps the largest of each two by two, faster where no gradient is wanted."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, inputs: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            larger: Tensor = super().forward(inputs)
            return larger
        height, width = inputs.shape[-2] // 2 * 2, inputs.shape[-1] // 2 * 2
        rows = torch.maximum(inputs[..., 0:height:2, :width], inputs[..., 1:height:2, :width])
        return torch.maximum(rows[..., ::2], rows[..., 1::2])


def image_network(shape: Shape, classes: int, width: int) -> nn.Module:
    """Make a convolutional network: 60,000 parameters at a width of 64."""
    return nn.Sequential(
        _Centred(),
        *_block(nn.Conv2d, shape[0], width // 4, kernel_size=3, padding=1),
        _Halved(),
        *_block(nn.Conv2d, width // 4, width // 2, kernel_size=3, padding=1),
        _Halved(),
        *_block(nn.Conv2d, width // 2, width, kernel_size=3, padding=1),
        *_block(nn.Conv2d, width, width, kernel_size=3, padding=1),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )


def volume_network(shape: Shape, classes: int, width: int) -> nn.Module:
    """Make a convolutional network in three dimensions."""
    return nn.Sequential(
        _Centred(),
        *_block(nn.Conv3d, shape[0], width // 4, kernel_size=3, padding=1, stride=2),
        *_block(nn.Conv3d, width // 4, width // 2, kernel_size=3, padding=1),
        nn.MaxPool3d(2),
        *_block(nn.Conv3d, width // 2, width, kernel_size=3, padding=1),
        nn.AdaptiveMaxPool3d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )


def signal_network(shape: Shape, classes: int, width: int) -> nn.Module:
    """Make a convolutional network over time, all leads at once."""
    return nn.Sequential(
        *_block(nn.Conv1d, shape[0], width // 2, kernel_size=9, padding=4, stride=2),
        *_block(nn.Conv1d, width // 2, width // 2, kernel_size=9, padding=4, stride=2),
        *_block(nn.Conv1d, width // 2, width, kernel_size=9, padding=4, stride=2),
        *_block(nn.Conv1d, width, width, kernel_size=9, padding=4, stride=2),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )


class SequenceNetwork(nn.Module):
    """A convolutional network over letters; anything but A, C, G, T (or their small forms) is no letter."""

    letters: Tensor

    def __init__(self, shape: Shape, classes: int, width: int) -> None:
        super().__init__()
        letters = torch.zeros(256, 4)
        for column, letter in enumerate(b"ACGT"):
            letters[letter, column] = letters[letter + 32, column] = 1
        self.register_buffer("letters", letters, persistent=False)
        self.motifs = nn.Conv1d(4, width, 16, padding=8, stride=2)
        self.last = nn.Linear(2 * width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Letters (n, letters) to logits."""
        found = torch.relu(self.motifs(self.letters[inputs.long()].transpose(1, 2)))
        logits: Tensor = self.last(torch.cat([found.amax(2), found.mean(2)], 1))
        return logits


class AttentionNetwork(nn.Module):
    """Attention over the tiles of a bag (Ilse, Tomczak & Welling, ICML 2018).

    It answers in two steps, so that the torch door can give it the tiles of a large bag a few at a time.
    """

    def __init__(self, shape: Shape, classes: int, width: int) -> None:
        super().__init__()
        self.tile = nn.Sequential(
            _Centred(),
            *_block(nn.Conv2d, shape[0], width // 2, kernel_size=4, padding=1, stride=2),
            *_block(nn.Conv2d, width // 2, width, kernel_size=3, padding=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.attention = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))
        self.last = nn.Linear(width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Bags (n, tiles, channels, height, width) to logits."""
        return self.decide_bag(self.encode_tiles(inputs.flatten(0, 1)).reshape(*inputs.shape[:2], -1))

    def encode_tiles(self, tiles: Tensor) -> Tensor:
        """Tiles (k, channels, height, width) to vectors (k, width)."""
        vectors: Tensor = self.tile(tiles)
        return vectors

    def decide_bag(self, tiles: Tensor) -> Tensor:
        """Vectors of the tiles of bags (n, tiles, width) to logits."""
        shares = torch.softmax(self.attention(tiles), 1)
        logits: Tensor = self.last((shares * tiles).sum(1))
        return logits


class VisionTransformer(nn.Module):
    """A small transformer over square patches (Dosovitskiy et al., ICLR 2021), the mean of all as output."""

    def __init__(self, shape: Shape, classes: int, width: int, *, patch: int = 4, layers: int = 3) -> None:
        super().__init__()
        places = (shape[1] // patch) * (shape[2] // patch)
        self.patches = nn.Sequential(_Centred(), nn.Conv2d(shape[0], width, patch, stride=patch))
        self.places = nn.Parameter(0.02 * torch.randn(1, places, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Images (n, channels, height, width) to logits."""
        patches = self.patches(inputs).flatten(2).transpose(1, 2)
        logits: Tensor = self.last(self.norm(self.layers(patches + self.places)).mean(1))
        return logits


class TableNetwork(nn.Module):
    """A perceptron; columns are brought to one scale, and whether a value is missing is a column too."""

    centre: Tensor
    scale: Tensor

    def __init__(self, shape: Shape, classes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))
        self.hidden = nn.Sequential(
            nn.Linear(2 * shape[0], width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.last = nn.Linear(width, classes)

    def scale_to(self, inputs: Tensor) -> None:
        """Take each column's mean and deviation from rows (n, features), NaN where missing."""
        known = inputs.isfinite()
        self.centre = torch.nan_to_num(inputs.nanmean(0))
        spread = torch.where(known, inputs - self.centre, 0.0).square().sum(0) / known.sum(0).clamp(min=1)
        self.scale = torch.where(spread > 0, spread.sqrt(), 1.0)

    def forward(self, inputs: Tensor) -> Tensor:
        """Rows (n, features), NaN where missing, to logits."""
        missing = inputs.isnan()
        known = torch.where(missing, 0.0, (inputs - self.centre) / self.scale)
        logits: Tensor = self.last(self.hidden(torch.cat([known, missing.to(known.dtype)], 1)))
        return logits


class ScatteringNetwork(nn.Module):
    """A linear layer over features that nobody's data shaped: scattering, as vectors of one length.

    Channels are brought to mean 0 and deviation 1 by threes (group norm, nothing learnt; each alone would no
    longer tell how strong an even texture is) and averaged over 3 x 3 places, `width` places apart; the whole
    is scaled to norm 1. Its direction from `centre`, of norm 1 too, goes into the last layer with a constant:
    no case pulls harder than another.

    References
    ----------
    Tramèr & Boneh, Differentially private learning needs better features (or much more data), ICLR 2021.

    Raises
    ------
    InputError
        The shape is not of images of 8 pixels a side or more.
    """

    centre: Tensor

    def __init__(self, shape: Shape, classes: int, width: int) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < 2 * STEP:
            raise InputError(
                "The scattering network takes images (channels, height, width) of 8 pixels a side or more, "
                "not {shape}: choose another network.",
                shape=str(list(shape)),
            )
        channels, sides = shape[0] * CHANNELS, [-(-side // STEP) for side in shape[1:]]
        window = min(3, sides[0]), min(3, sides[1])
        self.features = nn.Sequential(
            Scattering(*shape[1:]),
            nn.GroupNorm(channels // 3, channels, affine=False),
            nn.AvgPool2d(window, stride=width),
            nn.Flatten(),
        )
        rows, columns = ((side - least) // width + 1 for side, least in zip(sides, window, strict=True))
        self.register_buffer("centre", torch.zeros(channels * rows * columns))
        self.last = nn.Linear(len(self.centre) + 1, classes, bias=False)

    def unit_vectors(self, images: Tensor) -> Tensor:
        """Images (n, channels, height, width) to vectors (n, features) of norm 1."""
        return nn.functional.normalize(self.features(images))

    def from_centre(self, units: Tensor) -> Tensor:
        """Vectors (n, features) to their directions from the centre and a constant, (n, features + 1)."""
        directions = nn.functional.normalize(units - self.centre)
        return nn.functional.pad(directions, (0, 1), value=0.1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Images (n, channels, height, width) to logits."""
        logits: Tensor = self.last(self.from_centre(self.unit_vectors(inputs)))
        return logits


# By name, how a network is made and its usual width.
NETWORKS: Mapping[str, tuple[Callable[[Shape, int, int], nn.Module], int]] = {
    "image": (image_network, 64),
    "vision_transformer": (VisionTransformer, 48),
    "volume": (volume_network, 32),
    "signal": (signal_network, 64),
    "bag": (AttentionNetwork, 64),
    "sequence": (SequenceNetwork, 32),
    "table": (TableNetwork, 64),
    "scattering": (ScatteringNetwork, 1),
}
