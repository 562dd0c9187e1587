# One image for all roles of the workspace: the command says which role.
#
# BINS says where the programs come from:
#   build     (default) compiled here, in the image's own Rust
#   prebuilt  taken from dist/, which the continuous integration fills with what it has compiled already
# TOOLS says where the bpftrace of the target "tools" comes from:
#   packages  (default) Debian's
#   an image  one that has it
# BuildKit skips the stages that nobody asks for. There is no "# syntax=" line on purpose: it would
# pull a frontend image, and the one built into the engine (20.10 and later) knows all that is used here.
ARG BINS=build
ARG TOOLS=packages

FROM rust:1.95.0-slim-bookworm AS build
# The version of rust-toolchain.toml, which .dockerignore leaves out; a test holds the two together.
ENV RUSTUP_TOOLCHAIN=1.95.0
# dev compiles three times as fast, and is what `cargo run` uses; choose release to measure.
ARG PROFILE=dev
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --workspace --bins --profile "$PROFILE" \
    && mkdir /out \
    && find "target/$([ "$PROFILE" = dev ] && echo debug || echo "$PROFILE")" -maxdepth 1 -type f \
       -executable '(' -name 'demo*' -o -name reuseport ')' -exec cp {} /out/ ';' \
    && strip /out/*

FROM scratch AS prebuilt
COPY dist/ /out/

FROM ${BINS} AS bins

FROM debian:bookworm-slim AS packages
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bpftrace \
    && rm -rf /var/lib/apt/lists/*

# For watching the kernel, which root alone may do: what it may do besides is for compose.yaml to say.
FROM ${TOOLS} AS tools
COPY --from=bins /out/demo2-bpf /usr/local/bin/
COPY demo2-bpf/bpf/ /bpf/
USER 0:0

FROM debian:bookworm-slim
COPY --from=bins /out/ /usr/local/bin/
# nobody: no role needs a privilege. In the compose files only demo5-token writes files, and it runs as you there.
USER 65534:65534
