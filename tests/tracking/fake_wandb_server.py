"""A W&B server small enough to read, on 127.0.0.1: what wandb 0.31 asks of one, and no more.

It answers `wandb.init`, logging, artifacts, `wandb sync`, reports and the key check, keeps what it was sent,
and can fail on purpose: `server.behaviour = "hang"`, "hang_runs", "hang_reports", "die_at_reports", "error"
or "refuse_key", or `server.stop()`.
"""

import contextlib
import gzip
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789" * 4
HANG_S = 60.0
_NAME = re.compile(r"(?:query|mutation)\s+(\w+)")


class FakeServer(ThreadingHTTPServer):
    """Keeps what it was sent: `runs` and `reports` by id, `artifacts` and `files` by name, `history` lines.

    Its one entity, `me`, has the projects that runs were sent to.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, behaviour: str = "answer") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour = behaviour
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.operations: list[str] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.reports: dict[str, dict[str, Any]] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.history: list[dict[str, Any]] = []
        self.exit_codes: list[int] = []
        self.paths: set[str] = set()
        self.upload_delay_s = 0.0

    def stop(self) -> None:
        """Die: refuse connections from now on."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""

    def answer(self, operation: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the data of a GraphQL operation."""
        operation = operation or _NAME.findall(query)[0]
        self.operations.append(operation)
        if operation == "upsertView":
            self._fail_at_reports()
        if self.behaviour == "hang_runs" and operation == "UpsertBucket":
            time.sleep(HANG_S)
        if "viewer" in query:
            account = {"id": "u", "entity": "me", "username": "me", "email": "me@x", "flags": "{}"}
            return {"viewer": {**account, "teams": {"edges": []}}}
        if "query ArtifactType" in query:
            return {"project": {"artifact": None}}
        reply = getattr(self, f"_{operation}", None)
        return reply(variables) if reply else {}

    def _UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self.runs.setdefault(variables["name"], {})
        run.update({key: value for key, value in variables.items() if value is not None})
        project = {"id": "p", "name": run["project"], "entity": {"id": "e", "name": "me"}}
        bucket = {"id": "run", "name": variables["name"], "displayName": run.get("displayName")}
        bucket |= {"config": "{}", "project": project, "historyLineCount": 0}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _fail_at_reports(self) -> None:
        if self.behaviour == "hang_reports":
            time.sleep(HANG_S)
        if self.behaviour == "die_at_reports":
            self.stop()
            raise ConnectionAbortedError

    def _ProjectInternalId(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        known = any(run["project"] == variables["projectName"] for run in self.runs.values())
        return {"project": {"id": "p", "internalId": "7"} if known else None}

    def _GetProjects(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        about = {"entityName": "me", "createdAt": "2026-11-22T09:00:00", "isBenchmark": False, "user": None}
        names = {run["project"] for run in self.runs.values()}
        edges = [{"node": {"id": name, "name": name, **about}} for name in sorted(names)]
        return {"models": {"pageInfo": {"endCursor": None, "hasNextPage": False}, "edges": edges}}

    def _upsertView(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        report_id = variables.get("id") or f"Vmlldzo{len(self.reports)}"
        self.reports[report_id] = {**variables, "spec": json.loads(variables["spec"])}
        project = {"id": "p", "name": variables["projectName"], "entityName": variables["entityName"]}
        kept = {key: variables[key] for key in ("name", "displayName", "description", "type", "spec")}
        return {"upsertView": {"view": {"id": report_id, "project": project, **kept}, "inserted": True}}

    def _CreateRunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        files = [{"name": name, "uploadUrl": f"{self.url}/up/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": "run", "uploadHeaders": [], "files": files}}

    def _CreateArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        given = variables["input"]
        self.artifacts[given["artifactCollectionName"]] = {**given, "files": []}
        sequence = {"id": "s", "latestArtifact": None}
        artifact = {"id": given["artifactCollectionName"], "state": "PENDING", "artifactSequence": sequence}
        return {"createArtifact": {"artifact": artifact}}

    def _CreateArtifactManifest(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        file = {"id": "f", "uploadUrl": f"{self.url}/up/manifest", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def _CreateArtifactFiles(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        edges = []
        for given in variables["input"]["artifactFiles"]:
            self.artifacts[given["artifactID"]]["files"].append(given["name"])
            place = f"{given['artifactID']}/{given['name']}"
            node = {"storagePath": place, "uploadUrl": f"{self.url}/up/{place}", "uploadHeaders": []}
            edges.append({"node": node | {"uploadMultipartUrls": None, "artifact": {"id": "a"}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _CommitArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.artifacts[variables["artifactID"]]["committed"] = True
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "d"}}}

    def stream(self, body: dict[str, Any]) -> None:
        """Keep what a run streams: history lines, and the exit code at its end."""
        lines = body.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
        self.history += [json.loads(line) for line in lines]
        if body.get("complete"):
            self.exit_codes.append(body["exitcode"])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def log_message(self, *_: Any) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = iter(lambda: self.rfile.read(int(self.rfile.readline(), 16) + 2)[:-2], b"")
            body = b"".join(chunks)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _fails(self) -> bool:
        self.server.paths.add(self.path)
        status = {"error": 500, "refuse_key": 401}.get(self.server.behaviour)
        if self.server.behaviour == "hang":
            time.sleep(HANG_S)
            self.close_connection = True
            return True
        if status:
            self._body()
            self._reply({"errors": [{"message": "this is a test"}]}, status)
        return status is not None

    def do_POST(self) -> None:
        if self._fails():
            return
        body = self._body()
        if self.path == "/graphql":
            asked = json.loads(body)
            operation = asked.get("operationName") or ""
            data = self.server.answer(operation, asked["query"], asked.get("variables") or {})
            self._reply({"data": data})
            return
        if self.path.endswith("/file_stream"):
            self.server.stream(json.loads(body))
        self._reply({"exitcode": None, "limits": {}})

    def do_PUT(self) -> None:
        if not self._fails():
            time.sleep(self.server.upload_delay_s)
            self.server.files[self.path.removeprefix("/up/")] = self._body()
            self._reply({})

    def do_GET(self) -> None:
        if not self._fails():
            self._reply({})


@contextlib.contextmanager
def serving(behaviour: str = "answer") -> Iterator[FakeServer]:
    """Serve in a thread, until the block ends."""
    server = FakeServer(behaviour)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()
