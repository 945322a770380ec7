# Starts the agent if it is installed on this host, else reports where it can be installed. Begins with enter.sh.
# Variables: nonce, role, agents (MACHINE=FILE:SHA256 ...), conditions (further arguments of the agent), distrusted (folders
# whose agent did not start, one per line), refused (folders where the upload failed). Needs sh, uname, mkdir and chmod.
# All code is in functions, and the last line calls them: a shell reads its input ahead, and must have read the whole
# script before anything else is sent.

newline='
'
tab=$(printf '\t')

# Calls $1 with the parent and the name of each possible folder for agents, the preferred one first.
folders() {
    case ${HOME:-} in
    /*)
        is_home=yes
        "$1" "${HOME%/}/.cache" jq
        ;;
    *) unfit "home folder" "HOME is not set" ;;
    esac
    is_home=
    uid=$(id -u 2>/dev/null)
    if [ -z "$uid" ]; then
        unfit "temporary folders" "there is no id command to name one after"
        return
    fi
    case ${TMPDIR:-} in /*) ;; *) TMPDIR=/tmp ;; esac
    for parent in "$TMPDIR" /var/tmp /dev/shm; do
        [ -d "$parent" ] && "$1" "${parent%/}" "jq-$uid"
    done
}

is_among() { case $newline$2$newline in *"$newline$1$newline"*) ;; *) false ;; esac; }

unfit() {
    [ -n "$examining" ] || return 0
    case $1 in
    *"$newline"* | *"$tab"*) set -- "a folder" "its name has a line break or a tab" ;;
    esac
    printf 'unfit\t%s\t%s\n' "$1" "${2%%"$newline"*}"
}

# Whether the agent's file has the content that the client has. Where this host cannot tell, the agent checks that first.
is_right() {
    if command -v sha256sum >/dev/null 2>&1; then
        case $(sha256sum <"./$agent" 2>/dev/null) in "$sha256"*) ;; *) false ;; esac
    else
        conditions="$conditions --sha256 $sha256"
    fi
}

start() {
    ! is_among "$1/$2" "$distrusted" && enter "$1" "$2" || return
    [ -f "$agent" ] && [ ! -L "$agent" ] && [ -O "$agent" ] && [ -s "$agent" ] && [ -x "$agent" ] || return
    is_right || return
    printf 'found\t%s\n' "$1/$2"
    umask "$login_umask"
    # shellcheck disable=SC2086
    exec "./$agent" bootstrap "$role" --nonce "$nonce" $conditions
}

# Stops at the first suitable folder: no other one is created.
examine() {
    folder=$1/$2
    [ -z "$fit" ] && ! is_among "$folder" "$refused" || return
    case $folder in
    *"$newline"* | *"$tab"*) unfit "$folder" && return ;;
    esac
    if [ -n "$is_home" ]; then
        why=$(mkdir -p "$1" 2>&1) || { unfit "$folder" "${why:-it cannot be created}" && return; }
    fi
    cd -P "$1" 2>/dev/null || { unfit "$folder" "$1 cannot be entered" && return; }
    # In a folder that others can write to, only the sticky bit keeps them from replacing our folder.
    if [ -z "$is_home" ] && [ ! -O . ] && [ ! -k . ]; then
        unfit "$folder" "others can replace what is in $1" && return
    fi
    why=$(mkdir -p "./$2" 2>&1) || { unfit "$folder" "${why:-it cannot be created}" && return; }
    enter "$1" "$2" || { unfit "$folder" "it belongs to another user" && return; }
    why=$(chmod 700 . 2>&1) || { unfit "$folder" "${why:-it cannot be made private (0700)}" && return; }
    try=./.try-$nonce
    if why=$({ printf '#!/bin/sh\nexit 0\n' >"$try" && chmod 700 "$try"; } 2>&1); then
        if why=$("$try" 2>&1); then
            printf 'folder\t%s\n' "$folder"
            fit=yes
        else
            unfit "$folder" "nothing can be executed there (noexec)"
        fi
    else
        unfit "$folder" "${why:-it is not writable}"
    fi
    rm -f "$try" 2>/dev/null
}

main() {
    login_umask=$(umask)
    umask 077
    set -f
    printf '\n%s\n' "$nonce"
    # shellcheck disable=SC2046
    set -- $(uname -s -m 2>/dev/null)
    printf 'system\t%s\t%s\n' "${1:-}" "${2:-}"
    agent=
    for known in $agents; do
        case $known in "${2:-}="*) agent=${known#*=} ;; esac
    done
    sha256=${agent#*:}
    agent=${agent%%:*}
    if [ "${1:-}" = Linux ] && [ -n "$agent" ]; then
        examining= fit=
        folders start
        examining=yes
        folders examine
        command -v gzip >/dev/null 2>&1 && printf 'tool\tgzip\n'
        command -v sha256sum >/dev/null 2>&1 && printf 'tool\tsha256sum\n'
    fi
    printf 'end\n'
}

main; exit
