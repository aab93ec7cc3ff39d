#!/bin/sh
# Sourced: what makes a secret unfit. Prints the reason, and fails, where there is one.
weakness() { # value
    case "$(printf %s "$1" | tr '[:upper:]' '[:lower:]')" in
        *password* | *changeme* | *change_me* | *secret* | *abbanoa* | *example* | *admin* | *12345* | *qwerty*)
            echo "contains a word or a sequence that everybody tries first"
            return 1
            ;;
    esac
    if [ "${#1}" -lt 16 ]; then
        echo "has ${#1} characters, fewer than 16"
        return 1
    fi
    if [ "$(printf %s "$1" | fold -w1 | sort -u | wc -l)" -lt 8 ]; then
        echo "has fewer than 8 different characters"
        return 1
    fi
}
