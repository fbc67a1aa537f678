"""Other tools asked the same questions, each in an environment of its own; what they said is kept beside."""
