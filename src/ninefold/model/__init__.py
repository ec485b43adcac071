"""Plain data: the five signals and their columns, entities, topology, severities."""
