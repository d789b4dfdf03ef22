# The programs in a small image: docker build -t skn . && docker run --rm -v "$PWD:/work" skn skn-run
# Compiling takes a quarter of an hour on two cores. Data, models and runs are of the folder that is mounted at /work; the cache of
# the Hub is at /work/.cache/huggingface unless HF_HOME says otherwise. docs/how-to/cluster.md takes the image to clusters;
# scripts/container.sh tries its last stage where no engine runs.
FROM rust:1.95-slim-bookworm AS build
# zstd and ring have parts in C.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
ARG SKN_COMMIT=unknown
ENV CARGO_PROFILE_RELEASE_STRIP=symbols SKN_COMMIT=$SKN_COMMIT
RUN cargo build --release --locked -p skn -p skn-fetch --bins \
    && mkdir /programs \
    && cp target/release/skn-fetch /programs/ \
    && for source in bins/skn/src/bin/*.rs; do \
           cp "target/release/$(basename "$source" .rs)" /programs/ || exit 1; \
       done

FROM debian:bookworm-slim
RUN groupadd --gid 1000 skn \
    && useradd --uid 1000 --gid skn --no-create-home --shell /usr/sbin/nologin skn \
    && install --directory --owner=skn --group=skn /work
COPY --from=build /programs/ /usr/local/bin/
COPY LICENSE /usr/share/doc/skn/LICENSE
USER skn
WORKDIR /work
ENV HF_HOME=/work/.cache/huggingface
CMD ["skn-run", "--help"]
