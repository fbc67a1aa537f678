"""Scores become claims here: estimates with intervals, findings with verdicts; no model, no torch."""
