set -eu
echo "$GREETING $1"
mkdir -p "$(dirname "$2")"
sort "$1" | head -n "$3" > "$2"
echo "wrote $(wc -l < "$2") lines to $2"
