# Two stages: one builds with the scripts that everybody uses, the other holds what serving needs and nothing more.
FROM golang:1.26-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip npm unzip && rm -rf /var/lib/apt/lists/*
WORKDIR /src
ENV LIKENESS_NATIVE=/native
COPY go.mod go.sum ./
COPY scripts scripts
COPY models/backend/ort/kernels models/backend/ort/kernels
RUN scripts/setup
COPY . .
RUN scripts/build

FROM debian:bookworm-slim
RUN useradd --create-home --uid 10001 likeness && install -d -o likeness /data
COPY --from=build /native /native
COPY --from=build /src/bin/server /usr/local/bin/server
COPY --from=build /src/models/demo /models/demo
ENV LIKENESS_NATIVE=/native LIKENESS_MODEL=/models/demo LIKENESS_STORE=bolt:/data/concepts.db LIKENESS_ADDR=0.0.0.0:8080
USER likeness
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["server"]
