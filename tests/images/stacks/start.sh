#!/bin/bash
# The contract of docker-stacks' start.sh: started as root it becomes NB_USER with NB_UID and NB_GID, whose home it makes
# over to them; started as anybody else it stays that.
set -e
command=("$@")
if [ ${#command[@]} -eq 0 ]; then command=(bash); fi

if [ "$(id -u)" != 0 ]; then
    exec "${command[@]}"
fi

if [ "$NB_UID" = 0 ] || [ "$NB_USER" = root ]; then
    exec "${command[@]}"
fi
if [ "$NB_USER" != jovyan ] || [ "$NB_UID" != 1000 ] || [ "$NB_GID" != 100 ]; then
    userdel jovyan
    if ! getent group "$NB_GID" >/dev/null; then groupadd --force --gid "$NB_GID" "$NB_USER"; fi
    useradd --no-log-init --no-create-home --home-dir "/home/$NB_USER" --shell /bin/bash --uid "$NB_UID" \
        --gid "$NB_GID" --groups 100 --non-unique "$NB_USER"
    if [ "$NB_USER" != jovyan ] && [ ! -e "/home/$NB_USER" ]; then cp -a /home/jovyan "/home/$NB_USER"; fi
    chown -R "$NB_UID:$NB_GID" "/home/$NB_USER"
fi
if [ "$PWD" = /home/jovyan ]; then cd "/home/$NB_USER"; fi
exec setpriv --reuid "$NB_UID" --regid "$NB_GID" --init-groups -- env HOME="/home/$NB_USER" USER="$NB_USER" "${command[@]}"
