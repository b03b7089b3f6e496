"""Stands in for the services that some examples call, on this machine only.

``python examples/stand_in.py`` listens at 127.0.0.1:9090 and is three things at once: a site with
pages for ``scraping.json`` (``/pages/N``), a service with jobs for ``polling.json`` (``/jobs``) and
a model for ``agent.json`` (``/model``), which is a rule and no model: it answers the same to the
same. ``/statistics`` tells how many pages were asked for at once.
"""

import argparse
import json
import re
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PAGE_SECONDS = 0.05
"""What a page takes, so that pages that are asked for at once overlap."""

Json = dict[str, Any]
Answer = tuple[HTTPStatus, Json | str]


class State:
    """What the service remembers."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.jobs: dict[str, int] = {}
        """Looks that are left until a job is done."""
        self.pages_now = 0
        self.most_pages_at_once = 0


def page(state: State, number: str) -> Answer:
    """A page of the site."""
    with state.lock:
        state.pages_now += 1
        state.most_pages_at_once = max(state.most_pages_at_once, state.pages_now)
    time.sleep(PAGE_SECONDS)
    with state.lock:
        state.pages_now -= 1
    return HTTPStatus.OK, f"<html><head><title>Page {number}</title></head><body></body></html>"


def start_job(state: State, wanted: Mapping[str, Any]) -> Answer:
    """Begin a job that is done at the n-th look."""
    with state.lock:
        job_id = str(len(state.jobs) + 1)
        state.jobs[job_id] = int(wanted.get("work", {}).get("looks", 3))
    return HTTPStatus.ACCEPTED, {"id": job_id}


def look(state: State, job_id: str) -> Answer:
    """How far a job is."""
    with state.lock:
        if job_id not in state.jobs:
            return HTTPStatus.NOT_FOUND, {"problem": "there is no such job"}
        state.jobs[job_id] -= 1
        left = state.jobs[job_id]
    if left > 0:
        return HTTPStatus.OK, {"state": "running"}
    return HTTPStatus.OK, {"state": "done", "result": 42}


def model(wanted: Mapping[str, Any]) -> Answer:
    """The next step to take by what was said so far: look two cities up, add, answer."""
    results = [said["content"] for said in wanted["messages"] if said["role"] == "tool"]
    cities = re.findall(r"Lisbon|Porto", wanted["messages"][0]["content"])
    if len(results) < len(cities):
        words = f"inhabitants of {cities[len(results)]}"
        return HTTPStatus.OK, {"tool": "search", "arguments": {"words": words}}
    if len(results) == len(cities) > 1:
        left, right = (int(re.findall(r"\d+", found["found"][0])[0]) for found in results[:2])
        arguments = {"left": left, "sign": "+", "right": right}
        return HTTPStatus.OK, {"tool": "calculate", "arguments": arguments}
    return HTTPStatus.OK, {"answer": str(results[-1]["result"] if results else "I do not know.")}


class Handler(BaseHTTPRequestHandler):
    """Reads requests and writes answers."""

    state = State()

    def do_GET(self) -> None:
        state = self.state
        if found := re.fullmatch(r"/pages/(\d+)", self.path):
            self._send(page(state, found[1]))
        elif found := re.fullmatch(r"/jobs/(\d+)", self.path):
            self._send(look(state, found[1]))
        elif self.path == "/statistics":
            self._send((HTTPStatus.OK, {"most_pages_at_once": state.most_pages_at_once}))
        else:
            self._send((HTTPStatus.NOT_FOUND, {"problem": "there is nothing here"}))

    def do_POST(self) -> None:
        wanted = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
        match self.path:
            case "/jobs":
                self._send(start_job(self.state, wanted))
            case "/model":
                self._send(model(wanted))
            case _:
                self._send((HTTPStatus.NOT_FOUND, {"problem": "there is nothing here"}))

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is logged: the page of the run tells what was asked."""

    def _send(self, answer: Answer) -> None:
        status, content = answer
        kind = "text/html" if isinstance(content, str) else "application/json"
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Listen until Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=9090, help="0 takes a free one")
    server = ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
