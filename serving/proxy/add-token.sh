#!/usr/bin/env bash
# Creates a token: prints it once, and appends its SHA-256 to the file of tokens.
#
#   add-token.sh NAME DAYS [FILE]
#
# FILE is secrets/tokens beside this script. Remove a line to revoke a token. Both are effective at once.
set -euo pipefail
name=${1:?name of the owner} days=${2:?days it holds} file=${3:-$(dirname "$0")/secrets/tokens}
[[ $name =~ ^[A-Za-z0-9._@-]+$ ]] || { echo "error: $name: letters, digits and ._@- only" >&2; exit 2; }
[[ $days =~ ^[1-9][0-9]{0,3}$ ]] || { echo "error: $days: give a number of days, 1 to 9999" >&2; exit 2; }
token=$(openssl rand -hex 32)
hash=$(printf %s "$token" | openssl dgst -sha256 -r | cut -d ' ' -f 1)
until=$(date -u -d "+$days days" +%F)
# A last line without its end would swallow the new one.
[[ ! -s $file || -z $(tail -c 1 "$file") ]] || echo >>"$file"
echo "$hash $name $until" >>"$file"
echo "$token"
