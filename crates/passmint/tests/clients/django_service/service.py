"""An existing Django service in one file: Django, the REST framework and simplejwt, checking the tokens of another API.

To make it check Passmint's tokens, exactly three settings were added to SIMPLE_JWT; everything else is as it was.
`/protected/` looks the user up in the service's own table, as services do that share their user ids with the login
API; `/protected-stateless/` has no such table. Usage: service.py PASSMINT_URL ALG USER_ID, and the port it listens on
is the first line it prints. django_check.py starts it.
"""

import sys
from wsgiref.simple_server import make_server

import django
from django.conf import settings

PASSMINT_URL, ALG, USER_ID = sys.argv[1:]

settings.configure(
    SECRET_KEY="of this service alone: no token of Passmint is signed with it",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},  # wsgiref has one thread
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework_simplejwt.authentication.JWTAuthentication"],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    },
    SIMPLE_JWT={
        "JWK_URL": f"{PASSMINT_URL}/.well-known/jwks.json",
        "ALGORITHM": ALG,
        "AUTH_HEADER_TYPES": ("JWT",),
    },
)
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402  (needs the settings above)
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402
from rest_framework_simplejwt.authentication import JWTStatelessUserAuthentication  # noqa: E402


class Protected(APIView):
    def get(self, request):
        return Response({"user_id": request.user.id, "username": request.user.username})


urlpatterns = [
    path("protected/", Protected.as_view()),
    path("protected-stateless/", Protected.as_view(authentication_classes=[JWTStatelessUserAuthentication])),
]


def main():
    call_command("migrate", verbosity=0)
    get_user_model().objects.create(pk=USER_ID, username="as-this-service-knows-them")
    with make_server("127.0.0.1", 0, get_wsgi_application()) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
