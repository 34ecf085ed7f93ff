#!/usr/bin/env bash
# smartbox-train and smartbox-inference: train_models() and run_inference() for
# a shell.  "make" writes bin/smartbox-train and bin/smartbox-inference from
# this file, which differ in their names.
#
# What the user names reaches the server as variables of psql, which quotes
# them.  psql runs in the background, so that a signal that ends this script
# can be handed on as what psql cancels its statement for.
set -uo pipefail

program=@PROGRAM@
version=@VERSION@

usage() {
    case $program in
        smartbox-train)
            cat <<'END'
smartbox-train trains the models of services in a PostgreSQL database that has
the extension smartbox_anomaly.

Usage:
  smartbox-train [OPTION]... [SERVICE]...

Without a SERVICE, all enabled services are trained.

Options:
  -j, --jobs=NUMBER          background workers on the server (default: as
                             smartbox_anomaly.max_workers says)
      --lookback-days=DAYS   how much history to learn from (default: 30)
  -v, --verbose              say what became of each model
END
            ;;
        smartbox-inference)
            cat <<'END'
smartbox-inference judges the newest samples of services in a PostgreSQL database
that has the extension smartbox_anomaly.

Usage:
  smartbox-inference [OPTION]... [SERVICE]...

Without a SERVICE, all enabled services are judged.

Options:
      --exit-zero            an anomaly is no failure: exit with 0
  -v, --verbose              explain every metric, also where nothing is wrong,
                             and say what was found
END
            ;;
    esac
    cat <<END
  -V, --version              print the version, then exit
  -?, --help                 show this help, then exit

Connection options, as of psql, with the environment variables of libpq:
  -d, --dbname=DBNAME        database name or connection string
  -h, --host=HOSTNAME        server host or socket directory
  -p, --port=PORT            server port
  -U, --username=USERNAME    user name
  -w, --no-password          never prompt for a password
  -W, --password             prompt for a password

A JSON array is printed on standard output, one element per line; everything else
goes to standard error.  Exit status:
END
    case $program in
        smartbox-train)
            cat <<'END'
  0  all models were trained and accepted
  1  a service failed
  2  nothing was trained: wrong usage, no connection, an error
  3  no service failed, but a model was rejected or had too few samples
END
            ;;
        smartbox-inference)
            cat <<'END'
  0  no anomaly in any service
  1  an anomaly was detected
  2  nothing was judged: wrong usage, no connection, an error
  3  no anomaly was detected, but a service has no fresh sample or no model
END
            ;;
    esac
}

say() {
    printf '%s: %s\n' "$program" "$*" >&2
}

wrong_usage() {
    [ $# -eq 0 ] || say "$@"
    echo "Try \"$program --help\" for more information." >&2
    exit 2
}

# An array literal of SQL.
array_literal() {
    local item literal='' separator=''
    for item in "$@"; do
        item=${item//\\/\\\\}
        item=${item//\"/\\\"}
        literal+="$separator\"$item\""
        separator=,
    done
    printf '{%s}' "$literal"
}

# ---------------------------------------------------------------------------
# Arguments
# ---------------------------------------------------------------------------

case $program in
    smartbox-train) short=j: long=jobs:,lookback-days: ;;
    smartbox-inference) short='' long=exit-zero ;;
esac
options=$(getopt -n "$program" -o "+vV?d:h:p:U:wW$short" \
    -l "verbose,version,help,dbname:,host:,port:,username:,no-password,password,$long" -- "$@") ||
    wrong_usage
eval set -- "$options"

connection=()
prompt=()
verbose=false
exit_zero=
jobs=
has_jobs=false
lookback_days=30
while [ "$1" != -- ]; do
    case $1 in
        -d | --dbname) connection+=("--dbname=$2") && shift ;;
        -h | --host) connection+=("--host=$2") && shift ;;
        -p | --port) connection+=("--port=$2") && shift ;;
        -U | --username) connection+=("--username=$2") && shift ;;
        -w | --no-password) prompt=(--no-password) ;;
        -W | --password) prompt=(--password) ;;
        -j | --jobs) jobs=$2 has_jobs=true && shift ;;
        --lookback-days) lookback_days=$2 && shift ;;
        --exit-zero) exit_zero=1 ;;
        -v | --verbose) verbose=true ;;
        -V | --version)
            echo "$program (smartbox_anomaly) $version"
            exit
            ;;
        -\? | --help)
            usage
            exit
            ;;
    esac
    shift
done
shift
[[ $lookback_days =~ ^[1-9][0-9]{0,4}$ ]] || wrong_usage "\"$lookback_days\" is no number of days"
[[ $has_jobs = false || $jobs =~ ^[0-9]{1,4}$ ]] || wrong_usage "\"$jobs\" is no number of background workers"

