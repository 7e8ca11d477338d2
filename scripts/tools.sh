#!/usr/bin/env bash
# Unpack Debian packages, with the libraries they lack here, into a folder of ours; the system stays as it is.
#
#   tools.sh DIR program=package...
#
# Each program gets DIR/bin/program, which runs the unpacked one with the unpacked libraries. Whatever cannot be
# brought is said and left out: the tests that need it then skip with its name.
set -euo pipefail

dir=$1
shift
mkdir -p "$dir/bin" "$dir/debian" "$dir/apt/lists/partial" "$dir/apt/debs"
dir=$(cd "$dir" && pwd)

if ! command -v apt-get > /dev/null || ! command -v dpkg > /dev/null; then
  echo "tools: no apt-get here; install these yourself: ${*%%=*}" >&2
  exit 0
fi

# Package lists of our own: needs no root, and the system's may be old or empty.
apt() {
  apt-get -qq -o Dir::State::Lists="$dir/apt/lists" -o Dir::Cache="$dir/apt" -o Dir::Cache::pkgcache= \
    -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User= -o Debug::NoLocking=1 "$@"
}

wrap() { # program: the unpacked one under bin/, or nothing if the system's own serves
  local program=$1 real
  real=$dir/debian/usr/lib/$program/$program # Chromium's own: its launcher under bin/ names absolute places
  [ -x "$real" ] || real=$(find "$dir/debian" \( -path "*/bin/$program" -o -path "*/sbin/$program" \) | head -n 1)
  [ -n "$real" ] || return 0
  # Debian's Alertmanager reads its own templates from this absolute place; as a relative one of equal length it is
  # found where it was unpacked. Files are then to be named by absolute paths.
  local shared=/usr/share/prometheus/alertmanager go=:
  if grep -q "$shared" "$real"; then
    LC_ALL=C sed -i "s#$shared#././/${shared#/usr/}#g" "$real"
    go="cd \"\$debian/usr\""
  elif grep -q "././/${shared#/usr/}" "$real"; then
    go="cd \"\$debian/usr\""
  fi
  # Relative to itself, so that the checkout may move.
  cat > "$dir/bin/$program" << WRAPPER
#!/bin/sh
debian=\$(cd "\$(dirname "\$(readlink -f "\$0")")/../debian" && pwd)
export LD_LIBRARY_PATH="\$debian/usr/lib/$triplet:\$debian/lib/$triplet:\$debian/usr/lib:\$debian/usr/lib/$triplet/pulseaudio\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
$go
exec "\$debian/${real#"$dir/debian/"}" "\$@"
WRAPPER
  chmod +x "$dir/bin/$program"
}

triplet=$(uname -m)-linux-gnu
apt update || echo "tools: package lists cannot be fetched; trying with what is here" >&2

for pair in "$@"; do
  program=${pair%%=*} package=${pair#*=}
  # A package may bring several programs.
  if [ -n "$(find "$dir/debian" \( -path "*/bin/$program" -o -path "*/sbin/$program" \) | head -n 1)" ]; then
    wrap "$program"
    continue
  fi
  # What apt would install here, dependencies included: `'uri' file size hash` a line.
  if ! wanted=$(apt --print-uris --no-install-recommends --yes install "$package" 2>&1); then
    echo "tools: $program left out: ${wanted##*$'\n'}" >&2
    continue
  fi
  names=$(sed -n "s/^'[^']*' \([^_]*\)_\([^_]*\)_.*/\1=\2/p" <<< "$wanted" | sed 's/%3a/:/')
  if [ -n "$names" ]; then
    # shellcheck disable=SC2086 # one word per package
    (cd "$dir/apt/debs" && apt download $names)
    for deb in "$dir"/apt/debs/*.deb; do dpkg -x "$deb" "$dir/debian"; done
    rm -f "$dir"/apt/debs/*.deb
  fi
  wrap "$program"
done
rm -rf "$dir/apt"
