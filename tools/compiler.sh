#!/bin/sh
# sh tools/compiler.sh: llama-cpp-python is compiled when it is installed; say so in time if that cannot work.
set -eu
missing=""
for tool in gcc g++; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "== installing a C++ compiler"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends build-essential >/dev/null
    exit 0
fi
echo "llama.cpp has to be compiled, and these are missing:$missing. Install a C and C++ compiler" >&2
echo "(Debian, Ubuntu: sudo apt-get install build-essential; macOS: xcode-select --install) and try again." >&2
exit 1
