"""A reverse proxy with TLS between pods and the manager, as an Ingress is: it works as the proxy is by default.

And what it cannot do is told by the carrier in one line, which names what to change.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from air_executor.backends.base import Launch
from air_executor.runner.carrier.__main__ import CANNOT
from tests.nginx import Nginx
from tests.transport.rig import PATIENCE, Pod, Site, soon

pytestmark = pytest.mark.transport

PREFIX = "/jobs"
Start = Callable[[str], Nginx]


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    """Return what starts a proxy in front of the manager."""
    made: list[Nginx] = []

    def one(locations: str) -> Nginx:
        made.append(Nginx(site.folder / f"nginx-{len(made)}", locations))
        return made[-1]

    yield one
    for nginx in made:
        nginx.close()


def passing_on(site: Site, more: str = "") -> str:
    """Return a location of the manager below a prefix, under a name that the manager does not know."""
    target = f"proxy_pass http://127.0.0.1:{site.port}/; proxy_set_header Host air.example.com;"
    return f"location {PREFIX}/ {{ {target} {more} }}"


def behind(site: Site, launch: Launch, nginx: Nginx, **env: str) -> Pod:
    """Return a pod of a run that reaches its manager by a proxy alone."""
    return site.pod(launch, env={"AIR_CARRIER_URL": f"{nginx.url}{PREFIX}/", "AIR_CARRIER_CA": nginx.authority, **env})


def test_a_run_behind_a_proxy(site: Site, start: Start) -> None:
    """Output comes while the task runs, and large files in both directions, though nginx takes no more than 1 MiB."""
    launch = site.begin()
    content = os.urandom(5 << 20)
    (site.workspace(launch) / "large").write_bytes(content)
    pod = behind(site, launch, start(passing_on(site)))
    assert pod.fetch() == 0, pod.said("fetch")
    delivering = pod.carrier("deliver")
    script = "echo one; while [ ! -e go ]; do sleep 0.01; done; head -c 3000000 /dev/zero; cat large large >larger"
    running = pod.run(script)
    soon(lambda: site.out(launch, "output.log") == b"one\n", "the first line")
    (pod.workspace / "go").touch()
    assert (running.wait(PATIENCE), delivering.wait(PATIENCE)) == (0, 0), pod.said()
    assert pod.said() == ""
    assert site.out(launch, "output.log") == b"one\n" + bytes(3_000_000)
    assert (site.workspace(launch) / "larger").read_bytes() == 2 * content
    site.commit(launch)
    assert site.world.task("job", "a").phase == "succeeded"


def test_a_manager_that_is_away_behind_a_proxy(site: Site, start: Start) -> None:
    """What the proxy says meanwhile is told without its page, and waited for."""
    launch = site.begin()
    pod = behind(site, launch, start(passing_on(site)))
    site.be_away()
    fetching = pod.carrier("fetch")
    soon(lambda: "is not the manager: 502 Bad Gateway\n" in pod.said("fetch"), "the carrier to be told")
    site.serve()
    assert fetching.wait(PATIENCE) == 0, pod.said("fetch")
    assert "<" not in pod.said("fetch")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("client_max_body_size 100k;", "413 Request Entity Too Large; it must take bodies of 1 MiB (nginx: client_max"),
        ('auth_basic "people"; auth_basic_user_file none;', "401 Unauthorized; it must let /transport/ through"),
        ("deny all;", "403 Forbidden; it must let /transport/ through"),
        ("return 301 https://elsewhere/;", "it leads to https://elsewhere/, and the transport's URL must be where"),
        ("return 404;", "404 Not Found; does the path in the transport's URL lead to the manager?"),
    ],
)
def test_what_a_proxy_does_not_let_through(site: Site, start: Start, more: str, words: str) -> None:
    """The last line of the carrier says who refuses, and what to change there."""
    launch = site.begin()
    pod = behind(site, launch, start(passing_on(site, more)))
    fetching = pod.carrier("fetch", **{"uplink.MISROUTED_FOR": 0.3})
    said = "fetch"
    if "size" in more:
        assert fetching.wait(PATIENCE) == 0, pod.said("fetch")
        fetching, said = pod.carrier("deliver"), "deliver"
        pod.run("head -c 300000 /dev/zero")
    assert fetching.wait(PATIENCE) == CANNOT
    assert words in pod.said(said).splitlines()[-1]


def test_a_certificate_that_nobody_knows(site: Site, start: Start) -> None:
    """The carrier sends nothing, and says why."""
    launch = site.begin()
    pod = behind(site, launch, start(passing_on(site)), AIR_CARRIER_CA="", AIR_CARRIER_PATIENCE="0.3")
    assert pod.fetch() == CANNOT
    assert "certificate verify failed" in pod.said("fetch").splitlines()[-1]
    assert site.out(launch, "claim") == b""
