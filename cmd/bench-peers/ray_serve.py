"""Ray Serve in front of emulated cards, as bench-peers starts it.

pool.json, beside this file, says {"port": 1, "backends": [{"address": "host:port"}],
"limits": {"/route": 25}}. Every route is an application with one replica a card, which takes
so many requests at a time; a replica hands requests on to its card, and answers back, unchanged.
Which replica gets a request is left to Serve's own router. Ends with SIGTERM, or with who started it.
"""

import atexit
import json
import os
import shutil
import signal
import tempfile
import threading

# Before the import: nothing is told to anybody, and nothing listens but on the loopback interface.
os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_enable_metrics_collection="0",
    RAY_agent_register_timeout_ms="120000",  # its agents take long to start where others work, too
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # or 127.0.0.1 is taken for a mistake on Linux
)

# What Ray leaves behind goes when Ray has gone, so its own way of ending has to be told later, and is
# done first. The path is short, since sockets are in it.
TEMPORARY = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
atexit.register(shutil.rmtree, TEMPORARY, ignore_errors=True)

import ray
from ray import serve
from ray.serve.schema import LoggingConfig

WORKING = os.path.abspath(".")


def take_card(route, backends):
    """The address of a card that no other replica of this route has.

    Replicas of a deployment differ in nothing that tells which GPU is theirs, since there are none
    here; creating a file is what only one of them can do.
    """
    for i, backend in enumerate(backends):
        try:
            os.close(os.open(f"{WORKING}{route}-card-{i}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return backend["address"]
    raise RuntimeError(f"there are more replicas at {route} than cards; has one died?")


def listen_on_loopback():
    """Has this replica's port for other deployments, which nobody uses here, on no other interface."""
    from ray.serve._private import replica

    bind = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: bind(server, address.replace("[::]", "127.0.0.1"))


@serve.deployment
class Transcriber:
    def __init__(self, route, backends):
        import aiohttp

        listen_on_loopback()
        self.route = route
        self.card = "http://" + take_card(route, backends)
        self.aiohttp = aiohttp
        self.session = None

    async def __call__(self, request):
        from starlette.responses import Response

        if self.session is None:  # it belongs to the loop that requests run in
            self.session = self.aiohttp.ClientSession(timeout=self.aiohttp.ClientTimeout(total=900), auto_decompress=False)
        path = request.url.path.removeprefix(self.route)
        headers = {k: v for k, v in request.headers.items() if k in ("content-type", "accept")}
        async with self.session.request(request.method, self.card + path, data=await request.body(), headers=headers) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in ("content-length", "connection", "transfer-encoding", "date")}
            return Response(await answer.read(), status_code=answer.status, headers=kept)


def start(pool):
    ray.init(
        num_cpus=1,  # what Ray counts, which is not what it uses: one worker is started ahead
        object_store_memory=100 << 20,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=TEMPORARY,
        log_to_driver=False,
    )
    quiet = LoggingConfig(enable_access_log=False, log_level="WARNING")
    serve.start(http_options={"host": "127.0.0.1", "port": pool["port"]}, logging_config=quiet)
    applications = []
    for route, limit in pool["limits"].items():
        application = Transcriber.options(
            num_replicas=len(pool["backends"]),
            max_ongoing_requests=limit,
            ray_actor_options={"num_cpus": 0},
            logging_config=quiet,
        ).bind(route, pool["backends"])
        applications.append(serve.RunTarget(application, name=route.strip("/"), route_prefix=route))
    serve.run_many(applications)


def main():
    with open("pool.json") as f:
        pool = json.load(f)
    parent = os.getppid()
    start(pool)
    ended = threading.Event()
    for which in (signal.SIGTERM, signal.SIGINT):
        signal.signal(which, lambda *_: ended.set())
    print("serving", flush=True)
    while not ended.wait(1) and os.getppid() == parent:
        pass
    ray.shutdown()


if __name__ == "__main__":
    main()
