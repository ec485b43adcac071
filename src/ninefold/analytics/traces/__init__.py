"""Traces: topology, operations and their rate, errors and duration, critical paths."""
