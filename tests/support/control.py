"""The control API of a gateway under test: requests over its Unix socket, each answer held against
its JSON Schema.

    with ControlledGateway(tmp_path) as gateway:
        status, body = gateway.put("cell-a")
"""

import functools
import json
import pathlib

import jsonschema
from support.gateway import Gateway, UnixConnection

SCHEMAS = pathlib.Path(__file__).parents[2] / "config" / "schemas"


@functools.cache
def schema(name):
    return jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_text()))


def schema_of(method, path, status):
    """The name of the schema that an answer must fit, None for plain text."""
    page = path.partition("?")[0]
    if page == "/healthz" and status in (200, 503):
        return "health"
    if status >= 400:
        return "problem"
    if page == "/v1/cells":
        return "cells"
    if page == "/v1/dead-letters":
        return "dead-letter-counts"
    if page.startswith("/v1/dead-letters/"):
        if method == "POST":
            return "dead-letters-marked"
        return "dead-letter" if page.count("/") == 4 else "dead-letters"
    if page.startswith("/v1/cells/"):
        return {"PUT": "registration", "DELETE": "run-totals"}.get(method, "cell")
    pages = {"/v1/exporters": "exporters", "/v1/flush": "flush", "/v1/reload": "reload"}
    return pages.get(page)


class ControlledGateway(Gateway):
    """Exports to a file; no cell but those that are registered, unless `cells` says so."""

    def __init__(self, directory, *, exporters=None, cells=0, config=None, start=True, **kw):
        self.events_path = pathlib.Path(directory) / "events.jsonl"
        exporters = exporters or [
            {
                "name": "file",
                "type": "jsonl",
                "path": str(self.events_path),
                "batch": {"linger": "0s"},
            }
        ]
        super().__init__(directory, exporters=exporters, cells=cells, start=False, **kw)
        self.root = self._short.name
        self.socket = f"{self.root}/control.sock"
        self.config["state_dir"] = str(pathlib.Path(directory) / "state")
        self.config["spool"] = {"dir": str(pathlib.Path(directory) / "spool")}
        self.config["control"] = {"socket": self.socket}
        for key, value in (config or {}).items():
            if isinstance(value, dict):
                self.config.setdefault(key, {}).update(value)
            else:
                self.config[key] = value
        if start:
            self.start()

    def ask(self, method, path, body=None, headers=None, timeout=60):
        """(status, JSON or text, headers), checked against its schema."""
        connection = UnixConnection(self.socket, timeout)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        name = schema_of(method, path, answer.status)
        if name is None or method == "HEAD":
            return answer.status, text, answer.headers
        document = json.loads(text)
        schema(name).validate(document)
        is_problem = answer.headers["content-type"] == "application/problem+json"
        assert is_problem == (name == "problem")
        if is_problem:
            assert document["status"] == answer.status
        return answer.status, document, answer.headers

    def reload(self):
        """(status, body) of a reload of the configuration as it stands now."""
        self.write_config()
        return self.ask("POST", "/v1/reload")[:2]

    def base_of(self, cell):
        return f"{self.root}/{cell}.vsock"

    def registration(self, cell, **members):
        request = {
            "run_id": "run-1",
            "spec_signature_hash": "sha256:00",
            "vsock_uds_base": self.base_of(cell),
        }
        request.update(members)
        return request

    def put_body(self, cell, body, content_type="application/json"):
        return self.ask("PUT", f"/v1/cells/{cell}", body, {"Content-Type": content_type})[:2]

    def put(self, cell, **members):
        """Registers a cell; members of None are left out."""
        request = self.registration(cell, **members)
        request = {key: value for key, value in request.items() if value is not None}
        schema_fits = schema("registration-request").is_valid(request)
        status, body = self.put_body(cell, json.dumps(request))
        assert schema_fits or status >= 400, "the schema refuses what the gateway takes"
        return status, body

    def delete(self, cell, query=""):
        return self.ask("DELETE", f"/v1/cells/{cell}{query}")[:2]

    def settle(self):
        """What has been counted of cells is in the spool when this returns, delivered or not."""
        status, body, _ = self.ask("POST", "/v1/flush?timeout=0s")
        assert status in (200, 504), body

    def show(self, cell):
        return self.ask("GET", f"/v1/cells/{cell}")[:2]

    def events(self):
        text = self.events_path.read_text() if self.events_path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]
