"""What a classifier says of itself in ``classifier.toml``: its classes, what it takes, what it gives."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from primum.errors import ModelError
from primum.records.histories import FloatArray

CARD = "classifier.toml"
Output = Literal["logits", "probabilities"]
Layout = Literal["channels_first", "channels_last"]
# Dimensions of one case of each kind; a bag has tiles of any number of dimensions.
KINDS: Mapping[str, int] = {"image": 3, "volume": 4, "signal": 2, "table": 1, "sequence": 1, "bag": 0}
DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8")
_MOST_CLASSES = 1 << 20
_NUMBERS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class InputCard:
    """What a model takes: ``(stored * scale - mean) / std``, in its layout and type.

    Attributes
    ----------
    kind : str or None
        One of :data:`KINDS`; None: not said, and not checked.
    shape : tuple of int or None
        Of one case as it is stored, 0 for any size; None: not said, and not checked.
    scale : float or None
        None: 1/255 for images of 8 bits (three dimensions a case or more) where the model takes numbers with
        a point, else 1.
    mean, std : tuple of float
        One number, or one for each channel (each feature of a table); empty: 0 and 1.
    layout : {"channels_first", "channels_last"}
        Of what the model takes; cases are stored with channels first.
    dtype : str or None
        One of :data:`DTYPES`; None: int64 for letters (8 bits, one dimension a case), else float32.
    """

    kind: str | None = None
    shape: tuple[int, ...] | None = None
    scale: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Layout = "channels_first"
    dtype: str | None = None

    def __post_init__(self) -> None:
        numbers = np.array([1.0 if self.scale is None else self.scale, *self.mean, *self.std])
        if not np.isfinite(numbers).all() or not all(self.std) or self.scale == 0:
            raise _wrong("scale, mean, std")
        scaled = self.scale is not None or self.mean or self.std
        if scaled and self.dtype is not None and np.dtype(self.dtype).kind != "f":
            raise _wrong("dtype")

    def require(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Refuse cases of a shape or a type that the model does not take.

        Parameters
        ----------
        shape : tuple of int
            Of one case.
        dtype : numpy dtype

        Raises
        ------
        ModelError
            Another shape or kind, or no numbers.
        """
        if dtype.kind not in "biuf":
            raise ModelError("The model takes numbers, not {found}: convert the inputs.", found=str(dtype))
        wanted = self.shape
        if wanted is not None and not (
            len(wanted) == len(shape) and all(a in (0, b) for a, b in zip(wanted, shape, strict=True))
        ):
            raise ModelError(
                "The model takes inputs of shape {wanted}, these are {found}: give the cases that it was "
                "made for, or correct shape in classifier.toml.",
                wanted=str(list(wanted)),
                found=str(list(shape)),
            )
        dimensions = KINDS[self.kind] if self.kind else 0
        if (dimensions and len(shape) != dimensions) or (self.kind == "bag" and len(shape) < 2):
            raise ModelError(
                "The model takes inputs of kind {kind}, and shape {found} is of another: give the cases that "
                "it was made for, or correct kind in classifier.toml.",
                kind=str(self.kind),
                found=str(list(shape)),
            )

    def prepared(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Turn a batch as it is stored, shape (n, ...), into what the model takes.

        Raises
        ------
        ModelError
            A number of means that is not that of the channels, or a type that cannot become the model's.
        """
        letters = stored.dtype == np.uint8 and stored.ndim == 2 and self.kind in (None, "sequence")
        dtype = np.dtype(self.dtype or ("int64" if letters else "float32"))
        if not np.can_cast(stored.dtype, dtype, "same_kind"):
            raise ModelError(
                "The model takes {wanted}, and the inputs are {found}: convert them, or correct dtype in "
                "classifier.toml.",
                wanted=str(dtype),
                found=str(stored.dtype),
            )
        # A copy: a module may write into what it is given.
        result = stored.astype(dtype, order="C") if dtype.kind != "f" else self._scaled(stored, dtype)
        if self.layout == "channels_last":
            result = np.ascontiguousarray(np.moveaxis(result, self._channels, -1))
        return result

    def _scaled(self, stored: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Scale in float64, some rows at a time, or tiles of a bag: it may fill the memory as it is."""
        factor, offset = self._affine(stored)
        result = np.empty(stored.shape, dtype)
        along = int(
            len(stored) == 1 and stored.ndim > 2 and (self._channels > 1 or factor.size == offset.size == 1)
        )
        step = max(1, _NUMBERS_AT_ONCE // max(1, stored[:1, :1].size if along else stored[:1].size))
        for at in range(0, stored.shape[along], step):
            part = (slice(None),) * along + (slice(at, at + step),)
            result[part] = stored[part].astype(np.float64) * factor - offset
        return result

    def pulled_back(self, gradient: NDArray[Any], stored: NDArray[Any]) -> FloatArray:
        """Turn a gradient with respect to :meth:`prepared` into one with respect to what is stored."""
        if self.layout == "channels_last":
            gradient = np.moveaxis(gradient, -1, self._channels)
        result: FloatArray = gradient.astype(np.float64) * self._affine(stored)[0]
        return result

    @property
    def _channels(self) -> int:
        return 2 if self.kind == "bag" else 1

    def _affine(self, stored: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
        """Return factor and offset, to be broadcast: prepared = stored * factor - offset."""
        default = 1 / 255 if stored.dtype == np.uint8 and stored.ndim > 3 else 1.0
        channels = stored.shape[self._channels] if stored.ndim > self._channels else 1
        if not {len(self.mean), len(self.std)} <= {0, 1, channels}:
            raise ModelError(
                "classifier.toml gives a mean or std for another number of channels than the {channels} of "
                "the inputs: give one for each.",
                channels=channels,
            )
        shape = (-1, *(1,) * (stored.ndim - self._channels - 1))
        std = np.reshape(np.array(self.std or (1.0,)), shape)
        mean = np.reshape(np.array(self.mean or (0.0,)), shape)
        return (default if self.scale is None else self.scale) / std, mean / std


@dataclass(frozen=True)
class Card:
    """All that ``classifier.toml`` says; every key may be left out.

    Attributes
    ----------
    classes : tuple of str
        In the order of the columns; empty: not said.
    output : {"logits", "probabilities"} or None
        What the model gives, a column for each class; one column alone is that of the second of two classes.
    input : InputCard
    """

    classes: tuple[str, ...] = ()
    output: Output | None = None
    input: InputCard = field(default_factory=InputCard)

    def taking(self, dtype: str) -> "Card":
        """Say which type the model takes, unless that is said already."""
        return replace(self, input=replace(self.input, dtype=self.input.dtype or dtype))


def parse_card(content: bytes) -> Card:
    """Read the bytes of a ``classifier.toml``.

    Raises
    ------
    ModelError
        No TOML, an unknown key, or a value of another type.
    """
    try:
        said = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError("classifier.toml is not TOML: see docs/classifiers.md for its keys.") from error
    inside = said.pop("input", {})
    if not isinstance(inside, dict):
        raise _wrong("input")
    for known, given in ((Card, said), (InputCard, inside)):
        for key in given.keys() - {one.name for one in fields(known)}:
            raise _wrong(str(key)[:40])
    classes = _list(said, "classes", str)
    if len(set(classes)) < len(classes) or len(classes) == 1 or not all(classes):
        raise _wrong("classes")
    shape = tuple(_list(inside, "shape", int)) if "shape" in inside else None
    if shape is not None and not all(0 <= size < 1 << 40 for size in shape):
        raise _wrong("shape")
    scale = inside.get("scale")
    if scale is not None and type(scale) not in (int, float):
        raise _wrong("scale")
    return Card(
        classes,
        _choice(said, "output", get_args(Output)),
        InputCard(
            kind=_choice(inside, "kind", tuple(KINDS)),
            shape=shape,
            scale=None if scale is None else float(scale),
            mean=tuple(map(float, _list(inside, "mean", int, float))),
            std=tuple(map(float, _list(inside, "std", int, float))),
            layout=_choice(inside, "layout", get_args(Layout)) or "channels_first",
            dtype=_choice(inside, "dtype", DTYPES),
        ),
    )


def card_text(card: Card) -> str:
    """Write a card as the text of a ``classifier.toml``."""

    def lines(values: Mapping[str, Any]) -> str:
        said = {name: value for name, value in values.items() if value not in (None, ())}
        return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in said.items())

    inside = {one.name: getattr(card.input, one.name) for one in fields(card.input)}
    return lines({"classes": card.classes, "output": card.output}) + "\n[input]\n" + lines(inside)


def _choice(said: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> Any:
    value = said.get(key)
    if value is not None and value not in choices:
        raise _wrong(key)
    return value


def _list(said: Mapping[str, Any], key: str, *types: type) -> tuple[Any, ...]:
    values = said.get(key, [])
    if not isinstance(values, list) or len(values) > _MOST_CLASSES or not {*map(type, values)} <= set(types):
        raise _wrong(key)
    return tuple(values)


def _wrong(key: str) -> ModelError:
    return ModelError(
        "classifier.toml, key {key}: unknown, or a value that cannot be used: see docs/classifiers.md.",
        key=key,
    )
