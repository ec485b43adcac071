"""Alerts: which belong together, and what caused them."""
