#!/bin/sh
# Run once by the image, when it makes its database: the extension and, if it is
# given a password, the role of docs/grafana.md.
set -eu

psql -X -v ON_ERROR_STOP=1 -v password="${GRAFANA_PASSWORD:-}" --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE EXTENSION smartbox_anomaly;
SELECT :'password' <> '' AS has_password \gset
\if :has_password
CREATE ROLE grafana LOGIN PASSWORD :'password';
GRANT USAGE ON SCHEMA smartbox TO grafana;
GRANT SELECT ON ALL TABLES IN SCHEMA smartbox TO grafana;
GRANT EXECUTE ON FUNCTION expected_values(text, timestamptz, timestamptz, text[]) TO grafana;
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '30s';
\endif
SQL
