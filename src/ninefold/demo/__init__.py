"""The demo: a real recording of a real system's faults, played through the real front door."""
