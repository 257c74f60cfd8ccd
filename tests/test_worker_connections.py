"""`worker_connections` bounds a worker: past it the oldest idle connection goes, then nobody else
is let in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from harness import Client, Server, request

ROOM = 5


def start() -> Server:
    return Server.start("apps.echo:app", "--worker-connections", str(ROOM), "--keep-alive", "60")


def busy(client: Client, name: str) -> None:
    """Leaves a request half sent: the connection is not idle."""
    client.send(request("POST", f"/{name}", {"Content-Length": "4"}, b"bo"))


def finish(client: Client, name: str) -> None:
    client.send(b"dy")
    assert client.response().body == f"POST /{name}\nbody".encode()


def test_past_it_a_connection_waits_until_another_ends() -> None:
    with start() as server:
        clients = [server.client() for _ in range(ROOM)]
        for number, client in enumerate(clients):
            assert client.request("GET", "/here").status == 200
            busy(client, str(number))
        with server.client() as waiting:
            waiting.send(request("GET", "/waited"))
            assert waiting.is_quiet()
            clients[0].close()
            assert waiting.response().body == b"GET /waited\n"
        for number, client in list(enumerate(clients))[1:]:
            finish(client, str(number))
            client.close()


def test_the_oldest_idle_connection_is_retired_first() -> None:
    with start() as server:
        clients = [server.client() for _ in range(ROOM)]
        for client in [*clients, clients[0]]:
            assert client.request().status == 200
        with server.client() as newcomer:
            assert newcomer.request("GET", "/new").body == b"GET /new\n"
            assert clients[1].is_closed_by_peer()
            for client in (clients[0], *clients[2:]):
                assert client.request().status == 200
        for client in clients:
            client.close()


def test_a_busy_connection_is_never_retired_for_a_newcomer() -> None:
    with start() as server:
        clients = [server.client() for _ in range(ROOM)]
        for number, client in enumerate(clients[:-1]):
            busy(client, str(number))
        assert clients[-1].request().status == 200
        with server.client() as newcomer:
            assert newcomer.request("GET", "/new").body == b"GET /new\n"
        assert clients[-1].is_closed_by_peer()
        for number, client in enumerate(clients[:-1]):
            finish(client, str(number))
            client.close()


def test_many_more_clients_than_room_are_all_served() -> None:
    with start() as server:
        clients = [server.client() for _ in range(ROOM * 10)]
        for number, client in enumerate(clients):
            client.send(request("GET", f"/{number}", {"Connection": "close"}))
        for number, client in enumerate(clients):
            assert client.response().body == b"GET /%d\n" % number
            client.close()


def test_clients_that_never_say_anything_do_not_keep_others_out() -> None:
    with start() as server:
        silent = [server.client() for _ in range(ROOM)]
        assert server.get("/new").body == b"GET /new\n"
        for client in silent:
            client.close()


def test_busy_clients_lose_nothing_when_there_are_more_of_them_than_room() -> None:
    """They leave their places between two requests, by `Connection: close`."""

    def requests(server: Server) -> int:
        client = server.client()
        for number in range(50):
            response = client.request("GET", f"/{number}")
            assert response.body == b"GET /%d\n" % number
            if response.header("Connection") == "close":
                client.close()
                client = server.client()
        client.close()
        return 50

    with start() as server, ThreadPoolExecutor(ROOM + 4) as pool:
        counts = [pool.submit(requests, server) for _ in range(ROOM + 4)]
        assert sum(count.result() for count in counts) == 50 * (ROOM + 4)


def test_clients_that_have_room_keep_their_connections() -> None:
    with start() as server:
        clients = [server.client() for _ in range(ROOM)]
        for client in clients * 3:
            assert client.request("GET", "/").header("Connection") == "keep-alive"
        for client in clients:
            client.close()
