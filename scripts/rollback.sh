#!/usr/bin/env bash
# Undoes the last update.sh: the version that ran before it, and the data that were saved then.
set -euo pipefail
usage() {
    cat <<END
Usage: ./scripts/rollback.sh [--yes]

Puts back what ran before the last ./scripts/update.sh, whether that came to its end or not: the images, the files in this
folder (git checkout), and the backup that it made. What was written since is lost; readings come again from BigQuery.

  --yes  do not ask
END
}
yes=no
for argument in "$@"; do
    case "$argument" in
        --yes) yes=yes ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done
# shellcheck source=scripts/compose.sh
source "$(dirname "$0")/compose.sh"
[ -f .update ] || fail "No update is on record here." "see ./scripts/restore.sh --help for going back to a backup and its version"
version="$(sed -n 's/^version=//p' .update)" saved="$(sed -n 's/^backup=//p' .update)"
[ -n "$saved" ] || fail "The last update made no backup (--no-backup), so that there are no data to go back to." "./scripts/restore.sh FOLDER --with-version, with the backup that you want"
say "Back to version $version, with the data of $saved."
options=(--with-version)
[ $yes = no ] || options+=(--yes)
"$PWD/scripts/restore.sh" "${options[@]}" -- "$saved"
rm -f .update
