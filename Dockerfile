# Images by an ordinary builder: docker build --platform linux/amd64 --target agent -t vedette-agent:0.1.0 . (and aggregator, range).
# `make images` needs none.
FROM rust:1.95.0-bookworm AS build
WORKDIR /source
COPY . .
# glibc linked in: what runs has no libraries. The agent resolves names by itself.
ENV RUSTFLAGS="-C target-feature=+crt-static" CARGO_TARGET_DIR=/target
# What the image has: rust-toolchain.toml asks for clippy and rustfmt too, and rustup would fetch them.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN cargo build --profile image --locked --target x86_64-unknown-linux-gnu -p vedette-agent -p vedette-aggregator -p vedette-range --bins \
    && mkdir -p /root-of/agent/var/lib/vedette-agent /root-of/aggregator/var/lib/vedette /root-of/range \
    && for name in agent aggregator range; do \
        mkdir -m 1777 /root-of/$name/tmp && cp /target/x86_64-unknown-linux-gnu/image/vedette-$name /root-of/$name/ || exit 1; \
    done \
    && chown 65532:65532 /root-of/agent/var/lib/vedette-agent /root-of/aggregator/var/lib/vedette

FROM scratch AS agent
COPY --from=build /root-of/agent /
USER 65532:65532
ENTRYPOINT ["/vedette-agent"]

FROM scratch AS aggregator
COPY --from=build /root-of/aggregator /
USER 65532:65532
ENTRYPOINT ["/vedette-aggregator"]

FROM scratch AS range
COPY --from=build /root-of/range /
USER 65532:65532
ENTRYPOINT ["/vedette-range"]
