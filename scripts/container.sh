#!/usr/bin/env bash
# Tries what the Dockerfile does, where no container engine runs:
#
#     bash scripts/container.sh [FOLDER]     with the programs of a folder, by default target/debug
#     bash scripts/container.sh --compile    with those that the Dockerfile's first stage compiles, in release
#
# In a plain Debian root it does the commands of the Dockerfile's last stage, and then, as its user and in its folder, a training, two
# shards as pods of an indexed Job, and their merge. The first stage has a root of its own, this machine's Rust of the version that the
# Dockerfile names, and the files that git knows. Needs root, mmdebstrap and a mirror of Debian; where they are missing the script says
# so and is content. Not tried: the engines themselves, and the image that the first stage begins with.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "${1:-}" = --compile ] || programs=$(realpath -- "${1:-${CARGO_TARGET_DIR:-target}/debug}")
[ "$(id -u)" = 0 ] || { echo "skipped: only root can enter another root"; exit 0; }
command -v mmdebstrap >/dev/null || { echo "skipped: no mmdebstrap here (Debian: apt-get install mmdebstrap)"; exit 0; }

work=$(mktemp -d "${TMPDIR:-/tmp}/skn-container.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
image=$work/image

# A stage: what stands behind a FROM up to the next, lines that go on joined. Of the instructions of a name, what stands behind it.
dockerfile=$(sed -e ':join' -e '/\\$/{N;s/\\\n */ /;b join' -e '}' Dockerfile | grep -v '^#')
stage() { awk -v wanted="$1" '/^FROM /{ stage++ } stage == wanted' <<<"$dockerfile"; }
of() { sed -n "s/^$1 //p" <<<"$stage"; }

compile() {
    local root=$work/build from version suite folder line variables
    stage=$(stage 1)
    from=$(of FROM)
    version=$(sed -n 's/^rust:\([0-9.]*\)-slim-[a-z]* AS build$/\1/p' <<<"$from")
    suite=$(sed -n 's/^rust:[0-9.]*-slim-\([a-z]*\) AS build$/\1/p' <<<"$from")
    [ -n "$version$suite" ] || { echo "Dockerfile: expected a first stage from rust:<version>-slim-<suite> AS build, found $from"; exit 1; }
    case $(rustc --version) in
    "rustc $version."*) ;;
    *) echo "skipped: the Dockerfile compiles with Rust $version, here is $(rustc --version)"; exit 0 ;;
    esac
    mmdebstrap --quiet --variant=minbase --include=ca-certificates "$suite" "$root"
    cp -a "$(rustc --print sysroot)" "$root/usr/local/rust"
    # This machine's network, and whom it trusts there.
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    [ ! -f /etc/ssl/certs/ca-certificates.crt ] || cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    folder=$(of WORKDIR)
    [ "$(of COPY)" = ". ." ] || { echo "Dockerfile: expected COPY . . in the first stage, found $(of COPY)"; exit 1; }
    mkdir -p "$root$folder"
    git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$root$folder"
    variables="$(of ARG) $(of ENV | sed 's/[A-Z_]*=\$[A-Z_]*//')"
    of RUN | while read -r line; do
        echo "RUN $line"
        # What is mounted here goes when the command ends.
        root=$root folder=$folder variables=$variables line=$line unshare --mount bash -euc '
            mount -t proc proc "$root/proc"
            exec chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
                $variables sh -ec "cd $folder && $line"' </dev/null
    done
    programs=$root/programs
}

[ "${1:-}" != --compile ] || compile
stage=$(stage 2)
suite=$(of FROM | sed -n 's/^debian:\([a-z]*\)-slim$/\1/p')
[ -n "$suite" ] || { echo "Dockerfile: expected a last stage from debian:<suite>-slim, found $(of FROM)"; exit 1; }
# As small as the image that it stands for: what Debian requires, and apt.
mmdebstrap --quiet --variant=minbase "$suite" "$image"

in_image() { chroot "$image" "$@"; }
of RUN | while read -r line; do
    echo "RUN $line"
    in_image sh -ec "$line"
done
# COPY --from=build /programs/ PLACE: what the first stage would have made.
place=$(of 'COPY --from=build \/programs\/')
for source in bins/skn/src/bin/*.rs; do install "$programs/$(basename "$source" .rs)" "$image/$place"; done
install "$programs/skn-fetch" "$image/$place"
license=$(of 'COPY LICENSE')
install -D -m 644 LICENSE "$image/$license"
user=$(of USER)
folder=$(of WORKDIR)
variables=$(of ENV)

# As an engine starts it: the image's user, folder and variables, and nothing of this machine's environment.
start() {
    local words
    printf -v words '%q ' "$@"
    chroot --userspec="$user:$user" "$image" /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin $variables \
        sh -ec "cd $folder && exec $words"
}
start id
[ "$(start id -u)" != 0 ] || { echo "it runs as root"; exit 1; }
for program in skn-run skn-fetch; do start "$program" --help >/dev/null; done
start skn-train --model demo --task sentiment --max-steps 5 --out RUN --quiet
start skn-probe --resume_from RUN --splits train --out WHOLE --quiet
for pod in 0 1; do
    variables="$(of ENV) JOB_COMPLETION_INDEX=$pod SKN_SHARDS=2"
    start skn-probe --resume_from RUN --splits train --shard auto --out RUN --quiet
done
variables=$(of ENV)
start skn-merge --out RUN
cmp "$image$folder/WHOLE/sentiment/train_avg.safetensors" "$image$folder/RUN/sentiment/train_avg.safetensors"
[ "$(stat -c %u "$image$folder/RUN")" = "$(start id -u)" ] || { echo "the files are not the user's"; exit 1; }
# An engine that is told another user (docker run --user, Apptainer) has that one's number and no name.
chown 12345:12345 "$image$folder"
user=12345
start skn-verify RUN
start skn-train --model demo --task sentiment --max-steps 2 --out OTHER --quiet
echo "the image's last stage holds what the recipes need"
