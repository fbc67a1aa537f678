"""Explanations of a classifier's verdicts: how much each part of a case speaks for the class it is given.

What is explained is the log-odds of that class against all others. White-box methods look at the gradient;
black-box ones take parts of the case away and watch the answer. Both are captum's.

References
----------
Selvaraju et al., Grad-CAM, ICCV 2017. Sundararajan, Taly & Yan, Axiomatic attribution, ICML 2017.
Lundberg & Lee, A unified approach to interpreting model predictions, NeurIPS 2017 (KernelSHAP).
Ribeiro, Singh & Guestrin, "Why should I trust you?", KDD 2016 (LIME).
Zeiler & Fergus, Visualizing and understanding convolutional networks, ECCV 2014 (occlusion).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from primum.evidence.finding import Message
from primum.models.classifier_card import Card
from primum.models.predictors import Predictor
from primum.records.cases import Cases, Inputs
from primum.records.histories import FloatArray
from primum.records.ragged import IntArray

if TYPE_CHECKING:
    import torch

Kind = Literal["image", "volume", "signal", "table", "sequence", "bag"]
Method = Literal["grad_cam", "integrated_gradients", "kernel_shap", "lime", "occlusion"]
METHODS: tuple[Method, ...] = ("grad_cam", "integrated_gradients", "kernel_shap", "lime", "occlusion")
# As they are called in every language.
NAMES: Mapping[Method, str] = {
    "grad_cam": "Grad-CAM",
    "integrated_gradients": "Integrated Gradients",
    "kernel_shap": "KernelSHAP",
    "lime": "LIME",
    "occlusion": "Occlusion",
}
Array = NDArray[Any]

# At most so many parts a case: cells of a picture, windows of a signal, columns of a table, groups of tiles.
_CELLS = {"image": (7, 7), "volume": (3, 4, 4), "table": (49,), "sequence": (49,), "bag": (49,)}
_LEADS, _WINDOWS = 12, 48
_STEPS, _SAMPLES, _ROWS = 32, 256, 128
_UNKNOWN = ord("N")
# Probabilities nearer to 0 or 1 than this count as this near: their log-odds stay finite.
_SMALLEST = 1e-9


@dataclass(frozen=True, eq=False)
class Parts:
    """One case in parts that can be taken away.

    Attributes
    ----------
    values : ndarray
        The case as it is stored.
    without : ndarray, shape of `values`
        What stands where a part is taken away.
    place : int64, shape of `values`
        Which part each value is of, from 0.
    count : int
    """

    values: Array
    without: Array
    place: IntArray
    count: int

    def keeping(self, keep: NDArray[np.bool_]) -> Array:
        r"""Return the case with some of its parts, shape (n, \*values); `keep` is (n, parts)."""
        return np.where(keep[:, self.place], self.values, self.without)

    def totals(self, attribution: FloatArray) -> FloatArray:
        """Sum an attribution over each part, shape (parts,)."""
        weights = np.asarray(attribution, np.float64).ravel()
        return np.bincount(self.place.ravel(), weights, minlength=self.count).astype(np.float64)

    def spread(self, totals: FloatArray) -> FloatArray:
        """Share the total of each part equally among its values; :meth:`totals` undoes it."""
        sizes = np.bincount(self.place.ravel(), minlength=self.count)
        shared: FloatArray = (totals / sizes)[self.place]
        return shared


def background_of(cases: Cases, *, kind: Kind, groups: Sequence[Sequence[int]] = ()) -> Array:
    """Learn what stands where a part is taken away: a value that says nothing.

    Parameters
    ----------
    cases : Cases
        At least one; of one shape, but for bags and sequences.
    kind : {"image", "volume", "signal", "table", "sequence", "bag"}
    groups : sequence of sequences of int
        Of tables: the columns of each category.

    Returns
    -------
    ndarray
        The mean case; of bags the mean tile; of sequences the letter N; of tables the median of each column,
        and the commonest value of each category.
    """
    inputs = cases.inputs
    dtype = inputs[0].dtype
    if kind == "sequence":
        return np.array(_UNKNOWN, dtype)
    if kind == "table":
        rows = np.asarray(inputs, np.float64)
        known, middle = ~np.isnan(rows).all(axis=0), np.full(rows.shape[1], np.nan)
        middle[known] = np.nanmedian(rows[:, known], axis=0)
        for columns in groups:
            commonest = np.nansum(rows[:, list(columns)], axis=0).argmax()
            middle[list(columns)] = np.arange(len(columns)) == commonest
        return np.asarray(middle, dtype)
    if kind == "bag":
        mean = sum(bag.mean(axis=0, dtype=np.float64) for bag in inputs) / len(cases)
    else:
        mean = sum(np.asarray(one, np.float64) for one in inputs) / len(cases)
    return np.asarray(np.rint(mean) if dtype.kind in "iu" else mean, dtype)


def divide(values: Array, *, kind: Kind, background: Array, groups: Sequence[Sequence[int]] = ()) -> Parts:
    """Divide one case into at most 49 parts.

    Cells of a picture (all channels together), windows of each lead of a signal, columns of a table (a
    category's together), windows of a sequence, groups of tiles of a bag that follow each other.

    Parameters
    ----------
    values : ndarray
        The case as it is stored.
    kind : {"image", "volume", "signal", "table", "sequence", "bag"}
    background : ndarray
        From :func:`background_of`.
    groups : sequence of sequences of int
        Of tables: the columns of each category.
    """
    own = np.arange(len(values))
    if kind == "table":
        for columns in groups:
            own[list(columns)] = columns[0]
        own = np.unique(own, return_inverse=True)[1]
    # Channels are seen together; leads, columns, letters and tiles are what is taken away.
    first = int(kind in ("image", "volume"))
    place = np.zeros((1,) * values.ndim, np.int64)
    leads = min(_LEADS, len(values))
    all_cells = (leads, _WINDOWS // leads) if kind == "signal" else _CELLS[kind]
    for axis, cells in enumerate(all_cells, start=first):
        along = own if kind == "table" else np.arange(values.shape[axis])
        number = int(along.max()) + 1
        cell = along * min(cells, number) // number
        place = place * (cell.max() + 1) + cell.reshape(-1, *(1,) * (values.ndim - axis - 1))
    place = np.broadcast_to(place, values.shape)
    return Parts(values, np.broadcast_to(background, values.shape), place, int(place.max()) + 1)


def log_odds(predictor: Predictor, inputs: Inputs, towards: IntArray) -> FloatArray:
    """Ask a classifier about new inputs: the log-odds of a class of each, natural, shape (n,)."""
    nobody = np.full(len(towards), -1)
    cases = Cases(nobody, nobody, inputs, towards)
    rows = predictor.logits(cases)
    if rows is None:
        rows = np.log(np.clip(predictor.predict_proba(cases), _SMALLEST, 1 - _SMALLEST))
    wanted = np.arange(rows.shape[1]) == towards[:, None]
    others: FloatArray = logsumexp(np.where(wanted, -np.inf, rows), axis=1)
    odds: FloatArray = rows[wanted] - others
    return odds


def cannot_explain(predictor: Predictor, cases: Cases, method: Method, *, kind: Kind) -> Message | None:
    """Say why a model cannot be explained in this way; None where it can.

    Parameters
    ----------
    predictor : Predictor
    cases : Cases
        At least one.
    method : str
        One of :data:`METHODS`.
    kind : {"image", "volume", "signal", "table", "sequence", "bag"}
    """
    if method not in ("grad_cam", "integrated_gradients"):
        return None
    module: Any = getattr(predictor, "module", None)
    card: Card | None = getattr(predictor, "card", None)
    if module is None or card is None:
        return Message("explanations_needs_gradients", {"method": NAMES[method]})
    first = card.input.prepared(np.asarray(cases.inputs[0])[None])
    if method == "grad_cam":
        import torch

        if kind in ("table", "bag") or _last_map(module, torch.from_numpy(first)) is None:
            return Message("explanations_no_convolution", {"method": NAMES[method]})
    elif first.dtype.kind != "f" or kind == "sequence":
        return Message("explanations_needs_numbers", {"method": NAMES[method]})
    elif any(one.dtype.kind == "f" and np.isnan(one).any() for one in cases.inputs):
        return Message("explanations_missing_values", {"method": NAMES[method]})
    one = cases.select(np.zeros(1, np.int64))
    parts = divide(one.inputs[0], kind=kind, background=np.zeros((), one.inputs[0].dtype))
    try:
        explain(predictor, one, method, parts=[parts], towards=np.zeros(1, np.int64))
    except (RuntimeError, IndexError, TypeError, ValueError, AssertionError):  # whatever the module does
        return Message("explanations_failed", {"method": NAMES[method]})
    return None


def explain(
    predictor: Predictor,
    cases: Cases,
    method: Method,
    *,
    parts: Sequence[Parts],
    towards: IntArray,
    seed: int = 0,
) -> tuple[FloatArray, ...]:
    """Attribute the log-odds of a class to the values of each case.

    Parameters
    ----------
    predictor : Predictor
        Of white-box methods a :class:`primum.models.torch_door.TorchClassifier`; see :func:`cannot_explain`.
    cases : Cases
        `n` of them.
    method : str
        ``grad_cam``: the last convolution, not clipped at 0, enlarged to the case, all channels alike.
        ``integrated_gradients``: from the background, 32 steps. ``kernel_shap``, ``lime``: 256 queries about
        cases without random parts. ``occlusion``: one part away at a time. Of the last three the total of a
        part is shared equally among its values.
    parts : sequence of Parts
        Of each case, from :func:`divide`.
    towards : int64, shape (n,)
        Position of the class that is explained; usually the verdict.
    seed : int
        Of the random parts.

    Returns
    -------
    tuple of n float64 arrays, each of its case's shape
        0: the value says nothing; above: it speaks for the class; below: against it.

    Raises
    ------
    ModelError
        The model does not answer.
    """
    if method == "grad_cam" or method == "integrated_gradients":
        white = _grad_cam if method == "grad_cam" else _integrated_gradients
        stacked = isinstance(cases.inputs, np.ndarray)
        step = _ROWS if stacked else 1
        maps: list[FloatArray] = []
        for start in range(0, len(cases), step):
            block = slice(start, start + step)
            given = np.stack([one.values for one in parts[block]])
            without = np.stack([one.without for one in parts[block]])
            maps += list(white(predictor, given, without, towards[block]))
        return tuple(maps)
    return tuple(
        one.spread(_by_removal(predictor, one, method, towards=towards[row : row + 1], seed=seed))
        for row, one in enumerate(parts)
    )


def _by_removal(
    predictor: Predictor, parts: Parts, method: Method, *, towards: IntArray, seed: int
) -> FloatArray:
    """Attribute to the parts of one case; for captum each part is a number, 1 where it is there."""
    import torch
    from captum import attr  # type: ignore[import-untyped]

    def answer(there: torch.Tensor) -> torch.Tensor:
        keep = there.numpy() > 0.5
        return torch.from_numpy(log_odds(predictor, parts.keeping(keep), towards.repeat(len(keep))))

    everything, nothing = torch.ones(1, parts.count), torch.zeros(1, parts.count)
    explainers: dict[str, tuple[type[Any], dict[str, int]]] = {
        "kernel_shap": (attr.KernelShap, {"n_samples": _SAMPLES}),
        "lime": (attr.Lime, {"n_samples": _SAMPLES}),
        "occlusion": (attr.FeatureAblation, {}),
    }
    explainer, how = explainers[method]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        found = explainer(answer).attribute(
            everything, baselines=nothing, perturbations_per_eval=_ROWS // 2, **how
        )
    return np.asarray(found.detach().numpy()[0], np.float64)


def _integrated_gradients(predictor: Any, given: Array, without: Array, towards: IntArray) -> FloatArray:
    import torch
    from captum import attr

    card: Card = predictor.card
    start, end = (torch.from_numpy(card.input.prepared(one)) for one in (without, given))
    answer = _margin(predictor, towards)
    found = attr.IntegratedGradients(answer).attribute(
        end,
        start,
        additional_forward_args=torch.from_numpy(towards),
        n_steps=_STEPS,
        internal_batch_size=4 * _ROWS,
    )
    values = found.detach().numpy().astype(np.float64)
    if card.input.layout == "channels_last":
        values = np.moveaxis(values, -1, 2 if card.input.kind == "bag" else 1)
    return np.asarray(values)


def _grad_cam(predictor: Any, given: Array, without: Array, towards: IntArray) -> FloatArray:
    import torch
    from captum import attr

    prepared = torch.from_numpy(predictor.card.input.prepared(given))
    layer = _last_map(predictor.module, prepared[:1])
    found = attr.LayerGradCam(_margin(predictor, towards), layer).attribute(
        prepared, additional_forward_args=torch.from_numpy(towards)
    )
    spatial = given.shape[1:] if given.ndim == 2 else given.shape[2:]
    how = ("linear", "bilinear", "trilinear")[len(spatial) - 1]
    large = torch.nn.functional.interpolate(found.detach().double(), size=spatial, mode=how)
    one_picture = (len(given), *(1,) * (given.ndim - len(spatial) - 1), *spatial)
    return np.broadcast_to(large.numpy().reshape(one_picture), given.shape)


def _margin(predictor: Any, towards: IntArray) -> Callable[..., "torch.Tensor"]:
    """Return the log-odds of a class in torch; its class is an argument, which captum repeats as it must."""
    import torch

    def margin(prepared: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        rows = predictor.module(prepared).double().reshape(len(prepared), -1)
        probabilities = predictor.card.output == "probabilities"
        if rows.shape[1] == 1:
            rows = torch.cat([1 - rows if probabilities else torch.zeros_like(rows), rows], 1)
        if probabilities:
            rows = rows.clamp(_SMALLEST, 1 - _SMALLEST).log()
        chosen = torch.nn.functional.one_hot(wanted, rows.shape[1]).bool()
        odds: torch.Tensor = rows[chosen] - rows.masked_fill(chosen, -torch.inf).logsumexp(1)
        return odds

    return margin


def _last_map(module: Any, prepared: "torch.Tensor") -> Any:
    """Return the layer whose output is the model's last picture: a convolution, normalised and activated.

    None where there is no convolution, where what comes after mixes places and still has places (attention),
    or where the layer is used more than once.
    """
    import torch

    convolutions = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    seen: list[tuple[Any, torch.Size]] = []
    leaves = [one for one in module.modules() if not any(True for _ in one.children())]
    handles = [
        one.register_forward_hook(lambda layer, _, output: seen.append((layer, output.shape)))
        for one in leaves
    ]
    try:
        with torch.no_grad():
            module(prepared)
    finally:
        for handle in handles:
            handle.remove()
    found = [place for place, (layer, _) in enumerate(seen) if isinstance(layer, convolutions)]
    if (
        not found
        or len(seen[found[-1]][1]) < 3
        or len(seen[found[-1]][1]) != prepared.ndim + (prepared.ndim == 2)
    ):
        return None
    _, shape = seen[found[-1]]
    place = found[-1]
    while place + 1 < len(seen) and seen[place + 1][1] == shape:
        place += 1
    attends = any(isinstance(one, torch.nn.MultiheadAttention) for one in module.modules())
    once = sum(layer is seen[place][0] for layer, _ in seen) == 1
    return seen[place][0] if once and not attends else None
