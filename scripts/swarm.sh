#!/usr/bin/env bash
# The system on several machines, which Docker has joined to a swarm: deploys and updates it, and says how it is.
set -euo pipefail
usage() {
    cat <<END
Usage: ./scripts/swarm.sh deploy [--demo] [--loaded]
       ./scripts/swarm.sh status

deploy, on a manager: checks the swarm, labels, images and settings; makes the secrets; starts or updates the databases,
then migrates, then starts or replaces everything else, one task after the other; waits until all is healthy. It is the
first start and every update; where nothing has changed nothing is replaced.

  --demo    a simulated network in place of BigQuery; needs no settings and no credentials
  --loaded  the images lie on each machine already (docker load), and no registry is asked for them

status: machines and services, and what went wrong lately. The exit code is 1 where a machine or a task is missing.
END
}
action="" demo=no loaded=no
for argument in "$@"; do
    case "$argument" in
        deploy | status) action="$argument" ;;
        --demo) demo=yes ;;
        --loaded) loaded=yes ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done
[ -n "$action" ] || { usage >&2; exit 2; }
# shellcheck source=scripts/compose.sh
source "$(dirname "$0")/compose.sh"
# shellcheck source=scripts/settings.sh
source scripts/settings.sh

file=docker-stack.processing.yml
# They do one thing and end, so that none of their tasks runs.
once=" setup migrate demo-nodes "

# --- what must be there before anything is changed
need_manager() {
    case "$(docker info -f '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}' 2>/dev/null)" in
        "active true") ;;
        active*) fail "This machine is a worker of its swarm; only managers take orders." "run this on a manager (on one: docker node ls), or there: docker node promote $(hostname)" ;;
        locked*) fail "The swarm is locked on this machine." "docker swarm unlock" ;;
        *) fail "This machine is in no swarm." "docker swarm init --advertise-addr ADDRESS, with the address that the others reach this machine at; then on each of them the docker swarm join that it prints" ;;
    esac
}

machines() { # as a template shows them, a line each
    docker node ls -q | xargs docker node inspect -f "$1"
}

need_place_for_databases() {
    local places count
    # shellcheck disable=SC2016 # the template's own
    places="$(machines '{{if eq (print (index .Spec.Labels "abbanoa.database")) "true"}}{{.Description.Hostname}}{{end}}' | grep . || true)"
    count="$(printf '%s' "$places" | grep -c . || true)"
    [ "$count" != 0 ] || fail "No machine is labelled as that of the databases." "docker node update --label-add abbanoa.database=true NODE, one of: $(machines '{{.Description.Hostname}}' | paste -sd' ')"
    [ "$count" = 1 ] || fail "More than one machine is labelled as that of the databases: $(printf '%s' "$places" | paste -sd' ')." "docker node update --label-rm abbanoa.database NODE, for all but the one that holds the data"
}

need_nothing_of_compose() { # whose volumes and networks have the same names
    local ours="label=com.docker.compose.project=$stack"
    [ -z "$(docker ps -aq --filter "$ours" && docker network ls -q --filter "$ours")" ] ||
        fail "The system is set up on this machine without a swarm, under the same names." "docker-compose -f docker-compose.processing.yml down; it leaves the data, which the swarm goes on with where this is the machine of the databases"
}

need_image() { # the setting that names it, its default
    local name
    name="$(setting "$1" "$2")"
    if [ $loaded = yes ]; then
        docker image inspect "$name" >/dev/null 2>&1 ||
            fail "The image $name ($1) is not on this machine." "load it on every machine (docker save $name | ssh MACHINE docker load), or leave --loaded out where a registry has it"
    else
        timeout 900 docker pull -q "$name" >/dev/null 2>&1 ||
            fail "No registry that this machine can reach has the image $name ($1)." "name one in .env.processing ($1=registry.example.org/$2), then docker-compose -f docker-compose.processing.yml build and push; without a registry see --loaded"
    fi
}

# --- secrets: made as on one server, and handed to the swarm, which gives each to the machines that need it
users=(postgres migrate processing api redis nginx observability swarm)
secret_files=(postgres/postgres_password migrate/postgres_processing_password migrate/postgres_api_password
    migrate/postgres_readonly_password redis/redis_password processing/alert_smtp_password processing/alert_webhook_url
    processing/google_application_credentials.json postgres/server.crt postgres/server.key nginx/fullchain.pem nginx/privkey.pem)

