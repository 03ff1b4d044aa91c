# One image for the API, the worker and migrations. TORCH_INDEX chooses torch's build: the CPU one here, a CUDA one
# (https://download.pytorch.org/whl/cu126) for a worker with a GPU, empty for what PyPI has.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY tools/install_torch.py tools/
# torch alone comes from TORCH_INDEX; if that cannot be reached, from where everything else comes.
RUN python -m venv /opt/venv && /opt/venv/bin/python tools/install_torch.py "$TORCH_INDEX"
# An empty package is enough to install what the real one needs; its changes leave this layer alone.
RUN mkdir hyperserve && touch hyperserve/__init__.py \
    && /opt/venv/bin/pip install '.[server,otel]' \
    && find /opt/venv -name __pycache__ -prune -exec rm -rf {} +

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 hyperserve \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data hyperserve \
    && install -d -o hyperserve -g hyperserve /data
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY alembic.ini LICENSE README.md pyproject.toml ./
COPY hyperserve ./hyperserve
COPY migrations ./migrations
COPY workers ./workers
COPY models ./models
COPY app ./app
RUN /opt/venv/bin/python -m compileall -q /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    HYPERSERVE_HOST=0.0.0.0 \
    HYPERSERVE_DATA_DIR=/data
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8000, timeout=2); c.request('GET', '/readyz'); exit(c.getresponse().status != 200)"]
CMD ["hyperserve", "serve"]
