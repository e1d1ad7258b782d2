# etcd-bootstrap on top of the official etcd image: `make image`, or `docker build .` with BuildKit.
#
# Targets: `image` (the default), and `binary`, which holds nothing but the program, to be copied by `install`.
# It builds for the platform that is asked for (amd64, arm64), in a Rust image of that platform. Beside the base
# images, only crates.io and Debian's protobuf-compiler and libprotobuf-dev are fetched.

ARG ETCD_IMAGE=gcr.io/etcd-development/etcd:v3.6.16
ARG RUST_IMAGE=docker.io/library/rust:1-slim-bookworm
# `compiled`: out of this folder. `given`: a binary that lies in the build context; no Rust image is needed then.
ARG BINARY_FROM=compiled

FROM ${RUST_IMAGE} AS compiled
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends protobuf-compiler libprotobuf-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
COPY src src
ARG TARGETARCH
# With --target the flag is for the program alone: procedural macros cannot be linked statically.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,id=etcd-bootstrap-${TARGETARCH},target=/source/target \
    case "$TARGETARCH" in \
      amd64) target=x86_64-unknown-linux-gnu ;; \
      arm64) target=aarch64-unknown-linux-gnu ;; \
      *) echo "no build for the architecture '$TARGETARCH': amd64 and arm64 are known" >&2; exit 1 ;; \
    esac \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --bin etcd-bootstrap --target "$target" \
 && cp "target/$target/release/etcd-bootstrap" /etcd-bootstrap

FROM scratch AS given
COPY etcd-bootstrap /etcd-bootstrap

FROM ${BINARY_FROM} AS chosen

FROM scratch AS binary
COPY --from=chosen /etcd-bootstrap /etcd-bootstrap
ARG VERSION REVISION
LABEL org.opencontainers.image.title="etcd-bootstrap (the program alone)" \
      org.opencontainers.image.description="Copies the entrypoint of etcd's pods into a shared volume: install DIR" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENTRYPOINT ["/etcd-bootstrap"]

FROM ${ETCD_IMAGE} AS image
COPY --from=chosen /etcd-bootstrap /usr/local/bin/etcd-bootstrap
ARG ETCD_IMAGE VERSION REVISION
LABEL org.opencontainers.image.title="etcd-bootstrap" \
      org.opencontainers.image.description="etcd with the entrypoint that founds, restarts, grows and mends its cluster" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${ETCD_IMAGE}"
ENTRYPOINT ["/usr/local/bin/etcd-bootstrap"]
CMD []
