"""An endpoint for outgoing webhooks, with Standard Webhooks' own library.

    receiver.py PORT SECRET_FILE

Says `ready`, and then of each request one line of JSON: where it went, whether its signature is good by the library,
what is in it, and what came over the wire. What is posted to /moved is led to /hook, and what is posted to /silent is
taken and not answered, but for redactions.
"""

import base64
import http.server
import json
import pathlib
import sys
import threading

import standardwebhooks


class Endpoint(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            document = self.server.webhook.verify(body, headers)
        except standardwebhooks.WebhookVerificationError:
            document = None
        wire = f"{self.requestline}\r\n{self.headers}".encode() + body
        said = {
            "path": self.path,
            "id": headers.get("webhook-id"),
            "good": document is not None,
            "document": document,
            "wire": base64.b64encode(wire).decode(),
        }
        # In one piece: two requests may come at once.
        with self.server.saying:
            print(json.dumps(said), flush=True)
        if self.path == "/moved":
            self.answer(307, location=f"http://127.0.0.1:{self.server.server_port}/hook")
        elif self.path == "/silent" and document and document.get("kind") != "redaction":
            self.close_connection = True
        else:
            self.answer(204 if document is not None else 401)

    def answer(self, status, **headers):
        self.send_response(status)
        for name, value in {"content-length": "0", **headers}.items():
            if status != 204 or name != "content-length":
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


server = Server(("127.0.0.1", int(sys.argv[1])), Endpoint)
server.saying = threading.Lock()
server.webhook = standardwebhooks.Webhook(pathlib.Path(sys.argv[2]).read_text().strip())
print("ready", flush=True)
server.serve_forever()
