"""Tests of a model, one file a family."""
