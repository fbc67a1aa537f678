"""Release: the registry of models, and the signed decisions on which of them may answer."""
