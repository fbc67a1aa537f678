"""Attacks on what travels in federated training: cases drawn from updates, and who or what was in them."""
