"""A real chain of reverse proxies before a manager: nginx for TLS, Apache's mod_auth_openidc for people, a provider.

Only the OIDC provider is a stand-in: whoever comes is signed in at once, as the person whom the test has named. A
second TLS address of nginx leads to the manager directly, for programs with a token. All listen on loopback.
"""

from __future__ import annotations

import base64
import hmac
import http
import http.cookiejar
import json
import os
import shutil
import signal
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from tests.api.conftest import ServedApi
from tests.conftest import wait_for
from tests.lanes import missing
from tests.prometheus import free_port

PATIENCE = 60.0
MODULES = Path("/usr/lib/apache2/modules")
PACKAGES = "apt-get install nginx-light apache2-bin libapache2-mod-auth-openidc"
CLIENT, CLIENT_SECRET = "air-executor", "of-the-client-at-its-provider"
SECRET = "of-this-test-and-random-enough"  # noqa: S105
"""What the manager knows the proxy by."""
LOADED = "mpm_event authn_core authz_core authz_user headers proxy proxy_http auth_openidc"

NGINX = """\
daemon off; pid nginx.pid; error_log stderr; {user}
events {{}}
http {{
  access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u;
  scgi_temp_path s; ssl_certificate cert.pem; ssl_certificate_key key.pem; client_max_body_size 0;
  server {{
    listen 127.0.0.1:{people} ssl;
    location / {{
      proxy_pass http://127.0.0.1:{apache};
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Proto https;
    }}
  }}
  server {{
    listen 127.0.0.1:{programs} ssl;
    location / {{ proxy_pass http://127.0.0.1:{manager}; proxy_set_header Host $http_host; }}
  }}
}}
"""
APACHE = """\
ServerName 127.0.0.1
{user}
Listen 127.0.0.1:{apache}
PidFile apache.pid
ErrorLog apache-errors.log
{modules}
OIDCProviderMetadataURL http://127.0.0.1:{provider}/.well-known/openid-configuration
OIDCClientID {client}
OIDCClientSecret {client_secret}
OIDCIDTokenSignedResponseAlg HS256
OIDCScope "openid email groups"
OIDCRedirectURI https://127.0.0.1:{people}/oauth2/callback
OIDCXForwardedHeaders X-Forwarded-Host X-Forwarded-Proto
OIDCCryptoPassphrase of-this-test
OIDCPassClaimsAs environment
ProxyPreserveHost On
ProxyPass /oauth2/ !
ProxyPass / http://127.0.0.1:{manager}/ flushpackets=on
<Location />
  AuthType openid-connect
  Require valid-user
  RequestHeader set Authorization "Basic {proof}"
  RequestHeader set X-Forwarded-User "expr=%{{reqenv:OIDC_CLAIM_sub}}"
  RequestHeader set X-Forwarded-Email "expr=%{{reqenv:OIDC_CLAIM_email}}"
  RequestHeader set X-Forwarded-Groups "expr=%{{reqenv:OIDC_CLAIM_groups}}"
</Location>
"""


def require() -> tuple[str, str]:
    """Return the paths of nginx and Apache; without them the test is skipped, and in CI fails."""
    nginx, apache = (shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("nginx", "apache2"))
    if nginx is None or apache is None or not (MODULES / "mod_auth_openidc.so").exists():
        missing(f"nginx or Apache with mod_auth_openidc is not installed; on Debian: {PACKAGES}")
    return nginx, apache


def certificate(folder: Path) -> Path:
    """Make a certificate of 127.0.0.1 and its key."""
    openssl = shutil.which("openssl") or missing("openssl is not installed")
    words = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem"


