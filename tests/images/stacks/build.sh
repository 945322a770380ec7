#!/bin/sh
# What the Jupyter project's docker-stacks images are like, as far as who runs what and where is concerned.
set -eu
docker build --tag "$IMAGE" --label "jq-lab.key=$KEY" .
