from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from kombu import Connection
from pydantic import ValidationError

from jobs.queue import celery_queues
from jobs.redis import clients
from jobs.redis.sentinels import Sentinels
from jobs.settings import Settings

FULL = (
    "rediss+sentinel://us%3Aer:p%40ss@one:26380,two,[::1]:26381/gleaner/3"  # pragma: allowlist secret
    "?sentinel_username=watch&sentinel_password=s%26p&ssl_ca_certs=/ca.pem"
)


def test_a_url_says_whom_to_ask_and_how_to_speak_to_either() -> None:
    """Ports and database have defaults; the logins of Redis and of Sentinel are distinguished."""
    parsed = Sentinels.parse(FULL)
    assert parsed is not None
    assert parsed.addresses == (("one", 26380), ("two", 26379), ("::1", 26381))
    assert parsed.master == "gleaner"
    assert parsed.redis_options == {"username": "us:er", "password": "p@ss", "db": 3}  # pragma: allowlist secret
    assert parsed.sentinel_options == {"username": "watch", "password": "s&p"}  # pragma: allowlist secret
    plain = Sentinels.parse("redis+sentinel://one/gleaner")
    assert plain == Sentinels((("one", 26379),), "gleaner", {"username": None, "password": None, "db": 0}, {})


@pytest.mark.parametrize("url", ["redis://one/1", "rediss://one/1", "unix:///s?db=1"])
def test_any_other_url_is_of_a_server(url: str) -> None:
    """And goes to redis-py as it is."""
    assert Sentinels.parse(url) is None
    assert clients.sentinel_options(url, 2.0) == {}


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("redis+sentinel://one:26379", "has the form"),
        ("redis+sentinel://one/", "has the form"),
        ("redis+sentinel:///gleaner", "has the form"),
        ("redis+sentinel://one,/gleaner", "has the form"),
        ("redis+sentinel://one/gleaner/x", "has the form"),
        ("redis+sentinel://one/gleaner/1/2", "has the form"),
        ("redis+sentinel://one:port/gleaner", "port"),
        ("redis+sentinel://one/gleaner?sentinel_pasword=x", "sentinel_pasword"),
    ],
)
def test_a_url_that_cannot_be_read_stops_the_process(url: str, complaint: str) -> None:
    """With the reason, and without the password."""
    url = url.replace("://", "://:geheim@", 1)
    with pytest.raises(ValidationError) as raised:
        Settings(redis_url=url)
    [error] = raised.value.errors(include_input=False)
    assert complaint in error["msg"]
    assert "geheim" not in str(raised.value)


def test_kombu_gets_its_own_form() -> None:
    """There is a complete URL per Sentinel, since kombu switches to the next with everything in it."""
    app = celery_queues.build_celery_app(FULL, ["q"], "worker")
    urls = app.conf.broker_url.split(";")
    assert [urlsplit(url).scheme for url in urls] == ["sentinel"] * 3
    with Connection(app.conf.broker_url, ssl=app.conf.broker_use_ssl) as connection:
        assert (connection.userid, connection.password, connection.virtual_host) == ("us:er", "p@ss", "3")
        assert len(connection.alt) == 3
    options = app.conf.broker_transport_options
    assert options["master_name"] == "gleaner"
    assert options["sentinel_kwargs"]["password"] == "s&p"  # pragma: allowlist secret
    assert options["sentinel_kwargs"]["ssl"] is True
    assert app.conf.broker_use_ssl["ssl_ca_certs"] == "/ca.pem"
    app.close()
