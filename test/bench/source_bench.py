"""Time what fetches metrics, beside curl that fetches the same responses.

What the extension sends is written down once by a recorder between it and the
source; curl then sends the same requests to the source, as many at a time, with
gzip, and writes what comes to /dev/null.  Both are measured in turn; curl's time
is that of its process, less what it takes to start.  Figures are medians.
"""

import http.client
import http.server
import os
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

SOURCE, WORK = sys.argv[1:3]
ROUNDS = 9
STEP = 300
DAY = 86400
END = int(time.time()) // STEP * STEP
CONNECTIONS = 6     # SBA_MAX_CONNECTIONS

SPANS = [('SERVER', '', '200'), ('SERVER', '', '500'), ('CLIENT', '', ''), ('CLIENT', 'postgresql', '')]


def load(services, begin):
    """Import the metrics that the default queries ask for, a point per step."""
    times = range(begin, END + 1, STEP)
    stamps = ','.join(f'{t}000' for t in times)
    lines = []

    def add(name, labels, values):
        text = ','.join(f'"{k}":"{v}"' for k, v in [('__name__', name)] + labels if v)
        lines.append('{"metric":{%s},"values":[%s],"timestamps":[%s]}' % (text, ','.join(values), stamps))

    for number in services:
        labels = [('service_name', f'service-{number:04}'), ('deployment_environment_name', 'production')]
        add('http_requests:count:rate_5m', labels, [f'{10 + number % 7 + i % 13 / 3:.6g}' for i in range(len(times))])
        for kind, database, status in SPANS:
            span = labels + [('span_kind', 'SPAN_KIND_' + kind), ('db_system_name', database),
                             ('http_response_status_code', status)]
            add('duration_milliseconds_count', span, [str(3000 * i + i * number % 97) for i in range(len(times))])
            add('duration_milliseconds_sum', span, [f'{75000.5 * i + i * number % 89:.3f}' for i in range(len(times))])
        if len(lines) >= 450 or number == services[-1]:
            urllib.request.urlopen(urllib.request.Request(SOURCE + '/api/v1/import', '\n'.join(lines).encode()))
            lines.clear()


def wait_until_visible(n_services):
    deadline = time.time() + 120
    query = urllib.parse.urlencode({
        'query': f'count(timestamp({{__name__=~".+"}}) == {END})', 'time': END, 'nocache': 1})
    while True:
        urllib.request.urlopen(SOURCE + '/internal/force_flush').read()
        answer = urllib.request.urlopen(f'{SOURCE}/api/v1/query?{query}').read().decode()
        if f'"{n_services * (1 + 2 * len(SPANS))}"]' in answer:
            return
        if time.time() > deadline:
            sys.exit('source_bench.py: the points do not appear')
        time.sleep(0.2)


class Recorder(http.server.BaseHTTPRequestHandler):
    """Hand requests on to the source and keep them."""
    protocol_version = 'HTTP/1.1'
    requests = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        source = http.client.HTTPConnection(urllib.parse.urlparse(SOURCE).netloc)
        source.request('POST', self.path, body, {'Content-Type': 'application/x-www-form-urlencoded'})
        answer = source.getresponse().read()
        Recorder.requests.append((self.path, body, len(answer)))
        self.send_response(200)
        self.send_header('Content-Length', str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *ignored):
        pass


