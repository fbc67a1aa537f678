"""What attacks on captured updates found, of any kind of record: claims, judged together, in one audit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from primum.errors import InputError
from primum.evidence.audit import Audit
from primum.evidence.contrast import FEWEST_PATIENTS, MATERIAL_AUC, shown
from primum.evidence.estimate import Estimate
from primum.evidence.families import MATERIAL_SHARE
from primum.evidence.finding import Finding, Message, Scalar
from primum.evidence.identity import ModelRef, file_digest, manifest_digest
from primum.evidence.measured import BoolArray
from primum.evidence.ranking import auc, auc_p_value
from primum.evidence.reconstruction import reconstructed_share, share_correlation
from primum.evidence.shares import share_difference, share_p_value
from primum.evidence.verdicts import Claim, judge
from primum.fit.updates import Update, read_update
from primum.records.histories import FloatArray

_FEWEST_SITES = 4


@dataclass(frozen=True, eq=False)
class Patients:
    """What updates said of each patient of a gallery, those of the sites first; all of shape (n,).

    Attributes
    ----------
    named : float64
        1 where an update named the patient, else 0.
    likelihood : float64
        How likely the patient was in one of them; higher is likelier.
    members : int
        How many are the sites'.
    rare_read : float64 or None
        Share of the patient's rare codes that were read off, NaN where there are none; None: no codes.
    guessed : Guessed or None
        None: nobody asked for a property.
    """

    named: FloatArray
    likelihood: FloatArray
    members: int
    rare_read: FloatArray | None = None
    guessed: "Guessed | None" = None


@dataclass(frozen=True, eq=False)
class Guessed:
    """What share of the patients of each site has a property, guessed from its updates; shape (sites,).

    Attributes
    ----------
    group : str
        The property, as groups are named.
    guesses : float64
        Mean over the site's updates.
    truth : float64 or None
        None: it is not known which patients are whose.
    usual : float
        Among patients whom no site had: what anybody would guess of each site.
    """

    group: str
    guesses: FloatArray
    truth: FloatArray | None
    usual: float

    @classmethod
    def of(
        cls,
        group: str,
        updates: Sequence[tuple[str, Update]],
        guesses: FloatArray,
        *,
        truth: Mapping[str, float],
        usual: float,
    ) -> "Guessed":
        """Take the mean guess of each site; `truth`, by its name, is used where all are known."""
        names, of = np.unique([update.site for _, update in updates], return_inverse=True)
        known = [truth[name] for name in names.tolist() if name in truth]
        return cls(
            group,
            np.bincount(of, guesses) / np.bincount(of),
            np.array(known) if len(known) == len(names) >= _FEWEST_SITES else None,
            usual,
        )


def read_updates(files: Sequence[Path]) -> list[tuple[str, Update]]:
    """Read captured updates, each with the name of its file.

    Raises
    ------
    InputError
        None, or one that cannot be read.
    """
    if not files:
        raise InputError("There is no update to inspect: give captured updates, one safetensors file each.")
    return [(file.name, read_update(file)) for file in files]


def fits(update: Update, shapes: dict[str, tuple[int, ...]], *, file: str) -> None:
    """Refuse an update of weights that the model has not, or has in other shapes.

    Raises
    ------
    InputError
    """
    if any(shapes.get(name) != value.shape for name, value in update.before.items()):
        raise InputError(
            "{file} is of another model than the one given: give the model that the site was sent.",
            file=file,
        )


def require_both(has: BoolArray, *, asked: str) -> None:
    """Refuse a property that all or none of the attacker's own cases have.

    Raises
    ------
    InputError
    """
    if not 0 < has.sum() < len(has):
        raise InputError(
            "--property: in held_out some patients must have {asked} and some not, so that the attacker can "
            "learn.",
            asked=asked,
        )


def audit_of_updates(
    files: Sequence[Path],
    updates: Sequence[tuple[str, Update]],
    patients: Patients,
    model: ModelRef,
    gallery: str,
    *,
    has_patients: bool,
    settings: dict[str, Scalar],
    command: str,
    seed: int,
) -> Audit:
    """Judge what was found of the patients of a gallery, whose digest is given."""
    held = manifest_digest(
        {"gallery": gallery, **{f"{n} {f.name}": file_digest(f) for n, f in enumerate(files)}}
    )
    counts = {"members": patients.members, "held_out": len(patients.named) - patients.members}
    asked = {name: shown(count) for name, count in counts.items()}
    told = {"updates": len(files), "most_cases": max(update.cases for _, update in updates)}
    common = Finding(
        "updates", "inconclusive", harmful=False, model=model.digest, data=held, attacker="updates",
        settings=settings | told | asked | {"unit": "patient" if has_patients else "image"}, seed=seed,
    )  # fmt: skip
    claims = [_reconstruction(patients, common), _membership(patients, common)]
    if patients.rare_read is not None:
        claims.insert(1, _rare_codes(patients.rare_read, patients.members, common))
    context: dict[str, Scalar] = {
        "unit": "patient" if has_patients else "case",
        "version": metadata.version("primum"),
    }
    findings = tuple(judge(claims))
    if patients.guessed is not None:
        findings = (*findings, _property(patients.guessed, common))
    return Audit(model, {"members": gallery}, counts, command, seed, findings, context=context)


def _reconstruction(patients: Patients, common: Finding) -> Claim:
    members, others = np.split(patients.named, [patients.members])
    shares = [
        replace(reconstructed_share(int(side.sum()), len(side)), name=name)
        for name, side in (("members_reconstructed", members), ("held_out_reconstructed", others))
    ]
    draft = replace(
        common, test="updates.reconstruction", primary=True, material=MATERIAL_SHARE,
        p_value=share_p_value(members, others, seed=common.seed),
        estimates=(share_difference(members, others), *shares), references=("geiping2020", "agresti2000"),
    )  # fmt: skip
    return Claim(
        draft,
        "leak",
        too_few=_too_few(len(members), len(others)),
        corrected=lambda level: share_difference(members, others, level=level),
    )


def _membership(patients: Patients, common: Finding) -> Claim:
    members, others = np.split(patients.likelihood, [patients.members])
    draft = replace(
        common, test="updates.membership", material=MATERIAL_AUC, p_value=auc_p_value(members, others),
        estimates=(auc(members, others),), references=("nasr2019", "delong1988"),
    )  # fmt: skip
    return Claim(
        draft,
        "leak",
        too_few=_too_few(len(members), len(others)),
        corrected=lambda level: auc(members, others, level=level),
    )


def _rare_codes(read: FloatArray, count: int, common: Finding) -> Claim:
    """Compare patients who have a rare code; the others' are nothing to read."""
    members, others = (side[np.isfinite(side)] for side in np.split(read, [count]))
    draft = replace(
        common, test="updates.codes", material=MATERIAL_SHARE, references=("melis2019", "agresti2000")
    )
    if (too_few := _too_few(len(members), len(others))) is not None:
        return Claim(draft, "leak", too_few=too_few)
    means = [
        Estimate(name, float(side.mean()), float("nan"), float("nan"), (len(side),), "mean")
        for name, side in (("members_rare_read", members), ("held_out_rare_read", others))
    ]
    draft = replace(
        draft,
        p_value=share_p_value(members, others, seed=common.seed),
        estimates=(share_difference(members, others), *means),
    )
    return Claim(draft, "leak", corrected=lambda level: share_difference(members, others, level=level))


