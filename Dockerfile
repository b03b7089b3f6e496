# The API and the workers run from this one image: the command says which.
#
#     docker build -t flow-manager .
#     docker run --rm flow-manager --help

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source

# pip stays behind in this stage: it installs into the environment from outside.
RUN python -m venv --without-pip /opt/flow-manager

# Before the source, so that a change of it does not install these again.
COPY requirements.lock requirements-build.lock ./
RUN pip --python /opt/flow-manager/bin/python install \
        --require-hashes --only-binary :all: --requirement requirements.lock \
    && pip install --require-hashes --only-binary :all: --requirement requirements-build.lock

COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY api api
COPY worker worker
COPY flow_manager flow_manager
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/flow-manager/bin/python install --no-deps --no-index /wheels/*.whl


FROM python:3.13-slim
# Compiled files came with the image, whose file system may be read-only.
ENV PATH=/opt/flow-manager/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
# A volume mounted on /data takes over this folder's owner when it is first used.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data flow \
    && install --directory --owner flow --group flow --mode 0750 /data
COPY --from=build /opt/flow-manager /opt/flow-manager
USER 10001:10001
WORKDIR /data
EXPOSE 8000
# docker-compose.yml checks each service in its own way.
HEALTHCHECK NONE
ENTRYPOINT ["flow-manager"]
CMD ["--help"]
