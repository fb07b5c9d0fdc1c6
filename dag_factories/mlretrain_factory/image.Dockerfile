# The image of jobs: a runtime image, the packages that the pipelines ask for, and their code.
ARG BASE
FROM ${BASE}
USER 0
COPY requirements.txt /etc/mlretrain/requirements.txt
# What the pipelines ask for wins over the runtime's pins.
RUN test ! -s /etc/mlretrain/requirements.txt || env -u UV_CONSTRAINT uv pip install --no-cache \
    --compile-bytecode --python "$(command -v python)" -r /etc/mlretrain/requirements.txt
COPY code /app/
RUN python -m compileall -q /app || true
WORKDIR /app
ENV MLRETRAIN_CODE_PATHS=/app
USER 10001
RUN python -c "import mlretrain.runtime.runner"
