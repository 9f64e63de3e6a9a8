#!/bin/sh
# Install the Debian packages that the tests need, where that may be done; else say what is missing and what it costs.
set -eu
PATH=$PATH:/usr/sbin
missing=
for pair in bwrap:bubblewrap podman:podman runc:runc catatonit:catatonit busybox:busybox-static \
    docker-registry:docker-registry htpasswd:apache2-utils s3fs:s3fs fusermount:fuse chromium:chromium \
    java:openjdk-17-jre-headless curl:curl haproxy:haproxy redis-server:redis-server \
    sbatch:slurm-wlm munged:munge mkfs.xfs:xfsprogs; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -q >/dev/null
    # shellcheck disable=SC2086 - a list of names
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing >/dev/null
    exit 0
fi
echo "not installed, and not to be installed without root:$missing; the tests that need them are skipped" >&2
[ -z "${CI:-}" ]
