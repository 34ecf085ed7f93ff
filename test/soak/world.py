"""What a soak run watches and whom it tells: a metric source with a fleet of
services, and a receiver of alerts, on one port of the loopback interface.

    world.py SEED SERVICES CLOCK FOLDER

The values of the fleet are computed, so any instant of any year can be asked
for; what a value depends on is the seed alone.  What can be had of it depends
on the clock of virtual_clock.c too: some samples come late, some are corrected,
some never come, and the source and the receiver have bad minutes and bad hours.

    POST /api/v1/query, query_range   the source; a query is soak_METRIC{...}
    POST /hook                        the receiver: writes what it got to
                                      FOLDER/received, a key and an answer a line
    GET /truth?since=&until=&file=    writes what should be in smartbox.samples
    GET /storm, /calm                 faults from now on, or none; it begins calm
    GET /figures                      counts, as JSON
"""
import json
import mmap
import os
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np

STEP = 300
METRICS = ["request_rate", "application_latency", "dependency_latency", "database_latency", "error_rate"]
BASE = np.array([80.0, 120.0, 45.0, 12.0, 0.004])
FAULTS = [(0.8, 1, 0.05), (0, 0.4, 9), (0, 0, 1), (0, 0.2, 60), (0.4, 0.8, 80)]  # which part of them, and how bad
BLOCK = 48  # slots; faults lie within one

SEED, N_SERVICES, CLOCK, FOLDER = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
NAMES = ["service-%03d" % i for i in range(N_SERVICES)]
INDEX = {name: i for i, name in enumerate(NAMES)}

clock_file = open(CLOCK, "rb")
clock = mmap.mmap(clock_file.fileno(), 8, prot=mmap.PROT_READ)


def now():
    return time.time() + struct.unpack("q", clock[:8])[0] / 1e6


# ---------- the fleet ----------


