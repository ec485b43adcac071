"""Logs: templates, what changed in them, their order, and what is masked before it is stored."""
