#!/usr/bin/env bash
# Sourced after compose.sh, by the scripts that start the system: whether the settings are fit for it, in one sentence where
# they are not.
# shellcheck source=containers/setup/strength.sh
source containers/setup/strength.sh

check_settings() { # yes for the demo, the command that starts it
    local demo="$1" command="$2" project credentials environment name value why
    if [ ! -f .env.processing ] && [ "$demo" = no ]; then
        fail "There is no .env.processing." "cp .env.processing.example .env.processing, and set BIGQUERY_PROJECT_ID and GOOGLE_APPLICATION_CREDENTIALS in it (or try $command --demo)"
    fi
    project="$(setting BIGQUERY_PROJECT_ID)"
    if [ "$demo" = yes ]; then
        [ -z "$project" ] || [ "$project" = demo ] ||
            fail "BIGQUERY_PROJECT_ID is $project, so that the demo's readings would not be looked at." "leave it empty in .env.processing for the demo, or start without --demo"
    else
        [ -n "$project" ] ||
            fail "BIGQUERY_PROJECT_ID is not set in .env.processing." "name the Google Cloud project whose BigQuery has the readings (or start with --demo)"
        credentials="$(setting GOOGLE_APPLICATION_CREDENTIALS)"
        if [ -z "$credentials" ]; then
            say "Note: GOOGLE_APPLICATION_CREDENTIALS is not set: the service account of this machine will be used, which only a machine of Google's has. Elsewhere, set it."
        elif [[ "$credentials" != /* && "$credentials" != ./* ]]; then
            fail "GOOGLE_APPLICATION_CREDENTIALS is '$credentials', which Compose takes for a volume's name." "give the full path of the service account's key file in .env.processing"
        elif [ ! -f "$credentials" ]; then
            fail "GOOGLE_APPLICATION_CREDENTIALS names $credentials, which is no file." "give the full path of the service account's key file in .env.processing"
        elif ! grep -q '"type"' "$credentials" || ! grep -q '"private_key"\|"refresh_token"\|"external_account"' "$credentials"; then
            fail "$credentials is not a Google credentials file." "download the service account's key as JSON"
        fi
    fi
    environment="$(setting ENVIRONMENT production)"
    case "$environment" in
        production | trial) ;;
        *) fail "ENVIRONMENT is '$environment' in .env.processing." "choose production or trial" ;;
    esac
    for name in POSTGRES_PASSWORD POSTGRES_PROCESSING_PASSWORD POSTGRES_API_PASSWORD POSTGRES_READONLY_PASSWORD REDIS_PASSWORD GRAFANA_PASSWORD; do
        value="$(secret_given $name)"
        [ -z "${!name:-}" ] || [ "${!name}" = "$value" ] || say "Note: $name of your shell counts for nothing: secrets come from .env.processing or secrets/."
        if [ -n "$value" ] && { ! why="$(unusable "$value")" || { [ "$environment" = production ] && ! why="$(weakness "$value")"; }; }; then
            fail "$name $why." "choose another (openssl rand -hex 24), or leave it empty and one is made"
        fi
    done
}

is_anybody_alerted() { # whether somebody learns of it when something goes wrong
    [ -n "$(secret_given ALERT_WEBHOOK_URL)$(setting ALERT_ALERTMANAGER_URL)" ] ||
        { [ -n "$(setting ALERT_SMTP_HOST)" ] && [ -n "$(setting ALERT_MAIL_TO)" ]; } ||
        { say "Note: nobody is told when something goes wrong. Set ALERT_WEBHOOK_URL, ALERT_ALERTMANAGER_URL, or ALERT_SMTP_HOST and ALERT_MAIL_TO in .env.processing."; return 1; }
}