class Provider(BaseHTTPRequestHandler):
    """What OpenID Connect asks of a provider, for one client with a secret."""

    person: ClassVar[Mapping[str, Any]] = {}
    """The claims of whoever comes."""
    codes: ClassVar[dict[str, dict[str, Any]]] = {}
    """By code: the claims of who was signed in."""

    def do_GET(self) -> None:
        """Describe the provider, or sign somebody in."""
        path, _, query = self.path.partition("?")
        issuer = f"http://{self.headers['Host']}"
        if path.startswith("/.well-known/"):
            addresses = {name: f"{issuer}/{name}" for name in ("authorization", "token", "jwks")}
            described: dict[str, Any] = {"issuer": issuer, "jwks_uri": addresses["jwks"]}
            described |= {f"{name}_endpoint": addresses[name] for name in ("authorization", "token")}
            described |= {"response_types_supported": ["code"], "subject_types_supported": ["public"]}
            self._answer(described | {"id_token_signing_alg_values_supported": ["HS256"]})
            return
        if path == "/jwks":
            self._answer({"keys": []})
            return
        asked = dict(urllib.parse.parse_qsl(query))
        code = base64.urlsafe_b64encode(os.urandom(12)).decode()
        now = int(time.time())
        about = {"iss": issuer, "aud": CLIENT, "iat": now, "exp": now + 600, "nonce": asked["nonce"]}
        self.codes[code] = {**about, **self.person}
        back = urllib.parse.urlencode({"code": code, "state": asked["state"]})
        self.send_response(302)
        self.send_header("Location", f"{asked['redirect_uri']}?{back}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        """Give a token for a code, once."""
        sent = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        token = _signed(self.codes.pop(sent["code"]))
        self._answer({"access_token": "unused", "token_type": "Bearer", "expires_in": 600, "id_token": token})

    def _answer(self, data: object) -> None:
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def _signed(claims: object) -> str:
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.digest(CLIENT_SECRET.encode(), text, "sha256")
    return b".".join([text, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


@dataclass
class Browser:
    """Somebody with a browser: follows redirects, keeps cookies."""

    base: str
    tls: ssl.SSLContext
    cookies: http.cookiejar.CookieJar = field(default_factory=http.cookiejar.CookieJar)

    def open(self, path: str, data: object = None, **headers: str) -> Any:  # noqa: ANN401 - urllib's response
        """Open an address; an answer that is an error is returned, too."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        body = None if data is None else json.dumps(data).encode()
        if body is not None:
            sent |= {"Content-Type": "application/json", "Origin": headers.get("Origin", self.base)}
        handlers = (
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=self.tls),
            urllib.request.HTTPCookieProcessor(self.cookies),
        )
        request = urllib.request.Request(self.base + path, body, sent)  # noqa: S310 - of the proxies
        try:
            return urllib.request.build_opener(*handlers).open(request, timeout=PATIENCE)
        except urllib.error.HTTPError as error:
            return error


@dataclass(frozen=True)
class ProxyChain:
    """The proxies, as they run."""

    folder: Path
    people: str
    """Address for people, who sign in."""
    programs: str
    """Address for programs, which send a token."""
    certificate: Path

    def browser(self, name: str, *groups: str) -> Browser:
        """Return the browser of somebody with this name and these groups, who signs in with the first page."""
        Provider.person = {"sub": name, "email": f"{name}@example.com", "groups": list(groups)}
        made = Browser(self.people, ssl.create_default_context(cafile=str(self.certificate)))
        found = made.open("/", Accept="text/html")
        assert found.status in {200, 403}, (found.status, found.read())
        return made


@contextmanager
def behind_proxies(served: ServedApi, folder: Path) -> Iterator[ProxyChain]:
    """Run a manager that trusts the proxies, and these before it, until the `with` ends."""
    require()
    people = free_port()
    try:
        served.start(
            AIR_PROXY_ADDRESSES="127.0.0.1",
            AIR_PROXY_SECRET=SECRET,
            AIR_PROXY_ROLES="admins=admin,data=submitter,*=viewer",
            AIR_PUBLIC_URL=f"https://127.0.0.1:{people}/",
        )
        with _proxies(folder, people=people, manager=served.port) as chain:
            yield chain
    finally:
        served.stop()


@contextmanager
def _proxies(folder: Path, *, people: int, manager: int) -> Iterator[ProxyChain]:
    nginx, apache = require()
    trust = certificate(folder)
    inner, programs = free_port(), free_port()
    provider = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    ports = {"people": people, "programs": programs, "apache": inner, "manager": manager}
    root = os.geteuid() == 0
    (folder / "nginx.conf").write_text(NGINX.format(user="user root;" if root else "", **ports))
    modules = "\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in LOADED.split())
    proof = base64.b64encode(f"proxy:{SECRET}".encode()).decode()
    known = {
        "user": "User nobody\nGroup nogroup" if root else "",
        "client": CLIENT,
        "client_secret": CLIENT_SECRET,
        "modules": modules,
        "proof": proof,
    }
    (folder / "apache.conf").write_text(APACHE.format(provider=provider.server_port, **known, **ports))
    with ExitStack() as stack:
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        stack.callback(provider.server_close)
        stack.callback(provider.shutdown)
        for command in (
            [nginx, "-p", str(folder), "-c", "nginx.conf"],
            [apache, "-d", str(folder), "-f", "apache.conf", "-D", "FOREGROUND"],
        ):
            stack.enter_context(_running(command, folder))
        made = ProxyChain(folder, f"https://127.0.0.1:{people}", f"https://127.0.0.1:{programs}", trust)
        found = Browser(made.people, ssl.create_default_context(cafile=str(trust)))
        wait_for(lambda: _answers(found), PATIENCE, "the proxies to answer")
        yield made


def _answers(browser: Browser) -> bool:
    try:
        return bool(browser.open("/readyz").status != http.HTTPStatus.BAD_GATEWAY)  # Apache does not listen yet
    except OSError:
        return False


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[None]:
    name = Path(command[0]).name
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        assert process.poll() is None, (folder / f"{name}.log").read_text()
        os.killpg(process.pid, signal.SIGKILL)  # at a mere stop, Apache waits for its connections
        process.wait(PATIENCE)
