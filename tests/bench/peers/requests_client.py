"""requests-oauthlib, a session for each thread, with the same store, SET and PUBLISH."""

import json
import os
import threading
from typing import Any

import redis
from requests_oauthlib import OAuth2Session

from tests.bench.peers.work import CLIENT_ID, CLIENT_SECRET, Store, Work, read_work


def refresh_for_ever(server: Any, work: Work, store: Store, worker: int) -> None:
    """One refresh after the other, for one worker's share of the grants."""
    session = OAuth2Session(CLIENT_ID)
    while True:
        for number in work.share(worker):
            token = session.refresh_token(
                work.token_url,
                refresh_token=store.refresh_token(number),
                client_id=CLIENT_ID,
                client_secret=CLIENT_SECRET,
            )
            store.keep(number, token)
            key, published = f"token:{number}", json.dumps(token)
            server.set(key, published, ex=token["expires_in"])
            server.publish(key, published)


def main() -> None:
    """Work until the process is ended."""
    os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # the endpoint is on loopback, without TLS
    work = read_work()
    store = Store(work)
    server = redis.Redis.from_url(work.redis_url)
    for worker in range(work.in_flight):
        threading.Thread(target=refresh_for_ever, args=(server, work, store, worker)).start()


if __name__ == "__main__":
    main()