with_secrets() { # options of docker run, --, a command: in a container that has the secrets' volumes, and no network
    local options=(--rm -i --user 0:0 --read-only --network none --cap-drop ALL --cap-add DAC_OVERRIDE
        --security-opt no-new-privileges --tmpfs /tmp) user
    for user in "${users[@]}"; do options+=(-v "${stack}_secrets-$user:/secrets/$user"); done
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    docker run "${options[@]}" "$(setting PROCESSING_IMAGE abbanoa-processing)" "$@" </dev/null
}

make_secrets() { # containers/setup/prepare.sh, as docker-compose.processing.yml runs it
    with_secrets --cap-add CHOWN --cap-add FOWNER --tmpfs /data/redis \
        -e "ENVIRONMENT=$(setting ENVIRONMENT production)" -e "SERVER_NAME=$(setting SERVER_NAME localhost)" \
        -v "$PWD/containers/setup:/setup:ro" -v "$PWD:/given:ro" \
        -v "$(setting GOOGLE_APPLICATION_CREDENTIALS /dev/null):/google/credentials.json:ro" \
        -- sh /setup/prepare.sh
}

versions_of_secrets() { # a line each: the file, and a digest that nobody can try guesses on, for it is salted
    # shellcheck disable=SC2016 # the container's shell
    with_secrets -- sh -c 'cd /secrets
        [ -s swarm/salt ] || (umask 077 && openssl rand -hex 32 >swarm/salt)
        for file in "$@"; do echo "$file $(cat swarm/salt "$file" | sha256sum | cut -c1-12)"; done' sh "${secret_files[@]}"
}

as_variable() { printf %s "$1" | tr '[:lower:].-' '[:upper:]__'; }

