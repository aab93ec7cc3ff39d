#!/bin/sh
# Sourced: what makes a secret unfit. Each function prints the reason, and fails, where there is one.
unusable() { # value -> what not everything that uses it would take for the same
    case "$1" in
        *"
"*) echo "has a line break in it"; return 1 ;;
        " "* | *" ") echo "begins or ends with a blank"; return 1 ;;
    esac
    # Byte by byte, whatever the locale.
    if [ -n "$(printf %s "$1" | LC_ALL=C tr -d ' -~')" ]; then
        echo "has a character that is not on every keyboard (allowed: letters a to z, digits, blanks and punctuation)"
        return 1
    fi
}

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
