"""What a synthetic cohort is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from primum.errors import InputError
from primum.records.synthetic.catalogue import SITES


@dataclass(frozen=True)
class Origin:
    """Where a group of patients comes from, when it does not come from the same place as the others.

    Attributes
    ----------
    site : {"A", "B"} or None
        All patients from this site; None mixes the sites.
    years_later : float
        The whole calendar of the group moves by this much; practice moves with it. 0 means no shift.
    """

    site: str | None = None
    years_later: float = 0.0

    def __post_init__(self) -> None:
        if self.site not in (None, *SITES):
            raise InputError(
                "There is no synthetic site of that name: use one of {sites}.", sites=", ".join(SITES)
            )
        if not 0 <= self.years_later <= 5:
            raise InputError("years_later must lie between 0 and 5; it is {value}.", value=self.years_later)


ANYWHERE = Origin()


@dataclass(frozen=True)
class SyntheticSettings:
    """A synthetic cohort.

    Attributes
    ----------
    sizes : mapping of split name to number of patients
        Canaries come on top.
    mean_visits : float
        Mean planned visits a patient; a visit brings about seven events.
    start_year, years : int
        Calendar of all visits.
    origins : mapping of split name to Origin
        Splits that come from somewhere else.
    canary_pairs : int
        Pairs of canaries for each entry of `canary_copies`; 0 plants none.
    canary_copies : tuple of int
        How often each planted canary appears, under different subject ids.
    population_seed : int
        Draws the population: how often each code follows each disease, when practice changed, site habits.
        Cohorts with the same population seed are samples of one population.
    """

    sizes: Mapping[str, int] = field(default_factory=lambda: {"train": 800, "tuning": 400, "held_out": 800})
    mean_visits: float = 6.0
    start_year: int = 2015
    years: int = 5
    origins: Mapping[str, Origin] = field(default_factory=dict)
    canary_pairs: int = 2
    canary_copies: tuple[int, ...] = (1, 2, 4, 8, 16)
    population_seed: int = 0

    @property
    def patients(self) -> int:
        """Number of patients without canaries."""
        return sum(self.sizes.values())

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes.values()) < 1:
            raise InputError("Each split of a synthetic cohort needs at least one patient: check sizes.")
        for name in self.origins:
            if name not in self.sizes:
                raise InputError(
                    "origins names a split that sizes does not: give sizes for {split} too.", split=name
                )
        if not 1 <= self.mean_visits <= 100:
            raise InputError("mean_visits must lie between 1 and 100; it is {value}.", value=self.mean_visits)
        if not 1950 <= self.start_year <= 2100 or not 1 <= self.years <= 50:
            raise InputError("The calendar must start between 1950 and 2100 and last 1 to 50 years.")
        if self.canary_pairs < 0 or min(self.canary_copies, default=1) < 1:
            raise InputError("canary_pairs must be 0 or more, and each number of canary copies 1 or more.")
        if self.canary_pairs and not {"train", "held_out"} <= set(self.sizes):
            raise InputError(
                "Canaries need the splits train and held_out: add them, or set canary_pairs to 0."
            )
        if self.population_seed < 0:
            raise InputError("population_seed must be 0 or more.")
