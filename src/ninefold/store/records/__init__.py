"""Operational records: incidents, runs, approvals, tokens and their history, in SQLite (default) or PostgreSQL.

One style: SQLAlchemy 2 ORM, synchronous, called from worker threads. `base.py` has the engine, the session and what all
records share; `incidents.py`, `workflows.py` and `access.py` have the tables of their noun; `forgetting.py` deletes by age.
"""
