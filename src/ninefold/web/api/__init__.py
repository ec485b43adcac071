"""The API, one module a noun; every router is mounted under ``/api/v1``."""
