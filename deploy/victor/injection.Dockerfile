# What the OpenTelemetry Operator copies into pods of a Victor that has no victor-otel in its own
# image. In a clone of the repository:
#   pip wheel --no-deps --wheel-dir deploy/victor .
#   docker build -t victor-otel-injection -f deploy/victor/injection.Dockerfile deploy/victor
# Some of the packages are compiled, so the Python and the C library here must be those of the pods:
# PYTHON=3.13-slim-bookworm for Python 3.13.
ARG PYTHON=3.12-slim-bookworm
FROM python:${PYTHON} AS builder

ARG VICTOR_OTEL=/context/victor_otel-0.1.0-py3-none-any.whl
# It loads what is to be instrumented, when Python starts.
ARG DISTRO=opentelemetry-distro>=0.66b0

COPY . /context/
RUN python -m pip install --no-cache-dir --only-binary=:all: --target /autoinstrumentation \
    "${VICTOR_OTEL}" "${DISTRO}"


# The operator copies /autoinstrumentation with this image's cp.
FROM busybox:1.37

COPY --from=builder /autoinstrumentation /autoinstrumentation
RUN chmod -R go+rX /autoinstrumentation
USER 10001:10001
