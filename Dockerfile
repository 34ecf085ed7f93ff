# PostgreSQL 15 with smartbox_anomaly.  See docs/installing.md.
FROM postgres:15-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
        gcc make libc6-dev postgresql-server-dev-15 libcurl4-openssl-dev libyajl-dev
WORKDIR /source
COPY Makefile smartbox_anomaly.control ./
COPY src src
COPY sql sql
COPY bin bin
RUN rm -f src/*/*.o sql/smartbox_anomaly--1.0.sql \
    && make PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config \
    && make PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config install DESTDIR=/image

FROM postgres:15-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libcurl4 libyajl2 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /image /
COPY docker/create-extension.sh /docker-entrypoint-initdb.d/
CMD ["postgres", "-c", "shared_preload_libraries=smartbox_anomaly"]
