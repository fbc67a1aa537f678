"""What an audit is asked to do, and what it gives back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from primum.audits.privacy.extraction import Passage
from primum.evidence.audit import Audit
from primum.evidence.claims import Measurements
from primum.evidence.measured import Measured
from primum.evidence.membership import PatientScores
from primum.fit.protocol import Trainable
from primum.models.opened import OpenedModel
from primum.records.canaries import CanaryPlan
from primum.records.families import Families
from primum.records.histories import Records

Membership = Literal["observed", "randomised"]
Progress = Callable[[str, int], None]


@dataclass(frozen=True, eq=False)
class AuditPlan:
    """Everything an audit needs to know.

    Attributes
    ----------
    model : OpenedModel
    members, held_out : Records
        Who trained the model, and comparable patients who did not.
    tuning : Records or None
        Patients who are neither; references are trained on them.
    canaries : CanaryPlan or None
        Planted records and their twins among the records; they leave the headline groups.
    references : sequence of OpenedModel
    recipe : Trainable or None
    recipe_count : int
        How many references the recipe trains.
    only : sequence of str
        Prefixes of test names; empty means all.
    membership : {"observed", "randomised"}
    drop_overlap : bool
        Leave patients who are on both sides out of the held-out side instead of refusing.
    seed : int
    sampled : int
        Patients for the tests that generate or sweep, half of them members; the other tests ask everyone.
    families : Families or None
        Sensitive families of codes; None means the built-in ones.
    show_records : bool
        Write the codes of extractable passages into the confidential folder, not only their families.
    names : mapping of str to str
        Role to digest of its files, where there are files.
    command : str
    """

    model: OpenedModel
    members: Records
    held_out: Records
    tuning: Records | None = None
    canaries: CanaryPlan | None = None
    references: Sequence[OpenedModel] = ()
    recipe: Trainable | None = None
    recipe_count: int = 1
    only: Sequence[str] = ()
    membership: Membership = "observed"
    drop_overlap: bool = False
    seed: int = 0
    sampled: int = 500
    families: Families | None = None
    show_records: bool = False
    names: Mapping[str, str] = field(default_factory=dict)
    command: str = "primum.audit(...)"

    def shaping(self) -> dict[str, object]:
        """Everything but versions and the recipe's own file that shapes a finding, as JSON holds it."""
        return {
            "model": self.model.ref.digest,
            "data": self.names,
            "references": [opened.ref.digest for opened in self.references],
            "recipe_count": self.recipe_count,
            "only": self.only,
            "membership": self.membership,
            "drop_overlap": self.drop_overlap,
            "seed": self.seed,
            "sampled": self.sampled,
            "show_records": self.show_records,
        }


@dataclass(frozen=True, eq=False)
class AuditResult:
    """The shareable audit, what stays confidential, and seconds by stage."""

    audit: Audit
    measurements: Measurements
    passages: Sequence[Passage]
    seconds: Mapping[str, float]

    @property
    def scores(self) -> PatientScores:
        """What membership is told from."""
        return self.measurements.scores

    @property
    def measured(self) -> Sequence[Measured]:
        """What the other families measured."""
        return self.measurements.measured
