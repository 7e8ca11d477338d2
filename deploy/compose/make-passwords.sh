#!/bin/sh
# Create the passwords that compose.yaml mounts, one file each; existing ones stay.
set -eu
cd "$(dirname "$0")"
mkdir -p passwords
chmod 700 passwords
for name in gateway worker courier flower flower-page grafana; do
  if [ ! -e "passwords/$name" ]; then openssl rand -hex 24 > "passwords/$name"; fi
  chmod 444 "passwords/$name" # containers run as separate users; the folder keeps other users out
done
