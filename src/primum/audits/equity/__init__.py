"""Whom a model serves worse."""
