"""Training that harms less."""
