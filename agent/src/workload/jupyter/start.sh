# Starts Jupyter on the agent's terms, whatever environment and configuration it finds. POSIX sh; busybox is enough.
#
#     start VERB NAME TOKEN REPORT HOST SETTING...
#
# VERB is lab or notebook, NAME part of the name of a private folder, TOKEN a file with the token, or - for one on
# standard input, HOST a name under which it answers besides localhost. SETTING is `trait=value` of the server's class.
# Lines that begin with "jq: " are for the agent; they
# are written to the file REPORT as well, unless it is -.
verb=$1 name=$2 token=$3 report=$4 host=$5
shift 5

say() {
    echo "jq: $*"
    [ "$report" = - ] || { echo "jq: $*" >>"$report"; } 2>/dev/null
}
usable() { [ -n "$1" ] && mkdir -p "$1" 2>/dev/null && [ -r "$1" ] && [ -x "$1" ]; }
writable() { usable "$1" && [ -w "$1" ]; }

uid=$(id -u)
say "started as uid $uid"

# A folder of this user alone, checked from inside: mounts may lie over any place.
private=
for base in "${TMPDIR:-/tmp}" /tmp /var/tmp /dev/shm /run "${HOME:-/}"; do
    candidate=$base/jq-jupyter-$uid-$name
    mkdir -m 700 "$candidate" 2>/dev/null ||
        { [ -O "$candidate" ] && [ ! -L "$candidate" ] && chmod 700 "$candidate" 2>/dev/null; } || continue
    if (umask 077 && echo >"$candidate/jupyter_server_config.py") 2>/dev/null; then
        private=$candidate
        break
    fi
done
if [ -z "$private" ]; then
    say "no folder can be written to"
    exit 125
fi

say "folder $private"
[ -z "${PYTHONPATH:-}" ] || say "PYTHONPATH=$PYTHONPATH"

# Beside another command: it gets the environment of the container's first process, which an entry point may have
# prepared, and not only that of the image.
adopt_environment() {
    first=1
    case $(cat /proc/1/comm 2>/dev/null) in
    docker-init | tini* | dumb-init | catatonit) read -r first _ </proc/1/task/1/children ;;
    esac
    # A line each: the end of a variable and a line break in a value change places with each other.
    (umask 077 && tr '\000\n' '\n\001' <"/proc/$first/environ" >"$private/environ") 2>/dev/null || return
    while IFS= read -r line; do
        variable=${line%%=*} value=${line#*=}
        case $variable in
        '' | [0-9]* | *[!A-Za-z0-9_]* | _ | PWD | OLDPWD | SHLVL | TERM | PPID | UID | EUID | IFS | BASH* | SHELLOPTS) continue ;;
        esac
        case $value in *"$(printf '\001')"*) value=$(printf %s "$value" | tr '\001' '\n') ;; esac
        export "$variable=$value" 2>/dev/null
    done <"$private/environ"
    rm -f "$private/environ"
}
if [ "$token" = - ]; then
    token=$private/token
    IFS= read -r secret
    (umask 077 && printf %s "$secret" >"$token")
    secret=
    adopt_environment
fi
if ! [ -s "$token" ] || ! [ -r "$token" ]; then
    say "cannot read $token"
    exit 125
fi

# Where image or container name places that this user cannot use, Jupyter gets others.
if ! writable "${HOME:-}"; then
    say "home ${HOME:-unset} cannot be written to"
    export HOME="$private/home"
    mkdir -p "$HOME"
fi
usable "${JUPYTER_CONFIG_DIR:-$HOME/.jupyter}" || export JUPYTER_CONFIG_DIR="$private/config"
usable "${JUPYTER_DATA_DIR:-$HOME/.local/share/jupyter}" || export JUPYTER_DATA_DIR="$private/data"
writable "${JUPYTER_RUNTIME_DIR:-${JUPYTER_DATA_DIR:-$HOME/.local/share/jupyter}/runtime}" ||
    export JUPYTER_RUNTIME_DIR="$private/runtime"

if ! command -v jupyter >/dev/null 2>&1; then
    say "no jupyter on PATH=$PATH"
    exit 127
fi

# JupyterLab before 3 and Jupyter Notebook before 7 run the classic server.
app=ServerApp
if ! command -v jupyter-server >/dev/null 2>&1; then
    app=NotebookApp
