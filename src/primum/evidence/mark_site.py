"""Whether those who bear a mark come from one site more often than chance allows."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import hypergeom

from primum.evidence.finding import Message, Scalar
from primum.evidence.measured import BoolArray, FloatArray, IntArray
from primum.evidence.verdicts import ALPHA


def site_of_mark(
    site: IntArray, bears: BoolArray, names: Sequence[str]
) -> tuple[dict[str, Scalar], tuple[Message, ...]]:
    """Hold each site against the others: exact, corrected for the number of sites.

    Asked of the patients of the mark's class only, so that a site with more of that class is not blamed. The
    mark was chosen by class alone: within the class chance still knows no site.

    Parameters
    ----------
    site : int64, shape (n,)
        Of one case of each patient of the class, the place of its site in `names`.
    bears : bool, shape (n,)
    names : sequence of str
        An empty name is an unknown site: it is never accused, but its patients count among the others.

    Returns
    -------
    settings : dict
        ``mark_sites`` (compared), ``mark_site_p`` (small is worse) and, where it is below .05, ``mark_site``.
    said : tuple of Message
        One sentence; both are empty where fewer than two sites are named.

    References
    ----------
    Fisher, Statistical Methods for Research Workers, section 21.02.
    """
    here = [place for place in np.unique(site).tolist() if names[place]]
    if len(here) < 2:
        return {}, ()
    whole, carriers = (np.array([(one == place).sum() for place in here]) for one in (site, site[bears]))
    chances: FloatArray = len(here) * np.asarray(hypergeom.sf(carriers - 1, len(site), whole, bears.sum()))
    p_value = min(1.0, float(chances.min()))
    settings: dict[str, Scalar] = {"mark_sites": len(here), "mark_site_p": p_value}
    if p_value >= ALPHA:
        return settings, (Message("mark_of_no_site"),)
    worst = names[here[int(np.argmin(chances))]]
    return {**settings, "mark_site": worst}, (Message("mark_of_site", {"site": worst}),)
