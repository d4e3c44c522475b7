# Two small images, not run as root:
#   docker build --target operator -t tallygate-operator .
#   docker build --target sidecar  -t tallygate-sidecar .
FROM debian:bookworm-slim AS build
WORKDIR /src
COPY scripts/setup.sh scripts/
RUN scripts/setup.sh build
COPY . .
RUN cmake --preset release && ninja -C build/release tallygate-operator tallygate-sidecar \
    && strip build/release/bin/tallygate-operator build/release/bin/tallygate-sidecar

FROM debian:bookworm-slim AS operator
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates tzdata libcpprest2.10 libyaml-cpp0.7 \
      libpqxx-6.4 libhiredis0.14 libprometheus-cpp-core1.0 libspdlog1.10 libfmt9 libdate-tz3 libcurl4 libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/build/release/bin/tallygate-operator /usr/local/bin/
USER 65532:65532
EXPOSE 9090
ENTRYPOINT ["tallygate-operator"]
CMD ["run"]

FROM debian:bookworm-slim AS sidecar
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libyaml-cpp0.7 libhiredis0.14 \
      libprometheus-cpp-core1.0 libspdlog1.10 libfmt9 libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* && install -d -o 65532 -g 65532 /var/lib/tallygate
COPY --from=build /src/build/release/bin/tallygate-sidecar /usr/local/bin/
USER 65532:65532
VOLUME /var/lib/tallygate
EXPOSE 8080 9902
ENTRYPOINT ["tallygate-sidecar"]
CMD ["run"]
