"""What each source delivers, discovered and measured: its data models, how it behaves, how freely its data flows.

Everything here streams: batches in, a bounded state, no I/O, no wall clock; time is the receipt of batches.
"""
