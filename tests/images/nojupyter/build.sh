#!/bin/sh
# A plain Debian with Python, and no Jupyter in it: what many images of the trade look like.
set -eu
trap 'rm -rf root' EXIT
debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm root
# Nothing of the machine that built it, and nothing that only costs space.
rm -rf root/etc/resolv.conf root/etc/hostname root/var/cache/apt/* root/var/lib/apt/lists/* root/usr/share/doc/* \
    root/usr/share/man/* root/usr/share/locale/* root/var/log/*
tar --create --one-file-system --directory root . |
    docker import --change 'CMD ["bash"]' --change "LABEL jq-lab.key=$KEY" - "$IMAGE"