hand_out_secrets() { # and puts their names among `variables`
    local versions line path name
    versions="$(versions_of_secrets)" || fail "The secrets could not be read." "see the lines above"
    while IFS= read -r line; do
        path="${line%% *}"
        name="${stack}_${path##*/}.${line##* }"
        variables+=("SECRET_$(as_variable "${path##*/}")=$name")
        docker secret inspect "$name" >/dev/null 2>&1 && continue
        # Nothing is what a swarm does not keep; a line's end is taken for nothing by those who read it.
        # shellcheck disable=SC2016 # the container's shell
        with_secrets -- sh -c '[ -s "$1" ] && exec cat "$1"; echo' sh "/secrets/$path" |
            docker secret create --label "com.docker.stack.namespace=$stack" "$name" - >/dev/null ||
            fail "The secret $name could not be made." "see the lines above"
    done <<<"$versions"
}

# --- the stack
version_of_files() { sha256sum -- "$@" | sha256sum | cut -c1-12; }

files_of_stack() { echo $file; [ $demo = no ] || echo docker-stack.demo.yml; }

settings_of_stack() { # puts what the stack file asks for among `variables`
    local name value rules
    # shellcheck disable=SC2016,SC2046 # names of variables, and of files of ours
    while IFS= read -r name; do
        value="$(setting "$name")"
        [ -z "$value" ] || variables+=("$name=$value")
    done < <(sed -n 's/^ *\([A-Z_]*\):$/\1/p' $(files_of_stack) && grep -oh '\${[A-Z_]*' $(files_of_stack) | tr -d '${')
    rules="$(setting ALERT_RULES_FILE alerts/alert-rules.yml)"
    [ -f "./$rules" ] || fail "ALERT_RULES_FILE names $rules, which is no file in this folder." "put it into alerts/, and name it from here"
    value="$(setting API_REPLICAS 1)"
    [[ "$value" =~ ^[0-9]+$ ]] || fail "API_REPLICAS is '$value' in .env.processing." "give a whole number"
    variables+=(
        "STACK=$stack" "DEPLOYED=$(date -u +%Y-%m-%dT%H:%M:%SZ)" "API_TASKS=$((value + 1))"
        "FILES_POSTGRES=$(version_of_files containers/postgres/start.sh containers/postgres/pg_hba.conf)"
        "FILES_REDIS=$(version_of_files containers/redis/start.sh containers/redis/bin/redis-cli)"
        "FILES_NGINX=$(version_of_files nginx/*.conf nginx/*.sh)" "FILES_ALERTS=$(version_of_files "$rules")"
    )
}

services_of_stage() { # a number -> the stack file with the services of that stage alone
    awk -v stage="$1" '/^[a-z]/ {in_stage = 0} /^  # Stage [0-9]+:/ {in_stage = $3 + 0} in_stage == 0 || in_stage == stage' $file
}

deploy_stage() { # a number
    local more=() answer resolve=always
    [ "$1$demo" != 3yes ] || more=(-c docker-stack.demo.yml)
    [ $loaded = no ] || resolve=never
    # In an environment of the settings alone: a variable of this shell would take the place of what is empty in the file.
    answer="$(services_of_stage "$1" | env -i "${shell[@]}" "${variables[@]}" docker stack deploy --with-registry-auth \
        --resolve-image $resolve -c - ${more[@]+"${more[@]}"} "$stack" 2>&1)" ||
        { printf '%s\n' "$answer" | tail -n 20 >&2; fail "The stack could not be deployed." "see the lines above"; }
    printf '%s\n' "$answer" | sed -n 's/^image \(.*\) could not be accessed on a registry.*/Note: no registry has \1; each machine uses the image of that name that it has./p' >&2
}

show_troubles() { # services ..., as `missing` has them -> what keeps their tasks from running
    local name
    for name in $(printf '%s\n' "$*" | sed 's/([^)]*)//g'); do
        docker service ps --no-trunc --format '{{.Name}} on {{.Node}}: {{.CurrentState}} {{.Error}}' "${stack}_$name" 2>/dev/null | grep -E ': (Failed|Rejected|Pending)' | head -n 3 >&2 || true
        timeout 20 docker service logs --tail 5 "${stack}_$name" 2>&1 | tail -n 10 >&2 || true
    done
}

wait_for_end() { # a service that does one thing and ends
    local deadline=$((SECONDS + 600)) states
    while [ $SECONDS -lt $deadline ]; do
        states="$(docker service ps -q --no-trunc "${stack}_$1" | xargs -r docker inspect --type task \
            -f '{{index .Spec.ContainerSpec.Labels "deployed"}} {{.Status.State}}' 2>/dev/null | sed -n "s/^$deployed //p")" || true
        case "$states" in *complete*) return ;; esac
        [ "$(printf '%s\n' "$states" | grep -c -E 'failed|rejected')" -lt 3 ] || break
        sleep 1
    done
    show_troubles "$1"
    fail "$1 failed." "see the lines above"
}

tasks_of() { # a service -> how many run, of how many; those on a machine that is down are none
    local wanted
    wanted="$(docker service ls --filter "name=${stack}_$1" --format '{{.Name}} {{.Replicas}}' | sed -n "s|^${stack}_$1 [0-9]*/\([0-9]*\).*|\1|p")"
    echo "$(docker service ps --filter desired-state=running --format '{{.CurrentState}}' "${stack}_$1" 2>/dev/null | grep -c '^Running' || true)/$wanted"
}

missing() { # services ... -> those whose tasks do not all run, or are being replaced, and why
    local name tasks state
    for name in "$@"; do
        state="$(docker service inspect -f '{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}' "${stack}_$name" 2>/dev/null)" || state=absent
        tasks="$(tasks_of "$name")"
        if [ "${state:-completed}" = completed ]; then
            state="$tasks"
            [ "${tasks%/*}" != "${tasks#*/}" ] || state=""
            [ "$(docker service ps --format '{{.CurrentState}}' "${stack}_$name" | grep -cE '^(Failed|Rejected) .*(second|about a minute)')" -lt 4 ] || state="fails again and again"
        fi
        [ -z "$state" ] || echo "$name ($state)"
    done
}

wait_for_services() { # services ...
    local deadline=$((SECONDS + 600)) pending calm=0
    # What was just ordered is begun a moment later.
    sleep 2
    while :; do
        pending="$(missing "$@" | paste -sd' ')"
        case "$pending" in
            "") calm=$((calm + 1)) ;;
            *rollback_completed* | *paused*)
                show_troubles "$pending"
                fail "An update did not come up and was taken back: $pending." "see the lines above; what ran before runs on"
                ;;
            *again*)
                show_troubles "$pending"
                fail "Something does not come up: $pending." "see the lines above"
                ;;
            *) calm=0 ;;
        esac
        [ $calm -lt 3 ] || break
        if [ $SECONDS -ge $deadline ]; then
            show_troubles "$pending"
            fail "Not everything became healthy within ten minutes: $pending." "see the lines above; docker stack ps $stack"
        fi
        [ ! -t 2 ] || printf '\r\033[KWaiting for %s' "$pending" >&2
        sleep 1
    done
    [ ! -t 2 ] || printf '\r\033[K' >&2
}

