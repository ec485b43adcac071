"""Who drives the techniques: the local engine."""
