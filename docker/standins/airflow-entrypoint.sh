#!/bin/sh
# As the published image: these run as they are, anything else is a command of airflow.
case "$1" in
  airflow|bash|python|sh) exec "$@" ;;
  *) exec airflow "$@" ;;
esac
