"""Whether the explanations of a classifier's verdicts can be believed."""
