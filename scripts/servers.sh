# shellcheck shell=bash
# Throw-away servers in a directory of their own, for the demo and the tests.
# To be sourced.  Each server leaves DIR/NAME.pid; stop_servers goes by these.

PG_CONFIG=${PG_CONFIG:-pg_config}

# Run a command as a user that PostgreSQL accepts: it refuses root.
as_server_user() {
    if [ "$(id -u)" -eq 0 ]; then
        setpriv --reuid=postgres --regid=postgres --init-groups --inh-caps=-all "$@"
    else
        "$@"
    fi
}

# Give a path to the user that the servers run as.
give_to_server_user() {
    if [ "$(id -u)" -eq 0 ]; then
        chown -R postgres:postgres "$@"
    fi
}

free_port() {
    perl -MIO::Socket::INET -e '
        my $socket = IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1)
            or die "no free port: $!\n";
        print $socket->sockport, "\n";'
}

pause() {
    perl -e 'select(undef, undef, undef, 0.05)'
}

# poll_until SECONDS COMMAND...: repeat the command until it succeeds.
poll_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        pause
    done
}

# process_of DIR PID: is this process (still) a server that belongs to DIR?
process_of() {
    [ -r "/proc/$2/cmdline" ] && tr '\0' ' ' <"/proc/$2/cmdline" | grep -qF "$1"
}

process_is_gone() {
    ! process_of "$1" "$2"
}

# start_postgres DIR PORT [NAME=VALUE...]: make a cluster in DIR/data and start
# it with a socket in DIR/socket.  Local connections are trusted (the directory
# is nobody else's); TCP needs the password in DIR/password, if there is one.
# The extension comes from DIR/install, if that exists.
start_postgres() {
    local folder=$1 port=$2 setting bin
    shift 2
    bin=$($PG_CONFIG --bindir)
    mkdir -p "$folder/socket"
    chmod 700 "$folder/socket"
    "$bin/initdb" --pgdata="$folder/data" --username=postgres --no-sync --no-instructions \
        --encoding=UTF8 --locale=C --auth-local=trust --auth-host=scram-sha-256 \
        ${PASSWORD_FILE:+"--pwfile=$PASSWORD_FILE"} >"$folder/initdb.log" 2>&1 || {
        cat "$folder/initdb.log" >&2
        return 1
    }
    {
        echo "port = $port"
        echo "listen_addresses = ''"
        echo "unix_socket_directories = '$folder/socket'"
        echo "fsync = off"
        echo "max_wal_size = 4GB"
        if [ -d "$folder/install" ]; then
            installed_extension_settings "$folder/install"
        fi
        for setting in "$@"; do
            echo "$setting"
        done
    } >>"$folder/data/postgresql.conf"
    if ! "$bin/pg_ctl" --pgdata="$folder/data" --log="$folder/postgres.log" \
        --wait --silent start; then
        cat "$folder/postgres.log" >&2
        return 1
    fi
}