# No services: all that are enabled.
services=
[ $# -eq 0 ] || services=$(array_literal "$@")

psql=$(command -v psql) || psql=$(dirname "$(readlink -f "$0")")/psql
if [ ! -x "$psql" ]; then
    say 'psql is not on the PATH'
    exit 2
fi

# ---------------------------------------------------------------------------
# Statements
# ---------------------------------------------------------------------------

# The first line says that there is a connection.  Functions are where the
# extension was created; everything else is the server's own.
preamble() {
    cat <<'END'
\echo connected
SET search_path = '';
SELECT (SELECT n.nspname FROM pg_extension AS x JOIN pg_namespace AS n ON n.oid = x.extnamespace
        WHERE x.extname = 'smartbox_anomaly') AS schema \gset
\if :{?schema}
\else
\warn :program: database :DBNAME has no extension smartbox_anomaly
\q
\endif
END
}

# The value of max_workers is checked only where the library is loaded.
training() {
    cat <<'END'
\if :has_jobs
SELECT :"schema".score_to_severity(0), set_config('smartbox_anomaly.max_workers', :'jobs', false) \g /dev/null
\endif
SELECT CASE WHEN bool_or(t.status = 'failed') THEN 1 WHEN bool_or(t.status <> 'accepted') THEN 3 ELSE 0 END AS exit_status,
    coalesce(E'[\n' || string_agg(row_to_json(t)::text, E',\n') || E'\n]', '[]') AS answer,
    concat_ws(E'\n',
        string_agg(format('%s: %s: %s%s', :'program', concat_ws(' ', t.service, t.period), t.status, ': ' || t.reason), E'\n')
            FILTER (WHERE :'verbose' OR t.status = 'failed'),
        CASE WHEN count(*) = 0 THEN format('%s: there is no service', :'program')
            WHEN :'verbose' OR bool_or(t.status <> 'accepted') THEN
            format('%s: services: %s, failed: %s; models accepted: %s, not accepted: %s', :'program', count(DISTINCT t.service),
                count(*) FILTER (WHERE t.status = 'failed'), count(*) FILTER (WHERE t.status = 'accepted'),
                count(*) FILTER (WHERE t.status NOT IN ('accepted', 'failed'))) END) AS messages
FROM :"schema".train_models(nullif(:'services', '')::text[], make_interval(days => :'lookback_days')) AS t \gset
END
}

inference() {
    cat <<'END'
SELECT CASE WHEN bool_or(j.is_anomaly) THEN 1 WHEN bool_or(NOT j.is_judged) THEN 3 ELSE 0 END AS exit_status,
    coalesce(E'[\n' || string_agg(j.payload::text, E',\n') || E'\n]', '[]') AS answer,
    concat_ws(E'\n',
        string_agg(format('%s: %s: %s', :'program', j.payload->>'service',
            CASE WHEN NOT j.is_anomaly THEN concat_ws(': ', j.payload->>'alert_type', coalesce(j.payload->>'error_message', j.payload->>'message'))
                ELSE (SELECT string_agg(format('%s %s, incident %s is %s', a->>'severity', a->>'name',
                        a->'metadata'->>'incident_id', a->'metadata'->>'status'), '; ')
                    FROM jsonb_array_elements(j.payload->'anomalies') AS a) END), E'\n')
            FILTER (WHERE :'verbose' AND (j.is_anomaly OR NOT j.is_judged)),
        CASE WHEN count(*) = 0 THEN format('%s: there is no service', :'program')
            WHEN :'verbose' OR bool_or(j.is_anomaly OR NOT j.is_judged) THEN
            format('%s: services: %s, with an anomaly: %s, without a fresh sample or a model: %s', :'program', count(*),
                count(*) FILTER (WHERE j.is_anomaly), count(*) FILTER (WHERE NOT j.is_judged AND NOT j.is_anomaly)) END) AS messages
FROM (
    SELECT p.payload, coalesce((p.payload->>'anomaly_count')::integer > 0, false) AS is_anomaly,
        p.payload->>'alert_type' NOT IN ('no_data', 'error') AS is_judged
    FROM :"schema".run_inference(nullif(:'services', '')::text[], :'verbose') AS p(payload)
) AS j \gset
END
}

# psql prints what a variable holds as it is.
print_answer() {
    cat <<'END'
\echo :exit_status
\echo :answer
SELECT :'messages' <> '' AS has_messages \gset
\if :has_messages
\warn :messages
\endif
END
}

# One line a second: what is done, how much, of how much, how much failed.
progress() {
    cat <<'END'
SET search_path = '';
SELECT clock_timestamp() AS since \gset
\echo ready
WITH training AS (
    SELECT count(*) AS services, count(r.status) AS begun,
        count(*) FILTER (WHERE r.status <> 'running') AS ended, count(*) FILTER (WHERE r.status = 'failed') AS failed
    FROM smartbox.services AS s
        LEFT JOIN LATERAL (
            SELECT t.status FROM smartbox.training_runs AS t
            WHERE t.service = s.service AND t.started_at >= :'since'
            ORDER BY t.started_at DESC LIMIT 1
        ) AS r ON true
    WHERE coalesce(s.service = ANY (nullif(:'services', '')::text[]), s.enabled)
), fetching AS (
    SELECT sum(b.pieces) AS pieces, sum(b.pieces_done) AS done, sum(b.pieces_failed) AS failed
    FROM smartbox.backfill_runs AS b
    WHERE b.started_at >= :'since'
)
SELECT CASE WHEN t.begun = 0 AND f.pieces > 0 THEN concat_ws('|', 'fetching', f.done + f.failed, f.pieces, 'pieces of history', f.failed)
    ELSE concat_ws('|', 'training', t.ended, t.services, 'services', t.failed) END
FROM training AS t, fetching AS f
WHERE t.services > 0 \watch 1
END
}

# ---------------------------------------------------------------------------
# Progress
# ---------------------------------------------------------------------------

draw_progress() {
    local what ended all things failed bar marks=##############################
    while IFS='|' read -r what ended all things failed; do
        [ -n "$failed" ] || continue
        printf -v bar '%-30s' "${marks:0:$((30 * ended / all))}"
        printf '\r%s [%s] %s of %s %s' "$what" "${bar// /.}" "$ended" "$all" "$things" >&2
        [ "$failed" -eq 0 ] || printf ', %s failed' "$failed" >&2
        printf '\033[K' >&2
    done
    printf '\r\033[K' >&2
}

# Watch by a connection of its own, before the training begins; nobody is asked
# twice for a password, so without one in the environment nothing is drawn.
start_progress() {
    local line=
    mkfifo "$scratch/progress"
    run_psql --no-password <<<"$(progress)" >"$scratch/progress" 2>/dev/null &
    watcher=$!
    exec 3<"$scratch/progress"
    until [ "$line" = ready ]; do
        read -r line <&3 || return
    done
    draw_progress <&3 &
    drawer=$!
}

stop_progress() {
    [ -n "$watcher" ] || return
    kill "$watcher" 2>/dev/null
    wait "$watcher" "$drawer" 2>/dev/null
    watcher=
}

# ---------------------------------------------------------------------------
# Running them
# ---------------------------------------------------------------------------

# Becomes psql: to be called in the background.
run_psql() {
    exec "$psql" --no-psqlrc --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1 \
        --set=program="$program" --set=services="$services" --set=verbose="$verbose" \
        --set=has_jobs="$has_jobs" --set=jobs="$jobs" --set=lookback_days="$lookback_days" \
        "${connection[@]}" "$@"
}

run_statements() {
    trap '' TERM HUP
    run_psql "${prompt[@]}"
}

# psql cancels its statement when it is interrupted.  As long as it has no
# connection there is nothing to cancel, and it would not listen.
# shellcheck disable=SC2317
stop_statements() {
    signal=$1
    if [ -s "$scratch/answer" ]; then
        kill -INT "$worker"
    else
        kill -KILL "$worker"
    fi
}

clean_up() {
    stop_progress
    rm -rf "$scratch"
}

signal=
watcher=
drawer=
scratch=$(mktemp -d) || exit 2
trap clean_up EXIT

case $program in
    smartbox-train) statements=$(preamble; training; print_answer) ;;
    smartbox-inference) statements=$(preamble; inference; print_answer) ;;
esac
if [ "$program" = smartbox-train ] && [ -t 2 ] && [ "${TERM:-dumb}" != dumb ]; then
    start_progress
fi
if [ -n "$drawer" ]; then
    run_statements <<<"$statements" >"$scratch/answer" 2>"$scratch/messages" &
else
    run_statements <<<"$statements" >"$scratch/answer" &
fi
worker=$!
trap 'stop_statements INT' INT
trap 'stop_statements TERM' TERM
trap 'stop_statements HUP' HUP
status=
while [ -z "$status" ] || kill -0 "$worker" 2>/dev/null; do
    wait "$worker"
    status=$?
done
stop_progress
[ ! -e "$scratch/messages" ] || cat "$scratch/messages" >&2

exit_status=
if [ "$status" -eq 0 ]; then
    {
        read -r _
        read -r exit_status
        cat
    } <"$scratch/answer"
fi
if [ -z "$exit_status" ] && [ -n "$signal" ]; then
    clean_up
    trap - EXIT "$signal"
    kill -s "$signal" "$$"
fi
[ "$exit_status" != 1 ] || [ -z "$exit_zero" ] || exit_status=0
exit "${exit_status:-2}"
