"""SkyServe's load balancer by itself, as bench-peers starts it.

pool.json, beside this file, says {"port": 1, "backends": [{"address": "host:port", "class": "T4",
"rate": 1.3}]}. The balancer asks its controller which replicas there are; a stand-in within this
process answers from that file. Ends with SIGTERM, or with who started it.
"""

import json
import logging
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

os.environ["SKYPILOT_DISABLE_USAGE_COLLECTION"] = "1"

import uvicorn
from sky.serve import load_balancer

POLICY = "instance_aware_least_load"
LONGEST = 900  # seconds that an answer may take


def start_controller(backends):
    """Starts what stands in for SkyServe's controller, and returns its address."""
    replicas = {"http://" + b["address"]: {"gpu_type": b["class"]} for b in backends}
    answer = json.dumps({"replica_info": replicas}).encode()

    class Controller(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = self.path == "/controller/load_balancer_sync"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Controller)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def end_with(parent):
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def main():
    with open("pool.json") as f:
        pool = json.load(f)
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()

    listen = uvicorn.run

    def listen_on_loopback(app, **options):  # it would listen on every interface
        options.update(host="127.0.0.1", access_log=False, log_level="warning")
        listen(app, **options)

    uvicorn.run = listen_on_loopback
    logging.getLogger("sky").setLevel(logging.WARNING)  # it logs every request, which the others don't
    load_balancer.run_load_balancer(
        start_controller(pool["backends"]),
        pool["port"],
        POLICY,
        target_qps_per_replica={b["class"]: b["rate"] for b in pool["backends"]},
        stream_timeout_seconds=LONGEST,
    )


if __name__ == "__main__":
    main()