def mix(x):
    """The finalizer of splitmix64."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def draw(what, *keys):
    """Numbers in [0, 1), the same each time for the same keys."""
    x = mix(np.uint64(SEED * 1000 + what))
    with np.errstate(over="ignore"):
        for key in keys:
            x = mix(x + np.asarray(key).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return (x >> np.uint64(11)).astype(np.float64) / 2.0**53


def in_span(what, chance, shortest, longest, keys, slots):
    """Whether slots lie in a span; there is at most one in a block."""
    block = slots // BLOCK
    begins = draw(what, *keys, block) < chance
    length = shortest + draw(what + 1, *keys, block) * (longest - shortest)
    first = draw(what + 2, *keys, block) * (BLOCK - longest)
    place = slots % BLOCK
    return begins & (place >= first) & (place < first + length)


def final_values(services, slots, metrics=range(len(METRICS))):
    """[service, slot, metric]; NaN: there is none."""
    i = services[:, None]
    t = slots[None, :]
    hour = t * STEP % 86400 / 3600.0
    weekday = (t * STEP // 86400 + 3) % 7
    load = (1 + 0.6 * np.sin((hour - 9) * np.pi / 12)) * np.where(weekday >= 5, 0.5, 1.0) * (0.3 + 3 * draw(1, i))
    fault = in_span(20, 0.04, 2, 12, (i,), t)
    kind = draw(30, i, t // BLOCK)
    gone = in_span(40, 0.01, 3, 30, (i,), t) | (draw(50, i, t) < 0.002)
    values = np.empty((len(services), len(slots), len(metrics)))
    for n, m in enumerate(metrics):
        noise = draw(10, i, t, m) + draw(11, i, t, m) + draw(12, i, t, m) - 1.5
        value = BASE[m] * (load if m == 0 else 1 + 0.1 * (load - 1)) * np.exp(0.12 * noise)
        least, most, factor = FAULTS[m]
        value = np.where(fault & (kind >= least) & (kind < most), value * factor, value)
        values[:, :, n] = np.where(gone | (draw(51, i, t, m) < 0.001), np.nan, value)
    return values


def known_values(services, slots, metric, at):
    """[service, slot] of one metric, as the source has it at a time."""
    values = final_values(services, slots, [metric])[:, :, 0]
    i = services[:, None]
    t = slots[None, :]
    age = at - t * STEP
    late = np.where(draw(60, i, t) < 0.005, 60 + draw(61, i, t) * 3000, 0)
    corrected = np.where(draw(62, i, t) < 0.003, 60 + draw(63, i, t) * 6000, 0)
    values = np.where(age < corrected, values * 0.9, values)
    return np.where(age < late, np.nan, values)



# ---------- the server ----------


class World(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.counts = Counter()
        self.attempts = Counter()
        self.connections = 0
        self.is_calm = True
        self.received = open(FOLDER + "/received", "a", buffering=1)

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def attempt(self, *what):
        """How often the same was asked before."""
        with self.lock:
            self.attempts[what] += 1
            return self.attempts[what]

    def fault(self, what, kinds, *keys):
        """What goes wrong with a request: one of the kinds, or None."""
        if self.is_calm:
            return None
        slot = np.int64(now() // STEP)
        if in_span(what + 4, 0.04, 4, 40, (), slot):
            return "outage"
        chance = draw(what, slot, self.attempt(what, slot, *keys), *keys)
        if chance >= 0.04:
            return None
        return kinds[int(chance / 0.04 * len(kinds))]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        with self.server.lock:
            self.server.connections += 1

    def finish(self):
        with self.server.lock:
            self.server.connections -= 1
        try:
            super().finish()
        except OSError:
            pass

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass

    def log_message(self, *arguments):
        pass

    def answer(self, status, text, length=None):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if length is None else body[:length])

    def wait_for_end(self):
        """Say nothing until the other side has had enough."""
        self.connection.settimeout(60)
        try:
            while self.connection.recv(4096):
                pass
        except OSError:
            pass
        self.close_connection = True

    def misbehave(self, fault, text):
        self.server.count("fault: " + fault)
        if fault in ("outage", "500"):
            self.answer(500, "{}")
        elif fault == "503":
            self.answer(503, '{"status":"error","errorType":"503","error":"busy"}')
        elif fault == "slow":
            time.sleep(0.3)
            self.answer(200, text)
        elif fault == "garbage":
            self.answer(200, text[: len(text) // 2] + '"' + text[len(text) // 2 + 7:])
        elif fault == "stall":
            self.answer(200, text, len(text) // 2)
            self.wait_for_end()
        elif fault in ("truncated", "dropped"):
            if fault == "truncated":
                self.answer(200, text, len(text) // 2)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        path = urlsplit(self.path).path
        if path == "/hook":
            self.receive(json.loads(body))
        else:
            self.give(path.rsplit("/", 1)[1], {k: v[0] for k, v in parse_qs(body).items()})

    def give(self, kind, form):
        query = form["query"]
        metric = METRICS.index(re.match(r"soak_(\w+)", query).group(1))
        named = re.search(r'service_name=~?"([^"]*)"', query)
        names = [n for n in named.group(1).replace("\\", "").split("|") if n in INDEX] if named else NAMES
        services = np.array([INDEX[n] for n in names], dtype=np.int64)
        first = int(form["time" if kind == "query" else "start"])
        last = int(form.get("end", first))
        slots = np.arange(first, last + 1, STEP) // STEP
        known = known_values(services, slots, metric, now())
        series = []
        for n, name in enumerate(names):
            there = np.flatnonzero(~np.isnan(known[n]))
            if len(there) == 0:
                continue
            points = ['[%d,"%.9g"]' % point for point in zip((slots[there] * STEP).tolist(), known[n][there].tolist())]
            value = '"value":%s' % points[0] if kind == "query" else '"values":[%s]' % ",".join(points)
            series.append('{"metric":{"service_name":"%s"},%s}' % (name, value))
        text = '{"status":"success","data":{"resultType":"%s","result":[%s]}}' % (
            "vector" if kind == "query" else "matrix", ",".join(series))
        self.server.count("answers of the source")
        fault = self.server.fault(70, ["slow", "stall", "500", "503", "truncated", "dropped", "garbage"], metric, first)
        if fault:
            self.misbehave(fault, text)
        else:
            self.answer(200, text)

    def receive(self, message):
        key = self.headers["Idempotency-Key"]
        fault = self.server.fault(80, ["500", "503", "dropped", "taken and dropped", "taken and stalled", "slow"],
                                  int(key[-15:], 16))
        taken = fault in (None, "slow") or fault.startswith("taken")
        if taken:
            with self.server.lock:
                self.server.received.write("%s\t%s\n" % (key, fault or "200"))
        self.server.count("messages taken" if taken else "messages refused")
        if fault is None:
            self.answer(200, "{}")
        elif fault == "taken and dropped":
            self.misbehave("dropped", "{}")
        elif fault == "taken and stalled":
            self.misbehave("stall", "{}")
        else:
            self.misbehave(fault, "{}")

    def do_GET(self):
        url = urlsplit(self.path)
        form = {k: v[0] for k, v in parse_qs(url.query).items()}
        if url.path in ("/storm", "/calm"):
            self.server.is_calm = url.path == "/calm"
            self.answer(200, "{}")
        elif url.path == "/truth":
            write_truth(int(form["since"]), int(form["until"]), form["file"])
            self.answer(200, "{}")
        else:
            with self.server.lock:
                counts = dict(self.server.counts, connections=self.server.connections - 1)
            self.answer(200, json.dumps(counts, sort_keys=True))


def write_truth(since, until, file):
    """After since, up to until: service, time, the values at last, the values at first."""
    slots = np.arange(since // STEP + 1, until // STEP + 1)
    services = np.arange(N_SERVICES)
    last = final_values(services, slots)
    corrected = np.where((draw(62, services[:, None], slots[None, :]) < 0.003)[:, :, None], last * 0.9, last)
    there = ~np.isnan(last).all(axis=2)
    with open(file, "w") as out:
        for i, t in zip(*np.nonzero(there)):
            out.write("%s\t%d\t{%s}\t{%s}\n" % (
                NAMES[i], slots[t] * STEP,
                ",".join("NULL" if v != v else "%.9g" % v for v in last[i, t]),
                ",".join("NULL" if v != v else "%.9g" % v for v in corrected[i, t])))


world = World()
with open(FOLDER + "/world.port.new", "w") as port:
    port.write("%d\n" % world.server_address[1])
os.rename(FOLDER + "/world.port.new", FOLDER + "/world.port")
world.serve_forever()
