"""The gunicorn worker: ``gunicorn -k egg:meinheld#gunicorn_worker app:app``."""

from meinheld_worker.worker import MeinheldWorker

__all__ = ["MeinheldWorker"]
