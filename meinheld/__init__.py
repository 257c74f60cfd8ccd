"""The historical names of meinheld, over the core in :mod:`meinheld_worker`."""

__version__ = "2.0.0.dev0"
