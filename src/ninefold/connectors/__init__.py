"""Systems that are acted on: one file each."""
