# Stages:
#   build    makes a wheel of the checkout and installs it into a venv of its own
#   runtime  has that venv, a user without privileges, and nothing to build with
#
#   docker build -t refresher .
#   docker run --read-only --tmpfs /tmp --stop-timeout 90 -v refresher:/var/lib/refresher \
#     -v ./refresher.toml:/etc/refresher/refresher.toml:ro refresher

FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY refresher refresher
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist . \
 && python -m venv --without-pip /opt/refresher \
 && pip --python /opt/refresher install --no-cache-dir /dist/*.whl

FROM python:3.13-slim AS runtime
# A fixed uid, so that volumes keep their owner from image to image.
RUN useradd --system --uid 10001 --user-group --no-create-home \
      --home-dir /var/lib/refresher --shell /usr/sbin/nologin refresher \
 && install --directory --owner refresher --group refresher --mode 0700 /var/lib/refresher
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
