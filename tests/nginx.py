"""A real nginx for tests: a process of its own on loopback, with TLS, and all else as it is by default.

Without one tests skip, and in CI fail.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from tests.conftest import wait_for
from tests.lanes import missing

PATIENCE = 120.0
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx:
    """One server."""

    def __init__(self, folder: Path, locations: str, host: str = "127.0.0.1") -> None:
        """`locations`: what the configuration says of its only server; `host`: where it listens."""
        # Debian has it where only root looks.
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            missing("nginx is not installed; on Debian: apt-get install nginx")
        folder.mkdir(parents=True)
        key, certificate = folder / "key.pem", folder / "cert.pem"
        subject = ["-subj", "/CN=proxy", "-addext", f"subjectAltName=IP:{host}"]
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        words = ["openssl", "req", "-x509", *kind, *subject, "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(words, check=True, capture_output=True)
        with socket.create_server((host, 0)) as unused:
            self.port = int(unused.getsockname()[1])
        self._host = host
        self.url = f"https://{host}:{self.port}"
        self.authority = certificate.read_text(encoding="ascii")
        """Its certificate, as PEM."""
        paths = "".join(f"{name}_temp_path {folder}/{name};" for name in _TEMPORARY)
        server = f"listen {host}:{self.port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};"
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
            f"events {{}}\nhttp {{ access_log off; {paths}\nserver {{ {server}\n{locations}\n}} }}\n",
            encoding="utf-8",
        )
        self._process = subprocess.Popen(
            [program, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"], stderr=subprocess.DEVNULL
        )
        wait_for(self._answers, PATIENCE, "nginx to listen")

    def _answers(self) -> bool:
        assert self._process.poll() is None, "nginx has left: see its error.log"
        try:
            socket.create_connection((self._host, self.port), PATIENCE).close()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Be gone."""
        self._process.kill()
        self._process.wait()
