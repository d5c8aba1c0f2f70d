# Stages:
#   build    makes a wheel of the checkout and installs it into a venv of its own
#   runtime  has that venv, a user without privileges, and nothing to build with
#
#   docker build -t refresher .
#   docker run --read-only --tmpfs /tmp --stop-timeout 90 -v refresher:/var/lib/refresher \
#     -v refresher-key:/etc/refresher/key -v ./refresher.toml:/etc/refresher/refresher.toml:ro \
#     -e REFRESHER_VAULT__KEY_FILE=/etc/refresher/key/refresher.key refresher

FROM python:3.13-slim AS build
WORKDIR /source
# Releases and hashes are those of the two locks, whatever the registry offers meanwhile.
COPY deploy/build-requirements.txt deploy/requirements.txt ./
RUN python -m venv --without-pip /build && python -m venv --without-pip /opt/refresher \
 && pip --python /build install --no-cache-dir --require-hashes -r build-requirements.txt \
 && pip --python /opt/refresher install --no-cache-dir --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY refresher refresher
RUN pip --python /build wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
 && pip --python /opt/refresher install --no-cache-dir --no-deps /dist/*.whl

FROM python:3.13-slim AS runtime
# A fixed uid, so that volumes keep their owner from image to image; slim images may have no
# useradd. The second folder is for the key: a new volume takes owner and mode from the folder
# that it covers.
RUN echo refresher:x:10001:10001::/var/lib/refresher:/usr/sbin/nologin >> /etc/passwd \
 && echo refresher:x:10001: >> /etc/group \
 && install --directory --owner refresher --group refresher --mode 0700 \
      /var/lib/refresher /etc/refresher/key
COPY --from=build /opt/refresher /opt/refresher
ENV PATH=/opt/refresher/bin:$PATH
# By number: Kubernetes can check runAsNonRoot only so.
USER 10001:10001
WORKDIR /var/lib/refresher
# The vault: the only copy of refresh tokens that rotate. Never run it without a volume.
VOLUME /var/lib/refresher
STOPSIGNAL SIGTERM
# Liveness, not readiness: whoever watches this may kill on "unhealthy", and a vault or a
# Redis that fails is no reason to kill the holder of a refresh token.
HEALTHCHECK --interval=30s --timeout=6s --start-period=60s --retries=3 \
  CMD ["refresher", "health"]
ENTRYPOINT ["refresher"]
CMD ["run"]
