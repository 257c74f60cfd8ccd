"""The site of `postgresql_site` with the standard library patched: a greenlet a request."""

from meinheld import patch

patch.patch_all()

from sites.postgresql_site import application  # noqa: E402

__all__ = ["application"]
