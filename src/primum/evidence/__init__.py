"""Scores become claims here: estimates with intervals, findings with verdicts; no model, no torch."""

from primum.evidence.audit import Audit
from primum.evidence.blind import blind_scores
from primum.evidence.epsilon import epsilon_lower_bound
from primum.evidence.estimate import Estimate
from primum.evidence.exposed import top_share, top_share_p_value
from primum.evidence.exposure import canary_exposure
from primum.evidence.finding import Finding, Message, Series
from primum.evidence.guesses import (
    auroc_difference,
    auroc_difference_p_value,
    auroc_of,
    patients_needed_for_auroc_difference,
)
from primum.evidence.identity import ModelRef
from primum.evidence.multiplicity import benjamini_hochberg, holm, simes
from primum.evidence.naming import naming_of
from primum.evidence.one_run import one_run_epsilon
from primum.evidence.operating_point import (
    OperatingPoint,
    TooFewPatients,
    pooled_threshold_p_value,
    roc_points,
    tpr_at_fpr,
    tpr_difference,
)
from primum.evidence.placements import TooFewLabels
from primum.evidence.pooling import partial_pooling
from primum.evidence.power import (
    auc_power,
    patients_needed_for_auc,
    patients_needed_for_tpr,
    smallest_detectable_auc,
    smallest_detectable_tpr,
)
from primum.evidence.ranking import auc, auc_bootstrap, auc_difference, auc_p_value, auc_stratified
from primum.evidence.shares import (
    patients_needed_for_share,
    share_difference,
    share_excess_over_blind,
    share_p_value,
    stratified_share_difference,
)

__all__ = [
    "Audit",
    "Estimate",
    "Finding",
    "Message",
    "ModelRef",
    "OperatingPoint",
    "Series",
    "TooFewLabels",
    "TooFewPatients",
    "auc",
    "auc_bootstrap",
    "auc_difference",
    "auc_p_value",
    "auc_power",
    "auc_stratified",
    "auroc_difference",
    "auroc_difference_p_value",
    "auroc_of",
    "benjamini_hochberg",
    "blind_scores",
    "canary_exposure",
    "epsilon_lower_bound",
    "holm",
    "naming_of",
    "one_run_epsilon",
    "partial_pooling",
    "patients_needed_for_auc",
    "patients_needed_for_auroc_difference",
    "patients_needed_for_share",
    "patients_needed_for_tpr",
    "pooled_threshold_p_value",
    "roc_points",
    "share_difference",
    "share_excess_over_blind",
    "share_p_value",
    "simes",
    "smallest_detectable_auc",
    "smallest_detectable_tpr",
    "stratified_share_difference",
    "top_share",
    "top_share_p_value",
    "tpr_at_fpr",
    "tpr_difference",
]
