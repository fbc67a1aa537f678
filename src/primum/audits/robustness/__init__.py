"""How a classifier breaks: attacks on its inputs, corruptions of them, and certificates."""