remove_what_is_left() { # services that the files no longer have; secrets and configs that none uses, nor would after a rollback
    local wanted used name kind
    # shellcheck disable=SC2046 # names of files of ours
    wanted=" $(awk '/^[a-z]/ {inside = $1 == "services:"} inside && /^  [a-z-]+:$/ {print substr($1, 1, length($1) - 1)}' $(files_of_stack) | paste -sd' ') "
    for name in $(docker service ls --filter "label=com.docker.stack.namespace=$stack" --format '{{.Name}}'); do
        [[ "$wanted" == *" ${name#"${stack}_"} "* ]] || docker service rm "$name" >/dev/null
    done
    used="$(docker service ls -q --filter "label=com.docker.stack.namespace=$stack" | xargs docker service inspect)"
    for kind in secret config; do
        for name in $(docker "$kind" ls --filter "label=com.docker.stack.namespace=$stack" --format '{{.Name}}'); do
            [[ "$used" == *"\"$name\""* ]] || docker "$kind" rm "$name" >/dev/null 2>&1 || true
        done
    done
}

deploy() {
    local deployed entry
    check_settings $demo "./scripts/swarm.sh deploy"
    is_anybody_alerted || true
    need_place_for_databases
    need_nothing_of_compose
    need_image PROCESSING_IMAGE abbanoa-processing
    need_image API_IMAGE abbanoa-api
    [ $demo = no ] || need_image DEMO_IMAGE abbanoa-demo
    settings_of_stack
    for entry in "${variables[@]}"; do case "$entry" in DEPLOYED=*) deployed="${entry#*=}" ;; esac; done

    say "Handing out secrets and certificates ..."
    quietly make_secrets
    hand_out_secrets
    say "Databases ..."
    deploy_stage 1
    wait_for_services postgres redis
    wait_for_end setup
    say "Migrating ..."
    deploy_stage 2
    # To its end, so that a migration that fails stops this before any of our services is touched.
    wait_for_end migrate
    say "Services, one task after the other ..."
    deploy_stage 3
    wait_for_services processing api nginx
    if [ $demo = yes ]; then
        wait_for_services bigquery
        wait_for_end demo-nodes
    fi
    remove_what_is_left

    cat <<END
Everything is healthy.

API       https://<any machine>:$(setting NGINX_HTTPS_PORT 8443)/api/v1/dashboard/summary
Tasks     docker stack ps $stack --filter desired-state=running
Logs      docker service logs --tail 50 -f ${stack}_processing
Status    ./scripts/swarm.sh status
Keys      ./scripts/create_api_key.sh dashboard, on the machine of the databases
END
}

status() {
    local code=0 name tasks service="" troubles
    echo "Machines"
    docker node ls --format '  {{.Hostname}}  {{.Status}}  {{.Availability}}  {{.ManagerStatus}}'
    ! docker node ls --format '{{.Status}}' | grep -qv Ready || code=1
    echo "Services"
    for name in $(docker service ls --filter "label=com.docker.stack.namespace=$stack" --format '{{.Name}}' | sort); do
        service="${name#"${stack}_"}"
        [[ "$once" != *" $service "* ]] || continue
        tasks="$(tasks_of "$service")"
        echo "  $service  $tasks"
        [ "${tasks%/*}" = "${tasks#*/}" ] || code=1
    done
    [ -n "$service" ] || fail "There is no stack $stack." "./scripts/swarm.sh deploy"
    troubles="$(docker stack ps --no-trunc --format '{{.Error}}|{{.Name}} on {{.Node}}: {{.CurrentState}}' "$stack" | sed -n 's/^\(..*\)|\(.*\)$/  \2: \1/p' | head -n 10)"
    [ -z "$troubles" ] || printf 'What went wrong lately\n%s\n' "$troubles"
    exit $code
}

need_docker
need_manager
stack="$(project_name)"
# What docker itself goes by; and what the stack file refers to.
shell=("PATH=$PATH" "HOME=${HOME:-/}") variables=()
while IFS= read -r name; do shell+=("$name=${!name}"); done < <(compgen -e | grep -E '^(DOCKER_|SSH_|SSL_|HTTPS?_PROXY$|NO_PROXY$)' || true)
"$action"
