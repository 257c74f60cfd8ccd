"""The worker under its historical name, ``meinheld.gmeinheld.MeinheldWorker``."""

from meinheld_worker.worker import MeinheldWorker

__all__ = ["MeinheldWorker"]
