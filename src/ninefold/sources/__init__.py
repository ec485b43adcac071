"""How data comes in: one file a protocol, each turning bytes into batches."""
