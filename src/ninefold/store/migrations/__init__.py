"""The records' schema, version by version; `store.records.migrate` runs it."""
