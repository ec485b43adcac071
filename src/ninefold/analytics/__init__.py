"""The algorithms: arrays in, findings out; no I/O, no clock, no asyncio."""
