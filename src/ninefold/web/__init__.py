"""The HTTP server: receivers, API, live updates, the console's files."""
