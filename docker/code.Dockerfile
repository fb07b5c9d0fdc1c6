# A job's image with your code: docker build -f docker/code.Dockerfile -t registry.example/team/flights:3 <folder>
# Packages that your code needs beyond the runtime's are read from requirements.txt in that folder.
ARG RUNTIME=mlretrain/runtime:0.1.0
FROM ${RUNTIME}
USER root
COPY . /app/
RUN test ! -f /app/requirements.txt || uv pip install --no-cache --compile-bytecode -r /app/requirements.txt
USER 10001
