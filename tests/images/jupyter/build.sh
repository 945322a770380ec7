#!/bin/sh
# Debian with JupyterLab on PATH, root as its user and no entry point: about what PyTorch's and NVIDIA's images are.
set -eu
container=$(docker create jq-lab/nojupyter true)
trap 'docker rm "$container" >/dev/null; rm -rf root jupyter.tar' EXIT
mkdir root
docker export "$container" | tar --extract --directory root

# pip runs in a chroot, with this machine's way to its package index: its certificates, its configuration and its names.
for file in "${PIP_CERT:-}" "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt; do
    if [ -f "$file" ]; then cp -L "$file" root/tmp/ca.crt && break; fi
done
for file in "${PIP_CONFIG_FILE:-}" /etc/pip.conf /etc/xdg/pip/pip.conf; do
    if [ -f "$file" ]; then cp -L "$file" root/tmp/pip.conf && break; fi
done
cp -L /etc/resolv.conf root/etc/resolv.conf
cat > root/tmp/install.sh <<'INSIDE'
set -eu
python3 -m venv /opt/jupyter
/opt/jupyter/bin/pip install --no-cache-dir jupyterlab ipykernel matplotlib numpy
# Matplotlib looks for fonts once, for ten seconds; better here than in front of a user.
MPLCONFIGDIR=/opt/jupyter/share/matplotlib /opt/jupyter/bin/python -c 'import matplotlib.font_manager'
INSIDE
unshare --mount sh -euc '
    mount --bind /dev root/dev
    mount -t proc proc root/proc
    exec env -u PIP_FIND_LINKS -u REQUESTS_CA_BUNDLE -u CURL_CA_BUNDLE PIP_CERT=/tmp/ca.crt PIP_CONFIG_FILE=/tmp/pip.conf HOME=/tmp \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot root sh /tmp/install.sh
'
tar --create --file jupyter.tar --directory root opt/jupyter
rm -rf root
docker build --tag "$IMAGE" --label "jq-lab.key=$KEY" .
