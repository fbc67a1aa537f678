"""Primum."""
