#!/usr/bin/env bash
# Copies a directory into a space by WebDAV, and compares what arrived with what is here.
#
#     export SYNCLINE_ENDPOINT=https://files.example.com SYNCLINE_KEY=syk_...     # a key of the settings of the web app
#     ./backup.sh ~/Pictures personal/Pictures
#
# What is replaced stays in the history, what is deleted later stays in the trash.
set -euo pipefail

if (($# != 2)); then
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi

# A remote of the name `syncline`, by variables instead of a configuration file.
export RCLONE_CONFIG=/dev/null
export RCLONE_CONFIG_SYNCLINE_TYPE=webdav
export RCLONE_CONFIG_SYNCLINE_URL="$SYNCLINE_ENDPOINT/dav/"
export RCLONE_CONFIG_SYNCLINE_VENDOR=owncloud # so that times are sent along
export RCLONE_CONFIG_SYNCLINE_BEARER_TOKEN="$SYNCLINE_KEY"

rclone copy --transfers 16 "$1" "syncline:$2"
rclone check --download "$1" "syncline:$2"
