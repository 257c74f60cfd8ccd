"""A Django project in one module: the ORM on SQLite, a form with CSRF protection, streams."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import django
from apps.notes import note
from django.conf import settings

if not settings.configured:
    settings.configure(
        SECRET_KEY="for tests",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
        ],
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
        # In the server's directory, which is gunicorn's working directory.
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": "site.sqlite3",
                "CONN_MAX_AGE": 60,
                "OPTIONS": {"timeout": 20},
            }
        },
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
    )
    django.setup()

from django.core.files.uploadedfile import TemporaryUploadedFile
from django.core.signals import request_finished
from django.core.wsgi import get_wsgi_application
from django.db import connection, models, transaction
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.template import engines
from django.urls import path


class Entry(models.Model):
    text = models.CharField(max_length=100)

    class Meta:
        app_label = "site"


def create_tables() -> None:
    with connection.schema_editor() as editor:
        editor.create_model(Entry)
    # Its descriptor must not be shared by the workers that are forked next.
    connection.close()


if Entry._meta.db_table not in connection.introspection.table_names():
    create_tables()


def finished(**_: object) -> None:
    note("request_finished")


request_finished.connect(finished)

FORM = engines["django"].from_string(
    '<form method="post" enctype="multipart/form-data">{% csrf_token %}'
    '<input name="comment"><input type="file" name="file"></form>'
)


def index(_request: HttpRequest) -> HttpResponse:
    return HttpResponse("Django", content_type="text/plain")


def entries(request: HttpRequest) -> JsonResponse:
    return JsonResponse(
        {"entries": list(Entry.objects.order_by("id").values_list("text", flat=True))}
    )


def add(request: HttpRequest) -> JsonResponse:
    entry = Entry.objects.create(text=request.GET["text"])
    return JsonResponse({"id": entry.pk}, status=201)


@transaction.atomic
def add_and_fail(request: HttpRequest) -> HttpResponse:
    Entry.objects.create(text=request.GET["text"])
    raise RuntimeError("after the insert")


def fill(request: HttpRequest) -> JsonResponse:
    Entry.objects.bulk_create(
        Entry(text=f"row {number}") for number in range(int(request.GET["rows"]))
    )
    return JsonResponse({"rows": Entry.objects.count()})


def export(_request: HttpRequest) -> StreamingHttpResponse:
    def lines() -> Iterator[str]:
        # A cursor that stays open while the response is sent.
        for entry in Entry.objects.order_by("id").iterator(chunk_size=10):
            yield f"{entry.pk},{entry.text},{'.' * 100}\n"

    return StreamingHttpResponse(lines(), content_type="text/csv")


def file(_request: HttpRequest) -> FileResponse:
    return FileResponse(open("file.bin", "rb"), content_type="application/octet-stream")


def upload(request: HttpRequest) -> HttpResponseBase:
    if request.method == "GET":
        return HttpResponse(FORM.render({}, request))
    uploaded = request.FILES["file"]
    digest = hashlib.sha256()
    for chunk in uploaded.chunks():
        digest.update(chunk)
    return JsonResponse(
        {
            "name": uploaded.name,
            "size": uploaded.size,
            "sha256": digest.hexdigest(),
            "comment": request.POST["comment"],
            "on disk": isinstance(uploaded, TemporaryUploadedFile),
        }
    )


def count(request: HttpRequest) -> HttpResponse:
    request.session["count"] = request.session.get("count", 0) + 1
    return HttpResponse(str(request.session["count"]))


def where(request: HttpRequest) -> JsonResponse:
    return JsonResponse(
        {
            "url": request.build_absolute_uri(),
            "secure": request.is_secure(),
            "remote": request.META["REMOTE_ADDR"],
        }
    )


def broken(_request: HttpRequest) -> HttpResponse:
    raise RuntimeError("asked for")


urlpatterns = [
    path("", index),
    path("entries", entries),
    path("add", add),
    path("add-and-fail", add_and_fail),
    path("fill", fill),
    path("export", export),
    path("file", file),
    path("upload", upload),
    path("count", count),
    path("where", where),
    path("broken", broken),
]

application: Callable[..., Any] = get_wsgi_application()
