"""A server of the OpenAI API that has no model: it repeats what it was asked, and keeps every request."""

import contextlib
import http.server
import json
import threading

OVERFLOW = {
    "error": {
        "message": "This model's maximum context length is 8 tokens, but the request has more.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }
}


class FakeOpenAI:
    """Answers "N:TEXT", the number of messages and the last one's text, cut to `longest` characters. `answer` replaces that text. A message
    that begins with "wait" is answered by "waiting" and a pause until `go` is set or the client hangs up. More than `most` messages are
    refused as too long for the context."""

    def __init__(self, models=("fake",), tls=None):
        self.models, self.bodies, self.go = models, [], threading.Event()
        self.answer, self.most, self.finish, self.longest = None, 1000, "stop", 60
        self.hung_up = threading.Event()
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def say(self, status, body):
                raw = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def do_GET(self):
                if self.path != "/v1/models":
                    return self.say(404, {"error": {"message": f"no {self.path} here"}})
                self.say(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in fake.models]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.bodies.append(body)
                if len(body.get("messages", [])) > fake.most:
                    return self.say(400, OVERFLOW)
                asked = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
                text = fake.answer or f"{len(body.get('messages', []))}:{asked[: fake.longest]}"
                if not body.get("stream"):
                    return self.say(200, {"model": "fake", "choices": [{"text": text, "finish_reason": "stop"}]})
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                with contextlib.suppress(ConnectionError, OSError):
                    if asked.startswith("wait"):
                        self.event(text="waiting")
                        while not fake.go.wait(0.01):
                            self.wfile.write(b": ping\n\n")
                    for word in text.split(" "):
                        self.event(text=word if text.startswith(word) else " " + word)
                    self.event(finish=fake.finish)
                    self.wfile.write(b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":7}}\n\ndata: [DONE]\n\n')
                    return
                fake.hung_up.set()

            def event(self, text="", finish=None):
                choice = {"index": 0, "delta": {"content": text}, "text": text, "finish_reason": finish}
                self.wfile.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
                self.wfile.flush()

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http{'s' if tls else ''}://{self.address}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def asked(self):
        """the last message of every request"""
        return [body["messages"][-1]["content"] for body in self.bodies]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.go.set()
        self.server.shutdown()
        self.server.server_close()
