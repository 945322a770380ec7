#!/bin/sh
# One static program and nothing else: no shell, no libraries, no users.
set -eu
mkdir root
"${RUSTC:-rustc}" --edition 2024 -C target-feature=+crt-static -C opt-level=2 -C strip=symbols \
    --target x86_64-unknown-linux-gnu -o root/echo echo.rs
tar --create --directory root . |
    docker import --change 'ENTRYPOINT ["/echo"]' --change 'CMD ["7000", "7001"]' --change "LABEL jq-lab.key=$KEY" - "$IMAGE"