def psql(*statements):
    arguments = [argument for statement in statements for argument in ('-c', statement)]
    return subprocess.run(['psql', '-XAtq', '-v', 'ON_ERROR_STOP=1'] + arguments, check=True, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout


def time_of(statement, workers):
    """Wall time in ms of a warm session's statement, and the fetching in it."""
    forget = "TRUNCATE smartbox.samples, smartbox.backfill_runs; UPDATE smartbox.services SET backfilled = '{}'"
    once = [forget, '\\timing on', statement, '\\timing off']
    answer = psql(f"SET smartbox_anomaly.vm_endpoint = '{SOURCE}'", f'SET smartbox_anomaly.max_workers = {workers}',
                  forget, statement, 'SET client_min_messages = debug1', *once * ROUNDS)
    walls = [float(t) for t in re.findall(r'^Time: ([0-9.]+) ms', answer, re.M)]
    fetches = [float(t) for t in re.findall(r'fetched .* in ([0-9.]+) ms$', answer, re.M)]
    per_round = len(fetches) // ROUNDS
    sums = [sum(fetches[i * per_round:(i + 1) * per_round]) for i in range(ROUNDS)] if per_round else []
    return statistics.median(walls), statistics.median(sums) if sums else None


def curl_time(requests):
    files = []
    for i, (path, body, _) in enumerate(requests):
        name = f'{WORK}/request.{i}'
        with open(name, 'wb') as file:
            file.write(body)
        files.append((name, path))
    with open(f'{WORK}/curl.config', 'w') as config:
        config.write('\nnext\n'.join(
            f'url = "{SOURCE}{path}"\ndata-binary = "@{name}"\noutput = "/dev/null"\ncompressed\nsilent\nfail'
            for name, path in files))

    def wall(arguments):
        begin = time.perf_counter()
        subprocess.run(['curl', '-q'] + arguments, check=True, stdout=subprocess.DEVNULL)
        return 1000 * (time.perf_counter() - begin)

    fetch = ['--no-progress-meter', '--parallel', '--parallel-immediate', '--parallel-max', str(CONNECTIONS), '-K', f'{WORK}/curl.config']
    wall(fetch)
    start = statistics.median(wall(['-s', 'file:///dev/null']) for _ in range(ROUNDS))
    return statistics.median(wall(fetch) for _ in range(ROUNDS)) - start


def record(statement):
    Recorder.requests.clear()
    psql("TRUNCATE smartbox.samples; UPDATE smartbox.services SET backfilled = '{}'",
         f"SET smartbox_anomaly.vm_endpoint = '{RECORDER}'", 'SET smartbox_anomaly.max_workers = 0', statement)
    return list(Recorder.requests)


def figure(what, statement, workers=0):
    requests = record(statement)
    size = sum(request[2] for request in requests)
    wall, fetch = time_of(statement, workers)
    curl = curl_time(requests)
    fetch_text = f'{fetch:9.1f} {fetch / curl:6.2f}' if fetch else '                '
    print(f'{what:46} {len(requests):8} {size / 1e6:8.2f} {curl:9.1f} {fetch_text} {wall:9.1f} {wall / curl:6.2f}',
          flush=True)
    return fetch, wall


os.environ['PGOPTIONS'] = '-c synchronous_commit=off'
load([1], END - 30 * DAY)
load(list(range(2, 1001)), END - DAY)
wait_until_visible(1000)
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Recorder)
threading.Thread(target=server.serve_forever, daemon=True).start()
RECORDER = f'http://127.0.0.1:{server.server_port}'
psql('CREATE EXTENSION smartbox_anomaly',
     "INSERT INTO smartbox.services (service) SELECT 'service-' || to_char(n, 'FM0000') FROM generate_series(1, 100) AS n")

print('Metrics from VictoriaMetrics beside curl on the same responses, ms, medians; fetched: nothing stored')
print(f"{'':46} {'requests':>8} {'MB':>8} {'curl':>9} {'fetched':>9} {'ratio':>6} {'stored':>9} {'ratio':>6}")
cycle = 'SELECT count(*) FROM collect_metrics()'
some = "SELECT count(*) FROM collect_metrics(ARRAY(SELECT service FROM smartbox.services))"
day = "SELECT count(*) FROM backfill_metrics(NULL, '1 day')"
figure('backfill of one service, 30 days', "SELECT count(*) FROM backfill_metrics('{service-0001}', '30 days')")
figure('... in background workers', "SELECT count(*) FROM backfill_metrics('{service-0001}', '30 days')", 2)
small_cycle = figure('a cycle, 100 of 1,000 services', some)
small_day = figure('backfill of 100 services, 1 day', day)
psql("INSERT INTO smartbox.services (service) SELECT 'service-' || to_char(n, 'FM0000') FROM generate_series(101, 1000) AS n")
large_cycle = figure('a cycle, 1,000 services', cycle)
ROUNDS = 3
large_day = figure('backfill of 1,000 services, 1 day', day)
print(f'from 100 to 1,000 services: a cycle takes {large_cycle[1] / small_cycle[1]:.1f} times as long, '
      f'a backfill {large_day[1] / small_day[1]:.1f} times')
