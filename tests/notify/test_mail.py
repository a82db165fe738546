"""Mail through Apprise, to a real mail server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.notify.conftest import NotifyWorld
from tests.notify.receivers import Mailbox

pytest.importorskip("apprise")


def test_a_failure_by_mail(world: NotifyWorld, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Title, text, log and key; what a task prints is text there, too."""
    url = f"mailto://127.0.0.1:{mailbox.port}?from=air@example.com&to=ops@example.com&mode=insecure"
    monkeypatch.setenv("AIR_NOTIFY_OPS", url)
    world.submit("nightly", "work", notify=[{"on": "failure", "to": "ops"}])
    world.cycle()
    Path(world.launch("nightly/work").out_dir, "output.log").write_text("<script>&amp;</script>\n", encoding="utf-8")
    world.do("nightly/work", code=3)
    world.told(lambda: world.settled("nightly"))
    (mail,) = mailbox.mails
    assert mail["Subject"] == "nightly failed"
    assert "ops@example.com" in mail["To"]
    assert mail.get_content_type() == "text/plain"  # nothing interprets it
    content = mail.get_content()
    assert "<script>&amp;</script>" in content
    assert f"id: {world.job('nightly').uid}" in content


def test_a_mail_server_that_is_down(world: NotifyWorld, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again; nothing says the URL."""
    monkeypatch.setenv("AIR_NOTIFY_OPS", "mailto://user:hunter2@127.0.0.1:9?from=a@example.com&mode=insecure")
    world.fail("j")
    world.told(lambda: bool(world.manager.state.outbox.problems()))
    assert "Apprise could not deliver it by mailto" in world.manager.state.outbox.problems()["ops"]
    monkeypatch.setenv("AIR_NOTIFY_OPS", f"mailto://127.0.0.1:{mailbox.port}?from=a@example.com&mode=insecure")
    world.told(lambda: world.settled("j"), step=1)
    assert len(mailbox.mails) == 1


def test_a_url_that_apprise_does_not_know(world: NotifyWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is said by its scheme alone."""
    monkeypatch.setenv("AIR_NOTIFY_OPS", "carrierpigeon://hunter2")
    world.fail("j")
    world.told(lambda: bool(world.manager.state.outbox.problems()))
    assert "Apprise does not take this carrierpigeon:// URL" in world.manager.state.outbox.problems()["ops"]
