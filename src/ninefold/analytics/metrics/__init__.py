"""Metrics: what is normal for a series, a group and its peers; change points, forecasts, regression."""
