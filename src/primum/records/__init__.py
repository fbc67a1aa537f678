"""Patients in: histories, vocabularies, tokens, cohorts."""