elif [ "$verb" = notebook ]; then
    case $(jupyter notebook --version 2>/dev/null) in [1-6].*) app=NotebookApp ;; esac
fi

# On a socket in the private folder, because others can reach every port of this network. A server that does not know
# how to would listen on a port.
for setting; do
    [ "$setting" = sock=@ ] || continue
    version=$(jupyter server --version 2>/dev/null || jupyter notebook --version 2>/dev/null)
    case $app,$version in
    ServerApp,0.* | ServerApp,1.[0-8].* | NotebookApp,[1-5].* | NotebookApp,6.0.*)
        say "server $version has no socket"
        exit 125
        ;;
    esac
    program=$(head -n 1 "$(command -v jupyter)" 2>/dev/null)
    case $program in
    '#!/'*' '*) program= ;;
    '#!/'*python*) program=${program#??} ;;
    *) program= ;;
    esac
    say "python ${program:-$(command -v python3 || command -v python)}"
done

# The first folder of this path has the last word among files of configuration. What is said there and on the command
# line is said again whenever settings come from elsewhere: those of extensions and of older names would come after it.
# A token of the environment counts only where no file has one.
unset JUPYTER_TOKEN JUPYTER_PASSWORD JUPYTER_PORT JUPYTER_PORT_RETRIES
export JUPYTER_TOKEN_FILE="$token" JUPYTER_CONFIG_PATH="$private${JUPYTER_CONFIG_PATH:+:$JUPYTER_CONFIG_PATH}"
configure() {
    (umask 077 && printf '%s\n' \
        'import os, sys' \
        'from copy import deepcopy' \
        "$@" \
        'c = get_config()' \
        'with open(os.environ["JUPYTER_TOKEN_FILE"]) as file:' \
        '    token = file.read().strip()' \
        'app = c[App.__name__]' \
        "app.local_hostnames = [\"localhost\", \"$host\"]" \
        'app.login_handler_class, app.ssl_options, app.tornado_settings = login, {}, {}' \
        'app.websocket_url = ""' \
        'for word in sys.argv:' \
        '    name, _, root = word.partition("=")' \
        '    if name.endswith((".root_dir", ".notebook_dir")):' \
        '        c.FileContentsManager.root_dir, c.FileContentsManager.preferred_dir = root, ""' \
        '        if major > 0:' \
        '            app.preferred_dir = root' \
        'if major < 2:' \
        '    app.token, app.password, app.password_required = token, "", False' \
        'else:' \
        '    # An identity provider has the token, and the settings of before are warned of.' \
        '    app.identity_provider_class = "jupyter_server.auth.identity.PasswordIdentityProvider"' \
        '    app.authorizer_class = "jupyter_server.auth.authorizer.AllowAllAuthorizer"' \
        '    for provider in c.IdentityProvider, c.PasswordIdentityProvider:' \
        '        provider.token, provider.hashed_password, provider.password_required = token, "", False' \
        'def update_config(self, config, before=App.update_config):' \
        '    config = deepcopy(config)' \
        '    config.merge(deepcopy(c))' \
        '    config.merge(deepcopy(getattr(self, "cli_config", {})))' \
        '    before(self, config)' \
        'App.update_config = update_config' \
        >"$private/jupyter_server_config.py") &&
        cp "$private/jupyter_server_config.py" "$private/jupyter_notebook_config.py" &&
        cp "$private/jupyter_server_config.py" "$private/jupyter_config.py"
}
if [ "$app" = NotebookApp ]; then
    configure 'from notebook.notebookapp import NotebookApp as App' \
        'major, login = 0, "notebook.auth.login.LoginHandler"'
else
    configure 'from jupyter_server import __version__' \
        'from jupyter_server.serverapp import ServerApp as App' \
        'major, login = int(__version__.split(".")[0]), "jupyter_server.auth.login.LoginHandler"'
fi

left=$#
while [ "$left" -gt 0 ]; do
    case $app,$1 in
    *,sock=@) set -- "$@" "--$app.sock=$private/jupyter.sock" ;;
    NotebookApp,root_dir=*) set -- "$@" "--NotebookApp.notebook_dir=${1#*=}" ;;
    *) set -- "$@" "--$app.$1" ;;
    esac
    shift
    left=$((left - 1))
done
[ "$uid" != 0 ] || set -- "$@" --allow-root
exec jupyter "$verb" --no-browser "$@" </dev/null
