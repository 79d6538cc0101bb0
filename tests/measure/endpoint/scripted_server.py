"""A server of the loopback that answers as a script says: slowly, in parts, wrongly, or not at all."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from llmlat.measure.endpoint.client import Job


@dataclass
class Reply:
    """What the server does with one request.

    `writes` are (seconds to wait, bytes) in turn; a list of bytes is several of HTTP's chunks in one write.
    `end` is `clean`, `cut` (the connection is closed in the middle of the answer), `reset`, or `closing`: the
    answer is whole, and the connection is closed while the next request over it is on its way.
    """

    writes: Sequence[tuple[float, bytes | list[bytes]]] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    end: str = "clean"


def sse(event: dict[str, Any] | str) -> bytes:
    data = event if isinstance(event, str) else json.dumps(event)
    return f"data: {data}\n\n".encode()


def chunk(text: str | None = None, finish: str | None = None, **fields: Any) -> bytes:
    """Return an event of the chat API."""
    delta = {} if text is None else {"content": text}
    return sse({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **fields})


def usage(prompt_tokens: int, completion_tokens: int) -> bytes:
    """Return the event that ends a stream with `stream_options.include_usage`."""
    counts = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return sse({"choices": [], "usage": counts})


def job(request_id: int, n_tokens: int = 3) -> Job:
    """Return a request for so many tokens, as it is sent."""
    return Job(request_id, json.dumps({"id": request_id, "prompt": "a b c", "max_tokens": n_tokens}).encode())


ROLE = sse({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
DONE = sse("[DONE]")


def well_behaved(asked: dict[str, Any], interval_s: float = 0.002) -> Reply:
    """Return a token a write, as many as were asked for, and the counts."""
    n = asked["max_tokens"]
    n_prompt = len(str(asked.get("messages") or asked["prompt"]).split())
    writes = [(interval_s, ROLE), *((interval_s, chunk(f" t{index}")) for index in range(n))]
    return Reply([*writes, (0, chunk(finish="length")), (0, usage(n_prompt, n)), (0, DONE)])


def counting(asked: dict[str, Any], interval_s: float = 0.02) -> Reply:
    """Return a token a write, each with the counts so far."""
    n, n_prompt = asked["max_tokens"], len(str(asked["messages"]).split())
    counts = [{"prompt_tokens": n_prompt, "completion_tokens": index + 1} for index in range(n)]
    writes = [(interval_s, chunk(" t", usage=count)) for count in counts]
    return Reply([*writes, (0, chunk(finish="length", usage=counts[-1])), (0, DONE)])


def refusal(status: int, said: str, **headers: str) -> Reply:
    body = json.dumps({"error": {"message": said}}).encode()
    return Reply([(0, body)], status, {name.replace("_", "-"): value for name, value in headers.items()})


class ScriptedServer:
    """Answers `POST .../completions` with what `script` returns for the request and its number."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.script: Callable[[dict[str, Any], int], Reply] = lambda asked, number: well_behaved(asked)
        self.key: str | None = None
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_s: list[float] = []
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def base_url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}/v1"

    def of_prompts(self) -> list[dict[str, Any]]:
        """Return what was asked, without the questions about the server's own abilities."""
        return [asked for asked in self.asked if asked["max_tokens"] > 1]

    def vanish(self) -> None:
        """Close every connection, and the port."""
        self._server.shutdown()
        self._server.server_close()
        self._server.cut_all()

    def close(self) -> None:
        self.vanish()
        self._thread.join(5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *arguments: Any) -> None:
        self.connections: list[socket.socket] = []
        super().__init__(*arguments)

    def cut_all(self) -> None:
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave clients that went away alone."""


def _handler(server: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "scripted/1", ""
        is_closing = False
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            self.server.connections.append(self.connection)

        def do_GET(self) -> None:
            known = {
                "/v1/models": {"data": [{"id": "scripted", "created": time.time_ns()}]},
                "/version": {"version": "9.9"},
            }
            body = json.dumps(known.get(self.path, {})).encode()
            is_known = server.key is None or self.headers["Authorization"] == f"Bearer {server.key}"
            self.send_response(401 if not is_known else 200 if self.path in known else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            if self.is_closing:
                self.close_connection = True
                return
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                number = len(server.asked)
                server.asked.append(asked)
                server.headers.append(dict(self.headers))
                server.at_s.append(time.perf_counter())
                server.in_flight += 1
                server.most_in_flight = max(server.most_in_flight, server.in_flight)
            try:
                self.play(server.script(asked, number))
            finally:
                with server.lock:
                    server.in_flight -= 1

        def play(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for seconds, data in reply.writes:
                time.sleep(seconds)
                parts = filter(None, data if isinstance(data, list) else [data])
                self.wfile.write(b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts))
            self.is_closing = reply.end == "closing"
            if reply.end in {"clean", "closing"}:
                self.wfile.write(b"0\r\n\r\n")
                return
            self.close_connection = True
            if reply.end == "reset":
                linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    return Handler


def on_prompt(n, strike, otherwise=well_behaved, tokens=5):
    """Return a script that strikes at the n-th request of so many tokens, from 0, and from then on."""
    seen = []

    def script(asked, number):
        if asked["max_tokens"] != tokens:
            return well_behaved(asked)
        seen.append(number)
        return strike(asked) if len(seen) > n else otherwise(asked)

    return script
