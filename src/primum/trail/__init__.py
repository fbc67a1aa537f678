"""The trail: an append-only, tamper-evident log of everything that matters to a patient."""
