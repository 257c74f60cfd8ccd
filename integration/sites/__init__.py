"""Applications that the tests serve: importable by gunicorn as `sites.<name>`."""