# The settings with which a server finds the extension below a DESTDIR.
# extension_destdir is Debian's; from version 18 on there is a path for all.
installed_extension_settings() {
    local destination=$1 version
    version=$($PG_CONFIG --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
    if [ "$version" -ge 18 ]; then
        echo "extension_control_path = '$destination$($PG_CONFIG --sharedir):\$system'"
    else
        echo "extension_destdir = '$destination'"
    fi
    echo "dynamic_library_path = '$destination$($PG_CONFIG --pkglibdir):\$libdir'"
}

# Does the process answer, or has it ended (the port was taken meanwhile)?
victoria_metrics_decided() {
    curl --silent --fail --max-time 2 --output /dev/null "$1/health" || ! kill -0 "$2" 2>/dev/null
}

# start_victoria_metrics DIR [FLAG...]: writes DIR/victoria-metrics.url
start_victoria_metrics() {
    local folder=$1 port pid attempt
    shift
    for attempt in 1 2 3; do
        port=$(free_port)
        # Its own session, so that Ctrl-C reaches whoever started it and not the server.
        setsid victoria-metrics -storageDataPath="$folder/victoria-metrics" \
            -httpListenAddr="127.0.0.1:$port" -retentionPeriod=3 \
            -search.latencyOffset=0s -loggerLevel=WARN "$@" \
            >"$folder/victoria-metrics.log" 2>&1 </dev/null &
        pid=$!
        echo "$pid" >"$folder/victoria-metrics.pid"
        echo "http://127.0.0.1:$port" >"$folder/victoria-metrics.url"
        poll_until 20 victoria_metrics_decided "http://127.0.0.1:$port" "$pid" &&
            kill -0 "$pid" 2>/dev/null && return 0
        echo "VictoriaMetrics did not start on port $port (attempt $attempt):" >&2
        cat "$folder/victoria-metrics.log" >&2
        kill -KILL "$pid" 2>/dev/null
    done
    return 1
}

# Does Prometheus answer, or has it ended?
prometheus_decided() {
    curl --silent --fail --max-time 2 --output /dev/null "$1/-/ready" || ! kill -0 "$2" 2>/dev/null
}

# start_prometheus DIR: with the blocks in DIR/prometheus, if there are any;
# writes DIR/prometheus.url
start_prometheus() {
    local folder=$1 port pid attempt
    mkdir -p "$folder/prometheus"
    echo 'global: {}' >"$folder/prometheus.yml"
    for attempt in 1 2 3; do
        port=$(free_port)
        setsid prometheus --config.file="$folder/prometheus.yml" \
            --storage.tsdb.path="$folder/prometheus" --storage.tsdb.retention.time=90d \
            --web.listen-address="127.0.0.1:$port" --log.level=warn \
            >"$folder/prometheus.log" 2>&1 </dev/null &
        pid=$!
        echo "$pid" >"$folder/prometheus.pid"
        echo "http://127.0.0.1:$port" >"$folder/prometheus.url"
        poll_until 30 prometheus_decided "http://127.0.0.1:$port" "$pid" &&
            kill -0 "$pid" 2>/dev/null && return 0
        echo "Prometheus did not start on port $port (attempt $attempt):" >&2
        cat "$folder/prometheus.log" >&2
        kill -KILL "$pid" 2>/dev/null
    done
    return 1
}

# Does Alertmanager answer, or has it ended?
alertmanager_decided() {
    curl --silent --fail --max-time 2 --output /dev/null "$1/-/ready" || ! kill -0 "$2" 2>/dev/null
}

# start_alertmanager DIR: nobody is notified; writes DIR/alertmanager.url
start_alertmanager() {
    local folder=$1 port pid attempt
    printf '%s\n' 'global: {resolve_timeout: 1s}' 'route: {receiver: nobody}' 'receivers: [{name: nobody}]' \
        >"$folder/alertmanager.yml"
    for attempt in 1 2 3; do
        port=$(free_port)
        setsid prometheus-alertmanager --config.file="$folder/alertmanager.yml" \
            --storage.path="$folder/alertmanager" --cluster.listen-address= \
            --web.listen-address="127.0.0.1:$port" --log.level=warn \
            >"$folder/alertmanager.log" 2>&1 </dev/null &
        pid=$!
        echo "$pid" >"$folder/alertmanager.pid"
        echo "http://127.0.0.1:$port" >"$folder/alertmanager.url"
        poll_until 30 alertmanager_decided "http://127.0.0.1:$port" "$pid" &&
            kill -0 "$pid" 2>/dev/null && return 0
        echo "Alertmanager did not start on port $port (attempt $attempt):" >&2
        cat "$folder/alertmanager.log" >&2
        kill -KILL "$pid" 2>/dev/null
    done
    return 1
}

# stop_servers DIR: stop everything that was started below DIR, by its pid.
stop_servers() {
    local folder=$1 pid_file pid
    while IFS= read -r pid_file; do
        pid=$(head -n 1 "$pid_file" 2>/dev/null) || continue
        case $pid in '' | *[!0-9]*) continue ;; esac
        process_of "$folder" "$pid" || continue
        # A fast shutdown for PostgreSQL, an orderly one for the others.
        kill -INT "$pid" 2>/dev/null
        if ! poll_until 20 process_is_gone "$folder" "$pid"; then
            kill -KILL "$pid" 2>/dev/null
        fi
    done < <(find "$folder" -name '*.pid' -type f 2>/dev/null)
}
