"""Training that audits and `train` share."""
