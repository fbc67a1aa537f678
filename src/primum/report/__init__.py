"""Findings for people: HTML, JSON, French and English."""
