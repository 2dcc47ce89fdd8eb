# The server in a container.
#
# It listens on loopback, as everywhere: there is no transport security yet. To reach it from outside the
# container, say so yourself, and publish the port only where trusted clients are:
#
#   docker run --rm --read-only --cap-drop ALL --volume sessionplane:/data --publish 127.0.0.1:50051:50051 \
#     --env SESSIONPLANE_LISTEN=0.0.0.0:50051 --env SESSIONPLANE_INSECURE_BIND=true sessionplane:dev
#
# Protos and protoset for grpcurl: /protos.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build

RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

# Debian's SQLite has the WAL-reset bug, which can lose committed data (fixed in 3.51.3 and 3.53.0).
ARG SQLITE_URL=https://sqlite.org/2026/sqlite-autoconf-3530400.tar.gz
ARG SQLITE_SHA256=0e9483900e92cd5de8fd48d16bf9200145a61f7fd5be542a5ac81d8a9516eb9c
ADD ${SQLITE_URL} /sqlite.tar.gz
WORKDIR /sqlite
RUN echo "${SQLITE_SHA256}  /sqlite.tar.gz" | sha256sum --check \
    && tar --extract --gzip --strip-components 1 --file /sqlite.tar.gz \
    && gcc -O2 -fPIC -shared -Wl,-soname,libsqlite3.so.0 -o libsqlite3.so.0 \
        -DNDEBUG -DSQLITE_THREADSAFE=1 -DHAVE_FDATASYNC=1 -DHAVE_USLEEP=1 \
        -DSQLITE_ENABLE_COLUMN_METADATA -DSQLITE_ENABLE_DBSTAT_VTAB -DSQLITE_ENABLE_FTS5 \
        -DSQLITE_ENABLE_MATH_FUNCTIONS -DSQLITE_ENABLE_RTREE \
        sqlite3.c -lm -lpthread -ldl

# Dependencies first, so that a change of the code does not fetch them again. pyproject.toml pins uv itself.
WORKDIR /src
ENV UV_PROJECT_ENVIRONMENT=/opt/sessionplane UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN python -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir "$(sed -n 's/^ *"\(uv==[^"]*\)".*/\1/p' pyproject.toml)" \
    && /opt/uv/bin/uv sync --locked --no-dev --extra server --no-install-project --no-cache
COPY protos protos
COPY service service
COPY clients/python clients/python
RUN /opt/uv/bin/uv sync --locked --no-dev --extra server --no-editable --no-cache


FROM ${PYTHON_IMAGE}

# /usr/local/lib comes before Debian's own libraries. Should that ever change, the build fails here.
COPY --from=build /sqlite/libsqlite3.so.0 /usr/local/lib/
RUN ldconfig \
    && python -c "import sqlite3; assert sqlite3.sqlite_version_info >= (3, 51, 3), sqlite3.sqlite_version" \
    && useradd --system --uid 10001 --user-group --home-dir /data --no-create-home sessionplane \
    && install --directory --owner sessionplane --group sessionplane --mode 0700 /data

COPY --from=build /opt/sessionplane /opt/sessionplane
COPY protos /protos

# Nothing but /data is written, so the root file system can be read-only.
ENV PATH=/opt/sessionplane/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SQLITE_TMPDIR=/data \
    SESSIONPLANE_DB=/data/sessionplane.db \
    SESSIONPLANE_LOG_FORMAT=json
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 50051
STOPSIGNAL SIGTERM

# Asks grpc.health.v1 where the server listens. (A server that gets --listen as an argument needs its own check.)
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["python", "-c", "\
import os, grpc; \
from grpc_health.v1 import health_pb2 as pb, health_pb2_grpc as rpc; \
at = os.environ.get('SESSIONPLANE_LISTEN', '127.0.0.1:50051'); \
at = at.replace('0.0.0.0', '127.0.0.1').replace('[::]', '[::1]'); \
answer = rpc.HealthStub(grpc.insecure_channel(at)).Check(pb.HealthCheckRequest(), timeout=3); \
raise SystemExit(answer.status != pb.HealthCheckResponse.SERVING)"]

ENTRYPOINT ["sessionplane"]
CMD ["serve"]
