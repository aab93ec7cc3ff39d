#!/usr/bin/env bash
# Sourced after compose.sh: the images that Compose uses bear no version; each build is kept under its own beside that,
# so that there is a way back.
version_here() { # of the files in this folder: the revision, and what was changed since
    local revision
    revision="$(git rev-parse --short=12 HEAD 2>/dev/null)" || { echo unknown; return; }
    git diff --quiet HEAD 2>/dev/null || revision="$revision-$(git diff HEAD | sha256sum | cut -c1-8)"
    echo "$revision"
}

image_names() { # of those that are built here
    setting PROCESSING_IMAGE abbanoa-processing && echo
    setting API_IMAGE abbanoa-api && echo
    setting DEMO_IMAGE abbanoa-demo && echo
}

versioned() { # an image's name, a version -> the name of that version
    local last="${1##*/}"
    printf '%s' "${1%"$last"}${last%%:*}:$2"
}

version_of() { # a container -> the version of its image; of one that was built without our scripts, its number
    local revision
    revision="$(docker inspect -f '{{index .Config.Labels "org.opencontainers.image.revision"}}' "$1" 2>/dev/null)" || true
    case "$revision" in
        "" | unknown | "<no value>") docker inspect -f '{{.Image}}' "$1" 2>/dev/null | sed 's/^sha256:\(.\{12\}\).*/image-\1/' || true ;;
        *) echo "$revision" ;;
    esac
}

keep_image() { # an image's name, the image, a version
    docker tag "$2" "$(versioned "$1" "$3")"
}

keep_built() { # a version -> what was just built is kept under it
    local name
    while IFS= read -r name; do
        ! docker image inspect "$name" >/dev/null 2>&1 || keep_image "$name" "$name" "$1"
    done < <(image_names)
}

keep_running() { # a version -> what runs is kept under it
    local service name id
    while IFS='|' read -r service name; do
        id="$(containers_of "$service" | head -n 1)"
        [ -z "$id" ] || keep_image "$name" "$(docker inspect -f '{{.Image}}' "$id")" "$1"
    done < <(paste -d'|' <(printf 'processing\napi\nbigquery\n') <(image_names))
}

has_version() { # a version -> whether the images of both services are here
    docker image inspect "$(versioned "$(setting PROCESSING_IMAGE abbanoa-processing)" "$1")" >/dev/null 2>&1 &&
        docker image inspect "$(versioned "$(setting API_IMAGE abbanoa-api)" "$1")" >/dev/null 2>&1
}

use_version() { # a version -> what Compose uses is that one
    local name
    while IFS= read -r name; do
        ! docker image inspect "$(versioned "$name" "$1")" >/dev/null 2>&1 || docker tag "$(versioned "$name" "$1")" "$name"
    done < <(image_names)
}

forget_versions_but() { # versions ... -> images of other versions that our builds made are removed
    local name repository tag
    while IFS= read -r name; do
        repository="$(versioned "$name" "")"
        while IFS= read -r tag; do
            [[ "$tag" =~ ^([0-9a-f]{12}(-[0-9a-f]{8})?|image-[0-9a-f]{12})$ ]] || continue
            [[ " $* " != *" $tag "* ]] || continue
            [[ "$(docker image inspect -f '{{index .Config.Labels "org.opencontainers.image.title"}}' "$repository$tag")" == Abbanoa* ]] || continue
            docker rmi "$repository$tag" >/dev/null 2>&1 || true
        done < <(docker images --format '{{.Tag}}' "${repository%:}")
    done < <(image_names)
}
