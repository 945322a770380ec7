# Shows an agent that this host cannot verify by itself, and puts it in its place when told that it is right.
# Before this: nonce, folder, agent (its file name), new (the file that waits).
# Prints the nonce, the file, the nonce; then reads `keep` or anything else; answers done, or failed and the reason.

main() {
    umask 077
    printf '\n%s\n' "$nonce"
    cat "$new"
    printf '\n%s\n' "$nonce"
    read -r verdict
    if [ "$verdict" != keep ]; then
        rm -f "$new"
        printf 'damaged\n'
    elif why=$({ chmod 700 "$new" && mv -f "$new" "$folder/$agent"; } 2>&1); then
        printf 'done\n'
    else
        rm -f "$new"
        printf 'failed\t\t%s\n' "$why"
    fi
}

main; exit
