"""Whom a classifier serves worse: claims about groups of patients, from the model's answers alone."""

from primum.evidence.equity.claims import MATERIAL, RULES, equity_claims

__all__ = ["MATERIAL", "RULES", "equity_claims"]
