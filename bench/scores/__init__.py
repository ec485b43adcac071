"""Scores of detectors: the Numenta Anomaly Benchmark's, ranges under the curve, points and events. No point adjustment anywhere.

Point-adjusted F1 counts a whole segment as found when one of its points is; a detector that fires at random reaches 0.8 to 0.99 of it.
"""