def _property(found: Guessed, common: Finding) -> Finding:
    """Describe the guesses; where the truth is known, beside guessing the usual share of every site."""
    told: dict[str, Scalar] = {"group": found.group, "sites": len(found.guesses), "usual": found.usual}
    told |= {"lowest": float(found.guesses.min()), "highest": float(found.guesses.max())}
    draft = replace(common, test="updates.property", verdict="descriptive", references=("melis2019",))
    if found.truth is None:
        mean, nothing = float(found.guesses.mean()), float("nan")
        estimate = Estimate("share_guessed", mean, nothing, nothing, (len(found.guesses),), "mean")
        return replace(draft, estimates=(estimate,), reasons=(Message("property_guessed", told),))
    errors, plain = np.abs(found.guesses - found.truth), np.abs(found.usual - found.truth)
    correlation = share_correlation(found.guesses, found.truth)
    told |= {"error": float(errors.mean()), "plain": float(plain.mean())}
    told |= {name: float(getattr(correlation, name)) for name in ("value", "low", "high")}
    return replace(
        draft,
        estimates=(correlation, mean_of_sites(plain - errors)),
        reasons=(Message("property_checked", told),),
    )


def mean_of_sites(values: FloatArray, *, level: float = 0.95) -> Estimate:
    """Mean over sites of how much nearer the guess was than the usual share; 0 tells nothing, above is worse.

    Student's interval, over two sites or more.
    """
    value, count = float(values.mean()), len(values)
    half = float(stdtrit(count - 1, (1 + level) / 2)) * float(values.std(ddof=1)) / count**0.5
    return Estimate("error_saved", value, value - half, value + half, (count,), "student", level)


def _too_few(members: int, others: int) -> Message | None:
    fewest = min(members, others)
    return (
        Message("too_few_patients", {"needed": FEWEST_PATIENTS, "have": fewest})
        if fewest < FEWEST_PATIENTS
        else None
    )
