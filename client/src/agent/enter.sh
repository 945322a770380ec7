# Enters the folder $2 in the folder $1 for good. Everything after this is named relative to it, so that nobody can put another
# folder in its place between a check and a use. Fails unless it is a folder of this user, and no link to one.
enter() {
    CDPATH=
    cd -P "$1" 2>/dev/null || return
    within=$(pwd -P)
    cd -P "./$2" 2>/dev/null || return
    [ "$(pwd -P)" = "${within%/}/$2" ] && [ -O . ]
}

