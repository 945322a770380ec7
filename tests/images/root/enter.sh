# Runs a program with another directory as its root, in the mount namespace of this shell, which `unshare --mount` has created.
#
#     sh enter.sh ROOT [SOURCE TARGET]... -- PROGRAM [ARGUMENT]...
#
# Each SOURCE is mounted at TARGET below ROOT. /run is empty. With chroot instead of pivot_root, `docker exec` would enter the
# machine's own root. ROOT may be /, which changes nothing but the mounts.
set -eu
root=${1%/}
shift
mount --make-rprivate /
[ -z "$root" ] || mount --bind "$root" "$root"
mount -t tmpfs -o mode=0755 jq-lab "$root/run"
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then
        mkdir -p "$root$2"
    elif [ ! -e "$root$2" ]; then
        : >"$root$2"
    fi
    mount --rbind "$1" "$root$2"
    shift 2
done
shift
if [ -n "$root" ]; then
    cd "$root"
    mkdir -p .machine
    pivot_root . .machine
    umount --lazy /.machine
fi
exec "$@"
