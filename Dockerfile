# ckptkit without a framework, as a user that is nobody:
#
#     docker build -t ckptkit .
#     docker run --rm -v "$PWD:/work:ro" ckptkit validate models/bert
#     docker run --rm -v "$PWD:/work" --user "$(id -u):$(id -g)" ckptkit convert bert_model.ckpt bert-hf/ --to hf
FROM python:3.11-slim AS build
WORKDIR /source
# for the compiled module; without a compiler the wheel would do without
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY . .
RUN python -m pip wheel --no-cache-dir --constraint constraints.txt --wheel-dir /wheels .

FROM python:3.11-slim
# from these wheels only: the name on PyPI belongs to another project
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    python -m pip install --no-cache-dir --no-index --find-links /wheels ckptkit
USER 65534:65534
WORKDIR /work
ENTRYPOINT ["ckptkit"]
CMD ["--help"]
