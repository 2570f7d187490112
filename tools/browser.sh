#!/bin/sh
# sh tools/browser.sh: the tests click through the app in a real Chromium; install it where it is missing and may be.
set -eu
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then
        echo "== browser: $(command -v "$name")"
        exit 0
    fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "== installing Chromium for the browser tests"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
    exit 0
fi
echo "The browser tests need Chromium, and it is not installed. Install it (Debian, Ubuntu: sudo apt-get install" >&2
echo "chromium) and type make test again." >&2
exit 1
