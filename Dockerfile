# Two small images without a shell, run as 65532, for a read-only root:
#   docker build --target operator -t tallygate-operator .
#   docker build --target sidecar  -t tallygate-sidecar .
# --platform linux/arm64 (or amd64) builds for another machine. scripts/images.sh builds both and writes SBOM and checksums beside them.
#
# BINARIES=prebuilt takes the programs from prebuilt/ in the context in place of building them; they must be Debian 12's.
ARG BINARIES=build

FROM debian:bookworm-slim AS build
WORKDIR /src
COPY scripts/setup.sh scripts/
RUN scripts/setup.sh build
COPY . .
RUN cmake --preset release && ninja -C build/release tallygate-operator tallygate-sidecar \
    && install -Dst /programs build/release/bin/tallygate-operator build/release/bin/tallygate-sidecar

FROM debian:bookworm-slim AS prebuilt
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates tzdata libcpprest2.10 libyaml-cpp0.7 libpqxx-6.4 \
      libhiredis0.14 libprometheus-cpp-core1.0 libspdlog1.10 libfmt9 libdate-tz3 libcurl4 libssl3 zlib1g libbrotli1 libzstd1
COPY prebuilt/ /programs/

FROM ${BINARIES} AS roots
ARG VERSION=0.1.0
RUN apt-get update && apt-get install -y --no-install-recommends libnftables1
COPY scripts/image_root.sh /
RUN for name in operator sidecar; do TALLYGATE_VERSION=$VERSION /image_root.sh /programs/tallygate-$name /roots/$name || exit 1; done \
    && mkdir /data

FROM scratch AS operator
COPY --from=roots /roots/operator /
USER 65532:65532
EXPOSE 9090
ENTRYPOINT ["/usr/local/bin/tallygate-operator"]
CMD ["run"]

FROM scratch AS sidecar
COPY --from=roots /roots/sidecar /
COPY --from=roots --chown=65532:65532 --chmod=0700 /data /var/lib/tallygate
USER 65532:65532
VOLUME /var/lib/tallygate
EXPOSE 8080 9902
ENTRYPOINT ["/usr/local/bin/tallygate-sidecar"]
CMD ["run"]
