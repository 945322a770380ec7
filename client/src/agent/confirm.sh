# Prints an agent that this host cannot verify by itself, and installs it when the client has verified it. Begins with enter.sh.
# Variables: nonce, folder, agent (its file name), new (the name of the uploaded file in the folder).
# Prints the nonce, the file, the nonce; reads `keep` or anything else; answers done, or failed with the cause.

main() {
    umask 077
    printf '\n%s\n' "$nonce"
    enter "${folder%/*}" "${folder##*/}" && cat "./$new"
    printf '\n%s\n' "$nonce"
    read -r verdict
    if [ "$verdict" != keep ]; then
        rm -f "./$new"
        printf 'damaged\n'
    elif why=$({ chmod 700 "./$new" && { sync "./$new" || :; } 2>/dev/null && mv -f "./$new" "./$agent"; } 2>&1); then
        printf 'done\n'
    else
        rm -f "./$new"
        printf 'failed\t\t%s\n' "$why"
    fi
}

main; exit
