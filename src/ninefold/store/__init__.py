"""The telemetry store (ClickHouse dialect) and the records."""
